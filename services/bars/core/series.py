"""One instrument's bars in the making: when they close, what a kline does to them, how they become `Bar` values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from libs.domain.bars import TIMEFRAMES, Bar, BarRevision, bar_event_id
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    LateTrade,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OutsideReading,
    Side,
    Trade,
)
from libs.domain.market_columns import MarketColumns
from libs.domain.readings import SETTLED_FUNDING_RATE, LatestReadings
from libs.domain.state import ArrayOf
from services.bars.core.book import LEVELS, MAX_LEVELS, Ints, grow
from services.bars.core.revisions import Revisions, RevisionsState
from services.bars.core.steps import (
    ACCUMULATOR,
    ENRICHMENTS,
    FINISHED,
    HEAD,
    LONGER,
    NO_PRICE,
    SCALE,
    Flags,
    Records,
    aggregate_minute,
    clear_slot,
    compact_book,
    notional_e8,
    shift_slots,
    start_slots,
    step_delta,
    step_events,
    step_quote,
    step_snapshot,
    step_trade,
    step_trades,
    words_of,
)
from services.bars.core.trades import TradeArrays

MINUTE = TIMEFRAMES["1m"]
MAX_SILENT_MINUTES = 1440
"""A stream silent for longer starts afresh instead of filling in flat bars."""

_LADDERS = (("bids", 0), ("asks", 1))


@dataclass(slots=True)
class BarSeriesState:
    """What is kept of a series: the records as they are, the used part of each side's prices and quantities, and what
    is missing and may be revised, and the latest readings from outside.
    """

    head: Annotated[Records, ArrayOf(HEAD)]
    slots: Annotated[Records, ArrayOf(ACCUMULATOR)]
    ladders: list[Annotated[Ints, ArrayOf("<i8")]]
    revisions: RevisionsState
    readings: LatestReadings


class BarSeries:
    """The state of one instrument and the steps on it.

    `opened` and `deadline` are the event times (ns) since which the minute is open and that closes it; 0 before the
    first event.
    """

    __slots__ = (
        "_due",
        "_has_minutes",
        "_instrument",
        "_lengths",
        "_names",
        "_slots",
        "_words",
        "deadline",
        "grace_ns",
        "head",
        "keys",
        "opened",
        "quantities",
        "readings",
        "revisions",
    )  # fmt: skip

    def __init__(self, instrument: str, timeframes: Sequence[str], grace_ns: int) -> None:
        longer = [name for name in TIMEFRAMES if name in timeframes and name != "1m"]
        self._instrument = instrument
        self._names = longer
        self._has_minutes = "1m" in timeframes
        self._lengths = np.array([TIMEFRAMES[name] for name in longer], dtype=np.int64)
        self._due = np.zeros(len(longer) + 1, dtype=np.int64)
        self.grace_ns = grace_ns
        self.head = np.zeros(1, dtype=HEAD)
        self.head["last_bar_open"] = -1
        self._slots = np.zeros(LONGER + len(longer), dtype=ACCUMULATOR)
        self._slots["open_time"] = -1
        self._words = words_of(self._slots)
        self.keys = np.zeros((2, LEVELS), dtype=np.int64)
        self.quantities = np.zeros((2, LEVELS), dtype=np.int64)
        self.opened = 0
        self.deadline = 0
        self.revisions = Revisions()
        self.readings = LatestReadings()

    @property
    def slots(self) -> Records:
        """The bars in the making."""
        return self._slots

    def state(self) -> BarSeriesState:
        """Return what is kept."""
        compact_book(self.head, self.keys, self.quantities)
        ladders = []
        for count, side in _LADDERS:
            used = self.head[count][0]
            ladders += [self.keys[side, :used], self.quantities[side, :used]]
        return BarSeriesState(self.head, self._slots, ladders, self.revisions.state, self.readings)

    def restore(self, state: BarSeriesState) -> None:
        """Take over what was kept."""
        self.head, self._slots, self.revisions.state = state.head, state.slots, state.revisions
        self.readings = state.readings
        self._words = words_of(self._slots)
        for (count, side), (keys, quantities) in zip(_LADDERS, (state.ladders[:2], state.ladders[2:]), strict=True):
            used = self.head[count][0]
            self._make_room(used)
            self.keys[side, :used], self.quantities[side, :used] = keys, quantities
        self.set_deadline()

    @property
    def is_started(self) -> bool:
        """Whether a minute is open."""
        return bool(self.head["is_started"][0])

    def start(self, event_time: int) -> None:
        """Open the minute of the stream's first event; it is whole only if the event stands at its very beginning."""
        open_time = event_time - event_time % MINUTE
        start_slots(self.slots, self._words[0], open_time, MINUTE, int(event_time != open_time))
        self.head["is_started"] = 1
        self.set_deadline()

    def set_deadline(self) -> None:
        """Work out when the open minute closes."""
        self.opened = int(self.slots["open_time"][0]) if self.is_started else 0
        self.deadline = self.opened + MINUTE + self.grace_ns if self.is_started else 0

    def close_until(self, event_time: int) -> list[Bar | BarRevision]:
        """Close every minute that is due at an event time."""
        bars: list[Bar | BarRevision] = []
        if event_time >= self.deadline + MAX_SILENT_MINUTES * MINUTE:
            self._close_minute(bars)
            self.start(event_time)
            return bars
        while event_time >= self.deadline:
            self._close_minute(bars)
        return bars

    def take_late(self, event: LateTrade) -> None:
        """Keep a trade of a gap for the revisions that come when the gap ends."""
        self.revisions.take_late(event, notional_e8(event.price_e8, event.quantity_e8))

    def revise_by(self, event: Trade) -> list[BarRevision]:
        """Return what the closed bars that lack a trade are with it."""
        at = int(self.opened)
        return self.revisions.take_overtaken(event, notional_e8(event.price_e8, event.quantity_e8), at)

    def take_trade(self, event: Trade) -> None:
        """Count a trade into its minute."""
        step_trade(
            self.head, self.slots, MINUTE, event.event_time, event.price_e8, event.quantity_e8, event.is_buyer_maker
        )

    def pass_trades(self, times: Ints, prices_e8: Ints, quantities_e8: Ints, is_buyer_maker: Flags) -> None:
        """Count trades of the open minute as if each had been taken. Raises `ValueError` for any other."""
        columns = (times, prices_e8, quantities_e8, is_buyer_maker)
        counted = step_trades(self.head, self.slots, MINUTE, self.deadline, 0, *columns)
        if counted < len(times):
            raise ValueError(f"trade {counted} at {times[counted]} does not belong to the minute since {self.opened}")

    def pass_events(self, columns: MarketColumns, begin: int, end: int) -> None:
        """Take trades, quotes and deltas before the deadline, no trade from before the open minute, as if each had been
        taken.
        """
        while True:
            begin = step_events(
                self.head,
                self.slots,
                MINUTE,
                self.keys,
                self.quantities,
                columns.kinds,
                columns.times,
                columns.values,
                *columns.bids.arrays,
                *columns.asks.arrays,
                begin,
                end,
                self._may_forget,
            )
            if begin == end:
                return
            self._make_room_for(
                *(int(np.diff(side.first[begin : begin + 2])[0]) for side in (columns.bids, columns.asks))
            )

    def take_trades(self, trades: TradeArrays) -> list[Bar | BarRevision]:
        """Take trades in their order, as `take_trade` would one by one; return the bars that they close or correct."""
        bars: list[Bar | BarRevision] = []
        times, at = trades.event_times, 0
        while at < len(times):
            event_time = int(times[at])
            if not self.deadline:
                self.start(event_time)
            if event_time >= self.deadline:
                bars += self.close_until(event_time)
            if event_time < self.opened:
                overtaken = trades.trade(self._instrument, at)
                bars += self.revise_by(overtaken)
                self.take_trade(overtaken)
                at += 1
                continue
            at = step_trades(
                self.head,
                self.slots,
                MINUTE,
                self.deadline,
                at,
                times,
                trades.prices_e8,
                trades.quantities_e8,
                trades.are_buyer_maker,
            )
        return bars

    def take_quote(self, event: BestQuote) -> None:
        """Take a best-quote update."""
        step_quote(
            self.head,
            self.slots,
            MINUTE,
            event.event_time,
            event.bid_price_e8,
            event.bid_quantity_e8,
            event.ask_price_e8,
            event.ask_quantity_e8,
        )

    def take_snapshot(self, event: DepthSnapshot) -> None:
        """Take a whole book."""
        self._make_room(max(len(event.bid_prices_e8), len(event.ask_prices_e8)))
        step_snapshot(
            self.head,
            self.slots,
            MINUTE,
            event.event_time,
            event.last_update_id,
            self.keys,
            self.quantities,
            *_levels_of(event),
        )

    def take_delta(self, event: DepthDelta) -> None:
        """Take a change of the book."""
        change = (
            MINUTE,
            event.event_time,
            event.first_update_id,
            event.final_update_id,
            event.previous_final_update_id,
        )
        levels = _levels_of(event)
        step = (self.head, self.slots, *change)
        if not step_delta(*step, self.keys, self.quantities, *levels, self._may_forget):
            self._make_room_for(len(event.bid_prices_e8), len(event.ask_prices_e8))
            step_delta(*step, self.keys, self.quantities, *levels, self._may_forget)

    @property
    def _may_forget(self) -> bool:
        return self.keys.shape[1] >= MAX_LEVELS

    def _make_room_for(self, bids: int, asks: int) -> None:
        """Make room for so many more levels a side, at least twice what there is."""
        held = max(int(self.head[count][0]) for count, _ in _LADDERS)
        self._make_room(max(held + max(bids, asks), self.keys.shape[1] + 1))

    def _make_room(self, levels: int) -> None:
        if levels > self.keys.shape[1] < MAX_LEVELS:
            self.keys, self.quantities = grow(self.keys, levels), grow(self.quantities, levels)

    def take_mark(self, event: MarkPrice) -> None:
        """Remember mark, index and funding of the minute."""
        slot = self._slot_of(event.event_time)
        slot["has_mark"] = 1
        slot["mark"] = event.mark_price_e8
        slot["funding_rate"] = event.funding_rate_e8
        slot["next_funding_time"] = event.next_funding_time
        if event.index_price_e8 is not None:
            slot["has_index"] = 1
            slot["index"] = event.index_price_e8

    def take_interest(self, event: OpenInterest) -> None:
        """Remember the open interest of the minute."""
        slot = self._slot_of(event.event_time)
        slot["has_interest"] = 1
        slot["open_interest"] = event.open_interest_e8

    def take_liquidation(self, event: Liquidation) -> None:
        """Count a forced order into its minute."""
        slot = self._slot_of(event.event_time)
        slot["liquidations"] += 1
        slot["liquidation_buy" if event.side is Side.BUY else "liquidation_sell"] += event.quantity_e8

    def take_settlement(self, event: FundingSettled) -> None:
        """Remember the rate that was settled."""
        self.readings.add(SETTLED_FUNDING_RATE, event.event_time, event.event_time, event.funding_rate_e8 / SCALE)

    def take_reading(self, event: OutsideReading) -> None:
        """Remember a reading for the bars from its time on."""
        self.readings.add(event.series, event.published_time, event.event_time, event.value)

    def take_kline(self, event: ExchangeBar) -> list[Bar | BarRevision]:
        """Let a 1m kline replace its minute: before the stream, at the join minute, or where no trades come at all."""
        bars: list[Bar | BarRevision] = []
        if event.open_time <= self.head["last_bar_open"][0]:
            self.head["stale_bars"] += 1
            return bars
        if self.is_started and event.open_time > self.slots["open_time"][0]:
            if event.open_time - self.slots["open_time"][0] > MAX_SILENT_MINUTES * MINUTE:
                self.start(event.open_time)
            while self.slots["open_time"][0] < event.open_time:
                self._close_minute(bars)
        clear_slot(self.slots, self._words[0], FINISHED, event.open_time, 0)
        finished = self.slots[FINISHED]
        if self.is_started and event.open_time == self.slots["open_time"][0]:
            minute = self.slots[0]
            if minute["trade_count"] and not minute["is_partial"] and not event.is_history:
                self.head["stale_bars"] += 1
                return bars
            if not minute["is_partial"]:
                for name in ENRICHMENTS:
                    finished[name] = minute[name]
            shift_slots(self.slots, self._words[0], MINUTE)
            self.set_deadline()
        _load_kline(finished, event)
        self.revisions.note_kline(event.open_time, is_before_stream=not self.is_started)
        self._finish(bars)
        return bars

    def _slot_of(self, event_time: int) -> Records:
        slot: Records = self.slots[0 if event_time < self.slots["open_time"][0] + MINUTE else 1]
        return slot

    def _close_minute(self, bars: list[Bar | BarRevision]) -> None:
        minute = self.slots[0]
        head = self.head[0]
        if minute["trade_count"]:
            head["last_price"] = minute["close"]
        is_flat = not minute["trade_count"] and head["has_trades"] and head["last_price"]
        if is_flat:
            for name in ("open", "high", "low", "close"):
                minute[name] = head["last_price"]
        if not minute["is_partial"] and (is_flat or minute["trade_count"]):
            self.slots[FINISHED] = minute
            if is_flat and self.revisions.is_incomplete(minute["open_time"], minute["open_time"] + MINUTE):
                self.slots["is_partial"][FINISHED] = NO_PRICE
            self._finish(bars)
        shift_slots(self.slots, self._words[0], MINUTE)
        self.set_deadline()

    def _finish(self, bars: list[Bar | BarRevision]) -> None:
        finished = self.slots[FINISHED]
        finished["parts"] = 1
        self.head["last_bar_open"] = finished["open_time"]
        self.head["last_price"] = finished["close"]
        count = aggregate_minute(self.slots, *self._words, self._lengths, MINUTE, self._due)
        # The longest first: a reader that acts on the minute then knows the longer bars that end with it.
        closed = [self._make_bar(int(index), self._names[index - LONGER]) for index in self._due[:count][::-1]]
        if self._has_minutes:
            closed.append(self._make_bar(FINISHED, "1m"))
        self.readings.forget(int(finished["open_time"]) + MINUTE)
        bars += closed
        for bar in closed:
            bars += self.revisions.note_closed(bar)

    def _make_bar(self, index: int, timeframe: str) -> Bar:
        slot = dict(zip(ACCUMULATOR.names or (), self.slots[index].item(), strict=True))
        tops, books = slot["top_updates"], slot["book_updates"]
        has_mark, has_liquidations = slot["has_mark"], slot["liquidations"]
        close_time = slot["open_time"] + TIMEFRAMES[timeframe]
        return Bar(
            instrument=self._instrument,
            event_id=bar_event_id(self._instrument, timeframe, slot["open_time"]),
            event_time=close_time,
            timeframe=timeframe,
            open_time=slot["open_time"],
            close_time=close_time,
            open_e8=slot["open"],
            high_e8=slot["high"],
            low_e8=slot["low"],
            close_e8=slot["close"],
            volume_e8=slot["volume"],
            quote_volume_e8=None if slot["unknown_quote_volumes"] else slot["quote_volume"],
            taker_buy_volume_e8=None if slot["unknown_taker_volumes"] else slot["taker_buy_volume"],
            trade_count=None if slot["unknown_trade_counts"] else slot["trade_count"],
            spread_mean_bps=slot["spread_sum"] / tops if tops else None,
            depth_imbalance_1=slot["imbalance_1_sum"] / tops if tops else None,
            depth_imbalance_5=slot["imbalance_5_sum"] / books if books else None,
            depth_imbalance_10=slot["imbalance_10_sum"] / books if books else None,
            order_flow_imbalance=(
                slot["order_flow"] / SCALE if slot["flow_updates"] and not slot["unknown_flows"] else None
            ),
            microprice_deviation_bps=slot["microprice_sum"] / tops if tops else None,
            realised_variance=None if slot["unknown_variances"] else slot["realised_variance"],
            mark_close_e8=slot["mark"] if has_mark else None,
            index_close_e8=slot["index"] if slot["has_index"] else None,
            funding_rate_e8=slot["funding_rate"] if has_mark else None,
            next_funding_time=slot["next_funding_time"] if has_mark else None,
            open_interest_e8=slot["open_interest"] if slot["has_interest"] else None,
            liquidation_buy_e8=slot["liquidation_buy"] if has_liquidations else None,
            liquidation_sell_e8=slot["liquidation_sell"] if has_liquidations else None,
            is_history=slot["history_parts"] == slot["parts"],
            is_incomplete=self.revisions.is_incomplete(slot["open_time"], close_time),
            **dict(self.readings.as_of(close_time)),
        )


def _levels_of(event: DepthSnapshot | DepthDelta) -> tuple[Records, ...]:
    return (
        np.array(event.bid_prices_e8, dtype=np.int64),
        np.array(event.bid_quantities_e8, dtype=np.int64),
        np.array(event.ask_prices_e8, dtype=np.int64),
        np.array(event.ask_quantities_e8, dtype=np.int64),
    )


def _load_kline(slot: Records, event: ExchangeBar) -> None:
    slot["open"] = event.open_e8
    slot["high"] = event.high_e8
    slot["low"] = event.low_e8
    slot["close"] = event.close_e8
    slot["volume"] = event.volume_e8
    slot["quote_volume"] = event.quote_volume_e8 or 0
    slot["taker_buy_volume"] = event.taker_buy_volume_e8 or 0
    slot["trade_count"] = event.trade_count or 0
    slot["unknown_quote_volumes"] = event.quote_volume_e8 is None
    slot["unknown_taker_volumes"] = event.taker_buy_volume_e8 is None
    slot["unknown_trade_counts"] = event.trade_count is None
    slot["unknown_flows"] = not slot["flow_updates"]
    slot["unknown_variances"] = 1
    slot["history_parts"] = event.is_history
