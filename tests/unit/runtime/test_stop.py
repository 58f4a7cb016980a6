"""Being asked to stop: a flag while working, a break while starting."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from libs.runtime.stop import StopRequested, StopSignal


@pytest.fixture
def stop() -> Iterator[StopSignal]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield StopSignal().install()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_while_working_only_sets_the_flag(stop: StopSignal) -> None:
    assert not stop
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop


def test_a_signal_while_starting_breaks_off(stop: StopSignal) -> None:
    with pytest.raises(StopRequested), stop.interrupting():
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal did not break off")
    assert stop


def test_a_signal_before_starting_breaks_off_too(stop: StopSignal) -> None:
    stop.ask()
    with pytest.raises(StopRequested), stop.interrupting():
        raise AssertionError("starting went on")
