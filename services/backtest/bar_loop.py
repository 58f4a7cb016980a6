"""The account on a market of bars, advanced by one compiled step: marks, limits of loss, market orders that fill at the
close.

Money is exact, in integers of 1e-8. What cannot be told for certain (an order near any of its limits, equity near a
limit of loss, numbers too large for 64 bits) stops the loop before the bar: the pipeline then handles that bar. So
nothing is decided here that the cores would decide otherwise. An amount at a price is kept as two integers, whole 1e-8
and the rest in 1e-16, since the product of two numbers of 1e-8 has sixteen decimals.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from libs.indicators.compiling import compiled, compiled_entry, compiled_loop
from services.strategy.core.compiled import HOLD

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

S: Final = 100_000_000
_DAY_NS: Final = 86_400 * 10**9
_NEAR: Final = 1e-9
_LARGE_NOTIONAL: Final = 8e10
_DIGITS: Final = 1e27

# The account: amounts in 1e-8, `_REST` in 1e-16, `_KIND` whether the value was that of a held position (1) or not (0).
WALLET: Final = 0
QUANTITY: Final = 1
ENTRY: Final = 2
REALISED: Final = 3
FEES: Final = 4
PEAK: Final = 5
PEAK_REST: Final = 6
PEAK_KIND: Final = 7
DAY: Final = 8
DAY_START: Final = 9
DAY_START_REST: Final = 10
DAY_START_KIND: Final = 11
LOSSES: Final = 12
LAST_LOSS_TIME: Final = 13
STATES: Final = 14
ORDERS: Final = 15
STATE_TIME: Final = 16
CLOSING_PLACE: Final = 17
ORDER_PLACE: Final = 18
ACCOUNT_WIDTH: Final = 19

# The terms of orders: whole numbers, then doubles.
FEE_RATE: Final = 0
SLIPPAGE_RATE: Final = 1
TICK: Final = 2
STEP: Final = 3
MIN_QUANTITY: Final = 4
MAX_QUANTITY: Final = 5
MAX_LOSSES: Final = 6
LOSS_PAUSE_NS: Final = 7
MAY_OPEN: Final = 8
MAY_ORDER: Final = 9
WHOLE_TERMS: Final = 10

MIN_NOTIONAL: Final = 0
ORDER_NOTIONAL: Final = 1
POSITION_NOTIONAL: Final = 2
EXPOSURE: Final = 3
LEVERAGE: Final = 4
MARGIN_RATIO: Final = 5
LIQUIDATION: Final = 6
DRAWDOWN: Final = 7
DAILY_LOSS: Final = 8
ACCOUNT_LEVERAGE: Final = 9
TAKER_RATE: Final = 10
FEE_DIGITS: Final = 11
TERMS: Final = 12

# Rows of a market: what is given, then what comes of it.
TIME: Final = 0
CLOSE: Final = 1
TARGET: Final = 2
EQUITY: Final = 3
WALLET_AFTER: Final = 4
POSITION_AFTER: Final = 5
HAS_STATE: Final = 6
ROWS: Final = 7

# Columns of a fill.
PLACE: Final = 0
SIGNED: Final = 1
PRICE: Final = 2
FEE: Final = 3
PROFIT: Final = 4
FILL_WIDTH: Final = 5


@compiled
def gain_over(moved: int, size_whole: int, size_part: int) -> tuple[int, int]:
    """Return what a size, in units and the part of one, gains where the price moved its way."""
    if size_part == 0:
        return moved * size_whole, 0
    whole, part = moved // S, moved % S
    exact = part * size_part
    return whole * (size_whole * S + size_part) + part * size_whole + exact // S, exact % S


@compiled_entry
def gain_of(quantity: int, entry: int, price: int) -> tuple[int, int]:
    """Return what a signed position gains at a price: whole 1e-8, rounded down, and the rest in 1e-16."""
    moved, size = price - entry, quantity
    if quantity < 0:
        moved, size = -moved, -size
    return gain_over(moved, size // S, size % S)


@compiled_entry
def round_half_even(whole: int, rest: int, of: int) -> int:
    """Round `whole` and `rest` parts of `of`, 0 <= rest < of."""
    if 2 * rest > of or (2 * rest == of and whole % 2 != 0):
        return whole + 1
    return whole


@compiled_entry
def equity_over(prices: Ints, wallet: int, quantity: int, entry: int) -> Ints:
    """Return the equity at prices, rounded half-even as the ledger's is."""
    equity = np.empty(len(prices), np.int64)
    for at in range(len(prices)):
        gained, rest = gain_of(quantity, entry, prices[at])
        equity[at] = wallet + round_half_even(gained, rest, S)
    return equity


@compiled_entry
def mul_div(a: int, b: int, of: int) -> tuple[int, int]:
    """Return a x b / of, all above or at 0 and `of` below 2**61, as quotient and remainder without overflow."""
    whole, left = a // of, a % of
    quotient, rest = 0, 0
    for bit in range(62, -1, -1):
        quotient *= 2
        rest *= 2
        if (b >> bit) & 1:
            rest += left
        while rest >= of:
            rest -= of
            quotient += 1
    return quotient + whole * b, rest


