"""Wakeup sockets: wakeups reach those who listen, never block, and clear up after the dead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.bus.wakeups import Notifier, WakeupSocket


@pytest.fixture
def notifier(tmp_path: Path) -> Iterator[Notifier]:
    made = Notifier(tmp_path)
    yield made
    made.close()


def test_a_wakeup_reaches_the_listeners_of_that_topic_only(tmp_path: Path, notifier: Notifier) -> None:
    one, other = WakeupSocket(tmp_path), WakeupSocket(tmp_path)
    one.listen([1])
    other.listen([2])
    notifier.notify([1])
    assert one.wait(1_000)
    assert not other.wait(0)
    one.close()
    other.close()


def test_what_a_socket_listens_to_can_change(tmp_path: Path, notifier: Notifier) -> None:
    reader = WakeupSocket(tmp_path)
    reader.listen([1, 2])
    notifier.notify([1])
    assert reader.wait(1_000)
    reader.listen([2, 3])
    notifier.notify([1])
    assert not reader.wait(0)
    notifier.notify([3])
    assert reader.wait(1_000)
    reader.close()


def test_clearing_forgets_the_wakeups_so_far(tmp_path: Path, notifier: Notifier) -> None:
    reader = WakeupSocket(tmp_path)
    reader.listen([1])
    for _ in range(3):
        notifier.notify([1])
    reader.clear()
    assert not reader.wait(0)
    reader.close()


def test_a_full_socket_never_blocks_the_writer(tmp_path: Path, notifier: Notifier) -> None:
    reader = WakeupSocket(tmp_path)
    reader.listen([1])
    started = time.monotonic()
    for _ in range(5_000):
        notifier.notify([1])
    assert time.monotonic() - started < 5
    assert reader.wait(0)
    assert not reader.wait(0)
    reader.close()


def test_a_dead_readers_socket_is_removed(tmp_path: Path, notifier: Notifier) -> None:
    reader = WakeupSocket(tmp_path)
    reader.listen([1])
    assert notifier.is_alive(reader.name)
    reader._socket.close()  # as the kernel does for a killed process: the files stay
    assert not notifier.is_alive(reader.name)
    notifier.notify([1])
    assert not list((tmp_path / "t1").iterdir())
    assert not list((tmp_path / "s").iterdir())


def test_a_socket_whose_files_were_removed_is_bound_anew(tmp_path: Path, notifier: Notifier) -> None:
    reader = WakeupSocket(tmp_path)
    reader.listen([1])
    assert not reader.repair()
    (tmp_path / "s" / reader.name).unlink()
    assert reader.repair()
    notifier.notify([1])
    assert reader.wait(1_000)
    reader.close()
