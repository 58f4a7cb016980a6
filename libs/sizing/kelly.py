"""Kelly's criterion: the fraction of equity to stake for the fastest growth of its logarithm (Kelly 1956, Thorp 2006).

Fractions are of equity as notional, so 1.5 means one and a half times the equity. No edge gives 0, never a short stake.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from libs.sizing.errors import SizingError, check_above_zero, check_share

_ITERATIONS = 200
_DOUBT = 1e-3


def kelly_binary(win_probability: float, win_loss_ratio: float) -> float:
    """Return p - (1 - p) / b, of a bet that wins b times what it loses; 0 where there is no edge. In units of the loss.

    Divide by the loss's size to have a share of equity: a stop 2 % away loses 0.02 of the notional.
    """
    check_share("win_probability", win_probability)
    check_above_zero("win_loss_ratio", win_loss_ratio)
    return max(0.0, win_probability - (1.0 - win_probability) / win_loss_ratio)


def kelly_continuous(expected_return: float, volatility: float) -> float:
    """Return mean / variance, the fraction for normal returns over the same period; 0 where the mean is not
    positive.
    """
    if not math.isfinite(expected_return):
        raise SizingError(f"expected_return: {expected_return} is not a finite number")
    check_above_zero("volatility", volatility)
    return max(0.0, expected_return / volatility**2)


def kelly_discrete(returns: Sequence[float], probabilities: Sequence[float]) -> float:
    """Return the fraction f that maximises sum p log(1 + f r) over outcomes r (as shares of the notional), f >= 0.

    The derivative falls in f, so its zero is found by bisection below the f at which the worst outcome takes
    everything. Raises `SizingError` for probabilities that do not sum to 1, or an edge without any losing outcome (no
    finite answer).
    """
    if len(returns) != len(probabilities) or not returns:
        raise SizingError(f"returns and probabilities: {len(returns)} and {len(probabilities)} must be equally many")
    for value in returns:
        if not math.isfinite(value):
            raise SizingError(f"returns: {value} is not a finite number")
    for probability in probabilities:
        check_share("probabilities", probability)
    if abs(math.fsum(probabilities) - 1.0) > 1e-6:
        raise SizingError(f"probabilities: they sum to {math.fsum(probabilities)}, must be 1")
    pairs = [(value, chance) for value, chance in zip(returns, probabilities, strict=True) if chance > 0.0]
    if math.fsum(value * chance for value, chance in pairs) <= 0.0:
        return 0.0
    worst = min(value for value, _ in pairs)
    if worst >= 0.0:
        raise SizingError("returns: no outcome loses, so no stake is too large; give the losing outcomes too")
    low, high = 0.0, -1.0 / worst
    for _ in range(_ITERATIONS):
        middle = 0.5 * (low + high)
        growing = math.fsum(chance * value / (1.0 + middle * value) for value, chance in pairs) > 0.0
        low, high = (middle, high) if growing else (low, middle)
        if high - low <= 1e-15 * high:
            break
    return low


def kelly_from_forecast(
    probability_down: float, probability_flat: float, probability_up: float, move_up: float, move_down: float
) -> tuple[float, int]:
    """Return the fraction and the direction (+1 long, -1 short, 0 none) for a forecast of direction over its horizon.

    `move_up` and `move_down` (above zero) are the sizes of a typical rise and fall as shares of the price; flat moves
    0.
    """
    check_above_zero("move_up", move_up)
    check_above_zero("move_down", move_down)
    edge = probability_up * move_up - probability_down * move_down
    direction = (edge > 0.0) - (edge < 0.0)
    if not direction:
        return 0.0, 0
    chances = [probability_down, probability_flat, probability_up]
    losing, winning = (0, 2) if direction > 0 else (2, 0)
    # A forecast that is sure of itself is not believed: some chance is left to the other direction.
    moved = max(0.0, _DOUBT - chances[losing])
    chances[losing] += moved
    chances[winning if chances[winning] >= moved else 1] -= moved
    return kelly_discrete([-direction * move_down, 0.0, direction * move_up], chances), direction


def scale_kelly(fraction: float, share: float = 1.0, cap: float = math.inf) -> float:
    """Return share x fraction, at most cap: 0.5 is half Kelly."""
    check_share("share", share)
    if not cap >= 0.0:
        raise SizingError(f"cap: {cap} must be zero or above")
    return min(share * fraction, cap)
