"""Distribution functions against scipy."""

from __future__ import annotations

import math

import pytest
import scipy

from libs.margin.student_t import log_normal_cdf, normal_cdf, regularised_beta, student_t_cdf


@pytest.mark.parametrize("degrees", [0.5, 2.1, 3.0, 10.0, 200.0])
def test_student_t_equals_scipy(degrees: float) -> None:
    for x in (-40.0, -3.0, -0.5, 0.0, 0.2, 2.0, 40.0):
        assert student_t_cdf(x, degrees) == pytest.approx(scipy.stats.t.cdf(x, degrees), rel=1e-11, abs=1e-15)


def test_normal_tails_equal_scipy() -> None:
    for x in (-200.0, -35.0, -30.5, -29.5, -8.0, 0.0, 3.0):
        assert log_normal_cdf(x) == pytest.approx(scipy.stats.norm.logcdf(x), rel=1e-10, abs=1e-14)
        assert normal_cdf(x) == pytest.approx(scipy.stats.norm.cdf(x), rel=1e-11, abs=0.0)


@pytest.mark.parametrize("x", [-37.0, -37.5, -37.6, -38.0, -40.0, -60.0, -200.0, -1e6])
def test_logarithm_of_the_far_tail_is_off_by_less_than_the_next_term(x: float) -> None:
    # Phi(x) = exp(-x^2 / 2) erfcx(-x / sqrt 2) / 2, which never underflows.
    expected = -0.5 * x * x + math.log(0.5 * scipy.special.erfcx(-x / math.sqrt(2.0)))
    assert abs(log_normal_cdf(x) - expected) <= 105.0 / x**8 + 4.0 * math.ulp(expected)


@pytest.mark.parametrize("degrees", [0.5, 4.0, 1e6])
def test_half_of_every_t_distribution_lies_below_zero(degrees: float) -> None:
    assert student_t_cdf(0.0, degrees) == 0.5


def test_student_t_of_very_many_degrees_is_the_normal() -> None:
    # At 1e8 degrees the tail at -8 is still heavier than the normal's, by about x^4 / (4 nu) = 1e-5 of it.
    assert student_t_cdf(-8.0, 1e8) == pytest.approx(scipy.stats.t.cdf(-8.0, 1e8), rel=2e-6, abs=0.0)
    assert student_t_cdf(-8.0, 1e8) > normal_cdf(-8.0) * (1.0 + 5e-6)
    for degrees in (math.nextafter(1e8, math.inf), 1e300, math.inf):
        assert student_t_cdf(-8.0, degrees) == normal_cdf(-8.0)


@pytest.mark.parametrize(
    ("b", "x"),
    [(1e-10, 1e-9), (1e-10, 0.6), (1e-20, 2.0 / 3.0), (0.5, 0.5), (3.0, 0.2), (10.0, 1e-9), (10.0, 0.15)],
)
def test_small_values_of_the_beta_function_keep_all_their_digits(b: float, x: float) -> None:
    # I_x(1, b) = 1 - (1 - x)^b: the density is a power.
    assert regularised_beta(1.0, b, x) == pytest.approx(-math.expm1(b * math.log1p(-x)), rel=1e-12, abs=0.0)


@pytest.mark.parametrize("b", [1e-10, 1e-3, 0.5, 3.0, 1e4])
@pytest.mark.parametrize("x", [1e-12, 0.3, 0.9, 1.0 - 1e-9])
def test_beta_function_settles_wherever_x_lies(b: float, x: float) -> None:
    assert regularised_beta(1.0, b, x) == pytest.approx(-math.expm1(b * math.log1p(-x)), rel=1e-11, abs=1e-14)
    assert regularised_beta(b, 1.0, x) == pytest.approx(x**b, rel=1e-11, abs=0.0)


def test_beta_function_that_does_not_settle_is_an_error_not_a_number() -> None:
    with pytest.raises(ArithmeticError, match=r"a 100000000\.0 and b 100000000\.0 are too large"):
        regularised_beta(1e8, 1e8, 0.5)


def test_beta_function_at_its_ends_and_against_scipy() -> None:
    assert regularised_beta(2.0, 3.0, 0.0) == 0.0
    assert regularised_beta(2.0, 3.0, 1.0) == 1.0
    for x in (0.01, 0.3, 0.7, 0.99):
        assert regularised_beta(2.5, 0.5, x) == pytest.approx(scipy.stats.beta.cdf(x, 2.5, 0.5), rel=1e-12)