@compiled_entry
def fee_of(price: int, size: int, rate: int) -> int:
    """Return price x size x rate, rounded half-even to 1e-8."""
    price_whole, price_part = price // S, price % S
    size_whole, size_part = size // S, size % S
    exact = price_part * size_part
    whole = price_whole * size_whole * S + price_whole * size_part + price_part * size_whole + exact // S
    rest = (exact % S) * rate
    amount = (whole % S) * rate + rest // S
    fee = (whole // S) * rate + amount // S
    return round_half_even(fee, (amount % S) * S + rest % S, S * S)


@compiled_entry
def worsen(price: int, is_buy: bool, rate: int, tick: int) -> int:
    """Return a price made worse for a taker by a rate of 1e-8, rounded away from it to a whole tick."""
    rest = (price % S) * rate
    moved, rest = (price // S) * rate + rest // S, rest % S
    if is_buy:
        return -(-(price + moved + (1 if rest else 0)) // tick) * tick
    return max(tick, (price - moved - (1 if rest else 0)) // tick * tick)


@compiled_entry
def average_entry(entry: int, held: int, price: int, added: int) -> int:
    """Return the average price of a position after more of it was bought or sold; sizes are above 0."""
    size = held + added
    if price >= entry:
        moved, rest = mul_div(price - entry, added, size)
        return round_half_even(entry + moved, rest, size)
    moved, rest = mul_div(entry - price, added, size)
    if rest:
        return round_half_even(entry - moved - 1, size - rest, size)
    return entry - moved


@compiled_entry
def may_open(quantity: int, missing: int, price: int, equity: float, terms: Floats, brackets: Floats) -> bool:
    """Whether an order that may add risk clearly passes every check of risk, and execution's of margin.

    `brackets` has a row per tier: its cap, rate, deducted amount and leverage.
    """
    sign = 1.0 if missing > 0 else -1.0
    unit = price / S
    notional, held = abs(missing) / S * unit, quantity / S * unit
    along = held * sign
    more = 1.0 + _NEAR
    direction = max(0.0, along + notional) * more
    worst = max(abs(along + notional), abs(along), notional) * more
    gross = (abs(held) + notional) * more
    leverage = terms[LEVERAGE]
    if (
        notional * more > terms[ORDER_NOTIONAL]
        or direction > terms[POSITION_NOTIONAL]
        or gross > terms[EXPOSURE]
        or equity <= 0.0
        or worst > leverage * equity
        or worst > terms[ACCOUNT_LEVERAGE] * equity
    ):
        return False
    tier, last = 0, len(brackets) - 1
    while tier < last and worst > brackets[tier, 0]:
        tier += 1
    if worst > brackets[last, 0] or worst > brackets[tier, 3] * equity:
        return False
    maintenance = (worst * brackets[tier, 1] - brackets[tier, 2]) * more
    if maintenance > terms[MARGIN_RATIO] * equity:
        return False
    free = min(equity - abs(held) / terms[ACCOUNT_LEVERAGE], equity - abs(held) / leverage)
    if (notional / leverage + notional * terms[TAKER_RATE]) * more > free - abs(free) * _NEAR:
        return False
    if direction <= 0.0:
        return True
    # The maintenance margin grows with the price by the highest rate at most.
    distance = (equity - maintenance) / (direction * (1.0 + brackets[last, 1]))
    return bool(distance >= terms[LIQUIDATION] * more + _NEAR)


@compiled_entry
def floor_of(peak: int, start: int, drawdown: float, daily_loss: float) -> float:
    """Return the equity, in units, at or below which it is near a limit of loss, from its peak and the day's start."""
    return max(peak / S * (1.0 - drawdown), start / S * (1.0 - daily_loss)) * (1.0 + _NEAR)


@compiled_loop
def round_to_step(targets: Ints, step: int, rounded: Ints) -> None:
    """Round targets toward zero to whole steps; no answer stays none."""
    for at in range(len(targets)):
        wanted = targets[at]
        rounded[at] = (
            wanted if wanted == HOLD else (wanted // step * step if wanted >= 0 else -(-wanted // step * step))
        )


@compiled_loop
def advance(
    account: Ints,
    whole: Ints,
    terms: Floats,
    brackets: Floats,
    rows: Ints,
    fills: Ints,
    first: int,
    last: int,
) -> int:
    """Advance the account over the bars from `first` (above 0) to `last`; return the place of the first that the
    pipeline must handle, with the account as it was before it, or `last`.
    """
    floor_peak = floor_start = np.int64(-(2**63))
    floor = 0.0
    # What holds from one order, or one day, to the next.
    known = size_whole = size_part = 0
    day = day_end = 0
    for at in range(first, last):
        now, price = rows[TIME, at], rows[CLOSE, at]
        quantity, entry, wallet = account[QUANTITY], account[ENTRY], account[WALLET]
        peak, peak_rest, peak_kind = account[PEAK], account[PEAK_REST], account[PEAK_KIND]
        if not day_end - _DAY_NS <= now < day_end:
            day = now // _DAY_NS
            day_end = (day + 1) * _DAY_NS
        start, start_rest, start_kind = account[DAY_START], account[DAY_START_REST], account[DAY_START_KIND]
        kind = 1 if quantity else 0
        level, rest, gained = wallet, 0, 0
        if quantity:
            if quantity != known:
                known, size_whole, size_part = quantity, abs(quantity) // S, abs(quantity) % S
            gained, rest = gain_over(price - entry if quantity > 0 else entry - price, size_whole, size_part)
            level = wallet + gained
        if day != account[DAY]:
            # The day begins with the clock tick before the bar, which knows the close before it.
            start, start_rest, start_kind = wallet, 0, kind
            if quantity:
                before, start_rest = gain_of(quantity, entry, rows[CLOSE, at - 1])
                start = wallet + before
        if level > peak or (level == peak and rest > peak_rest):
            peak, peak_rest, peak_kind = level, rest, kind
        if peak != floor_peak or start != floor_start:
            floor = floor_of(peak, start, terms[DRAWDOWN], terms[DAILY_LOSS])
            floor_peak, floor_start = peak, start
        if quantity and level / S <= floor:
            return at
        equity = wallet + round_half_even(gained, rest, S)
        target = rows[TARGET, at]
        has_order = False
        signed = filled_at = fee = profit = 0
        if target != HOLD and target != quantity:
            signed = target - quantity
            size = abs(signed)
            is_opposite = quantity != 0 and (signed > 0) != (quantity > 0)
            is_reduction = is_opposite and size <= abs(quantity)
            notional = size / S * (price / S)
            if (
                not whole[MAY_ORDER]
                or size < whole[MIN_QUANTITY]
                or size > whole[MAX_QUANTITY]
                or size % whole[STEP]
                or (notional < terms[MIN_NOTIONAL] * (1.0 + _NEAR) and not (is_reduction and size == abs(quantity)))
                or notional > _LARGE_NOTIONAL
                or float(price) * float(size) * terms[FEE_DIGITS] > _DIGITS
            ):
                return at
            if not is_reduction and not (
                whole[MAY_OPEN]
                and (account[LOSSES] < whole[MAX_LOSSES] or now - account[LAST_LOSS_TIME] > whole[LOSS_PAUSE_NS])
                and may_open(quantity, signed, price, level / S, terms, brackets)
            ):
                return at
            has_order = True
            filled_at = worsen(price, signed > 0, whole[SLIPPAGE_RATE], whole[TICK])
            fee = fee_of(filled_at, size, whole[FEE_RATE])
            if is_opposite:
                closed = quantity if size >= abs(quantity) else -signed
                profit, left = gain_of(closed, entry, filled_at)
                profit = round_half_even(profit, left, S)
                if not is_reduction:
                    entry = filled_at
                elif size == abs(quantity):
                    entry = 0
            else:
                entry = average_entry(entry, abs(quantity), filled_at, size) if quantity else filled_at
            wallet += profit - fee
            level, rest, gained = wallet, 0, 0
            if target:
                gained, rest = gain_of(target, entry, price)
                level = wallet + gained
            equity = wallet + round_half_even(gained, rest, S)
            if level > peak or (level == peak and rest > peak_rest):
                peak, peak_rest, peak_kind = level, rest, (1 if target else 0)
            if level / S <= floor_of(peak, start, terms[DRAWDOWN], terms[DAILY_LOSS]):
                return at
        account[DAY], account[DAY_START], account[DAY_START_REST] = day, start, start_rest
        account[DAY_START_KIND] = start_kind
        account[PEAK], account[PEAK_REST], account[PEAK_KIND] = peak, peak_rest, peak_kind
        rows[HAS_STATE, at] = 1 if quantity or has_order else 0
        if quantity:
            account[STATES] += 1
        if has_order:
            fills[account[ORDERS], PLACE] = at
            fills[account[ORDERS], SIGNED] = signed
            fills[account[ORDERS], PRICE] = filled_at
            fills[account[ORDERS], FEE] = fee
            fills[account[ORDERS], PROFIT] = profit
            account[ORDERS] += 1
            account[STATES] += 2
            account[WALLET], account[QUANTITY], account[ENTRY] = wallet, target, entry
            account[REALISED] += profit
            account[FEES] += fee
            account[ORDER_PLACE] = at
            if profit > 0:
                account[LOSSES] = 0
            elif profit < 0:
                account[LOSSES] += 1
                account[LAST_LOSS_TIME] = now
            if profit:
                account[CLOSING_PLACE] = at
        if quantity or has_order:
            account[STATE_TIME] = now
        rows[EQUITY, at], rows[WALLET_AFTER, at], rows[POSITION_AFTER, at] = equity, wallet, account[QUANTITY]
    return last
