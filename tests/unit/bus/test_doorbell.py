"""The doorbell: rings reach those who listen, never block, and clear up after the dead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.bus.doorbell import Doorbell, Ringer


@pytest.fixture
def ringer(tmp_path: Path) -> Iterator[Ringer]:
    made = Ringer(tmp_path)
    yield made
    made.close()


def test_a_ring_wakes_the_listener_of_that_topic_only(tmp_path: Path, ringer: Ringer) -> None:
    one, other = Doorbell(tmp_path), Doorbell(tmp_path)
    one.listen([1])
    other.listen([2])
    ringer.ring([1])
    assert one.wait(1_000)
    assert not other.wait(0)
    one.close()
    other.close()


def test_what_a_bell_listens_to_can_change(tmp_path: Path, ringer: Ringer) -> None:
    bell = Doorbell(tmp_path)
    bell.listen([1, 2])
    ringer.ring([1])
    assert bell.wait(1_000)
    bell.listen([2, 3])
    ringer.ring([1])
    assert not bell.wait(0)
    ringer.ring([3])
    assert bell.wait(1_000)
    bell.close()


def test_silence_forgets_the_rings_so_far(tmp_path: Path, ringer: Ringer) -> None:
    bell = Doorbell(tmp_path)
    bell.listen([1])
    for _ in range(3):
        ringer.ring([1])
    bell.silence()
    assert not bell.wait(0)
    bell.close()


def test_a_full_bell_never_blocks_the_writer(tmp_path: Path, ringer: Ringer) -> None:
    bell = Doorbell(tmp_path)
    bell.listen([1])
    started = time.monotonic()
    for _ in range(5_000):
        ringer.ring([1])
    assert time.monotonic() - started < 5
    assert bell.wait(0)
    assert not bell.wait(0)
    bell.close()


def test_a_dead_readers_bell_is_removed(tmp_path: Path, ringer: Ringer) -> None:
    bell = Doorbell(tmp_path)
    bell.listen([1])
    assert ringer.is_alive(bell.name)
    bell._socket.close()  # as the kernel does for a killed process: the files stay
    assert not ringer.is_alive(bell.name)
    ringer.ring([1])
    assert not list((tmp_path / "t1").iterdir())
    assert not list((tmp_path / "s").iterdir())


def test_a_bell_whose_files_were_removed_is_bound_anew(tmp_path: Path, ringer: Ringer) -> None:
    bell = Doorbell(tmp_path)
    bell.listen([1])
    assert not bell.mend()
    (tmp_path / "s" / bell.name).unlink()
    assert bell.mend()
    ringer.ring([1])
    assert bell.wait(1_000)
    bell.close()
