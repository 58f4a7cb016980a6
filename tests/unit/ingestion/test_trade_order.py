"""Trades of a recording that were removed, swapped or repeated: put in order, or reported missing, and never lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.bars import Bar
from libs.domain.events import DeadInput
from libs.domain.market import ClockTick, Gap, GapState, LateTrade, MarketEvent, Trade
from libs.history.recorded_quality import examine_recording
from services.bars.core import BarsCore
from services.ingestion.core.order import HELD_NS, TradeOrder
from services.ingestion.recordings import Recording
from tests.kit.builders import BTC
from tests.unit.ingestion.builders import open_recorded, read_all, read_resuming, trade_line, write_capture

_MS = 1_000_000


def a_trade(number: int, at_ms: int | None = None, word: str = "trade") -> Trade:
    at = (number if at_ms is None else at_ms) * _MS
    return Trade(BTC, f"{BTC}/{word}/{number}", at, at, 1, 1, False, number)


def run(trades: Iterable[MarketEvent]) -> list[MarketEvent]:
    order = TradeOrder(BTC)
    return [*(out for trade in trades for out in order.take(trade)), *order.flush()]


def numbers(events: Sequence[MarketEvent], kind: type[Trade | LateTrade] = Trade) -> list[int]:
    return [event.venue_trade_id for event in events if isinstance(event, kind)]


def gaps(events: Sequence[MarketEvent]) -> list[tuple[GapState, int, int]]:
    return [(event.state, event.first_number, event.last_number) for event in events if isinstance(event, Gap)]


def test_swapped_trades_go_on_in_order_and_are_reported_as_a_gap_that_was_filled() -> None:
    out = run(map(a_trade, (7, 8, 11, 10, 9, 12)))
    assert numbers(out) == [7, 8, 9, 10, 11, 12]
    assert gaps(out) == [(GapState.FILLED, 9, 9)]


def test_a_missing_trade_is_lost_once_those_behind_it_have_waited() -> None:
    order = TradeOrder(BTC)
    assert numbers(order.take(a_trade(7))) == [7]
    assert order.take(a_trade(10)) == []
    wait_ms = HELD_NS // _MS
    assert order.take(a_trade(11, 10 + wait_ms)) == []
    tick = ClockTick(BTC, "tick", (11 + wait_ms) * _MS, 0)
    out = order.take(tick)
    (gap,) = (event for event in out if isinstance(event, Gap))
    assert (gap.state, gap.first_number, gap.last_number) == (GapState.LOST, 8, 9)
    assert (gap.from_time, gap.to_time) == (7 * _MS, 10 * _MS)
    assert numbers(out) == [10, 11]
    assert out[-1] is tick


def test_a_trade_that_comes_after_its_gap_was_lost_is_late_and_the_last_of_them_ends_the_gap() -> None:
    out = run(map(a_trade, (1, 4, 400, 3, 2, 2, 401)))
    # The second 2 is passed on as repeated, to be counted.
    assert numbers(out) == [1, 4, 2, 400, 401]
    assert numbers(out, LateTrade) == [3, 2]
    assert gaps(out) == [(GapState.LOST, 2, 3), (GapState.LATE, 2, 3), (GapState.LOST, 5, 399)]


def test_trades_of_the_other_stream_and_without_numbers_pass() -> None:
    order = TradeOrder(BTC)
    passing = [a_trade(5), a_trade(900, 6, "aggtrade"), a_trade(0, 7), a_trade(6)]
    assert [out for trade in passing for out in order.take(trade)] == passing


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 600), st.booleans(), st.integers(1, 3)), min_size=1, max_size=40))
def test_every_trade_goes_on_once_or_late_or_is_in_a_gap_that_was_lost(faults: list[tuple[int, bool, int]]) -> None:
    # Each trade comes some time after it happened, or never, once or more often.
    coming = sorted(
        (100 * number + delay, number)
        for number, (delay, is_there, times) in enumerate(faults, 1)
        if is_there
        for _ in range(times)
    )
    out = run(a_trade(number, at_ms) for at_ms, number in coming)
    # What is older than the first is known to nobody.
    begin, there = coming[0][1] if coming else 1, {number for _, number in coming}
    lost = {number for state, first, last in gaps(out) if state is GapState.LOST for number in range(first, last + 1)}
    late = numbers(out, LateTrade)
    in_time = [number for number in dict.fromkeys(numbers(out)) if number >= begin and number not in lost]
    assert in_time == sorted(in_time)
    assert {*in_time} | lost == {*range(begin, max(there, default=0) + 1)}
    assert sorted(late) == sorted(lost & there)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A trade each 300 ms for three minutes: 301 and 302 are missing, 51 and 50 swapped, 61 is there twice."""
    lines = {number: trade_line(number, number * 300) for number in range(1, 602)}
    order = [*range(1, 50), 51, 50, *range(52, 62), 61, *range(62, 301), *range(303, 602)]
    return write_capture(tmp_path / "faulty.ns-jsonl.gz", [lines[number] for number in order])


def test_faults_of_a_recording_are_gaps_on_the_bus_wherever_reading_is_resumed(faulty: Path) -> None:
    whole = list(Recording(faulty, instrument=BTC).events())
    assert numbers([event for event in whole if not isinstance(event, DeadInput)]) == [*range(1, 301), *range(303, 602)]
    assert read_resuming(faulty, 5) == whole == read_all(open_recorded(faulty))


def test_the_bar_of_a_lost_trade_says_that_it_is_incomplete(faulty: Path) -> None:
    core = BarsCore(("1m",))
    events = [event for event in Recording(faulty, instrument=BTC).events() if not isinstance(event, DeadInput)]
    bars = [bar for event in events for bar in core.handle(event) if isinstance(bar, Bar)]
    (missing,) = (event for event in events if isinstance(event, Gap) and event.state is GapState.LOST)
    incomplete = {bar.open_time for bar in bars if bar.is_incomplete}
    assert incomplete == {missing.from_time - missing.from_time % 60_000_000_000}


def test_quality_names_what_is_missing_and_what_was_out_of_order(faulty: Path) -> None:
    findings = [str(each) for each in examine_recording(Recording(faulty, instrument=BTC).events()).findings]
    assert any("jumps of trade numbers (2 trades missing)" in each for each in findings), findings
    assert any("trades in another order than their numbers" in each for each in findings), findings
