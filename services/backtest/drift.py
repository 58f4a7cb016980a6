"""Splits the difference between a session and its backtest into what made it; the terms sum to it exactly.

Pure. Orders of both are the same decision where they have one intent id. An order's worth is what it made by the last
price: side times (quantity at that price less what was paid), fees apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

from libs.domain.accounts import AccountState
from libs.domain.events import Event
from libs.domain.orders import OrderApproved, OrderEvent, OrderRefused

_ZERO = Decimal(0)
_E8 = Decimal("0.00000001")

PriceAt = Callable[[int], Decimal]
"""The market's price at a market time (ns)."""


@dataclass(slots=True)
class FilledOrder:
    """What was filled of the order of one intent: signed quantity, what was paid for it, and when by quantity."""

    quantity: Decimal = _ZERO
    paid: Decimal = _ZERO
    market_paid: Decimal = _ZERO
    times: list[int] = field(default_factory=list)

    def worth(self, price: Decimal) -> Decimal:
        """Return what it made by a price."""
        return self.quantity * price - self.paid


@dataclass(slots=True)
class TradingOutcome:
    """What an account did: filled orders and verdicts by intent id, fees, funding, equity at its start and end."""

    orders: dict[str, FilledOrder] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    fees: Decimal = _ZERO
    funding: Decimal = _ZERO
    start_equity: Decimal | None = None
    end_equity: Decimal = _ZERO

    def see(self, event: Event, price_at: PriceAt) -> None:
        """Take note of an event; those of other kinds than orders, verdicts and accounts tell nothing."""
        match event:
            case OrderEvent():
                self._see_fill(event, price_at)
            case OrderApproved():
                self.verdicts[event.intent_id] = "approved"
            case OrderRefused():
                failed = (check.name for check in event.checks if not check.has_passed)
                self.verdicts[event.intent_id] = f"refused: {', '.join(failed)}"
            case AccountState():
                if self.start_equity is None:
                    self.start_equity = event.equity
                self.end_equity = event.equity
                self.funding = sum((held.funding_paid for held in event.positions), _ZERO)

    def _see_fill(self, order: OrderEvent, price_at: PriceAt) -> None:
        if order.last_quantity is None or order.last_price is None:
            return
        filled = self.orders.setdefault(order.intent_id, FilledOrder())
        signed = order.side.sign * order.last_quantity
        filled.quantity += signed
        filled.paid += signed * order.last_price
        filled.market_paid += signed * price_at(order.event_time)
        filled.times.append(order.event_time)
        self.fees += order.fee or _ZERO


@dataclass(frozen=True, slots=True)
class Drift:
    """Session less backtest, in USDT, and its terms, which sum to it.

    `decisions`: orders that only one of them had. `order_timing`: the market had moved when the same order was filled.
    `fills`: the same order was filled at another distance from the market or in another size. `valuation`: open
    positions were marked at other prices at the end, and rounding.
    """

    difference: Decimal
    terms: Mapping[str, Decimal]
    matched_orders: int
    only_in_session: list[str]
    only_in_backtest: list[str]
    other_verdicts: list[str]
    mean_delay_ms: float | None


def split_drift(session: TradingOutcome, backtest: TradingOutcome, last_price: Decimal) -> Drift:
    """Split what a session ended with less what its backtest did; `last_price` is the market's at the end."""
    difference = session.end_equity - backtest.end_equity
    matched = [name for name in session.orders if name in backtest.orders]
    only_in_session = [name for name in session.orders if name not in backtest.orders]
    only_in_backtest = [name for name in backtest.orders if name not in session.orders]
    timing = fills = _ZERO
    delays = []
    for name in matched:
        here, there = session.orders[name], backtest.orders[name]
        moved = _timing(here, there)
        timing += moved
        fills += here.worth(last_price) - there.worth(last_price) - moved
        delays.append(sum(here.times) / len(here.times) - sum(there.times) / len(there.times))
    terms = {
        "start": (session.start_equity or _ZERO) - (backtest.start_equity or _ZERO),
        "decisions": sum((session.orders[name].worth(last_price) for name in only_in_session), _ZERO)
        - sum((backtest.orders[name].worth(last_price) for name in only_in_backtest), _ZERO),
        "order_timing": timing,
        "fills": fills,
        "fees": backtest.fees - session.fees,
        "funding": backtest.funding - session.funding,
    }
    terms = {name: _round(amount) for name, amount in terms.items()}
    terms["valuation"] = _round(difference) - sum(terms.values(), _ZERO)
    return Drift(
        _round(difference),
        terms,
        len(matched),
        only_in_session,
        only_in_backtest,
        _other_verdicts(session, backtest),
        sum(delays) / len(delays) / 1e6 if delays else None,
    )


def _timing(here: FilledOrder, there: FilledOrder) -> Decimal:
    """Return what the market's move between the two times of fill made of the quantity that the backtest filled."""
    if not here.quantity or not there.quantity:
        return _ZERO
    moved = there.market_paid / there.quantity - here.market_paid / here.quantity
    return there.quantity * moved


def _round(amount: Decimal) -> Decimal:
    return amount.quantize(_E8, rounding=ROUND_HALF_EVEN)


def _other_verdicts(session: TradingOutcome, backtest: TradingOutcome) -> list[str]:
    names = dict.fromkeys((*session.verdicts, *backtest.verdicts))
    return [
        f"{name}: {session.verdicts.get(name, 'not asked')} in the session, "
        f"{backtest.verdicts.get(name, 'not asked')} in the backtest"
        for name in names
        if session.verdicts.get(name) != backtest.verdicts.get(name)
    ]
