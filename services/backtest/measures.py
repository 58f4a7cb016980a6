"""What a run comes to: equity, trades, costs, and the usual ratios over them. Money is exact, ratios are floats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from libs.domain.accounts import AccountState
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import OrderEvent

_ZERO = Decimal(0)
_YEAR_NS = 365 * 86_400 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """The account at a market time (ns)."""

    event_time: int
    equity: Decimal
    wallet: Decimal
    position: Decimal


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of the account's."""

    event_time: int
    client_order_id: str
    intent_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    realised_pnl: Decimal


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A round trip: from flat, or a turn, to flat or the next turn. `pnl` is net of fees, without funding."""

    opened_at: int
    closed_at: int
    side: Side
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    fees: Decimal
    pnl: Decimal


@dataclass(slots=True)
class Tape:
    """Collects what happened to one instrument in the account."""

    instrument: str
    points: list[EquityPoint] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    funding_paid: Decimal = _ZERO

    def see_account(self, account: AccountState) -> None:
        """Note the account; the last state of an instant counts."""
        held = account.position(self.instrument)
        point = EquityPoint(account.event_time, account.equity, account.wallet_balance, held.quantity)
        if self.points and self.points[-1].event_time == point.event_time:
            self.points[-1] = point
        else:
            self.points.append(point)
        self.funding_paid = held.funding_paid

    def see_order(self, order: OrderEvent) -> None:
        """Note a fill, if the event is one."""
        if order.last_quantity is None or order.last_price is None or order.instrument != self.instrument:
            return
        self.fills.append(
            Fill(
                event_time=order.event_time,
                client_order_id=order.client_order_id,
                intent_id=order.intent_id,
                side=order.side,
                quantity=order.last_quantity,
                price=order.last_price,
                fee=order.fee or _ZERO,
                realised_pnl=order.realised_pnl or _ZERO,
            )
        )


@dataclass(slots=True)
class _Open:
    opened_at: int
    side: Side
    peak: Decimal
    held: Decimal
    entry_cost: Decimal
    entered: Decimal
    exit_value: Decimal
    exited: Decimal
    fees: Decimal
    realised: Decimal


def round_trips(fills: Sequence[Fill]) -> tuple[list[RoundTrip], bool]:
    """Return the closed round trips and whether one is still open. A fill that turns is split by quantity."""
    trades: list[RoundTrip] = []
    trip: _Open | None = None
    for fill in fills:
        quantity, fee = fill.quantity, fill.fee
        if trip is not None and fill.side is not trip.side:
            closing = min(quantity, trip.held)
            share = fee * closing / quantity
            trip.held -= closing
            trip.exit_value += closing * fill.price
            trip.exited += closing
            trip.fees += share
            trip.realised += fill.realised_pnl
            quantity, fee = quantity - closing, fee - share
            if not trip.held:
                trades.append(_close(trip, fill.event_time))
                trip = None
        if quantity and trip is None:
            trip = _Open(fill.event_time, fill.side, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO)
        if quantity and trip is not None:
            trip.held += quantity
            trip.peak = max(trip.peak, trip.held)
            trip.entry_cost += quantity * fill.price
            trip.entered += quantity
            trip.fees += fee
    return trades, trip is not None


def _close(trip: _Open, event_time: int) -> RoundTrip:
    return RoundTrip(
        opened_at=trip.opened_at,
        closed_at=event_time,
        side=trip.side,
        quantity=trip.peak,
        entry_price=trip.entry_cost / trip.entered,
        exit_price=trip.exit_value / trip.exited,
        fees=trip.fees,
        pnl=trip.realised - trip.fees,
    )


def points_from(points: Sequence[EquityPoint], started_at: int) -> list[EquityPoint]:
    """Return the points from a time on, the one in force at that time first, moved to it.

    The account is told of first while history is filled in, long before the market that is traded begins.
    """
    before = [point for point in points if point.event_time <= started_at]
    after = [point for point in points if point.event_time > started_at]
    return [replace(before[-1], event_time=started_at), *after] if before else after


def sample_equity(points: Sequence[EquityPoint], step_ns: int) -> list[Decimal]:
    """Return the equity in force at the end of every step from the first point to the last."""
    if not points:
        return []
    sampled: list[Decimal] = []
    at = points[0].event_time - points[0].event_time % step_ns + step_ns
    known = points[0].equity
    for point in points:
        while point.event_time > at:
            sampled.append(known)
            at += step_ns
        known = point.equity
    sampled.append(known)
    return sampled


def sharpe_ratio(equity: Sequence[Decimal], step_ns: int) -> float | None:
    """Return the annualised Sharpe ratio of simple returns per step over a zero rate (Sharpe 1994).

    None where there are fewer than two returns or they do not vary. A year has 365 days: this market never closes.
    """
    values = [float(value) for value in equity]
    returns = [after / before - 1.0 for before, after in itertools.pairwise(values) if before > 0.0]
    if len(returns) < 2:
        return None
    mean = math.fsum(returns) / len(returns)
    variance = math.fsum((value - mean) ** 2 for value in returns) / (len(returns) - 1)
    if variance <= 0.0:
        return None
    return mean / math.sqrt(variance) * math.sqrt(_YEAR_NS / step_ns)


def max_drawdown(points: Sequence[EquityPoint]) -> tuple[float, Decimal]:
    """Return the deepest fall from a peak of equity: as a share of the peak, and in quote units."""
    peak = worst_amount = _ZERO
    worst_share = 0.0
    for point in points:
        peak = max(peak, point.equity)
        fall = peak - point.equity
        worst_amount = max(worst_amount, fall)
        if peak > 0:
            worst_share = max(worst_share, float(fall / peak))
    return worst_share, worst_amount


def exposure_share(points: Sequence[EquityPoint]) -> float:
    """Return the share of the time from first to last point during which a position was held."""
    total = points[-1].event_time - points[0].event_time if points else 0
    if total <= 0:
        return 0.0
    held = sum(after.event_time - before.event_time for before, after in itertools.pairwise(points) if before.position)
    return held / total
