"""An order as the venue holds it, what can happen to it, and the terms it is matched on."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import Liquidity, OrderType, ReportKind, TimeInForce
from libs.matching.book import UNKNOWN_QUANTITY


class BarFill(StrEnum):
    """At which price of a bar an order arrives where bars are the whole market.

    CLOSE: at the close that was decided on, without latency. NEXT_OPEN: at the next bar's open, or at its close if the
    order arrives later in it. WORST: with the next bar, a taker at the worst of its prices (the high for a buy).
    """

    CLOSE = "close"
    NEXT_OPEN = "next-open"
    WORST = "worst"


@dataclass(frozen=True, slots=True)
class MatchingTerms:
    """What the model assumes where the data does not say.

    `slippage_bps`: how much worse than the last known level a market order's remainder fills; it grows with the
    remainder in multiples of what the known levels gave. Where no book was ever seen it is the distance from the last
    price to the nearest offer. `impact_bps`: what a market order of the last bar's whole volume adds where bars are the
    market; a smaller one adds the root of its share of it. `no_liquidity_timeout_ns`: how long a market order waits for
    a market. `bar_open_grace_ns`: orders arriving this long after a bar's open still get its open. `bar_fill`: see
    `BarFill`.
    """

    slippage_bps: Decimal = Decimal("2")
    no_liquidity_timeout_ns: int = 10 * NANOSECONDS
    bar_open_grace_ns: int = 5 * NANOSECONDS
    bar_fill: BarFill = BarFill.NEXT_OPEN
    impact_bps: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        amounts = (self.slippage_bps, self.impact_bps, self.no_liquidity_timeout_ns, self.bar_open_grace_ns)
        if any(amount < 0 for amount in amounts):
            raise ValueError(f"matching terms must be 0 or more, got {self}")


@dataclass(slots=True, eq=False)
class VenueOrder:
    """An order at the venue, in integers of 1e-8. `sequence` is its place in time among all orders.

    `queue_ahead` is the quantity before us at our price (`UNKNOWN_QUANTITY` until the level was seen), `level_shown`
    what the level displayed when last seen, `traded_since` what traded there since. `extreme` is a trailing stop's
    best price since it became active, 0 before. `waits_until` bounds a market order's wait for a market.
    """

    client_order_id: str
    venue_order_id: str
    instrument: str
    cause_id: str
    sequence: int
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    is_reduce_only: bool
    quantity: int
    limit: int | None = None
    trigger: int | None = None
    callback_rate: int | None = None
    filled: int = 0
    queue_ahead: int = UNKNOWN_QUANTITY
    level_shown: int = 0
    traded_since: int = 0
    extreme: int = 0
    waits_until: int = 0

    @property
    def remaining(self) -> int:
        """Quantity not filled yet."""
        return self.quantity - self.filled

    @property
    def priority(self) -> tuple[int, int]:
        """Sort key of resting orders of one side: price, then time."""
        limit = self.limit or 0
        return (-limit if self.side is Side.BUY else limit), self.sequence


class MatchOutcome(NamedTuple):
    """One thing that happened to an order; the fill fields are 0 and None unless it is a fill."""

    order: VenueOrder
    kind: ReportKind
    event_time: int
    cause_id: str
    reason: str = ""
    quantity: int = 0
    price: int = 0
    liquidity: Liquidity | None = None
