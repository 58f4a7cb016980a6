"""A bar that lacks trades says so, and once they have come a revision says what it is: what it had been with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.bars import TIMEFRAMES, Bar, BarRevision
from libs.domain.market import Gap, GapKind, GapState, LateTrade, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS
from services.bars.core import BarsCore
from services.ingestion.core.gaps import OpenGap, as_late
from tests.kit.builders import BTC, START, a_tick, a_trade
from tests.unit.ingestion.builders import a_kline

MINUTES = 11
REVISED = [
    field.name
    for field in fields(BarRevision)
    if field.name.endswith("_e8") or field.name in ("trade_count", "open_time", "timeframe")
]


def play(events: Sequence[MarketEvent], core: BarsCore | None = None) -> list[Bar | BarRevision]:
    core = core or BarsCore()
    return [out for event in events for out in core.handle(event)]


def numbers_of(bar: Bar | BarRevision) -> tuple[object, ...]:
    return tuple(getattr(bar, name) for name in REVISED)


def final_numbers(outputs: Sequence[Bar | BarRevision]) -> dict[str, tuple[object, ...]]:
    """The numbers of each bar as they were told of last."""
    return {out.bar_id if isinstance(out, BarRevision) else out.event_id: numbers_of(out) for out in outputs}


def a_gap(state: GapState, begin: int, end: int) -> Gap:
    gap_id = f"{BTC}/gap/trades/{begin}"
    name = f"{gap_id}/{state.name}/{end}"
    return Gap(BTC, name, end or begin, begin, gap_id, GapKind.TRADES, state, begin, end, 0, 0, "lost")


def late(trade: Trade, gap: Gap) -> LateTrade:
    return as_late(trade, OpenGap(gap.gap_id, gap.kind, gap.from_time, gap.to_time, 0, 0, ""))


@st.composite
def trades_with_a_gap(draw: st.DrawFn) -> tuple[list[Trade], int, int, int]:
    """Trades of every minute; from which to which of them are missed, and behind which they come."""
    seconds = [0.0]
    for minute in range(MINUTES):
        at = draw(st.lists(st.integers(0, 59_999), min_size=1, max_size=4, unique=True))
        seconds += [minute * 60 + each / 1000 for each in sorted(at) if minute or each]
    prices = draw(st.lists(st.integers(50_000, 60_000), min_size=len(seconds), max_size=len(seconds)))
    trades = [
        a_trade(number, str(price), "0.01", at, is_buyer_maker=bool(price % 2))
        for number, (price, at) in enumerate(zip(prices, seconds, strict=True), start=1)
    ]
    first = draw(st.integers(1, len(trades) - 2))
    last = draw(st.integers(first, len(trades) - 2))
    return trades, first, last, draw(st.integers(last + 2, len(trades)))


@settings(max_examples=60, deadline=None)
@given(trades_with_a_gap(), st.booleans())
def test_revised_bars_are_those_of_all_trades(case: tuple[list[Trade], int, int, int], is_told_early: bool) -> None:
    trades, first, last, behind = case
    ticks: list[MarketEvent] = [a_tick(MINUTES * 60 + 1)]
    expected = play([*trades, *ticks])
    begin, end = trades[first - 1].event_time, trades[last + 1].event_time
    opened, ended = a_gap(GapState.OPEN, begin, end), a_gap(GapState.LATE, begin, end)
    core = BarsCore()
    outputs = play([*trades[:first], *([a_gap(GapState.OPEN, begin, 0)] if is_told_early else []), opened], core)
    outputs += play(trades[last + 1 : behind], core)
    again = BarsCore()
    again.restore(core.snapshot())
    behind_all = [late(trade, opened) for trade in trades[first : last + 1]]
    rest: list[MarketEvent] = [*behind_all, ended, *trades[behind:], *ticks]
    ending = play(rest, again)
    assert ending == play(rest, core)
    outputs += ending
    assert final_numbers(outputs) == final_numbers(expected)
    assert not any(out.is_incomplete for out in outputs if isinstance(out, BarRevision))
    told = final_numbers([out for out in outputs if isinstance(out, Bar) and not out.is_incomplete])
    assert told.items() <= final_numbers(expected).items()


def test_a_bar_stays_marked_where_the_venue_has_its_trades_no_more() -> None:
    begin, end = START + 10 * NANOSECONDS, START + 50 * NANOSECONDS
    outputs = play(
        [
            *(a_trade(1), a_trade(2, seconds=10)),
            a_gap(GapState.OPEN, begin, end),
            a_trade(9, seconds=50),
            a_tick(61),
            late(a_trade(8, "61000", seconds=40), a_gap(GapState.OPEN, begin, end)),
            a_gap(GapState.LOST, begin, end),
        ]
    )
    (bar, revision) = [out for out in outputs if out.timeframe == "1m"]
    assert isinstance(revision, BarRevision)
    assert bar.is_incomplete
    assert revision.is_incomplete
    assert (bar.trade_count, revision.trade_count) == (3, 4)
    assert revision.causes == (f"{BTC}/gap/trades/{begin}",)


def test_a_bar_that_turns_out_to_lack_nothing_says_so() -> None:
    begin = START + 10 * NANOSECONDS
    outputs = play(
        [
            *(a_trade(1, seconds=0), a_trade(2, seconds=10), a_gap(GapState.OPEN, begin, 0), a_tick(61)),
            a_gap(GapState.FILLED, begin, START + 65 * NANOSECONDS),
            *(a_trade(3, seconds=65), a_tick(121)),
        ]
    )
    (first, revision, second) = [out for out in outputs if out.timeframe == "1m"]
    assert isinstance(revision, BarRevision)
    assert (first.is_incomplete, revision.is_incomplete, second.is_incomplete) == (True, False, False)
    assert numbers_of(first) == numbers_of(revision)


def test_a_trade_that_comes_behind_its_minute_revises_every_bar_that_lacks_it() -> None:
    trades = [a_trade(number, str(60_000 + number), seconds=20.0 * number) for number in range(15)]
    swapped = [*trades[:2], *trades[3:5], trades[2], *trades[5:]]
    expected, outputs = play([*trades, a_tick(301)]), play([*swapped, a_tick(301)])
    assert {out.timeframe for out in outputs if isinstance(out, BarRevision)} == {"1m", "5m"}
    assert final_numbers(outputs) == final_numbers(expected)


@pytest.mark.parametrize("is_history", [True, False])
def test_a_minute_that_its_kline_gave_is_not_revised(is_history: bool) -> None:
    kline = a_kline(0, is_history=is_history)
    begin, end = START + 10 * NANOSECONDS, START + 70 * NANOSECONDS
    outputs = play(
        [
            *(a_trade(1, seconds=5), a_gap(GapState.OPEN, begin, end), a_tick(60), kline),
            late(a_trade(2, seconds=40), a_gap(GapState.OPEN, begin, end)),
            late(a_trade(3, seconds=65), a_gap(GapState.OPEN, begin, end)),
            *(a_trade(4, seconds=70), a_gap(GapState.LATE, begin, end), a_tick(121)),
        ]
    )
    bars = [out for out in outputs if out.timeframe == "1m" and isinstance(out, Bar)]
    revisions = [out for out in outputs if isinstance(out, BarRevision)]
    assert [bar.is_incomplete for bar in bars] == [False, True]
    assert [revision.bar_id for revision in revisions] == [bars[1].event_id]
    assert revisions[0].trade_count == 2


def test_what_is_kept_for_revisions_is_bounded() -> None:
    core, day = BarsCore(["1m"]), TIMEFRAMES["1d"]
    play([a_trade(1), a_gap(GapState.OPEN, START, START + NANOSECONDS)], core)
    play([a_trade(2, seconds=61), a_tick(121)], core)
    first, gap = f"{BTC}/1m/{START}".encode(), f"{BTC}/gap/trades/{START}".encode()
    assert first in core.snapshot()
    assert gap in core.snapshot()
    play([replace(a_trade(9), event_time=START + 3 * day + 60 * NANOSECONDS * minute) for minute in range(3)], core)
    assert first not in core.snapshot()
    assert gap not in core.snapshot()
