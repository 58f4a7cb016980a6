"""Liquidation and bankruptcy prices of linear perpetuals: isolated and cross, one-way and hedge.

Source: Binance FAQ b3c689c1f50a44cabb3a84e663b81d93, LP = (WB - TMM + UPNL + cum - side x q x EP) / (q x MMR - side x
q), here with rate and cum at the tier of the notional at that price. With the symbol's legs at price P, equity(P) -
maintenance(P) is linear between the prices at which a leg changes its tier, and concave over all of them, so each
stretch is solved on its own and only a solution that lies in its stretch counts. There are at most two (hedge).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from libs.margin.brackets import EXACT, ONE, ZERO, Bracket, BracketTable, MarginError


class MarginMode(StrEnum):
    """Cross shares the wallet among all positions; isolated gives each its own margin."""

    CROSS = "cross"
    ISOLATED = "isolated"


class PositionMode(StrEnum):
    """One-way holds one position a symbol; hedge holds a long and a short leg."""

    ONE_WAY = "one_way"
    HEDGE = "hedge"


class PositionSide(StrEnum):
    """Long gains when the price rises."""

    LONG = "long"
    SHORT = "short"

    @property
    def sign(self) -> int:
        """+1 for long, -1 for short."""
        return 1 if self is PositionSide.LONG else -1


@dataclass(frozen=True, slots=True)
class Leg:
    """An open position. `quantity` is positive, in base units; prices in quote units; `brackets` are its symbol's.

    `isolated_margin` of None means entry notional / leverage.
    """

    symbol: str
    side: PositionSide
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    leverage: Decimal
    brackets: BracketTable
    isolated_margin: Decimal | None = None

    @property
    def signed_quantity(self) -> Decimal:
        """The quantity, below zero where it is short."""
        return self.quantity if self.side is PositionSide.LONG else EXACT.minus(self.quantity)

    @property
    def mark_notional(self) -> Decimal:
        """Notional at the mark price."""
        return EXACT.multiply(self.quantity, self.mark_price)

    @property
    def maintenance_margin(self) -> Decimal:
        """Maintenance margin at the mark price."""
        return self.brackets.maintenance_margin(self.mark_notional)

    @property
    def initial_margin(self) -> Decimal:
        """Initial margin at the mark price, notional / leverage."""
        return EXACT.divide(self.mark_notional, self.leverage)

    @property
    def isolated_wallet(self) -> Decimal:
        """The margin posted: what was given, else entry notional / leverage."""
        if self.isolated_margin is not None:
            return self.isolated_margin
        return EXACT.divide(EXACT.multiply(self.quantity, self.entry_price), self.leverage)

    def unrealised_pnl(self, price: Decimal) -> Decimal:
        """Profit if the position were worth `price`."""
        gain = EXACT.multiply(self.quantity, EXACT.subtract(price, self.entry_price))
        return gain if self.side is PositionSide.LONG else EXACT.minus(gain)


@dataclass(frozen=True, slots=True)
class LiquidationResult:
    """Where a position is liquidated and where its margin is used up; None with a reason where no price does it.

    `liquidation_distance` is the share of the mark price between mark and liquidation price, below zero once it has
    been passed. `other_liquidation_price` is the second one that a hedged pair can have, farther from the mark.
    """

    liquidation_price: Decimal | None
    liquidation_reason: str
    bankruptcy_price: Decimal | None
    bankruptcy_reason: str
    liquidation_distance: Decimal | None
    other_liquidation_price: Decimal | None = None


def flat_brackets(symbol: str, rate: Decimal, amount: Decimal) -> BracketTable:
    """Return a table of one endless tier: this rate and deduction at every notional, leverage up to a million.

    Raises `MarginError` where the rate lies outside [0, 1) or the amount below 0.
    """
    if not ZERO <= rate < ONE:
        raise MarginError(f"maintenance_margin_rate: {rate} lies outside [0, 1); 0.004 means 0.4 %")
    if amount < 0:
        raise MarginError(f"maintenance_amount: {amount} is negative; it is what the venue deducts, zero or above")
    return BracketTable(symbol, (Bracket(ZERO, Decimal("Infinity"), rate, amount, 1_000_000),))


def check_leg(leg: Leg) -> None:
    """Raise `MarginError` naming the first impossible number of a position."""
    for name, value in (
        ("quantity", leg.quantity),
        ("entry_price", leg.entry_price),
        ("mark_price", leg.mark_price),
    ):
        if not value.is_finite() or value <= 0:
            raise MarginError(f"{name}: {value} must be above zero (the side says long or short)")
    if not leg.leverage.is_finite() or leg.leverage < 1:
        raise MarginError(f"leverage: {leg.leverage} must be 1 or above")
    margin = leg.isolated_margin
    if margin is not None and (not margin.is_finite() or margin < 0):
        raise MarginError(f"isolated_margin: {margin} must be zero or above, or null for notional / leverage")


def _breakpoints(legs: Sequence[Leg]) -> list[tuple[Decimal, Decimal]]:
    """Prices at which a leg changes its tier, ascending, each as the exact ratio (notional, quantity)."""
    ratios = {ZERO: (ZERO, ONE)}
    for leg in legs:
        for bracket in leg.brackets.brackets[1:]:
            ratios[EXACT.divide(bracket.notional_floor, leg.quantity)] = (bracket.notional_floor, leg.quantity)
    return [ratios[price] for price in sorted(ratios)]


def _line(legs: Sequence[Leg], probe: Decimal) -> tuple[Decimal, Decimal]:
    """Intercept and slope of sum(pnl - maintenance) on the stretch that holds `probe`."""
    intercept = slope = ZERO
    for leg in legs:
        bracket = leg.brackets.bracket_of(EXACT.multiply(leg.quantity, probe))
        signed = leg.signed_quantity
        intercept = EXACT.subtract(intercept, EXACT.multiply(signed, leg.entry_price))
        intercept = EXACT.add(intercept, bracket.maintenance_amount)
        slope = EXACT.add(slope, signed)
        slope = EXACT.subtract(slope, EXACT.multiply(leg.quantity, bracket.maintenance_rate))
    return intercept, slope


def _is_covered(leg: Leg, balance: Decimal) -> bool:
    """Whether even a price of nothing leaves a long something."""
    return leg.side is PositionSide.LONG and balance >= EXACT.multiply(leg.quantity, leg.entry_price)


def solve_liquidation_prices(legs: Sequence[Leg], balance: Decimal) -> list[Decimal]:
    """Return every positive price at which balance + profit of the legs equals their maintenance, ascending, unrounded.

    `legs` share one symbol's price; `balance` is the wallet less maintenance plus unrealised profit of everything else.
    """
    if len(legs) == 1 and _is_covered(legs[0], balance):
        return []
    edges = _breakpoints(legs)
    prices = [EXACT.divide(notional, quantity) for notional, quantity in edges]
    roots: list[Decimal] = []
    for index, low in enumerate(edges):
        high = edges[index + 1] if index + 1 < len(edges) else None
        probe = EXACT.add(prices[index], ONE)
        if high is not None:
            probe = EXACT.divide(EXACT.add(prices[index], prices[index + 1]), Decimal(2))
        intercept, slope = _line(legs, probe)
        numerator = EXACT.minus(EXACT.add(balance, intercept))
        if slope < 0:
            numerator, slope = EXACT.minus(numerator), EXACT.minus(slope)
        if slope == 0 or not _is_less(low, (numerator, slope)):
            continue
        if high is None or not _is_less(high, (numerator, slope)):
            roots.append(EXACT.divide(numerator, slope))
            if len(legs) == 1:
                break  # equity less maintenance of one position only rises or only falls
    return roots


def _is_less(left: tuple[Decimal, Decimal], right: tuple[Decimal, Decimal]) -> bool:
    """Compare two ratios with denominators above zero without dividing, so that a root on an edge is found once."""
    return EXACT.multiply(left[0], right[1]) < EXACT.multiply(right[0], left[1])


def _bankruptcy_price(legs: Sequence[Leg], balance: Decimal) -> Decimal | None:
    intercept = balance
    slope = ZERO
    for leg in legs:
        signed = leg.signed_quantity
        intercept = EXACT.subtract(intercept, EXACT.multiply(signed, leg.entry_price))
        slope = EXACT.add(slope, signed)
    if slope == 0:
        return None
    price = EXACT.divide(EXACT.minus(intercept), slope)
    return price if price > 0 else None


def _farness(price: Decimal, mark: Decimal) -> Decimal:
    return EXACT.divide(max(price, mark), min(price, mark))


def _result(legs: Sequence[Leg], leg: Leg, solving_balance: Decimal, bankruptcy_balance: Decimal) -> LiquidationResult:
    mark = leg.mark_price
    roots = sorted(solve_liquidation_prices(legs, solving_balance), key=lambda price: _farness(price, mark))
    bankruptcy = _bankruptcy_price(legs, bankruptcy_balance)
    bankruptcy_reason = "" if bankruptcy is not None else "no price above zero uses up the margin"
    surplus = solving_balance
    for each in legs:
        surplus = EXACT.add(surplus, EXACT.subtract(each.unrealised_pnl(mark), each.maintenance_margin))
    is_above_maintenance = surplus > 0
    if not roots:
        return LiquidationResult(None, _why_none(is_above_maintenance), bankruptcy, bankruptcy_reason, None)
    price = roots[0]
    return LiquidationResult(
        liquidation_price=price,
        liquidation_reason="",
        bankruptcy_price=bankruptcy,
        bankruptcy_reason=bankruptcy_reason,
        liquidation_distance=_distance(price, mark, is_above_maintenance),
        other_liquidation_price=roots[1] if len(roots) > 1 else None,
    )


def find_isolated_distance(leg: Leg) -> tuple[Decimal | None, str]:
    """Return how far an isolated position is from its liquidation, as a share of the mark, and the reason where no
    price liquidates it: what `liquidate_isolated` says of it, without the prices. The leg's numbers are taken as sane.
    """
    balance, mark = leg.isolated_wallet, leg.mark_price
    surplus = EXACT.add(balance, EXACT.subtract(leg.unrealised_pnl(mark), leg.maintenance_margin))
    prices = solve_liquidation_prices((leg,), balance)
    return _distance(prices[0], mark, surplus > 0) if prices else None, "" if prices else _why_none(surplus > 0)


def _distance(price: Decimal, mark: Decimal, is_above_maintenance: bool) -> Decimal:
    gap = EXACT.subtract(max(price, mark), min(price, mark))
    return EXACT.divide(gap if is_above_maintenance else EXACT.minus(gap), mark)


def _why_none(is_above_maintenance: bool) -> str:
    if is_above_maintenance:
        return "margin covers the position at every price above zero"
    return "margin is below maintenance at every price above zero: the position is due for liquidation now"


def liquidate_isolated(leg: Leg) -> LiquidationResult:
    """Solve one isolated position: its own margin is all it has."""
    check_leg(leg)
    return _result((leg,), leg, leg.isolated_wallet, leg.isolated_wallet)


def _check_account(legs: Sequence[Leg], position_mode: PositionMode) -> None:
    seen: set[tuple[str, str]] = set()
    marks: dict[str, Decimal] = {}
    for leg in legs:
        check_leg(leg)
        key = (leg.symbol, leg.side if position_mode is PositionMode.HEDGE else "")
        if key in seen:
            if position_mode is PositionMode.HEDGE:
                raise MarginError(f"symbol: {leg.symbol} {leg.side} appears twice; hedge mode holds one leg a side")
            raise MarginError(f"symbol: {leg.symbol} appears twice; one_way mode holds one position a symbol")
        seen.add(key)
        if marks.setdefault(leg.symbol, leg.mark_price) != leg.mark_price:
            raise MarginError(f"mark_price: the legs of {leg.symbol} differ; one symbol has one mark price")


def liquidate_account(
    legs: Sequence[Leg], wallet_balance: Decimal, margin_mode: MarginMode, position_mode: PositionMode
) -> list[LiquidationResult]:
    """Solve every position of an account, in the order given.

    Cross: each symbol is solved with all other symbols held at their marks; a hedged pair moves together and both
    legs carry the same answer. Isolated: each position stands alone and `wallet_balance` is not touched.
    Raises `MarginError` for impossible numbers, and positions that the position mode does not allow.
    """
    if not wallet_balance.is_finite() or wallet_balance < 0:
        raise MarginError(f"wallet_balance: {wallet_balance} must be zero or above")
    _check_account(legs, position_mode)
    if margin_mode is MarginMode.ISOLATED:
        return [liquidate_isolated(leg) for leg in legs]
    results: list[LiquidationResult] = []
    for leg in legs:
        same = [other for other in legs if other.symbol == leg.symbol]
        bankruptcy_balance = wallet_balance
        solving_balance = wallet_balance
        for other in legs:
            if other.symbol != leg.symbol:
                profit = other.unrealised_pnl(other.mark_price)
                bankruptcy_balance = EXACT.add(bankruptcy_balance, profit)
                solving_balance = EXACT.add(solving_balance, EXACT.subtract(profit, other.maintenance_margin))
        results.append(_result(same, leg, solving_balance, bankruptcy_balance))
    return results
