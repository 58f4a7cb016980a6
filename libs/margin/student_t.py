"""Distribution functions of the normal and of Student's t, from the standard library's error and gamma functions
alone.
"""

from __future__ import annotations

import math
import sys

_MAX_TERMS = 300


def normal_cdf(x: float) -> float:
    """Return the probability that a standard normal is at most x."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def log_normal_cdf(x: float) -> float:
    """Return the logarithm of `normal_cdf`, finite far into the lower tail.

    Below about -37.5, where a float cannot hold `normal_cdf` at full precision, by the asymptotic series (Abramowitz
    and Stegun 26.2.12), whose error is under its next term, 105 / x^8.
    """
    probability = normal_cdf(x)
    if probability >= sys.float_info.min:
        return math.log(probability)
    square = x * x
    series = 1.0 - 1.0 / square + 3.0 / square**2 - 15.0 / square**3
    return -0.5 * square - math.log(-x) - 0.5 * math.log(2.0 * math.pi) + math.log(series)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Continued fraction of the incomplete beta function by Lentz's method (Press et al., Numerical Recipes 6.4).

    Up to x = (a + 1)/(a + b + 2) its denominators stay above zero, so none is guarded.
    """
    c = 1.0
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    result = d
    for m in range(1, _MAX_TERMS):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / (1.0 + numerator * d)
            c = 1.0 + numerator / c
            result *= d * c
        if abs(d * c - 1.0) < 1e-15:
            return result
    raise ArithmeticError(f"beta function: a {a} and b {b} are too large to settle in {_MAX_TERMS} terms at {x}")


def regularised_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for a, b > 0 and x in [0, 1].

    Raises `ArithmeticError` where a and b are both so large (about 1e5) that the fraction does not settle.
    """
    if x <= 0.0:
        return 0.0
    if x >= 1.0:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x <= (a + 1.0) / (a + b + 2.0):
        return front * _beta_fraction(a, b, x) / a
    return 1.0 - front * _beta_fraction(b, a, 1.0 - x) / b


def student_t_cdf(x: float, degrees_of_freedom: float) -> float:
    """Return the probability that Student's t with these degrees of freedom (> 0) is at most x.

    Above 1e8 it is the normal, which is then nearer than the rounding of the gamma functions.
    """
    if degrees_of_freedom > 1e8:
        return normal_cdf(x)
    tail = 0.5 * regularised_beta(degrees_of_freedom / 2.0, 0.5, degrees_of_freedom / (degrees_of_freedom + x * x))
    return tail if x < 0.0 else 1.0 - tail
