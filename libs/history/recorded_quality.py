"""Says what is wrong with a recording: what is missing from it, clocks that differ, trades that its quotes contradict.

Times and prices alone are kept of the events, so that a day of them fits in memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from libs.domain.events import DeadInput
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    ExchangeBar,
    Gap,
    GapKind,
    GapState,
    LateTrade,
    MarketEvent,
    MarkPrice,
    Trade,
)
from libs.history.quality import Finding, extremes_within, format_span

CLOCK_AHEAD_MS = 100
"""An event that is received so much before it happened shows that the recorder's clock is behind the venue's."""
CLOCK_DRIFT_MS = 250
"""How far apart the fastest deliveries of two minutes may be: a network is that steady, clocks may not be."""
QUOTE_WINDOW_MS = 500
"""Quotes this near to a trade are held against it; venues stamp trades and quotes in different places."""
QUOTE_DISTANCE = 1e-4
"""How far beyond those quotes a trade may be, as a share: a market can leave and come back between two quotes."""
MARK_DISTANCE = 0.02
"""How far from the last trade a mark price may be, as a share: at the ends of BTCUSDT's hours at Binance from 2019 to
2025 it was further in two of 48,397, both on 13 March 2020."""

Times = npt.NDArray[np.int64]
_MS = 1_000_000
_MINUTE = 60_000 * _MS


@dataclass(frozen=True, slots=True)
class RecordingReport:
    """What was read, how long events took to be received (ms: fastest, median, slowest), and what is wrong."""

    events: int
    first_ms: int
    last_ms: int
    delay_ms: tuple[float, float, float]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Counted:
    count: int = 0
    first: int = 0

    def add(self, time: int) -> None:
        if not self.count:
            self.first = time
        self.count += 1


@dataclass(slots=True)
class _Minute:
    """A bar of trades; the first and the last of them are told by time and number."""

    first: tuple[int, int]
    last: tuple[int, int]
    open: int
    high: int
    low: int
    close: int
    volume: int = 0


@dataclass(slots=True)
class _Kept:
    minutes: dict[int, _Minute] = field(default_factory=dict)
    jumps: _Counted = field(default_factory=_Counted)
    missing: int = 0
    klines: list[ExchangeBar] = field(default_factory=list)
    clocks: tuple[array[int], array[int]] = field(default_factory=lambda: (array("q"), array("q")))
    trades: tuple[array[int], ...] = field(default_factory=lambda: (array("q"), array("q"), array("q")))
    quotes: tuple[array[int], ...] = field(default_factory=lambda: (array("q"), array("q"), array("q")))
    marks_off: _Counted = field(default_factory=_Counted)
    counted: dict[str, _Counted] = field(default_factory=dict)


def examine_recording(events: Iterable[MarketEvent | DeadInput]) -> RecordingReport:
    """Read a recording's events, as it releases them, to their end and return what is wrong with them."""
    kept = _Kept()
    last_price = total = now = 0
    for event in events:
        if isinstance(event, DeadInput):
            kept.counted.setdefault("lines that cannot be read or cannot be true", _Counted()).add(now)
            continue
        total, now = total + 1, event.event_time
        match event:
            case Trade():
                last_price = event.price_e8
                _append(kept.trades, now, event.price_e8, event.is_buyer_maker)
                _add_trade(kept, event)
            case LateTrade():
                _add_trade(kept, event)
            case ExchangeBar(is_history=False, timeframe="1m"):
                kept.klines.append(event)
            case BestQuote():
                _append(kept.quotes, now, event.bid_price_e8, event.ask_price_e8)
            case MarkPrice():
                if last_price and abs(event.mark_price_e8 - last_price) > MARK_DISTANCE * last_price:
                    kept.marks_off.add(now)
            case Gap():
                _add_gap(kept, event)
        if isinstance(event, Trade | BestQuote | DepthDelta | MarkPrice):
            _append(kept.clocks, now, event.received_time)
    times, received = (np.array(column, dtype=np.int64) for column in kept.clocks)
    # What cannot be read before the first event is dated with that event.
    began = int(times.min()) if len(times) else 0
    findings = [Finding(what, each.count, (each.first or began) // _MS) for what, each in kept.counted.items()]
    if kept.jumps.count:
        what = f"jumps of trade numbers ({kept.missing:,} trades missing)"
        findings.append(Finding(what, kept.jumps.count, kept.jumps.first // _MS))
    findings += _skew(times, received) + _crossed(kept.trades, kept.quotes)
    findings += _off_klines(kept.minutes, kept.klines)
    if kept.marks_off.count:
        what = f"mark prices more than {MARK_DISTANCE:.0%} from the last trade"
        findings.append(Finding(what, kept.marks_off.count, kept.marks_off.first // _MS))
    delays = (received - times) / _MS if len(times) else np.zeros(1)
    ends = (int(times.min()) // _MS, int(times.max()) // _MS) if len(times) else (0, 0)
    return RecordingReport(
        total, *ends, (float(delays.min()), float(np.median(delays)), float(delays.max())), tuple(findings)
    )


def _append(columns: tuple[array[int], ...], *values: int) -> None:
    for column, value in zip(columns, values, strict=True):
        column.append(value)


def _skew(times: Times, received: Times) -> list[Finding]:
    if not len(times):
        return []
    delays = received - times
    is_early = delays < -CLOCK_AHEAD_MS * _MS
    findings = []
    if is_early.any():
        most = -int(delays.min()) // _MS
        what = f"events received up to {most:,} ms before they happened: the clocks of venue and recorder differ"
        findings.append(Finding(what, int(is_early.sum()), int(times[np.argmax(is_early)]) // _MS))
    # The fastest event of each minute met no queue: what is left of its delay is the way, and the clocks' difference.
    minutes, at = np.unique(times // _MINUTE, return_inverse=True)
    fastest = np.full(len(minutes), np.iinfo(np.int64).max)
    np.minimum.at(fastest, at, delays)
    is_off = np.abs(fastest - fastest[0]) > CLOCK_DRIFT_MS * _MS
    if is_off.any():
        most = int(fastest[np.argmax(np.abs(fastest - fastest[0]))] - fastest[0]) // _MS
        what = (
            f"minutes whose fastest event took up to {most:+,} ms against the first minute's: "
            "a clock drifts, or the recorder lagged"
        )
        findings.append(Finding(what, int(is_off.sum()), int(minutes[np.argmax(is_off)]) * 60_000))
    return findings


def _add_gap(kept: _Kept, gap: Gap) -> None:
    if gap.kind is GapKind.BOOK:
        if gap.state is not GapState.FILLED:
            kept.counted.setdefault("gaps of the book", _Counted()).add(gap.from_time)
    elif gap.state is GapState.FILLED:
        kept.counted.setdefault("trades in another order than their numbers", _Counted()).add(gap.from_time)
    elif gap.state is GapState.LATE:
        kept.counted.setdefault("gaps of trades that came later", _Counted()).add(gap.from_time)
    elif gap.state is GapState.LOST:
        kept.jumps.add(gap.from_time)
        kept.missing += gap.last_number - gap.first_number + 1


def _add_trade(kept: _Kept, trade: Trade | LateTrade) -> None:
    minutes = kept.minutes
    number, price = trade.event_time // _MINUTE, trade.price_e8
    minute, place = minutes.get(number), (trade.event_time, trade.venue_trade_id)
    if minute is None:
        minute = minutes[number] = _Minute(place, place, price, price, price, price)
    if place < minute.first:
        minute.first, minute.open = place, price
    if place >= minute.last:
        minute.last, minute.close = place, price
    minute.high, minute.low = max(minute.high, price), min(minute.low, price)
    minute.volume += trade.quantity_e8


def _off_klines(minutes: dict[int, _Minute], klines: list[ExchangeBar]) -> list[Finding]:
    """Find the venue's klines that their trades contradict, but for the minutes in which trades begin and end."""
    if not minutes:
        return []
    first, last = min(minutes), max(minutes)
    off = []
    for kline in klines:
        number = kline.open_time // _MINUTE
        if first < number < last:
            made, bar = minutes.get(number), (kline.open_e8, kline.high_e8, kline.low_e8, kline.close_e8)
            has = bar if made is None else (made.open, made.high, made.low, made.close)
            if has != bar or kline.volume_e8 != (0 if made is None else made.volume):
                off.append(kline.open_time)
    what = "klines of the venue whose open, high, low, close or volume is not that of the trades"
    return [Finding(what, len(off), min(off) // _MS)] if off else []


def _crossed(trades: tuple[array[int], ...], quotes: tuple[array[int], ...]) -> list[Finding]:
    """Find what was bought below the lowest bid of the quotes around it, or sold above their highest ask."""
    at, price, is_sale = (np.array(column, dtype=np.int64) for column in trades)
    quoted_at, bid, ask = (np.array(column, dtype=np.int64) for column in quotes)
    if not len(at) or not len(quoted_at):
        return []
    order = np.argsort(quoted_at, kind="stable")
    quoted_at, bid, ask = quoted_at[order], bid[order], ask[order]
    # The quote that stood when the window began is part of it.
    first = np.maximum(np.searchsorted(quoted_at, at - QUOTE_WINDOW_MS * _MS, side="right") - 1, 0)
    last = np.searchsorted(quoted_at, at + QUOTE_WINDOW_MS * _MS, side="right")
    is_quoted = last > first
    if not is_quoted.any():
        return []
    at, price, is_sale = at[is_quoted], price[is_quoted], is_sale[is_quoted].astype(np.bool_)
    lowest_bid, highest_ask = extremes_within(bid, ask, first[is_quoted], last[is_quoted])
    is_wrong = np.where(is_sale, price > highest_ask * (1 + QUOTE_DISTANCE), price < lowest_bid * (1 - QUOTE_DISTANCE))
    if not is_wrong.any():
        return []
    what = "trades at a price on the wrong side of all quotes around them"
    return [Finding(what, int(is_wrong.sum()), int(at[np.argmax(is_wrong)]) // _MS)]


def describe_recording(instrument: str, report: RecordingReport) -> Sequence[str]:
    """Return the lines of a report."""
    fastest, median, slowest = report.delay_ms
    return [
        f"{instrument} recording: {report.events:,} events, {format_span(report.first_ms, report.last_ms)}, received "
        f"{fastest:,.1f} to {slowest:,.1f} ms after they happened (median {median:,.1f})",
        *([f"  {finding}" for finding in report.findings] or ["  nothing wrong was found"]),
    ]
