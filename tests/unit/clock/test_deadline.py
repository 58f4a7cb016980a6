"""Waiting with a limit."""

from __future__ import annotations

import pytest

from libs.clock import Deadline, SimulatedClock


def test_attempts_look_once_more_when_the_time_is_over() -> None:
    clock = SimulatedClock(0)
    looked_at = [clock.monotonic_s() for _ in Deadline(1.0, clock).attempts(0.4)]
    assert looked_at == pytest.approx([0.0, 0.4, 0.8, 1.0])


def test_time_left_is_never_negative_and_rounded_up_in_milliseconds() -> None:
    clock = SimulatedClock(0)
    deadline = Deadline(1.0005, clock)
    assert (deadline.is_over, deadline.left_ms) == (False, 1001)
    clock.advance(5)
    assert (deadline.is_over, deadline.left_s, deadline.left_ms) == (True, 0.0, 0)
