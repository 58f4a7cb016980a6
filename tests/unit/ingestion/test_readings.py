"""Sources outside the market are polled at their pace, and what they say reaches bars by way of the market's stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import structlog

from libs.alternative_data.api import Reading, ReadingSource, SourceUnavailable
from libs.clock import SimulatedClock
from libs.domain.bars import Bar
from libs.domain.market import MarketEvent, OutsideReading
from libs.domain.numbers import NANOSECONDS
from libs.runtime.source import FeedHealth
from libs.wire import decode, encode
from services.bars.core import BarsCore
from services.ingestion.building import build_source
from services.ingestion.readings import ReadingPoller, SourceWithReadings, pace_of
from services.ingestion.settings import IngestionSettings
from tests.kit.builders import BTC, START, a_tick, a_trade
from tests.kit.waiting import eventually

MINUTE = 60 * NANOSECONDS
LOGGER = structlog.get_logger()


class Told:
    """A source that says what it is told to, and notes what it was asked."""

    def __init__(self, name: str, *readings: Reading, is_absent: bool = False) -> None:
        self.name = name
        self.readings = list(readings)
        self.is_absent = is_absent
        self.asked: list[tuple[int, int]] = []

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        self.asked.append((begin, end))
        if self.is_absent:
            raise SourceUnavailable(f"{self.name} is away")
        return self.readings


class Market:
    """A market whose batches are given."""

    def __init__(self, *batches: list[MarketEvent]) -> None:
        self._batches = list(batches)
        self.is_closed = False

    def open(self, cursor: bytes | None) -> None:
        assert cursor in (None, b"here")

    def read(self, max_events: int, timeout_ms: int) -> Sequence[MarketEvent]:
        assert max_events > timeout_ms >= 0
        return self._batches.pop(0) if self._batches else []

    def cursor(self) -> bytes:
        return b"here"

    def check_venue(self) -> None:
        return

    def feed_health(self) -> Sequence[FeedHealth]:
        return ()

    @property
    def is_finished(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True


def a_reading(value: float = 40.0, published: int = START - 3600 * NANOSECONDS) -> Reading:
    return Reading("fear_greed", "index", published - 1, published, value)


def a_poller(clock: SimulatedClock, *sources: Told) -> ReadingPoller:
    asked: list[ReadingSource] = list(sources)
    return ReadingPoller(BTC, asked, LOGGER, clock=clock)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(START)


def test_a_reading_is_given_once_and_anew_where_its_value_was_revised(clock: SimulatedClock) -> None:
    source = Told("fear_greed", a_reading())
    poller = a_poller(clock, source)
    seen: list[OutsideReading] = []

    def came(count: int) -> Callable[[], bool]:
        def check() -> bool:
            seen.extend(poller.take(START))
            return len(seen) >= count

        return check

    eventually(came(1))
    assert [(one.series, one.value, one.event_time) for one in seen] == [("fear_greed_index", 40.0, START)]
    clock.sleep(pace_of("fear_greed"))
    eventually(lambda: not poller.take(START) and len(source.asked) == 2)
    source.readings = [a_reading(41.0)]
    clock.sleep(pace_of("fear_greed"))
    eventually(came(2))
    assert [one.value for one in seen] == [40.0, 41.0]
    assert len({one.event_id for one in seen}) == 2
    poller.close()


def test_a_source_is_not_asked_before_its_pace_allows(clock: SimulatedClock) -> None:
    slow, quick = Told("fear_greed"), Told("spot")
    poller = a_poller(clock, slow, quick)
    eventually(lambda: not poller.take(START) and len(slow.asked) == 1 and len(quick.asked) == 1)
    for second in range(1, 61):
        clock.sleep(1.0)
        eventually(lambda: not poller.take(START) and poller.is_idle)
        assert len(quick.asked) == 1 + second // int(pace_of("spot"))
    assert len(slow.asked) == 1
    begin, end = quick.asked[-1]
    assert end - begin > 20 * MINUTE
    poller.close()


def test_an_absent_source_leaves_the_others_as_they_are(clock: SimulatedClock) -> None:
    away, here = Told("glassnode", is_absent=True), Told("fear_greed", a_reading())
    poller = a_poller(clock, away, here)
    seen: list[OutsideReading] = []

    def came() -> bool:
        seen.extend(poller.take(START))
        return bool(seen) and len(away.asked) == 1

    eventually(came)
    assert [one.series for one in seen] == ["fear_greed_index"]
    poller.close()


def test_what_no_bar_has_a_field_for_stays_outside(clock: SimulatedClock) -> None:
    source = Told("fear_greed", replace(a_reading(), metric="mood"), a_reading())
    poller = a_poller(clock, source)
    seen: list[OutsideReading] = []

    def came() -> bool:
        seen.extend(poller.take(START))
        return bool(seen)

    eventually(came)
    assert [one.series for one in seen] == ["fear_greed_index"]
    poller.close()


def test_readings_come_behind_the_market_at_its_time_and_reach_its_bars(clock: SimulatedClock) -> None:
    published = START - 3600 * NANOSECONDS
    poller = a_poller(clock, Told("fear_greed", a_reading(63.0, published)))
    market = Market([], [a_trade(1, seconds=0.0)])
    source = SourceWithReadings(market, poller)
    source.open(None)
    assert source.read(100, 0) == []
    events: list[Any] = []

    def came() -> bool:
        events.extend(source.read(100, 0))
        return any(isinstance(event, OutsideReading) for event in events)

    eventually(came)
    source.close()
    assert market.is_closed
    assert source.cursor() == b"here"
    bars = [bar for bar in _bars_of([*events, a_tick(60), a_tick(61)]) if bar.timeframe == "1m"]
    assert [bar.fear_greed_index for bar in bars] == [63.0]
    # What a journal replays is what went over the wire.
    again = [decode(encode(event).topic, encode(event).payload) for event in events]
    assert _bars_of([*again, a_tick(60), a_tick(61)]) == _bars_of([*events, a_tick(60), a_tick(61)])


def _bars_of(events: Sequence[Any]) -> list[Bar]:
    core = BarsCore()
    return [bar for event in events for bar in core.handle(event) if isinstance(bar, Bar)]


def test_a_live_market_is_read_with_its_readings_where_they_are_asked_for(tmp_path: Any) -> None:
    for wanted in (False, True):
        source = build_source(IngestionSettings(market="live", readings=wanted), tmp_path)
        assert isinstance(source, SourceWithReadings) is wanted
        source.close()
