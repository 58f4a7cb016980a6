"""Stores every order, conditional order and fill by its ids, and collects the user stream's events about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from services.exchange.core.account import serializers
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.records import AlgoRecord, FillRecord, OrderRecord
from services.exchange.core.account.refusals import Refused

FIRST_ORDER_ID = 4_000_000_001
FIRST_TRADE_ID = 500_000_001
FIRST_ALGO_ID = 3_000_000_000_000_001


@dataclass(eq=False)
class OrderStoreState:
    """What a snapshot keeps; `events` must have been taken before."""

    order_count: int = 0
    orders: dict[int, OrderRecord] = field(default_factory=dict)
    algos: dict[int, AlgoRecord] = field(default_factory=dict)
    fills: list[FillRecord] = field(default_factory=list)


class OrderStore(OrderStoreState):
    """Orders, algos and fills; ids count up; a client id finds the newest order that carries it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self.open_orders: dict[int, OrderRecord] = {}
        self.open_algos: dict[int, AlgoRecord] = {}
        self.events: list[dict[str, Any]] = []
        self._order_of_client: dict[str, int] = {}
        self._algo_of_client: dict[str, int] = {}
        self._algo_of_order: dict[int, int] = {}

    def next_order_id(self) -> int:
        """Take the next order id."""
        self.order_count += 1
        return FIRST_ORDER_ID + self.order_count - 1

    def make_client_id(self, order_id: int) -> str:
        """Return a client id for an order sent without one: 22 characters, the same in every run."""
        return hashlib.sha256(f"{self._seed}/{order_id}".encode()).hexdigest()[:22]

    def is_client_id_open(self, client_order_id: str) -> bool:
        """Whether an open order has this client id."""
        return self._order_of_client.get(client_order_id, 0) in self.open_orders

    def is_client_algo_id_open(self, client_algo_id: str) -> bool:
        """Whether an open conditional order has this client id."""
        return self._algo_of_client.get(client_algo_id, 0) in self.open_algos

    def add_order(self, order: OrderRecord, algo: AlgoRecord | None = None) -> None:
        """Add an order; `algo` is the conditional order that sent it."""
        self.orders[order.order_id] = order
        self.open_orders[order.order_id] = order
        self._order_of_client[order.client_order_id] = order.order_id
        if algo is not None:
            self._algo_of_order[order.order_id] = algo.algo_id

    def add_fill(self, order: OrderRecord, fill: FillRecord) -> None:
        """Add a fill and publish it; the order already includes it."""
        self.fills.append(fill)
        self.events.append(serializers.trade_lite(order, fill))
        execution = "CALCULATED" if order.is_liquidation else "TRADE"
        self.events.append(serializers.order_update(order, execution, fill.time_ms, fill))

    def publish_order(self, order: OrderRecord, execution: str, time_ms: int) -> None:
        """Publish a change of an order other than a fill."""
        self.events.append(serializers.order_update(order, execution, time_ms))

    def finish_order(self, order: OrderRecord, time_ms: int) -> None:
        """Remove a closed order from the open ones, and finish the conditional order that sent it."""
        self.open_orders.pop(order.order_id, None)
        algo = self.algos.get(self._algo_of_order.get(order.order_id, 0))
        if algo is not None:
            self.change_algo(algo, "FINISHED", time_ms)

    def add_algo(self, algo: AlgoRecord, time_ms: int) -> None:
        """Add a conditional order and publish it."""
        self._keep_algo(algo)
        self.change_algo(algo, "NEW", time_ms)

    def _keep_algo(self, algo: AlgoRecord) -> None:
        self.algos[algo.algo_id] = algo
        self.open_algos[algo.algo_id] = algo
        self._algo_of_client[algo.client_algo_id] = algo.algo_id

    def change_algo(self, algo: AlgoRecord, status: str, time_ms: int) -> None:
        """Change the status of a conditional order and publish it; with any status but NEW it no longer waits."""
        algo.status = status
        algo.updated_ms = time_ms
        if status != "NEW":
            self.open_algos.pop(algo.algo_id, None)
        self.events.append(serializers.algo_update(algo, self.orders.get(algo.order_id), time_ms))

    def find_order(self, sent: Parameters) -> OrderRecord | None:
        """Find an order by orderId, else by origClientOrderId. Refuses where neither was sent."""
        order_id = sent.optional_integer("orderId")
        if order_id is None:
            if "origClientOrderId" not in sent.sent:
                raise Refused(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
            order_id = self._order_of_client.get(sent.sent["origClientOrderId"], 0)
        return self.orders.get(order_id)

    def find_algo(self, sent: Parameters) -> AlgoRecord | None:
        """Find a conditional order by algoId, else by clientAlgoId. Refuses where neither was sent."""
        algo_id = sent.optional_integer("algoId")
        if algo_id is None:
            if "clientAlgoId" not in sent.sent:
                raise Refused(-1102, "Param 'clientAlgoId' or 'algoId' must be sent, but both were empty/null!")
            algo_id = self._algo_of_client.get(sent.sent["clientAlgoId"], 0)
        return self.algos.get(algo_id)

    def restore(self, state: OrderStoreState) -> None:
        """Restore a snapshot and rebuild the indexes."""
        self.order_count, self.fills = state.order_count, state.fills
        for order in state.orders.values():
            self.add_order(order)
            if not order.is_open:
                del self.open_orders[order.order_id]
        for algo in state.algos.values():
            self._keep_algo(algo)
            if algo.order_id:
                self._algo_of_order[algo.order_id] = algo.algo_id
            if algo.status != "NEW":
                del self.open_algos[algo.algo_id]
