"""The normaliser drops what was seen, keeps the book followable and makes the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from libs.domain.market import ClockTick, DepthDelta, DepthSnapshot, FundingSettled, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS
from libs.domain.state import StateFormat
from services.ingestion.core import Normaliser
from services.ingestion.core.normaliser import NormaliserState
from services.ingestion.core.stream import Stream, select_history
from tests.kit.builders import BTC, START, a_mark, a_quote, a_trade
from tests.unit.ingestion.builders import a_delta, a_kline, a_snapshot


def _accept_all(events: Sequence[Any], normaliser: Normaliser | None = None) -> list[MarketEvent]:
    normaliser = normaliser or Normaliser(BTC)
    return [out for event in events for out in normaliser.accept(event)]


def test_repeated_and_older_events_are_dropped() -> None:
    normaliser = Normaliser(BTC)
    events = [a_trade(5), a_trade(5), a_trade(4), a_quote(2), a_quote(2), a_mark(1), a_mark(1)]
    assert _accept_all(events, normaliser) == [a_trade(5), a_quote(2), a_mark(1)]
    assert normaliser.duplicates == 4


def test_only_one_of_two_parallel_trade_streams_counts() -> None:
    aggregate = a_trade(900, event_id=f"{BTC}/aggtrade/900")
    assert _accept_all([a_trade(1), aggregate, a_trade(2)]) == [a_trade(1), a_trade(2)]


def test_a_missing_trade_is_counted() -> None:
    normaliser = Normaliser(BTC)
    _accept_all([a_trade(1), a_trade(2), a_trade(5)], normaliser)
    assert normaliser.trade_gaps == 1


def test_a_tick_goes_before_the_event_that_begins_a_second() -> None:
    out = _accept_all(
        [a_trade(1, seconds=0.9), a_trade(2, seconds=1.0), a_trade(3, seconds=1.5), a_trade(4, seconds=4.2)]
    )
    assert [type(event) for event in out] == [Trade, ClockTick, Trade, Trade, ClockTick, Trade]
    ticks = [event for event in out if isinstance(event, ClockTick)]
    assert [(tick.event_time - START) // NANOSECONDS for tick in ticks] == [1, 4]
    assert ticks[0].event_id == f"{BTC}/tick/{START // NANOSECONDS + 1}"


def test_an_event_from_the_past_gives_no_tick() -> None:
    out = _accept_all([a_trade(1, seconds=5), a_quote(1, seconds=3), a_trade(2, seconds=5.5)])
    assert not any(isinstance(event, ClockTick) for event in out)


def test_deltas_wait_for_the_snapshot_they_build_on() -> None:
    events = [a_delta(1, 4, 0), a_delta(5, 8, 4), a_delta(9, 12, 8), a_snapshot(6), a_delta(13, 14, 12)]
    assert _accept_all(events) == [a_snapshot(6), a_delta(5, 8, 4), a_delta(9, 12, 8), a_delta(13, 14, 12)]


def test_deltas_go_out_without_a_snapshot_after_a_while() -> None:
    events = [a_delta(1, 4, 0), a_trade(1, seconds=6), a_delta(5, 6, 4, seconds=6)]
    deltas = [event for event in _accept_all(events) if isinstance(event, DepthDelta)]
    assert deltas == [events[0], events[2]]


def test_a_break_in_the_chain_of_the_book_is_counted() -> None:
    normaliser = Normaliser(BTC)
    _accept_all([a_snapshot(6), a_delta(5, 8, 4), a_delta(9, 12, 8), a_delta(20, 22, 19)], normaliser)
    assert normaliser.depth_gaps == 1


def test_snapshot_that_no_held_delta_goes_on_from_is_not_bridged() -> None:
    normaliser = Normaliser(BTC)
    _accept_all([a_delta(10, 12, 9)], normaliser)
    assert not normaliser.is_bridged_by(a_snapshot(7))
    assert normaliser.is_bridged_by(a_snapshot(9))
    assert normaliser.is_bridged_by(a_snapshot(11))
    assert normaliser.is_bridged_by(a_snapshot(40))


def test_funding_settles_when_the_next_funding_time_moves_on() -> None:
    due = START + 10 * NANOSECONDS
    before = a_mark(1, seconds=9, next_funding_time=due, funding_rate_e8=777)
    after = a_mark(2, seconds=11, next_funding_time=due + 8 * 3600 * NANOSECONDS, funding_rate_e8=111)
    settled = [event for event in _accept_all([before, after]) if isinstance(event, FundingSettled)]
    assert settled == [FundingSettled(BTC, f"{BTC}/funding/{due}", due, after.received_time, 777, after.mark_price_e8)]


def test_state_survives_being_kept_with_held_deltas() -> None:
    events = [a_trade(1), a_delta(1, 4, 0), a_delta(5, 8, 4)]
    rest = [a_snapshot(6), a_trade(1), a_trade(2, seconds=2), a_delta(9, 12, 8)]
    one, other = Normaliser(BTC), Normaliser(BTC)
    _accept_all(events, one)
    kept = StateFormat("normaliser", 1, NormaliserState)
    other.state = kept.decode(kept.encode(one.state))
    assert _accept_all(rest, one) == _accept_all(rest, other)
    assert one.state == other.state


def test_join_minute_kline_takes_the_place_of_the_first_partial_minute() -> None:
    klines = [a_kline(minute) for minute in range(-2, 2)]
    stream = Stream(BTC, klines=klines)
    events = [a_trade(1, seconds=30), a_trade(2, seconds=59), a_trade(3, seconds=60.5)]
    out = [event for item in events for event in stream.accept(item)]
    assert out[3] == klines[2]
    assert isinstance(out[4], ClockTick)


def test_stream_that_begins_on_the_minute_has_no_join_minute() -> None:
    stream = Stream(BTC, klines=[a_kline(0)])
    out = [event for item in (a_trade(1), a_trade(2, seconds=61)) for event in stream.accept(item)]
    assert a_kline(0) not in out


def test_history_is_what_closed_before_the_first_event() -> None:
    klines = [a_kline(minute) for minute in range(-5, 5)]
    assert select_history(klines, first_event_time=START + 1, count=3) == klines[2:5]
    assert select_history(klines, first_event_time=START + 1, count=0) == []


def test_span_ends_with_the_tick_of_the_second_after_it() -> None:
    stream = Stream(BTC, span_ns=2 * NANOSECONDS)
    events = [a_trade(number + 1, seconds=number / 2) for number in range(20)]
    out = [event for item in events for event in stream.accept(item)]
    assert stream.is_over
    assert isinstance(out[-1], ClockTick)
    assert out[-1].event_time == START + 3 * NANOSECONDS


def test_snapshot_event_is_not_emitted_twice() -> None:
    out = _accept_all([a_snapshot(6), a_snapshot(6)])
    assert [type(event) for event in out] == [DepthSnapshot]
