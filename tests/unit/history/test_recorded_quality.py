"""The report on a recording names clocks that differ, and trades and marks that its quotes and trades contradict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from libs.domain.numbers import SCALE
from libs.history.recorded_quality import describe_recording, examine_recording
from services.ingestion.core.order import TradeOrder
from services.ingestion.recordings import Recording
from tests.kit.builders import BTC, a_mark, a_quote, a_trade
from tests.kit.platform import SHARED
from tests.unit.ingestion.builders import a_kline

CAPTURE = SHARED / "data" / "market" / "capture" / "binance_um_BTCUSDT_20240808.ns-jsonl.gz"
_MS = 1_000_000


def market() -> list[MarketEvent]:
    """Three minutes of a quote and a trade between its prices each second, received 20 ms after they happened."""
    events: list[MarketEvent] = []
    for second in range(180):
        events += [a_quote(second + 1, seconds=second), a_trade(second + 1, seconds=second + 0.1)]
    return [replace(event, received_time=event.event_time + 20 * _MS) for event in events]


def later(event: MarketEvent, milliseconds: int) -> MarketEvent:
    return replace(event, received_time=event.received_time + milliseconds * _MS)


def findings_of(events: Iterable[MarketEvent | DeadInput]) -> list[tuple[str, int]]:
    return [(finding.what.split(":")[0], finding.count) for finding in examine_recording(events).findings]


def test_nothing_is_found_in_what_is_right_and_delays_are_told() -> None:
    report = examine_recording(market())
    assert (report.findings, report.events, report.delay_ms) == ((), 360, (20.0, 20.0, 20.0))
    assert report.last_ms - report.first_ms == 179_100
    assert examine_recording([]).findings == ()


def test_trades_that_were_removed_from_a_recording_are_counted() -> None:
    events, order = market(), TradeOrder(BTC)
    left = [*events[:21], *events[24:61], *events[62:]]
    assert findings_of([*(out for event in left for out in order.take(event)), *order.flush()]) == [
        ("jumps of trade numbers (3 trades missing)", 2)
    ]


def test_a_recorder_whose_clock_is_behind_receives_events_before_they_happen() -> None:
    assert findings_of([later(event, -520) for event in market()]) == [
        ("events received up to 500 ms before they happened", 360)
    ]


def test_a_clock_that_drifts_shows_in_the_fastest_event_of_each_minute() -> None:
    events = market()
    start = events[0].event_time
    drifting = [later(event, 3 * (event.event_time - start) // 1_000_000_000) for event in events]
    found = findings_of(drifting)
    assert len(found) == 1 and found[0][0].startswith("minutes whose fastest event took up to +")
    # One slow event is no drift.
    assert findings_of([later(events[0], 400), *events[1:]]) == []


@pytest.mark.parametrize(("price", "is_sale", "count"), [("59000", False, 1), ("61000", True, 1), ("61000", False, 0)])
def test_trades_on_the_wrong_side_of_the_quotes_contradict_them(price: str, is_sale: bool, count: int) -> None:
    events = market()
    event = a_trade(50, price=price, seconds=49.1, is_buyer_maker=is_sale)
    events[99] = replace(event, received_time=event.event_time + 20 * _MS)
    expected = [("trades at a price on the wrong side of all quotes around them", 1)] if count else []
    assert findings_of(events) == expected


def test_a_recording_of_mark_prices_alone_has_its_times_and_lines_before_it_are_dated_with_it() -> None:
    mark = later(a_mark(seconds=5), 7)
    report = examine_recording([DeadInput("no JSON", "x", 1, b""), mark])
    at = mark.event_time // _MS
    assert (report.first_ms, report.last_ms, report.delay_ms) == (at, at, (7.0, 7.0, 7.0))
    assert [finding.first_ms for finding in report.findings] == [at]


def test_marks_are_held_against_the_last_trade_and_unreadable_lines_are_counted() -> None:
    events: list[MarketEvent | DeadInput] = [*market(), later(a_mark(price="60100", seconds=180), 20)]
    assert findings_of(events) == []
    events += [later(a_mark(2, price="70000", seconds=181), 20), DeadInput("no JSON", "x", 3, b"")]
    assert findings_of(events) == [
        ("lines that cannot be read or cannot be true", 1),
        ("mark prices more than 2% from the last trade", 1),
    ]


_OFF = [("volume_e8", 1), *((f"{name}_e8", 60_001 * SCALE) for name in ("open", "high", "low", "close"))]


@pytest.mark.parametrize(("change", "count"), [({}, 0), *(({name: value}, 1) for name, value in _OFF)])
def test_klines_of_the_venue_are_held_against_the_trades_of_their_minute(change: dict[str, int], count: int) -> None:
    kline = a_kline(1, is_history=False, **{"volume_e8": 60 * SCALE // 100, **change})
    # The first minute may have had trades before the recording began.
    edge = a_kline(0, is_history=False, volume_e8=1)
    found = findings_of([*market(), kline, edge])
    assert (
        found == [("klines of the venue whose open, high, low, close or volume is not that of the trades", 1)] * count
    )


@pytest.mark.skipif(not CAPTURE.exists(), reason="the recorded market data is not there")
def test_the_clock_of_a_recorded_market_was_a_second_behind_the_venues() -> None:
    report = examine_recording(Recording(CAPTURE, instrument=BTC, history_bars=0).events())
    (finding,) = report.findings
    assert finding.what.startswith("events received up to 1,272 ms before they happened")
    assert describe_recording(BTC, report)[1] == f"  {finding}"
