"""Matches our orders in one instrument against what the market did. It keeps the orders, the book and our position.

::

    submit -> (refused) | accepted -> taken at once -> filled | rests -> filled | cancelled | expired
                                   |-> waits for a trigger -> taken at once
                                   '-> waits for a market  -> taken at once | expired

Everything that happens is appended to `outcomes` in order; the caller takes it from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.domain.instruments import Instrument
from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, ExchangeBar, MarkPrice, Side, Trade
from libs.domain.market_columns import MarketColumns
from libs.domain.numbers import from_e8
from libs.domain.orders import Liquidity, OrderType, PlaceOrder, ReportKind, TimeInForce
from libs.matching import filters
from libs.matching.bar_path import path_of
from libs.matching.book import Book
from libs.matching.liquidity import Slippage, is_within, quantity_on_offer, take_liquidity
from libs.matching.orders import BarFill, MatchingTerms, MatchOutcome, VenueOrder
from libs.matching.passing import pass_events
from libs.matching.queue_position import join_queue, observe_level, observe_trade
from libs.matching.triggers import follow, is_triggered, trigger_level


@dataclass(eq=False)
class MatcherState:
    """What is kept of an instrument; `outcomes` must have been taken before."""

    book: Book = field(default_factory=Book)
    position: int = 0
    mark: int = 0
    last_price: int = 0
    has_ticks: bool = False
    has_bars: bool = False
    last_volume: int = 0
    resting: list[VenueOrder] = field(default_factory=list)
    conditional: list[VenueOrder] = field(default_factory=list)
    waiting: list[VenueOrder] = field(default_factory=list)

    @property
    def open_order_count(self) -> int:
        """Orders that may still fill."""
        return len(self.resting) + len(self.conditional) + len(self.waiting)


class Matcher(MatcherState):
    """One instrument at the paper venue. `position` is signed, in 1e-8 of base units."""

    def __init__(self, rules: Instrument, terms: MatchingTerms) -> None:
        super().__init__()
        self.rules = rules
        self.terms = terms
        self.outcomes: list[MatchOutcome] = []
        self._worst: tuple[int, int] | None = None
        self._slippage = Slippage.of(rules, terms.slippage_bps, terms.impact_bps)

    @property
    def is_bar_driven(self) -> bool:
        """Whether bars are all that is known of the market."""
        return self.has_bars and not self.has_ticks

    @property
    def reference_price(self) -> int:
        """Mark price, else the last traded price, else the middle of the book; 0 before any."""
        return self.mark or self.last_price or self.book.middle()

    # Market data.

    def apply_trade(self, event: Trade) -> None:
        """Advance queues, fill what the trade reached, trigger conditional orders where no mark is known."""
        self.last_price = event.price_e8
        self.has_ticks = True
        if self.resting:
            self._match_trade(event)
        self._settle(event.event_time, event.event_id, 0 if self.mark else event.price_e8)

    def apply_quote(self, event: BestQuote) -> None:
        """Take over the top of the book."""
        self.book.apply_quote(event)
        self._after_book_change(event.event_time, event.event_id)

    def apply_snapshot(self, event: DepthSnapshot) -> None:
        """Take over a whole book."""
        self.book.apply_snapshot(event)
        self._after_book_change(event.event_time, event.event_id)

    def apply_delta(self, event: DepthDelta) -> None:
        """Take over changed levels."""
        self.book.apply_delta(event)
        self._after_book_change(event.event_time, event.event_id)

    def pass_events(self, columns: MarketColumns, begin: int, end: int, *, bound: int, opened: int) -> int:
        """Take over the trades, quotes and deltas of [begin, end) up to the first that must be handled by itself, as if
        each had been applied but for the last price; return its place. `bound` and `opened` are as for
        `passing.pass_events`.
        """
        if self.waiting or (self.conditional and not self.mark):
            return begin
        stop = pass_events(self.book, self.resting, columns, begin, end, bound=bound, opened=opened)
        if stop > begin:
            self.has_ticks = True
        return stop

    def apply_mark(self, event: MarkPrice) -> None:
        """Take over the mark price and trigger conditional orders on it."""
        self.mark = event.mark_price_e8
        self._settle(event.event_time, event.event_id, self.mark)

    def apply_time(self, event_time: int, cause_id: str) -> None:
        """Let market orders that found no market give up."""
        self._settle(event_time, cause_id, 0)

    def open_bar(self, event: ExchangeBar) -> None:
        """Begin a bar: its open is the last price for orders that arrive there."""
        self.has_bars = True
        self.last_price = event.open_e8
        if self.terms.bar_fill is BarFill.WORST:
            self._worst = (event.high_e8, event.low_e8)
        self._settle(event.open_time, event.event_id, 0 if self.mark else event.open_e8)

    def walk_bar(self, event: ExchangeBar) -> None:
        """Go along a bar's path; resting orders fill where the price goes through them, at most the bar's volume."""
        volume = event.volume_e8
        path = path_of(event, self.position)
        for before, price in zip((path[0], *path[:-1]), path, strict=True):
            if not self.mark:
                self._trigger(event.event_time, event.event_id, price, before)
            self.last_price = price
            for order in list(self.resting):
                limit = order.limit or 0
                is_through = price < limit if order.side is Side.BUY else price > limit
                if volume > 0 and is_through and order in self.resting:
                    volume -= self._fill_resting(order, volume, event.event_time, event.event_id)
        self.last_volume = event.volume_e8
        self._settle(event.event_time, event.event_id, 0)

    def close_bar(self) -> None:
        """End a bar, after orders that arrived at its close were matched."""
        self._worst = None

    def _after_book_change(self, event_time: int, cause_id: str) -> None:
        self.has_ticks = True
        if self.resting:
            self._match_book(event_time, cause_id)
        if self.waiting:
            self._settle(event_time, cause_id, 0)

    def _match_trade(self, event: Trade) -> None:
        left = event.quantity_e8
        price = event.price_e8
        for order in list(self.resting):
            limit = order.limit or 0
            is_buy = order.side is Side.BUY
            if price == limit:
                if event.is_buyer_maker is not is_buy:
                    continue
                reached = observe_trade(order, event.quantity_e8)
            elif (price < limit) if is_buy else (price > limit):
                reached = event.quantity_e8
                order.queue_ahead = 0
            else:
                continue
            quantity = min(reached, left)
            if quantity and order in self.resting:
                left -= self._fill_resting(order, quantity, event.event_time, event.event_id)

    def _match_book(self, event_time: int, cause_id: str) -> None:
        for order in list(self.resting):
            if order not in self.resting:
                continue
            limit = order.limit or 0
            best, shown = self.book.look_at(order.side, limit)
            if best and is_within(order.side, best, limit):
                wanted = self._fillable(order)
                taken = sum(quantity for _, quantity in self.book.take(order.side, limit, wanted))
                order.queue_ahead = 0
                if taken:
                    self._fill_resting(order, taken, event_time, cause_id)
            else:
                observe_level(order, shown)

    def _settle(self, event_time: int, cause_id: str, trigger_price: int) -> None:
        if trigger_price and self.conditional:
            self._trigger(event_time, cause_id, trigger_price, trigger_price)
        for order in list(self.waiting):
            self._take(order, event_time, cause_id)
            if order.remaining and event_time >= order.waits_until and order in self.waiting:
                self.waiting.remove(order)
                seconds = self.terms.no_liquidity_timeout_ns / 1e9
                self._say(order, ReportKind.EXPIRED, event_time, cause_id, f"no liquidity within {seconds:g} s")

    def _trigger(self, event_time: int, cause_id: str, price: int, before: int) -> None:
        for order in list(self.conditional):
            level = trigger_level(order)
            follow(order, price)
            if not is_triggered(order, price):
                continue
            if level is None:
                level = price
            self.conditional.remove(order)
            self._say(order, ReportKind.TRIGGERED, event_time, cause_id)
            if not self.has_ticks:
                self.last_price = level if min(before, price) <= level <= max(before, price) else before
            self._start_taking(order, event_time, cause_id)

    # Commands.

    def submit(self, order: VenueOrder, event_time: int) -> None:
        """Let an order arrive that passed `refuse`."""
        price = self.reference_price if order.order_type.is_conditional else 0
        if order.order_type is OrderType.LIMIT:
            refusal = self._refuse_limit(order)
        elif order.order_type is OrderType.MARKET:
            refusal = self._refuse_reduction(order)
        else:
            is_trailing = order.order_type is OrderType.TRAILING_STOP_MARKET
            refusal = filters.WOULD_TRIGGER if price and not is_trailing and is_triggered(order, price) else ""
        if refusal:
            self._say(order, ReportKind.REJECTED, event_time, order.cause_id, refusal)
            return
        self._say(order, ReportKind.ACCEPTED, event_time, order.cause_id)
        if order.order_type.is_conditional:
            self.conditional.append(order)
            if price:
                follow(order, price)
        elif order.order_type is OrderType.MARKET:
            self._start_taking(order, event_time, order.cause_id)
        else:
            self._start_limit(order, event_time)

    def refuse(self, command: PlaceOrder) -> str:
        """Return why the venue's filters refuse an order, empty where they do not."""
        reference = self.reference_price
        return filters.refuse_order(
            command, self.rules, from_e8(reference) if reference else None, self.open_order_count
        )

    def cancel(self, client_order_id: str, event_time: int, cause_id: str) -> bool:
        """Cancel an open order; False where there is none of that id."""
        for orders in (self.resting, self.conditional, self.waiting):
            for order in orders:
                if order.client_order_id == client_order_id:
                    orders.remove(order)
                    self._say(order, ReportKind.CANCELLED, event_time, cause_id)
                    return True
        return False

    def _refuse_reduction(self, order: VenueOrder) -> str:
        return filters.REDUCE_ONLY if order.is_reduce_only and not self._closable(order.side) else ""

    def _refuse_limit(self, order: VenueOrder) -> str:
        refusal = self._refuse_reduction(order)
        if refusal or order.limit is None:
            return refusal
        if order.time_in_force in (TimeInForce.GTX, TimeInForce.FOK):
            quantity = self._fillable(order)
            offered = quantity_on_offer(
                self.book, self._slippage, order.side, order.limit, quantity, self._taking_reference(order.side)
            )
            if order.time_in_force is TimeInForce.GTX and offered:
                return filters.POST_ONLY
            if order.time_in_force is TimeInForce.FOK and offered < quantity:
                return filters.FILL_OR_KILL
        return ""

    def _start_taking(self, order: VenueOrder, event_time: int, cause_id: str) -> None:
        if self._refuse_reduction(order):
            self._say(order, ReportKind.EXPIRED, event_time, cause_id, filters.REDUCE_ONLY)
            return
        order.waits_until = event_time + self.terms.no_liquidity_timeout_ns
        self.waiting.append(order)
        self._take(order, event_time, cause_id)

    def _take(self, order: VenueOrder, event_time: int, cause_id: str) -> None:
        if order not in self.waiting:
            return
        wanted = self._fillable(order)
        reference = self._taking_reference(order.side)
        taken: list[tuple[int, int]] = []
        if wanted:
            volume = 0 if self.has_ticks else self.last_volume
            taken = take_liquidity(self.book, self._slippage, order.side, None, wanted, reference, volume)
        if not taken and wanted:
            return
        self.waiting.remove(order)
        self._fill_taken(order, taken, event_time, cause_id)
        if order.remaining:
            reason = filters.REDUCE_ONLY if order.is_reduce_only else "no liquidity within the price band"
            self._say(order, ReportKind.EXPIRED, event_time, cause_id, reason)

    def _start_limit(self, order: VenueOrder, event_time: int) -> None:
        limit = order.limit or 0
        reference = self._taking_reference(order.side)
        wanted = self._fillable(order)
        taken = take_liquidity(self.book, self._slippage, order.side, limit, wanted, reference)
        self._fill_taken(order, taken, event_time, order.cause_id)
        if not order.remaining:
            return
        if filters.is_immediate(order.time_in_force):
            self._say(order, ReportKind.EXPIRED, event_time, order.cause_id, "not filled at once")
        elif order.is_reduce_only and not self._closable(order.side):
            self._say(order, ReportKind.EXPIRED, event_time, order.cause_id, filters.REDUCE_ONLY)
        else:
            self._prevent_self_trade(order, limit, event_time)
            join_queue(order, self.book.shown_at(order.side, limit))
            self.resting.append(order)
            self.resting.sort(key=lambda resting: (resting.side, resting.priority))

    def _taking_reference(self, taker: Side) -> int:
        if self._worst is not None:
            highest, lowest = self._worst
            return highest if taker is Side.BUY else lowest
        return self.last_price or self.mark

    # Fills.

    def _closable(self, side: Side) -> int:
        return max(0, -self.position * side.sign)

    def _fillable(self, order: VenueOrder) -> int:
        return min(order.remaining, self._closable(order.side)) if order.is_reduce_only else order.remaining

    def _fill_taken(self, order: VenueOrder, taken: list[tuple[int, int]], event_time: int, cause_id: str) -> None:
        if taken:
            self._prevent_self_trade(order, taken[-1][0], event_time)
        for price, quantity in taken:
            self._fill(order, quantity, price, Liquidity.TAKER, event_time, cause_id)
        if taken:
            self._expire_idle_reductions(event_time, cause_id)

    def _fill_resting(self, order: VenueOrder, most: int, event_time: int, cause_id: str) -> int:
        quantity = min(most, self._fillable(order))
        if quantity:
            self._fill(order, quantity, order.limit or 0, Liquidity.MAKER, event_time, cause_id)
        if not order.remaining:
            self.resting.remove(order)
        self._expire_idle_reductions(event_time, cause_id)
        return quantity

    def _fill(
        self, order: VenueOrder, quantity: int, price: int, liquidity: Liquidity, event_time: int, cause_id: str
    ) -> None:
        order.filled += quantity
        self.position += quantity * order.side.sign
        self.outcomes.append(
            MatchOutcome(
                order, ReportKind.FILL, event_time, cause_id, quantity=quantity, price=price, liquidity=liquidity
            )
        )

    def _expire_idle_reductions(self, event_time: int, cause_id: str) -> None:
        for order in list(self.resting):
            if order.is_reduce_only and not self._closable(order.side):
                self.resting.remove(order)
                self._say(order, ReportKind.EXPIRED, event_time, cause_id, filters.REDUCE_ONLY)

    def _prevent_self_trade(self, taker: VenueOrder, worst: int, event_time: int) -> None:
        for order in list(self.resting):
            if order.side is not taker.side and is_within(taker.side, order.limit or 0, worst):
                self.resting.remove(order)
                self._say(order, ReportKind.EXPIRED, event_time, taker.cause_id, filters.SELF_TRADE)

    def _say(self, order: VenueOrder, kind: ReportKind, event_time: int, cause_id: str, reason: str = "") -> None:
        self.outcomes.append(MatchOutcome(order, kind, event_time, cause_id, reason))
