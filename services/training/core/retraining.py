"""When a model is trained again: by a schedule of market time, or because it drifts. One rule for a job and a backtest.

Pure: what the newest model was trained on, what there is now and why it is said to drift are handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.domain.numbers import NANOSECONDS

_DAY_NS = 86_400 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class RetrainRule:
    """Train where the newest model's data end `every_ns` or more before what there is, or where it drifts.

    `every_ns` 0 asks for no schedule; without `on_drift` drift is no reason.
    """

    every_ns: int = 0
    on_drift: bool = False

    def why_due(self, trained_to: int | None, data_to: int, drift: str = "") -> str:
        """Return why a model is due, empty where none is.

        `trained_to` is the last bar of the newest model, None where there is none; `data_to` the last bar there is;
        both in ns. `drift` says how the model drifts, empty where it does not.
        """
        if trained_to is None:
            return "there is no model yet"
        newer_ns = data_to - trained_to
        if newer_ns <= 0:
            return ""
        if self.every_ns and newer_ns >= self.every_ns:
            return f"the newest model's data end {newer_ns / _DAY_NS:.1f} days before these"
        return drift if self.on_drift else ""

    def times(self, start: int, end: int) -> list[int]:
        """Return the times in a period at which the schedule trains: its start, then every `every_ns`."""
        if self.every_ns <= 0:
            raise ValueError("a walk through time needs a schedule; give every_ns above 0")
        return list(range(start, end, self.every_ns))
