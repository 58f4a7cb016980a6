"""Waiting for what must come true, without sleeping blindly."""

from __future__ import annotations

from collections.abc import Callable

from libs.clock import Deadline


def eventually(
    is_true: Callable[[], object],
    *,
    within_s: float = 10.0,
    every_s: float = 0.02,
    step: Callable[[], object] | None = None,
) -> None:
    """Return once `is_true()`; call `step` between looks. Fails with the last answer when the time is over."""
    answer: object = None
    for _ in Deadline(within_s).attempts(every_s):
        answer = is_true()
        if answer:
            return
        if step is not None:
            step()
    raise AssertionError(f"not true within {within_s:g} s; the last answer was {answer!r}")
