"""Waiting for what must come true, without sleeping blindly."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event


def eventually(
    is_true: Callable[[], object], *, within_s: float = 10.0, step: Callable[[], object] | None = None
) -> None:
    """Return once `is_true()`; call `step` between looks. Fails with the last answer when the time is over."""
    deadline = time.monotonic() + within_s
    pause = Event()
    answer = is_true()
    while not answer:
        if time.monotonic() >= deadline:
            raise AssertionError(f"not true within {within_s:g} s; the last answer was {answer!r}")
        if step is not None:
            step()
        pause.wait(0.02)
        answer = is_true()
