"""Conditional (algo) orders: they wait outside the order book and send a market order when triggered.

The rules of triggering are those of `libs.matching.triggers`; each order watches the mark or the last trade.
"""

from __future__ import annotations

from typing import Any

from libs.domain.market import Side
from libs.domain.numbers import to_e8
from libs.domain.orders import OrderType, TimeInForce
from libs.matching.orders import VenueOrder
from libs.matching.triggers import follow, is_triggered
from services.exchange.core.account import serializers
from services.exchange.core.account.order_manager import CANCELLED_ALL, OrderManager
from services.exchange.core.account.order_store import FIRST_ALGO_ID
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.records import AlgoRecord, OrderRecord
from services.exchange.core.account.refusals import Refused
from services.exchange.core.account.requests import WantedAlgo
from services.exchange.core.frames import INSTRUMENT

MAX_ALGO_ORDERS = 200


class ConditionalOrders:
    """The conditional orders of a order_manager."""

    def __init__(self, order_manager: OrderManager) -> None:
        self._order_manager = order_manager
        self.waiting: dict[int, VenueOrder] = {}

    def place(self, wanted: WantedAlgo, now_ms: int) -> dict[str, Any]:
        """Place a conditional order and answer as POST algoOrder does. Raises `Refused`."""
        order_manager, order_store = self._order_manager, self._order_manager.order_store
        if wanted.client_algo_id and order_store.is_client_algo_id_open(wanted.client_algo_id):
            raise Refused(-4116, "ClientOrderId is duplicated.")
        if len(order_store.open_algos) >= MAX_ALGO_ORDERS:
            raise Refused(-4045, "Reach max stop order limit.")
        order_manager.check_rules(
            wanted.order_type,
            wanted.side,
            wanted.quantity,
            wanted.is_reduce_only,
            trigger=wanted.trigger,
            callback_rate=wanted.callback_rate,
        )
        algo_id = FIRST_ALGO_ID + len(order_store.algos)
        algo = AlgoRecord(
            algo_id=algo_id,
            client_algo_id=wanted.client_algo_id or order_store.make_client_id(algo_id),
            side=wanted.side,
            order_type=wanted.order_type,
            time_in_force=wanted.time_in_force,
            quantity=to_e8(wanted.quantity),
            trigger=to_e8(wanted.trigger) if wanted.trigger is not None else 0,
            callback_rate=to_e8(wanted.callback_rate) if wanted.callback_rate is not None else 0,
            is_reduce_only=wanted.is_reduce_only,
            working_type=wanted.working_type,
            time_ms=now_ms,
            updated_ms=now_ms,
        )
        waiting = _watch(algo)
        is_on_mark = algo.working_type == "MARK_PRICE"
        price = (
            order_manager.matcher.mark if is_on_mark else order_manager.matcher.last_price or order_manager.matcher.mark
        )
        if _is_past(algo, waiting, price):
            raise Refused(-2021, "Order would immediately trigger.")
        follow(waiting, price)
        self.waiting[algo_id] = waiting
        order_store.add_algo(algo, now_ms)
        return serializers.algo_response(algo)

    def observe(self, working_type: str, price: int, time_ms: int) -> None:
        """Trigger the orders that watch this price and are reached by it."""
        for algo in list(self._order_manager.order_store.open_algos.values()):
            # A trigger before this one may have led to its end.
            if algo.working_type == working_type and algo.status == "NEW":
                waiting = self.waiting[algo.algo_id]
                follow(waiting, price)
                if is_triggered(waiting, price):
                    self._send(algo, time_ms)

    def _send(self, algo: AlgoRecord, time_ms: int) -> None:
        order_manager, order_store = self._order_manager, self._order_manager.order_store
        order_id = order_store.next_order_id()
        # That Binance names the order after the conditional one is an assumption.
        client_order_id = algo.client_algo_id
        if order_store.is_client_id_open(client_order_id):
            client_order_id = order_store.make_client_id(order_id)
        order = OrderRecord(
            order_id=order_id,
            client_order_id=client_order_id,
            side=algo.side,
            order_type="MARKET",
            time_in_force="GTC",
            quantity=algo.quantity,
            price=0,
            is_reduce_only=algo.is_reduce_only,
            time_ms=time_ms,
            updated_ms=time_ms,
            original_type=algo.order_type,
        )
        del self.waiting[algo.algo_id]
        algo.triggered_ms = time_ms
        try:
            order_manager.check_margin(order)
            if order.is_reduce_only and order_manager.matcher.position * Side[order.side].sign >= 0:
                raise Refused(-2022, "ReduceOnly Order is rejected.")
        except Refused as refusal:
            algo.reason = refusal.message
            order_store.change_algo(algo, "REJECTED", time_ms)
            return
        algo.order_id = order_id
        order_store.change_algo(algo, "TRIGGERED", time_ms)
        order_manager.submit(order, time_ms, algo)

    def cancel(self, sent: Parameters, now_ms: int) -> dict[str, Any]:
        """Cancel the conditional order that the parameters name."""
        algo = self._order_manager.order_store.find_algo(sent)
        if algo is None or algo.status != "NEW":
            raise Refused(-2011, "Unknown order sent.")
        self._withdraw(algo, now_ms)
        return {**serializers.algo_response(algo), "code": "200", "msg": "success"}

    def cancel_all(self, now_ms: int) -> dict[str, Any]:
        """Cancel every conditional order that waits."""
        for algo in list(self._order_manager.order_store.open_algos.values()):
            self._withdraw(algo, now_ms)
        return CANCELLED_ALL

    def _withdraw(self, algo: AlgoRecord, time_ms: int) -> None:
        del self.waiting[algo.algo_id]
        self._order_manager.order_store.change_algo(algo, "CANCELED", time_ms)


def _watch(algo: AlgoRecord) -> VenueOrder:
    """Return what the triggers of `libs.matching` look at."""
    return VenueOrder(
        client_order_id=algo.client_algo_id,
        venue_order_id=str(algo.algo_id),
        instrument=INSTRUMENT,
        cause_id="",
        sequence=algo.algo_id,
        side=Side[algo.side],
        order_type=OrderType[algo.order_type],
        time_in_force=TimeInForce[algo.time_in_force],
        is_reduce_only=algo.is_reduce_only,
        quantity=algo.quantity,
        trigger=algo.trigger or None,
        callback_rate=algo.callback_rate or None,
    )


def _is_past(algo: AlgoRecord, waiting: VenueOrder, price: int) -> bool:
    """Whether a conditional order would trigger at once, or a trailing stop be active at once against its activation.

    Source: Binance's -2021: a trailing BUY needs its activation price below the latest price, a SELL above it.
    """
    if algo.order_type != "TRAILING_STOP_MARKET":
        return is_triggered(waiting, price)
    if not algo.trigger:
        return False
    return algo.trigger >= price if algo.side == "BUY" else algo.trigger <= price
