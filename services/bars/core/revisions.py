"""Knows where trades are missing, marks the bars that close without them, and revises those once the trades have come.

A revision is an event of its own: the bar stays as it was closed. Late trades are kept as sums per minute, because a
longer bar that is still open closes without them too and is revised right after. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from libs.domain.bars import TIMEFRAMES, Bar, BarRevision, bar_event_id
from libs.domain.market import Gap, GapKind, GapState, LateTrade, Trade

MINUTE = TIMEFRAMES["1m"]
KEPT_NS = 2 * TIMEFRAMES["1d"]
"""For how long bars that lack trades, and the trades that came late for them, are kept."""
RECENT_NS = 5 * MINUTE
"""For how long every bar is kept: a trade may come before it is reported missing."""


@dataclass(slots=True)
class LateMinute:
    """The trades of one minute that came after its bar had closed, in their order. Sums as in a bar."""

    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_e8: int = 0
    quote_volume_e8: int = 0
    taker_buy_volume_e8: int = 0
    trade_count: int = 0


@dataclass(slots=True)
class Missing:
    """A stretch of which trades are missing, or were: known ones stand at `begin` and, unless that is 0, at `end`.

    With `is_over` no more of it will come; with `is_lost` that is not all there was. `late` is by open time.
    """

    begin: int
    end: int
    is_over: bool = False
    is_lost: bool = False
    late: dict[int, LateMinute] = field(default_factory=dict)

    def overlaps(self, open_time: int, close_time: int) -> bool:
        """Tell whether trades of a span are, or were, missing."""
        return self.begin < close_time and (not self.end or self.end >= open_time)


@dataclass(slots=True)
class ClosedBar:
    """A bar as it closed, as it was published last, and how often it was revised."""

    bar: Bar
    last: Bar
    revision: int = 0


@dataclass(slots=True)
class RevisionsState:
    """What is kept: missing stretches by gap, bars that may be revised, and which minutes are the venue's own klines:
    all before `history_until`, and those listed.
    """

    missing: dict[str, Missing] = field(default_factory=dict)
    closed: dict[str, ClosedBar] = field(default_factory=dict)
    history_until: int = 0
    kline_minutes: list[int] = field(default_factory=list)


class Revisions:
    """One instrument's; `state` is all that it keeps."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = RevisionsState()

    def is_incomplete(self, open_time: int, close_time: int) -> bool:
        """Tell whether a bar that closes now lacks trades."""
        return any(
            each.overlaps(open_time, close_time)
            and (not each.is_over or each.is_lost or any(open_time <= at < close_time for at in each.late))
            and self._is_ours(each, open_time, close_time)
            for each in self.state.missing.values()
        )

    def note_kline(self, open_time: int, *, is_before_stream: bool) -> None:
        """Take in that a minute is as the venue gave it: nothing is missing in it."""
        if is_before_stream:
            self.state.history_until = open_time + MINUTE
        else:
            self.state.kline_minutes.append(open_time)
            del self.state.kline_minutes[: -KEPT_NS // MINUTE]

    def note_closed(self, bar: Bar) -> list[BarRevision]:
        """Keep a bar that has closed; return its revision where trades of it came late while it was open."""
        state = self.state
        for event_id in [event_id for event_id, kept in state.closed.items() if _is_past(kept.bar, bar.close_time)]:
            del state.closed[event_id]
        oldest = bar.close_time - KEPT_NS
        for name in [name for name, each in state.missing.items() if 0 < each.end < oldest]:
            del state.missing[name]
        if bar.is_history:
            return []
        state.closed[bar.event_id] = ClosedBar(bar, bar)
        return self._revise([bar.event_id], bar.close_time) if bar.is_incomplete else []

    def take_gap(self, gap: Gap) -> list[BarRevision]:
        """Take in how a gap in the trades stands; return the bars that are as complete as they can be now."""
        if gap.kind is not GapKind.TRADES:
            return []
        each = self.state.missing.get(gap.gap_id)
        if each is None:
            if gap.state is GapState.FILLED:
                # All of it went out in its order.
                return []
            each = self.state.missing[gap.gap_id] = Missing(gap.from_time, gap.to_time)
        each.begin = min(each.begin, gap.from_time)
        each.end = max(gap.from_time, gap.to_time) if gap.to_time else 0
        each.is_over, each.is_lost = gap.state is not GapState.OPEN, gap.state is GapState.LOST
        return self._revise(self._bars_of(each), gap.event_time) if each.is_over else []

    def take_late(self, trade: LateTrade, notional_e8: int) -> None:
        """Keep a trade of a gap for the revisions that are made when the gap ends."""
        # A gap may be reported only once it has ended, behind its trades.
        each = self.state.missing.setdefault(trade.gap_id, Missing(trade.event_time, 0))
        _add(each, trade, notional_e8)

    def take_overtaken(self, trade: Trade, notional_e8: int, at: int) -> list[BarRevision]:
        """Take a trade whose minute had closed when it came, though none was missing; return the bars it corrects."""
        open_time = trade.event_time - trade.event_time % MINUTE
        # Nothing known stands behind it in its minute.
        each = self.state.missing.setdefault(
            f"{trade.instrument}/overtaken/{open_time}", Missing(trade.event_time, open_time + MINUTE - 1, is_over=True)
        )
        _add(each, trade, notional_e8)
        return self._revise(self._bars_of(each), at)

    def _is_ours(self, each: Missing, open_time: int, close_time: int) -> bool:
        """Tell whether a stretch touches a minute of a bar that was made of trades."""
        first = max(open_time, each.begin - each.begin % MINUTE)
        last = min(close_time, each.end + 1) if each.end else close_time
        return any(self._is_own(at) for at in range(first, last, MINUTE))

    def _is_own(self, open_time: int) -> bool:
        return open_time >= self.state.history_until and open_time not in self.state.kline_minutes

    def _bars_of(self, each: Missing) -> list[str]:
        return [
            event_id
            for event_id, kept in self.state.closed.items()
            if each.overlaps(kept.bar.open_time, kept.bar.close_time)
        ]

    def _revise(self, event_ids: Sequence[str], at: int) -> list[BarRevision]:
        out: list[BarRevision] = []
        for event_id in event_ids:
            kept = self.state.closed[event_id]
            open_time, close_time = kept.bar.open_time, kept.bar.close_time
            found = {
                name: each
                for name, each in self.state.missing.items()
                if each.overlaps(open_time, close_time) and self._is_ours(each, open_time, close_time)
            }
            if any(not each.is_over for each in found.values()):
                continue
            is_lost = any(each.is_lost for each in found.values())
            revised = replace(self._level(self._merge(kept.bar, found.values())), is_incomplete=is_lost)
            if revised == kept.last:
                continue
            kept.last = revised
            kept.revision += 1
            out.append(_describe(kept, at, sorted(found)))
        return out

    def _level(self, bar: Bar) -> Bar:
        """Return a bar that has no trades at the price of the one before it, which may have been revised."""
        before = self.state.closed.get(bar_event_id(bar.instrument, bar.timeframe, 2 * bar.open_time - bar.close_time))
        if bar.trade_count != 0 or before is None:
            return bar
        price = before.last.close_e8
        return replace(bar, open_e8=price, high_e8=price, low_e8=price, close_e8=price)

    def _merge(self, bar: Bar, stretches: Iterable[Missing]) -> Bar:
        """Return a bar with the late trades of its own minutes."""
        late = [
            (at, each, minute)
            for each in stretches
            for at, minute in each.late.items()
            if bar.open_time <= at < bar.close_time and self._is_own(at)
        ]
        if not late:
            return bar
        late.sort(key=lambda found: (found[0], found[1].begin))
        minutes = [minute for _, _, minute in late]
        is_empty = bar.trade_count == 0
        # The trades of a stretch open the bar where no known one stands before them, and close it where none is behind.
        opening = [minute for _, each, minute in late if is_empty or each.begin < bar.open_time]
        closing = [minute for _, each, minute in late if is_empty or not each.end or each.end >= bar.close_time - 1]
        known: list[Bar | LateMinute] = [] if is_empty else [bar]
        return replace(
            bar,
            open_e8=opening[0].open_e8 if opening else bar.open_e8,
            high_e8=max(each.high_e8 for each in (*known, *minutes)),
            low_e8=min(each.low_e8 for each in (*known, *minutes)),
            close_e8=closing[-1].close_e8 if closing else bar.close_e8,
            volume_e8=bar.volume_e8 + sum(minute.volume_e8 for minute in minutes),
            quote_volume_e8=_plus(bar.quote_volume_e8, (minute.quote_volume_e8 for minute in minutes)),
            taker_buy_volume_e8=_plus(bar.taker_buy_volume_e8, (minute.taker_buy_volume_e8 for minute in minutes)),
            trade_count=_plus(bar.trade_count, (minute.trade_count for minute in minutes)),
        )


def _is_past(bar: Bar, now: int) -> bool:
    return bar.close_time < now - (KEPT_NS if bar.is_incomplete else RECENT_NS)


def _plus(known: int | None, more: Iterable[int]) -> int | None:
    return None if known is None else known + sum(more)


def _add(each: Missing, trade: Trade | LateTrade, notional_e8: int) -> None:
    open_time, price = trade.event_time - trade.event_time % MINUTE, trade.price_e8
    minute = each.late.setdefault(open_time, LateMinute(price, price, price, price))
    minute.high_e8, minute.low_e8 = max(minute.high_e8, price), min(minute.low_e8, price)
    minute.close_e8 = price
    minute.volume_e8 += trade.quantity_e8
    minute.quote_volume_e8 += notional_e8
    minute.taker_buy_volume_e8 += 0 if trade.is_buyer_maker else trade.quantity_e8
    minute.trade_count += 1


def _describe(kept: ClosedBar, at: int, causes: Sequence[str]) -> BarRevision:
    bar = kept.last
    return BarRevision(
        instrument=bar.instrument,
        event_id=f"{bar.event_id}/revision/{kept.revision}",
        event_time=at,
        bar_id=bar.event_id,
        revision=kept.revision,
        causes=tuple(causes),
        timeframe=bar.timeframe,
        open_time=bar.open_time,
        close_time=bar.close_time,
        open_e8=bar.open_e8,
        high_e8=bar.high_e8,
        low_e8=bar.low_e8,
        close_e8=bar.close_e8,
        volume_e8=bar.volume_e8,
        quote_volume_e8=bar.quote_volume_e8,
        taker_buy_volume_e8=bar.taker_buy_volume_e8,
        trade_count=bar.trade_count,
        is_incomplete=bar.is_incomplete,
    )
