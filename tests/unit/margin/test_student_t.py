"""Distribution functions against scipy."""

from __future__ import annotations

import pytest
import scipy.stats

from libs.margin.student_t import log_normal_cdf, normal_cdf, regularised_beta, student_t_cdf


@pytest.mark.parametrize("degrees", [0.5, 2.1, 3.0, 10.0, 200.0])
def test_student_t_equals_scipy(degrees: float) -> None:
    for x in (-40.0, -3.0, -0.5, 0.0, 0.2, 2.0, 40.0):
        assert student_t_cdf(x, degrees) == pytest.approx(scipy.stats.t.cdf(x, degrees), rel=1e-11, abs=1e-15)


def test_normal_tails_equal_scipy() -> None:
    for x in (-200.0, -35.0, -30.5, -29.5, -8.0, 0.0, 3.0):
        assert log_normal_cdf(x) == pytest.approx(scipy.stats.norm.logcdf(x), rel=1e-10, abs=1e-14)
        assert normal_cdf(x) == pytest.approx(scipy.stats.norm.cdf(x), rel=1e-11)


def test_beta_function_at_its_ends_and_against_scipy() -> None:
    assert regularised_beta(2.0, 3.0, 0.0) == 0.0
    assert regularised_beta(2.0, 3.0, 1.0) == 1.0
    for x in (0.01, 0.3, 0.7, 0.99):
        assert regularised_beta(2.5, 0.5, x) == pytest.approx(scipy.stats.beta.cdf(x, 2.5, 0.5), rel=1e-12)
