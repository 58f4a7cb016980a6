"""Which market `perpflow up` trades on, and how fast."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from libs.runtime.errors import BadInput

LIVE_PROBE_S = 5.0
# Fast enough that bars close, and orders fill, within the first minute of somebody watching.
DEFAULT_SIMULATED_SPEED = 20.0


def choose_market(market: str, speed: float | None, instrument: str, console: Console) -> tuple[str, float]:
    """Return the market and the speed; auto asks the instrument's venue.

    Raises `BadInput` for an unknown market, a missing file or a speed for live.
    """
    kind, _, path = market.partition(":")
    if market == "auto":
        from libs.venues.registry import find_venue_of, is_answering

        if speed is None and is_answering(instrument, LIVE_PROBE_S):
            return "live", 1.0
        if speed is None:
            name = find_venue_of(instrument).name
            console.print(
                f"{name} did not answer within {LIVE_PROBE_S:g} s, so the market is simulated", highlight=False
            )
        return "simulated", DEFAULT_SIMULATED_SPEED if speed is None else speed
    if market == "live":
        if speed not in (None, 1.0):
            raise BadInput("--speed is for simulated and recorded markets; a live one has its own")
        return market, 1.0
    if market == "simulated":
        return market, DEFAULT_SIMULATED_SPEED if speed is None else speed
    if kind == "recorded" and path:
        if not Path(path).exists():
            raise BadInput(f"--market {market}: no such file or folder: {path}")
        return f"recorded:{Path(path).resolve()}", 1.0 if speed is None else speed
    raise BadInput(f"--market {market!r} is not auto, live, simulated or recorded:PATH")


def plays_sample_data(market: str, history: Path | None) -> bool:
    """Tell whether a recorded market, or the history before it, was made up from a seed: the page says so."""
    kind, _, path = market.partition(":")
    if kind != "recorded":
        return False
    from libs.history.series import has_sample_data

    return any(has_sample_data(each) for each in (Path(path), history) if each is not None)
