"""The exchange's books: every order, conditional order and fill by its ids, and the user stream's events of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from services.exchange.core.account import forms
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.records import AlgoRecord, FillRecord, OrderRecord
from services.exchange.core.account.refusals import Refused

FIRST_ORDER_ID = 4_000_000_001
FIRST_TRADE_ID = 500_000_001
FIRST_ALGO_ID = 3_000_000_000_000_001


@dataclass(eq=False)
class BooksState:
    """What is kept of the books; `events` must have been taken before."""

    order_count: int = 0
    orders: dict[int, OrderRecord] = field(default_factory=dict)
    algos: dict[int, AlgoRecord] = field(default_factory=dict)
    fills: list[FillRecord] = field(default_factory=list)


class Books(BooksState):
    """Orders, algos and fills; ids count up and client ids find the newest order that bears them."""

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
        """Make up a client id for an order that came without one: 22 characters, the same in every run."""
        return hashlib.sha256(f"{self._seed}/{order_id}".encode()).hexdigest()[:22]

    def is_client_id_open(self, client_order_id: str) -> bool:
        """Whether an open order bears the id."""
        return self._order_of_client.get(client_order_id, 0) in self.open_orders

    def is_client_algo_id_open(self, client_algo_id: str) -> bool:
        """Whether an open conditional order bears the id."""
        return self._algo_of_client.get(client_algo_id, 0) in self.open_algos

    def add_order(self, order: OrderRecord, algo: AlgoRecord | None = None) -> None:
        """Take an order into the books; `algo` is the conditional order that sent it."""
        self.orders[order.order_id] = order
        self.open_orders[order.order_id] = order
        self._order_of_client[order.client_order_id] = order.order_id
        if algo is not None:
            self._algo_of_order[order.order_id] = algo.algo_id

    def add_fill(self, order: OrderRecord, fill: FillRecord) -> None:
        """Take a fill into the books and tell of it; the order has it already."""
        self.fills.append(fill)
        self.events.append(forms.trade_lite(order, fill))
        execution = "CALCULATED" if order.is_liquidation else "TRADE"
        self.events.append(forms.order_update(order, execution, fill.time_ms, fill))

    def tell_order(self, order: OrderRecord, execution: str, time_ms: int) -> None:
        """Tell of an order's step that is no fill."""
        self.events.append(forms.order_update(order, execution, time_ms))

    def finish_order(self, order: OrderRecord, time_ms: int) -> None:
        """Take an order that is done off the open ones, and finish the conditional order that sent it."""
        self.open_orders.pop(order.order_id, None)
        algo = self.algos.get(self._algo_of_order.get(order.order_id, 0))
        if algo is not None:
            self.change_algo(algo, "FINISHED", time_ms)

    def add_algo(self, algo: AlgoRecord, time_ms: int) -> None:
        """Take a conditional order into the books and tell of it."""
        self._keep_algo(algo)
        self.change_algo(algo, "NEW", time_ms)

    def _keep_algo(self, algo: AlgoRecord) -> None:
        self.algos[algo.algo_id] = algo
        self.open_algos[algo.algo_id] = algo
        self._algo_of_client[algo.client_algo_id] = algo.algo_id

    def change_algo(self, algo: AlgoRecord, status: str, time_ms: int) -> None:
        """Let a conditional order change its status and tell of it; any but NEW no longer waits."""
        algo.status = status
        algo.updated_ms = time_ms
        if status != "NEW":
            self.open_algos.pop(algo.algo_id, None)
        self.events.append(forms.algo_update(algo, self.orders.get(algo.order_id), time_ms))

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

    def restore(self, state: BooksState) -> None:
        """Take over what was kept, and find again what follows from it."""
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
