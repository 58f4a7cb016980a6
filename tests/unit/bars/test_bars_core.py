"""Bars close when they should, hold exactly what was traded, and survive a restart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.bars import TIMEFRAMES, Bar, BarRevision
from libs.domain.events import Unhandleable
from libs.domain.market import (
    DepthDelta,
    DepthSnapshot,
    Gap,
    GapKind,
    GapState,
    Liquidation,
    MarketEvent,
    OpenInterest,
    Side,
    Trade,
)
from libs.domain.numbers import NANOSECONDS, SCALE
from services.bars.core import BarsCore
from services.bars.core.steps import notional_e8
from tests.kit.builders import BTC, START, a_forecast, a_mark, a_quote, a_tick, a_trade
from tests.unit.ingestion.builders import a_kline


def _play(events: Sequence[Any], core: BarsCore | None = None, **changes: Any) -> list[Bar]:
    core = core or BarsCore(**changes)
    return [bar for event in events for bar in core.handle(event) if isinstance(bar, Bar)]


def _minutes(bars: Sequence[Bar | BarRevision]) -> list[Bar]:
    return [bar for bar in bars if isinstance(bar, Bar) and bar.timeframe == "1m"]


@pytest.mark.slow
def test_bar_holds_its_trades() -> None:
    events = [
        a_trade(1, "60000", "0.5"),
        a_trade(2, "60010", "0.25", seconds=10, is_buyer_maker=True),
        a_trade(3, "59990", "0.125", seconds=59.999),
        a_tick(61),
    ]
    (bar,) = _minutes(_play(events))
    assert (bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8) == tuple(
        price * SCALE for price in (60_000, 60_010, 59_990, 59_990)
    )
    assert (bar.volume_e8, bar.taker_buy_volume_e8, bar.trade_count) == (87_500_000, 62_500_000, 3)
    assert bar.quote_volume_e8 == int((Decimal(30_000) + Decimal("15002.5") + Decimal("7498.75")) * SCALE)
    assert (bar.open_time, bar.close_time, bar.event_time) == (START, START + 60 * NANOSECONDS, bar.close_time)
    assert not bar.is_history


def test_minute_waits_out_its_grace() -> None:
    events = [a_trade(1), a_trade(2, seconds=60.1), a_trade(3, "61000", seconds=59.9)]
    core = BarsCore(grace_ms=250)
    assert _play(events, core) == []
    (bar,) = _minutes(core.handle(a_trade(4, seconds=60.25)))
    assert (bar.trade_count, bar.high_e8) == (2, 61_000 * SCALE)
    (following,) = _minutes(core.handle(a_tick(121)))
    assert following.trade_count == 2


def test_trade_for_a_closed_minute_is_counted_in_no_bar() -> None:
    core = BarsCore()
    bars = _play([a_trade(1), a_trade(2, seconds=61), a_trade(3, seconds=30), a_tick(121)], core)
    assert [bar.trade_count for bar in _minutes(bars)] == [1, 1]
    assert core.counters(BTC) == {"late_trades": 1, "stale_bars": 0}


def test_minute_in_which_the_stream_begins_gives_no_bar() -> None:
    bars = _minutes(_play([a_trade(1, seconds=20), a_trade(2, seconds=61), a_tick(121)]))
    assert [bar.open_time for bar in bars] == [START + 60 * NANOSECONDS]


def test_kline_takes_the_place_of_the_partial_minute() -> None:
    bars = _minutes(_play([a_kline(-1), a_trade(1, seconds=20), a_kline(0), a_trade(2, seconds=61), a_tick(121)]))
    assert [(bar.open_time - START) // (60 * NANOSECONDS) for bar in bars] == [-1, 0, 1]
    assert [bar.is_history for bar in bars] == [True, True, False]


def test_kline_that_comes_after_its_minute_was_passed_over_still_fills_it() -> None:
    events = [a_kline(-1), a_trade(1, seconds=20), a_trade(2, seconds=61), a_kline(0), a_tick(121)]
    assert [(bar.open_time - START) // (60 * NANOSECONDS) for bar in _minutes(_play(events))] == [-1, 0, 1]


def test_kline_of_a_closed_or_whole_minute_is_not_needed() -> None:
    core = BarsCore()
    bars = _play([a_trade(1), a_tick(61), a_kline(0), a_trade(2, seconds=62), a_kline(1, is_history=False)], core)
    assert len(_minutes(bars)) == 1
    assert core.counters(BTC)["stale_bars"] == 2


def test_minutes_without_trades_are_flat() -> None:
    bars = _minutes(_play([a_trade(1, "60500"), a_tick(181)]))
    assert [(bar.close_e8, bar.volume_e8, bar.trade_count) for bar in bars[1:]] == [(60_500 * SCALE, 0, 0)] * 2
    assert bars[1].realised_variance == 0.0


def test_quotes_alone_make_no_bar() -> None:
    assert _play([a_quote(1), a_tick(61), a_tick(121)]) == []


def test_longer_bars_go_first_and_only_when_whole() -> None:
    events = [a_trade(number, seconds=60 * number) for number in range(-2, 16)]
    bars = _play([*events, a_tick(901)])
    assert [bar.timeframe for bar in bars[-3:]] == ["15m", "5m", "1m"]
    fives = [bar for bar in bars if bar.timeframe == "5m"]
    assert [bar.open_time - START for bar in fives] == [0, 300 * NANOSECONDS, 600 * NANOSECONDS]
    assert [bar.trade_count for bar in fives] == [5, 5, 5]


def test_missing_minute_leaves_out_the_longer_bar() -> None:
    bars = _play([a_kline(minute) for minute in (0, 1, 3, 4, 5, 6, 7, 8, 9)])
    assert [bar.open_time for bar in bars if bar.timeframe == "5m"] == [START + 300 * NANOSECONDS]


def test_longer_bar_knows_a_sum_only_if_every_minute_does() -> None:
    known = [a_kline(minute, quote_volume_e8=5, taker_buy_volume_e8=2, trade_count=3) for minute in range(4)]
    (whole,) = [bar for bar in _play([*known, a_kline(4)]) if bar.timeframe == "5m"]
    assert (whole.quote_volume_e8, whole.taker_buy_volume_e8, whole.trade_count) == (None, None, None)
    assert whole.volume_e8 == 5 * SCALE
    last = replace(known[0], open_time=START + 240 * NANOSECONDS, close_time=START + 300 * NANOSECONDS)
    (whole,) = [bar for bar in _play([*known, last]) if bar.timeframe == "5m"]
    assert (whole.quote_volume_e8, whole.taker_buy_volume_e8, whole.trade_count) == (25, 10, 15)


def test_bars_of_a_market_of_klines_carry_marks_too() -> None:
    klines = [a_kline(minute, is_history=False) for minute in range(2)]
    bars = _minutes(_play([a_mark(1, "60001", seconds=5), klines[0], a_mark(2, "60002", seconds=65), klines[1]]))
    assert [bar.mark_close_e8 for bar in bars] == [None, 60_002 * SCALE]
    assert not any(bar.is_history for bar in bars)


def test_sources_that_were_silent_are_none() -> None:
    (bar,) = _minutes(_play([a_trade(1), a_tick(61)]))
    optional = ("spread_mean_bps", "depth_imbalance_5", "order_flow_imbalance", "mark_close_e8", "open_interest_e8")
    assert [getattr(bar, name) for name in optional] == [None] * 5


def test_enrichment_says_what_the_feeds_said() -> None:
    at = START + 30 * NANOSECONDS
    events: list[MarketEvent] = [
        a_trade(1),
        a_quote(1, "99.99", "100.01", seconds=1, bid_quantity_e8=3 * SCALE),
        a_quote(2, "100.00", "100.02", seconds=2, bid_quantity_e8=2 * SCALE),
        a_mark(1, "60123", seconds=3),
        OpenInterest(BTC, "oi", at, at, 77),
        Liquidation(BTC, "l1", at, at, Side.SELL, SCALE, 5),
        Liquidation(BTC, "l2", at, at, Side.SELL, SCALE, 6),
        a_tick(61),
    ]
    (bar,) = _minutes(_play(events))
    assert bar.spread_mean_bps == pytest.approx((2.0 + 0.02 / 100.01 * 1e4) / 2)
    assert bar.depth_imbalance_1 == pytest.approx((0.5 + 1 / 3) / 2)
    # The bid rose (+2), the ask rose (+1 that was there): Cont, Kukanov and Stoikov (2014), equation 4.
    assert bar.order_flow_imbalance == 3.0
    assert (bar.mark_close_e8, bar.funding_rate_e8, bar.open_interest_e8) == (60_123 * SCALE, 10_000, 77)
    assert (bar.liquidation_buy_e8, bar.liquidation_sell_e8) == (0, 11)


def _book(last: int, bids: dict[int, int], asks: dict[int, int]) -> DepthSnapshot:
    sides = (tuple(bids), tuple(bids.values()), tuple(asks), tuple(asks.values()))
    return DepthSnapshot(BTC, f"s{last}", START, START, last, *sides)


def _change(first: int, final: int, previous: int, bids: dict[int, int], asks: dict[int, int]) -> DepthDelta:
    sides = (tuple(bids), tuple(bids.values()), tuple(asks), tuple(asks.values()))
    return DepthDelta(BTC, f"d{final}", START, START, first, final, previous, *sides)


def test_book_follows_its_chain_and_gives_imbalances() -> None:
    snapshot = _book(10, {100: 4, 99: 4}, {101: 2, 102: 2})
    change = _change(9, 12, 8, {99: 0, 98: 4, 50: 0}, {101: 8})
    (bar,) = _minutes(_play([a_trade(1), snapshot, change, a_tick(61)]))
    assert bar.depth_imbalance_5 == pytest.approx(((8 - 4) / 12 + (8 - 10) / 18) / 2)
    assert bar.depth_imbalance_1 == pytest.approx(((4 - 2) / 6 + (4 - 8) / 12) / 2)


def test_broken_chain_makes_the_book_unknown_until_the_next_snapshot() -> None:
    snapshot = _book(10, {100: 4}, {101: 2})
    follows = _change(9, 12, 8, {100: 2}, {})
    broken = _change(20, 22, 19, {100: 9}, {})
    after = _change(23, 24, 22, {100: 9}, {})
    (bar,) = _minutes(_play([a_trade(1), snapshot, follows, broken, after, a_tick(61)]))
    assert bar.depth_imbalance_5 == pytest.approx((1 / 3 + 0) / 2)
    again = _book(30, {100: 6}, {101: 2})
    (bar,) = _minutes(_play([a_trade(1), snapshot, broken, again, a_tick(61)]))
    assert bar.depth_imbalance_5 == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_long_silence_starts_afresh() -> None:
    bars = _minutes(_play([a_trade(1), a_trade(2, seconds=3 * 86400 + 5), a_tick(3 * 86400 + 121)]))
    assert [bar.open_time - START for bar in bars] == [0, (3 * 86400 + 60) * NANOSECONDS]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (a_forecast(), "not Forecast"),
        (a_trade(1, price_e8=2**62, quantity_e8=2**62), "not real"),
        (a_kline(0, timeframe="7m"), "'7m'"),
        (a_kline(0, open_time=START + 1), "does not span"),
        (a_trade(1, instrument="ETHUSDT.BINANCE"), "not among the instruments"),
    ],
)
def test_what_cannot_be_a_bar_is_refused_and_changes_nothing(event: Any, words: str) -> None:
    core = BarsCore(instruments=[BTC])
    core.handle(a_trade(1))
    before = core.snapshot()
    with pytest.raises(Unhandleable, match=words):
        core.handle(event)
    assert core.snapshot() == before


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown"):
        BarsCore(["2m"])
    with pytest.raises(ValueError, match="grace_ms"):
        BarsCore(grace_ms=60_000)


def test_snapshot_of_other_settings_is_refused() -> None:
    with pytest.raises(ValueError, match="grace"):
        BarsCore(grace_ms=0).restore(BarsCore().snapshot())


def _random_event(draw: st.DrawFn, number: int, seconds: float) -> MarketEvent:
    kind = draw(st.integers(0, 5))
    price = str(draw(st.integers(59_990, 60_010)))
    if kind <= 2:
        late = draw(st.sampled_from([0.0, 0.0, 0.1, 90.0]))
        return a_trade(number, price, draw(st.sampled_from(["0.001", "1.5"])), seconds=max(0.0, seconds - late))
    if kind == 3:
        return a_quote(number, price, str(int(price) + 1), seconds=seconds)
    if kind == 4:
        return a_mark(number, price, seconds=seconds)
    return a_tick(int(seconds))


@st.composite
def _streams(draw: st.DrawFn) -> list[MarketEvent]:
    seconds, events = 0.0, []
    for number in range(1, draw(st.integers(1, 60))):
        seconds += draw(st.sampled_from([0.0, 0.05, 3.0, 40.0, 200.0]))
        events.append(_random_event(draw, number, seconds))
    return events


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(_streams(), st.integers(0, 60))
def test_restoring_anywhere_changes_nothing(events: list[MarketEvent], cut: int) -> None:
    whole, first = BarsCore(), BarsCore()
    expected = _play(events, whole)
    bars = _play(events[:cut], first)
    second = BarsCore()
    second.restore(first.snapshot())
    assert bars + _play(events[cut:], second) == expected
    assert second.snapshot() == whole.snapshot()


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(_streams())
def test_every_trade_is_in_one_bar_or_counted_late(events: list[MarketEvent]) -> None:
    core = BarsCore()
    bars = _minutes(_play([a_trade(0), *events, a_tick(86_400)], core))
    trades = 1 + sum(isinstance(event, Trade) for event in events)
    assert sum(bar.trade_count or 0 for bar in bars) + core.counters(BTC)["late_trades"] == trades
    opens = [bar.open_time for bar in bars]
    assert opens == list(range(opens[0], opens[-1] + 1, TIMEFRAMES["1m"]))


@given(st.integers(1, 10**13), st.integers(1, 10**12))
def test_notional_is_rounded_half_even_without_floats(price: int, quantity: int) -> None:
    exact = (Decimal(price) * Decimal(quantity) / SCALE).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    assert notional_e8(price, quantity) == int(exact)


def _a_gap(state: GapState, from_s: float, to_s: float, kind: GapKind = GapKind.TRADES) -> Gap:
    begin, end = (START + round(seconds * NANOSECONDS) for seconds in (from_s, to_s))
    gap_id = f"{BTC}/gap/{kind.name.lower()}/{begin}"
    return Gap(BTC, f"{gap_id}/{state.name}", end, end, gap_id, kind, state, begin, end, 0, 0, "connection lost")


@pytest.mark.parametrize(
    ("gap", "marked"),
    [
        (_a_gap(GapState.OPEN, 10, 20), [True, False]),
        (_a_gap(GapState.LOST, 10, 20), [True, False]),
        (_a_gap(GapState.FILLED, 10, 20), [False, False]),
        (_a_gap(GapState.OPEN, 10, 20, GapKind.BOOK), [False, False]),
    ],
)
def test_a_bar_that_lacks_trades_says_so(gap: Gap, marked: list[bool]) -> None:
    before, after = [a_trade(1), a_trade(2, seconds=30), gap], [a_trade(3, seconds=70), a_tick(301)]
    core, again = BarsCore(), BarsCore()
    assert _play(before, core) == []
    again.restore(core.snapshot())
    bars = _play(after, again)
    assert bars == _play(after, core)
    assert [bar.is_incomplete for bar in _minutes(bars)][:2] == marked
    assert [bar.is_incomplete for bar in bars if bar.timeframe == "5m"] == [marked[0]]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 3_000), st.integers(59_000, 61_000), st.integers(1, 50), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_trades_passed_in_a_loop_leave_the_state_of_trades_handled_one_by_one(
    given_trades: list[tuple[int, int, int, bool]],
) -> None:
    at = 0
    trades = []
    for number, (gap_ms, price, quantity, is_buyer_maker) in enumerate(given_trades):
        at += gap_ms
        trades.append(
            replace(
                a_trade(number, price=str(price), quantity=str(quantity), seconds=at / 1000),
                is_buyer_maker=is_buyer_maker,
            )
        )
    handled, passed = BarsCore(), BarsCore()
    for core in (handled, passed):
        core.handle(trades[0])
    rest = [trade for trade in trades[1:] if trade.event_time < handled.deadline(BTC)]
    for trade in rest:
        assert handled.handle(trade) == []
    passed.pass_trades(
        BTC,
        np.array([trade.event_time for trade in rest], np.int64),
        np.array([trade.price_e8 for trade in rest], np.int64),
        np.array([trade.quantity_e8 for trade in rest], np.int64),
        np.array([trade.is_buyer_maker for trade in rest], np.bool_),
    )
    assert passed.snapshot() == handled.snapshot()
