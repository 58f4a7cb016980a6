"""Regular orders: checked, placed with the matcher, filled, cancelled; each step is booked and published."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from libs.domain.accounts import ZERO
from libs.domain.instruments import find_instrument
from libs.domain.market import Side
from libs.domain.numbers import from_e8, to_e8
from libs.domain.orders import Liquidity, OrderType, PlaceOrder, ReportKind, TimeInForce
from libs.matching import FeeModel, MatchingTerms, filters
from libs.matching.matcher import Matcher
from libs.matching.orders import MatchOutcome, VenueOrder
from services.exchange.core.account import serializers
from services.exchange.core.account.ledger import AccountLedger
from services.exchange.core.account.order_store import FIRST_TRADE_ID, OrderStore
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.records import AlgoRecord, FillRecord, OrderRecord
from services.exchange.core.account.refusals import Refused, refuse_sentence
from services.exchange.core.account.requests import WantedOrder
from services.exchange.core.frames import INSTRUMENT

# How far beyond the best price a market buy's margin is computed; assumed, after Binance's FAQ on the cost to open.
MARKET_MARGIN_RATE = Decimal("1.0005")
CANCELLED_ALL = {"code": 200, "msg": "The operation of cancel all open order is done."}
MS = 1_000_000
"""Nanoseconds in a millisecond."""


class OrderManager:
    """Places and cancels orders: the account's ledger and order store, and the matcher of the one symbol."""

    def __init__(self, ledger: AccountLedger, order_store: OrderStore) -> None:
        self.rules = find_instrument(INSTRUMENT)
        self.ledger = ledger
        self.order_store = order_store
        self.matcher = Matcher(self.rules, MatchingTerms())
        self._fees = FeeModel()

    @property
    def mark(self) -> Decimal:
        """The mark price last seen; 0 before any."""
        return from_e8(self.matcher.mark)

    def reopen_matcher(self) -> None:
        """Start with an empty order book; only while nothing is open."""
        self.matcher = Matcher(self.rules, self.matcher.terms)

    # Checks.

    def check_order(self, wanted: WantedOrder, now_ms: int) -> OrderRecord:
        """Return the order that would be placed, without an order id. Raises `Refused`."""
        if wanted.client_order_id and self.order_store.is_client_id_open(wanted.client_order_id):
            raise Refused(-4116, "ClientOrderId is duplicated.")
        self.check_rules(wanted.order_type, wanted.side, wanted.quantity, wanted.is_reduce_only, wanted.price)
        order = OrderRecord(
            order_id=0,
            client_order_id=wanted.client_order_id,
            side=wanted.side,
            order_type=wanted.order_type,
            time_in_force=wanted.time_in_force,
            quantity=to_e8(wanted.quantity),
            price=to_e8(wanted.price) if wanted.price is not None else 0,
            is_reduce_only=wanted.is_reduce_only,
            time_ms=now_ms,
            updated_ms=now_ms,
        )
        self.check_margin(order)
        return order

    def check_rules(
        self,
        order_type: str,
        side: str,
        quantity: Decimal,
        is_reduce_only: bool,
        limit: Decimal | None = None,
        trigger: Decimal | None = None,
        callback_rate: Decimal | None = None,
    ) -> None:
        """Refuse what the symbol's filters refuse, and everything while there is no market."""
        if not self.matcher.reference_price:
            raise Refused(-4140, "Invalid symbol status for opening position.")
        refusal = self.matcher.refuse(
            PlaceOrder(
                event_id="",
                event_time=0,
                account="",
                instrument=INSTRUMENT,
                client_order_id="",
                intent_id="",
                verdict_id="",
                side=Side[side],
                order_type=OrderType[order_type],
                quantity=quantity,
                time_in_force=TimeInForce.GTC,
                reduce_only=is_reduce_only,
                limit_price=limit,
                trigger_price=trigger,
                callback_rate=callback_rate,
            )
        )
        if refusal:
            refuse_sentence(refusal)

    def check_margin(self, order: OrderRecord) -> None:
        """Refuse an order that the balance or the leverage does not allow; what only reduces is always allowed."""
        if order.is_reduce_only:
            return
        mark = self.mark or from_e8(self.matcher.reference_price)
        price = from_e8(order.price) if order.price else self._market_margin_price(order.side, mark)
        resting = list(self.order_store.open_orders.values())
        cost = self.ledger.cost_of(order, price, mark, resting)
        if not cost:
            return
        margin = self.ledger.margin(mark, resting)
        if cost > margin.available:
            raise Refused(-2019, "Margin is insufficient.")
        beside = margin.bid_notional if order.side == "BUY" else margin.ask_notional
        size = abs(margin.notional * Side[order.side].sign + beside + from_e8(order.quantity) * price)
        if size > self.ledger.notional_limit():
            raise Refused(-2027, "Exceeded the maximum allowable position at current leverage.")

    def _market_margin_price(self, side: str, mark: Decimal) -> Decimal:
        best = self.matcher.book.best(Side[side].opposite)
        if best is None:
            return mark
        price = from_e8(best[0])
        return price * MARKET_MARGIN_RATE if side == "BUY" else max(price, mark)

    # Orders.

    def place(self, wanted: WantedOrder, now_ms: int) -> dict[str, Any]:
        """Place an order and answer as POST order does: as acknowledged, or with its immediate result."""
        order = self.check_order(wanted, now_ms)
        order.order_id = self.order_store.next_order_id()
        order.client_order_id = order.client_order_id or self.order_store.make_client_id(order.order_id)
        acknowledged = serializers.order_response(order)
        self.submit(order, now_ms)
        return serializers.order_response(order) if wanted.wants_result else acknowledged

    def submit(self, order: OrderRecord, now_ms: int, algo: AlgoRecord | None = None) -> None:
        """Submit an order to the matcher; `algo` is the conditional order that sent it. Raises `Refused`."""
        self.matcher.submit(
            VenueOrder(
                client_order_id=order.client_order_id,
                venue_order_id=str(order.order_id),
                instrument=INSTRUMENT,
                cause_id=order.client_order_id,
                sequence=order.order_id,
                side=Side[order.side],
                order_type=OrderType[order.order_type],
                time_in_force=TimeInForce[order.time_in_force],
                is_reduce_only=order.is_reduce_only,
                quantity=order.quantity,
                limit=order.price or None,
            ),
            now_ms * MS,
        )
        first = self.matcher.outcomes[0]
        if first.kind is ReportKind.REJECTED:
            self.matcher.outcomes.clear()
            refuse_sentence(first.reason)
        self.order_store.add_order(order, algo)
        self.drain()

    def cancel(self, sent: Parameters, now_ms: int) -> dict[str, Any]:
        """Cancel the order that the parameters name."""
        order = self.order_store.find_order(sent)
        if order is None or not order.is_open:
            raise Refused(-2011, "Unknown order sent.")
        self._cancel_order(order, now_ms)
        return serializers.order_response(order)

    def cancel_all(self, now_ms: int) -> dict[str, Any]:
        """Cancel every open order."""
        for order in list(self.order_store.open_orders.values()):
            self._cancel_order(order, now_ms)
        return CANCELLED_ALL

    def _cancel_order(self, order: OrderRecord, time_ms: int) -> None:
        self.matcher.cancel(order.client_order_id, time_ms * MS, "")
        self.drain()

    # Outcomes from the matcher.

    def drain(self) -> None:
        """Book the matcher's outcomes since the last call."""
        if not self.matcher.outcomes:
            return
        outcomes = list(self.matcher.outcomes)
        self.matcher.outcomes.clear()
        for outcome in outcomes:
            order = self.order_store.orders[int(outcome.order.venue_order_id)]
            time_ms = outcome.event_time // MS
            if outcome.kind is ReportKind.FILL:
                is_maker = outcome.liquidity is Liquidity.MAKER
                self.book_fill(order, outcome.quantity, outcome.price, time_ms, is_maker=is_maker)
            elif outcome.kind is ReportKind.ACCEPTED:
                self.order_store.publish_order(order, "CALCULATED" if order.is_liquidation else "NEW", time_ms)
            else:
                execution, order.status = _ending(outcome)
                order.updated_ms = time_ms
                self.order_store.publish_order(order, execution, time_ms)
                self.order_store.finish_order(order, time_ms)

    def book_fill(self, order: OrderRecord, quantity: int, price: int, time_ms: int, *, is_maker: bool) -> None:
        """Book a fill of 1e-8 quantity at a 1e-8 price in the ledger and the order store."""
        liquidity = Liquidity.MAKER if is_maker else Liquidity.TAKER
        fee = self._fees.fee_of(self.rules, from_e8(price), from_e8(quantity), liquidity)
        trade_id = FIRST_TRADE_ID + len(self.order_store.fills)
        realised = self.ledger.apply_fill(Side[order.side], quantity, price, fee, time_ms, trade_id)
        fill = FillRecord(
            trade_id, order.order_id, order.side, price, quantity, to_e8(realised), to_e8(fee), is_maker, time_ms
        )
        order.executed += quantity
        order.quote += price * quantity
        order.updated_ms = time_ms
        order.status = "PARTIALLY_FILLED" if order.remaining else "FILLED"
        self.publish_account("ORDER", time_ms)
        self.order_store.add_fill(order, fill)
        if not order.remaining:
            self.order_store.finish_order(order, time_ms)

    def publish_account(self, reason: str, time_ms: int, *, change: Decimal = ZERO) -> None:
        """Publish the balance, and the position unless funding changed the balance alone."""
        ledger = self.ledger
        position = ledger.marked_position(self.mark) if reason != "FUNDING_FEE" else None
        self.order_store.events.append(
            serializers.account_update(reason, ledger.wallet, change, position, ledger.break_even, time_ms)
        )


def _ending(outcome: MatchOutcome) -> tuple[str, str]:
    """Name the execution and the status with which an order ends unfilled."""
    if outcome.kind is ReportKind.CANCELLED:
        return "CANCELED", "CANCELED"
    if outcome.reason == filters.SELF_TRADE:
        return "TRADE_PREVENTION", "EXPIRED_IN_MATCH"
    return "EXPIRED", "EXPIRED"
