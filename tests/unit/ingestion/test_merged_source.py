"""Several instruments in one source: each whole and in its own order, resumed exactly behind what was read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest

from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from libs.runtime.errors import BadInput
from libs.runtime.source import EventSource, FeedHealth
from services.ingestion.merged import MergedSource
from tests.kit.builders import a_trade

NAMES = ("A.X", "B.X", "C.X")


class CountedSource:
    """Yields trades 1 to `count`, a few at a time; its cursor is the last one's number."""

    def __init__(self, instrument: str, count: int, pace: int) -> None:
        self._instrument = instrument
        self._count = count
        self._pace = pace
        self._at = 0

    def open(self, cursor: bytes | None) -> None:
        self._at = int(cursor or b"0")

    def read(self, max_events: int, _timeout_ms: int) -> Sequence[MarketEvent | DeadInput]:
        first, self._at = self._at, min(self._at + min(max_events, self._pace), self._count)
        numbers = range(first + 1, self._at + 1)
        return [a_trade(number, seconds=number, instrument=self._instrument) for number in numbers]

    def cursor(self) -> bytes:
        return b"%d" % self._at

    def check_venue(self) -> None:
        """It always answers."""

    def feed_health(self) -> Sequence[FeedHealth]:
        return [FeedHealth(self._instrument, {"trade": 1.0}, {}, None, None)]

    @property
    def is_finished(self) -> bool:
        return self._at == self._count

    def close(self) -> None:
        """There is nothing to close."""


def a_source(names: Sequence[str] = NAMES) -> MergedSource:
    sources: dict[str, EventSource] = {
        name: CountedSource(name, 40 + 10 * number, 3 + number) for number, name in enumerate(names)
    }
    return MergedSource(sources)


def test_each_instrument_is_whole_and_in_order_over_any_restart() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    cursor: bytes | None = None
    while True:
        source = a_source()
        source.open(cursor)
        for _ in range(5):
            for event in source.read(100, 0):
                assert not isinstance(event, DeadInput)
                found[event.instrument].append(event.event_id)
        cursor = source.cursor()
        if source.is_finished:
            break
    assert {name: len(ids) for name, ids in found.items()} == {"A.X": 40, "B.X": 50, "C.X": 60}
    for name, ids in found.items():
        assert ids == [a_trade(number, instrument=name).event_id for number in range(1, len(ids) + 1)]


def test_no_instrument_runs_far_ahead_of_the_others_in_time() -> None:
    source = a_source()
    source.open(None)
    reached = dict.fromkeys(NAMES, 0)
    while min(reached.values()) < 30:
        for event in source.read(100, 0):
            assert not isinstance(event, DeadInput)
            reached[event.instrument] += 1
        assert max(reached.values()) - min(reached.values()) <= 10


def test_a_cursor_of_other_instruments_is_refused() -> None:
    source = a_source()
    source.open(None)
    source.read(10, 0)
    with pytest.raises(BadInput, match=r"was reading A.X, B.X, C.X, not A.X, D.X"):
        a_source(("A.X", "D.X")).open(source.cursor())


def test_the_feeds_of_all_instruments_are_told_of() -> None:
    assert [feed.instrument for feed in a_source().feed_health()] == list(NAMES)
