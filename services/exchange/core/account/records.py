"""What the exchange remembers of orders, fills and money, in integers of 1e-8 and words as Binance writes them.

Order status::

    NEW -> PARTIALLY_FILLED -> FILLED
     |            |-> CANCELED | EXPIRED | EXPIRED_IN_MATCH
     '-> CANCELED | EXPIRED | EXPIRED_IN_MATCH

Algo status::

    NEW -> TRIGGERED -> FINISHED
     |        '-> REJECTED
     '-> CANCELED
"""

from __future__ import annotations

from dataclasses import dataclass

OPEN = ("NEW", "PARTIALLY_FILLED")


@dataclass(slots=True)
class OrderRecord:
    """A regular order. `quote` is the sum of price x quantity in 1e-16; `price` is 0 for market orders."""

    order_id: int
    client_order_id: str
    side: str
    order_type: str
    time_in_force: str
    quantity: int
    price: int
    is_reduce_only: bool
    time_ms: int
    updated_ms: int
    status: str = "NEW"
    executed: int = 0
    quote: int = 0
    original_type: str = ""
    is_liquidation: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the order may still fill."""
        return self.status in OPEN

    @property
    def remaining(self) -> int:
        """Quantity not filled yet."""
        return self.quantity - self.executed

    @property
    def average_price(self) -> int:
        """Average price of the fills, rounded down to 1e-8; 0 before any."""
        return self.quote // self.executed if self.executed else 0


@dataclass(slots=True)
class AlgoRecord:
    """A conditional order. `callback_rate` is a share in 1e-8; `trigger` a trailing stop's activation price, or 0."""

    algo_id: int
    client_algo_id: str
    side: str
    order_type: str
    time_in_force: str
    quantity: int
    trigger: int
    callback_rate: int
    is_reduce_only: bool
    working_type: str
    time_ms: int
    updated_ms: int
    status: str = "NEW"
    triggered_ms: int = 0
    order_id: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FillRecord:
    """One fill. `fee` is positive when paid, `realised` is before fees."""

    trade_id: int
    order_id: int
    side: str
    price: int
    quantity: int
    realised: int
    fee: int
    is_maker: bool
    time_ms: int


@dataclass(frozen=True, slots=True)
class IncomeRecord:
    """Money that came (above zero) or went."""

    kind: str
    amount: int
    time_ms: int
    transaction_id: int
    trade_id: int = 0
