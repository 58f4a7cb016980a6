"""Chances of touching a barrier: closed form against simulation, tails against scipy, costs in the right direction."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from libs.margin.brackets import MarginError
from libs.margin.probability import (
    BarrierQuestion,
    SimulatedProbability,
    estimate_bootstrap,
    estimate_first_passage,
    estimate_normal,
    estimate_student_t,
    simulate_first_passage,
    standardise,
    without_costs,
)
from libs.margin.return_shape import HOURLY_RETURN_SHAPE

WEEK = 7 / 365


class Simulation(Protocol):
    """A simulated estimate: a question, a seed and a number of paths."""

    def __call__(self, question: BarrierQuestion, seed: int, *, paths: int) -> SimulatedProbability: ...


def a_question(barrier: float = 17000.0, drift: float = 0.0, **changes: float) -> BarrierQuestion:
    """A long at 20000, 80 % volatility a year, over a week."""
    return replace(BarrierQuestion(20000.0, barrier, 0.8, drift, WEEK), **changes)


@pytest.mark.parametrize("barrier", [15000.0, 18000.0, 19500.0, 21000.0, 26000.0])
@pytest.mark.parametrize("drift", [-2.0, 0.0, 1.5])
def test_closed_form_agrees_with_monte_carlo_within_its_error(barrier: float, drift: float) -> None:
    question = a_question(barrier, drift)
    simulated = simulate_first_passage(question, seed=11, paths=40_000)
    assert abs(estimate_first_passage(question) - simulated.probability) < 4.5 * simulated.standard_error + 1e-4
    assert 0 < simulated.standard_error < 0.003


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("carry", [0.5, 3.0, -1.5])
def test_funding_and_fees_agree_with_a_simulated_wallet(sign: int, carry: float) -> None:
    # An isolated position whose wallet pays fees at once and funding at every step, liquidated where equity is gone.
    spot, margin, fee, volatility, steps, paths = 20000.0, 3000.0, 0.002, 0.8, 400, 20_000
    generator = np.random.default_rng(5)
    step = WEEK / steps
    is_alive = np.ones(paths, dtype=bool)
    price = np.full(paths, spot)
    wallet = np.full(paths, margin - fee * spot)
    between_steps = math.exp(0.5826 * volatility * math.sqrt(step) * sign)
    for _ in range(steps):
        wallet -= sign * carry * step * price
        price *= np.exp(-0.5 * volatility**2 * step + volatility * math.sqrt(step) * generator.standard_normal(paths))
        is_alive &= (price - (spot - sign * wallet) * between_steps) * sign > 0.0
    question = a_question(spot - sign * margin, funding_rate=carry, fee_rate=fee)
    assert estimate_first_passage(question) == pytest.approx(1.0 - is_alive.mean(), abs=0.012)
    assert (estimate_first_passage(without_costs(question)) < estimate_first_passage(question)) == (sign * carry > 0)


@pytest.mark.parametrize(("barrier", "worse"), [(17000.0, 1.0), (23000.0, -1.0)])
def test_funding_brings_the_barrier_of_the_side_that_pays_nearer(barrier: float, worse: float) -> None:
    free = a_question(barrier)
    for estimate in (estimate_normal, estimate_first_passage, estimate_student_t):
        assert estimate(a_question(barrier, funding_rate=worse)) > estimate(free)
        assert estimate(a_question(barrier, funding_rate=-worse)) < estimate(free)
        assert estimate(a_question(barrier, fee_rate=0.01)) > estimate(free)


def test_normal_estimate_is_the_lognormal_tail() -> None:
    question = a_question(drift=0.3)
    spread = 0.8 * math.sqrt(WEEK)
    expected = scipy.stats.norm.cdf((math.log(17 / 20) - (0.3 - 0.32) * WEEK) / spread)
    assert estimate_normal(question) == pytest.approx(expected, rel=1e-12)
    above = a_question(23000.0, drift=0.3)
    expected = scipy.stats.norm.sf((math.log(23 / 20) - (0.3 - 0.32) * WEEK) / spread)
    assert estimate_normal(above) == pytest.approx(expected, rel=1e-12)


def test_student_t_estimate_has_the_same_variance_and_fatter_tails() -> None:
    spread = 0.8 * math.sqrt(WEEK)
    question = a_question(drift=0.32)
    expected = scipy.stats.t.cdf(math.log(17 / 20) / (spread * math.sqrt(0.5)), 4)
    assert estimate_student_t(question) == pytest.approx(expected, rel=1e-10)
    far = a_question(10000.0)
    assert estimate_student_t(far) > 5 * estimate_normal(far)
    assert estimate_student_t(far, 1e7) == pytest.approx(estimate_normal(far), rel=1e-3)


@pytest.mark.parametrize("degrees", [2.5, 3.0, 30.0])
def test_student_t_estimate_serves_any_finite_variance(degrees: float) -> None:
    question = a_question(drift=0.32)
    scale = 0.8 * math.sqrt(WEEK) / scipy.stats.t.std(degrees)
    expected = scipy.stats.t.cdf(math.log(17 / 20) / scale, degrees)
    assert estimate_student_t(question, degrees) == pytest.approx(expected, rel=1e-10)


def test_student_t_estimate_of_endless_degrees_is_the_normal() -> None:
    assert estimate_student_t(a_question(), math.inf) == estimate_normal(a_question())


def test_reflection_doubles_the_tail_without_log_drift() -> None:
    question = a_question(drift=0.32)
    assert estimate_first_passage(question) == pytest.approx(2 * estimate_normal(question), rel=1e-12)


def test_bootstrap_on_normal_returns_agrees_with_the_closed_form() -> None:
    shape = scipy.stats.norm.ppf((np.arange(1000) + 0.5) / 1000).tolist()
    question = a_question(18000.0)
    estimate = estimate_bootstrap(question, seed=3, returns=shape, paths=40_000)
    assert abs(estimate.probability - estimate_first_passage(question)) < 5 * estimate.standard_error + 0.005


def test_bootstrap_of_two_coin_flips_is_the_chance_of_two_heads() -> None:
    # The barrier lies 1.5 steps away after the shift of 0.5826 steps for the time between them: only + + touches it.
    step = 0.8 * math.sqrt(WEEK / 2)
    barrier = 20000.0 * math.exp(-(1.5 + 0.5826) * step)
    flips = estimate_bootstrap(a_question(barrier, drift=0.32), 3, returns=[-1.0, 1.0] * 10, steps=2)
    assert abs(flips.probability - 0.25) < 4.5 * flips.standard_error
    assert flips.standard_error == pytest.approx(math.sqrt(0.25 * 0.75 / 20_000), rel=0.02)


@pytest.mark.parametrize(("returns", "side"), [([-19.0] + [1.0] * 19, -1), ([-1.0] * 19 + [19.0], 1)])
def test_bootstrap_draws_every_return_as_often(returns: list[float], side: int) -> None:
    # The one return of 19 has 4.4 deviations and alone reaches the barrier, three of them away: one draw in twenty.
    barrier = 20000.0 * math.exp(side * 3.0 * 0.8 * math.sqrt(WEEK))
    drawn = estimate_bootstrap(a_question(barrier, drift=0.32), 3, returns=returns, steps=1)
    assert abs(drawn.probability - 0.05) < 4.5 * drawn.standard_error


def test_path_that_just_reaches_the_barrier_touches_it() -> None:
    # The shift for the time between steps puts so near a barrier at the spot, where 19 of 20 returns are enough.
    near = a_question(19999.0, drift=0.5, volatility=1.0)
    reached = estimate_bootstrap(near, 3, returns=[-1.0] + [0.0] * 18 + [1.0], steps=1)
    assert abs(reached.probability - 0.95) < 4.5 * reached.standard_error


@pytest.mark.parametrize("simulate", [estimate_bootstrap, simulate_first_passage])
@pytest.mark.parametrize("paths", [2, 5000])
def test_simulations_count_every_path_once(simulate: Simulation, paths: int) -> None:
    assert simulate(a_question(19000.0, drift=-500.0), 1, paths=paths) == SimulatedProbability(1.0, 0.0)
    never = simulate(a_question(1000.0), 1, paths=paths)
    assert 0.0 <= never.probability < 1e-12
    assert 0.0 <= never.standard_error < 1e-12


def test_simulations_may_be_as_small_as_they_can_be() -> None:
    assert estimate_bootstrap(a_question(), 1, paths=1, steps=1).standard_error == 0.0
    assert 0.0 <= simulate_first_passage(a_question(), 1, paths=2, steps=1).probability <= 1.0


def test_stated_error_of_the_simulation_is_its_spread_over_seeds() -> None:
    # Of two paths only, so that dividing by one path too many or too few shows.
    question = a_question(18000.0)
    answers = [simulate_first_passage(question, seed, paths=2, steps=1) for seed in range(2000)]
    spread = np.var([answer.probability for answer in answers])
    assert np.mean([answer.standard_error**2 for answer in answers]) == pytest.approx(spread, rel=0.1)
    assert np.mean([answer.probability for answer in answers]) == pytest.approx(
        estimate_first_passage(question), abs=4.5 * math.sqrt(spread / 2000)
    )


def test_sizes_left_out_belong_to_the_answer_of_a_seed() -> None:
    question = a_question()
    bootstrap = estimate_bootstrap(question, 7, HOURLY_RETURN_SHAPE, paths=20_000, steps=96)
    assert estimate_bootstrap(question, 7) == bootstrap
    assert simulate_first_passage(question, 7) == simulate_first_passage(question, 7, paths=50_000, steps=32)


def test_standardised_returns_have_mean_zero_and_variance_one() -> None:
    returns = np.random.default_rng(2).normal(0.02, 0.003, 50)
    shape = standardise(returns.tolist())
    assert shape.mean() == pytest.approx(0.0, abs=1e-12)
    assert shape.std() == pytest.approx(1.0, rel=1e-12)
    assert np.corrcoef(shape, returns)[0, 1] == pytest.approx(1.0, rel=1e-12)
    assert standardise((5.0 - 3.0 * returns).tolist()) == pytest.approx(-shape, abs=1e-9)


def test_bootstrap_repeats_with_its_seed_and_differs_without() -> None:
    question = a_question()
    first = estimate_bootstrap(question, seed=1, paths=5000)
    assert first == estimate_bootstrap(question, seed=1, paths=5000)
    assert first != estimate_bootstrap(question, seed=2, paths=5000)
    assert first.standard_error == pytest.approx(math.sqrt(first.probability * (1 - first.probability) / 5000))
    upward = estimate_bootstrap(a_question(23000.0), seed=1, paths=5000)
    assert 0 < upward.probability < 1


def test_shipped_shape_is_standardised_and_fat_tailed() -> None:
    shape = np.array(HOURLY_RETURN_SHAPE)
    assert abs(shape.mean()) < 1e-3
    assert abs(shape.std() - 1) < 1e-3
    assert (shape**4).mean() > 5
    assert list(HOURLY_RETURN_SHAPE) == sorted(HOURLY_RETURN_SHAPE)


@pytest.mark.parametrize("estimate", [estimate_normal, estimate_first_passage, estimate_student_t])
def test_certain_answers_need_no_distribution(estimate: object) -> None:
    assert callable(estimate)
    assert estimate(a_question(20000.0)) == 1.0
    assert estimate(a_question(19999.0, fee_rate=0.5)) == 1.0
    assert estimate(a_question(23000.0, fee_rate=0.5)) == 1.0
    assert estimate(a_question(horizon=0.0)) == 0.0
    assert estimate(a_question(volatility=0.0)) == 0.0
    assert estimate(a_question(volatility=0.0, drift=-20.0)) == 1.0
    assert estimate(a_question(23000.0, volatility=0.0, drift=20.0)) == 1.0


def test_arriving_at_the_barrier_as_time_runs_out_is_touching_it() -> None:
    still = a_question(23000.0, volatility=0.0, horizon=1.0)
    pace = still.log_distance
    assert estimate_first_passage(replace(still, drift=pace)) == 1.0
    assert estimate_first_passage(replace(still, drift=math.nextafter(pace, 0.0))) == 0.0


def test_certain_answers_of_the_simulations_have_no_error() -> None:
    for simulate in (estimate_bootstrap, simulate_first_passage):
        answer = simulate(a_question(20000.0), 1)
        assert (answer.probability, answer.standard_error) == (1.0, 0.0)


def test_extreme_questions_stay_within_zero_and_one() -> None:
    assert estimate_first_passage(a_question(volatility=1e-9)) == 0.0
    assert estimate_first_passage(a_question(volatility=1e-9, drift=-20.0)) == 1.0
    assert estimate_first_passage(a_question(1.0)) < 1e-300
    assert estimate_first_passage(a_question(1.0, drift=-500.0, horizon=1.0)) == 1.0
    assert estimate_first_passage(a_question(19999.0, drift=500.0, volatility=0.01)) < 1e-3
    assert estimate_first_passage(a_question(21000.0, drift=-400.0, volatility=0.05)) == 0.0


def test_barrier_next_to_the_spot_is_all_but_certain_and_no_more() -> None:
    # Both parts of the closed form round here, now and then past one.
    for drift in np.linspace(0.0, 10.0, 5000).tolist():
        question = BarrierQuestion(1.0, math.nextafter(1.0, 2.0), 2.0, drift, 1.0)
        assert 1.0 - 1e-12 < estimate_first_passage(question) <= 1.0


@given(
    barrier=st.floats(1000, 60000),
    volatility=st.floats(0.01, 3),
    drift=st.floats(-5, 5),
    horizon=st.floats(1e-4, 2),
)
def test_touching_is_at_least_as_likely_as_ending_beyond(
    barrier: float, volatility: float, drift: float, horizon: float
) -> None:
    question = BarrierQuestion(20000.0, barrier, volatility, drift, horizon)
    touching = estimate_first_passage(question)
    assert 0.0 <= estimate_normal(question) <= touching + 1e-12
    assert touching <= 1.0
    longer = estimate_first_passage(replace(question, horizon=horizon * 1.5))
    assert longer >= touching - 1e-9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spot": 0.0}, "spot: 0.0 must be above zero"),
        ({"barrier": -1.0}, "barrier: -1.0 must be above zero"),
        ({"volatility": -0.1}, "volatility: -0.1 must be zero or above"),
        ({"volatility": 1e-200}, "volatility: 1e-200 is too small for its square; give 0 for none"),
        ({"volatility": math.nextafter(1e-9, 0.0)}, "is too small for its square"),
        ({"horizon": -1.0}, "horizon: -1.0 must be zero or above"),
        ({"drift": math.nan}, "drift: nan is not a finite number"),
        ({"funding_rate": math.inf}, "funding_rate: inf is not a finite number"),
        ({"fee_rate": -0.1}, "fee_rate: -0.1 must be zero or above"),
        ({"fee_rate": 1.0}, "fee_rate: 1.0 must be below 1"),
    ],
)
def test_impossible_questions_are_refused_by_name(changes: dict[str, float], message: str) -> None:
    with pytest.raises(MarginError, match=message):
        a_question(**changes)


def test_impossible_simulations_are_refused() -> None:
    with pytest.raises(MarginError, match="degrees_of_freedom: 2"):
        estimate_student_t(a_question(), 2.0)
    with pytest.raises(MarginError, match="paths and steps: 0"):
        estimate_bootstrap(a_question(), 1, paths=0)
    with pytest.raises(MarginError, match="and 0 must be 1"):
        estimate_bootstrap(a_question(), 1, steps=0)
    with pytest.raises(MarginError, match="paths and steps: 1"):
        simulate_first_passage(a_question(), 1, paths=1)
    with pytest.raises(MarginError, match="are too few"):
        standardise([0.1] * 19)
    with pytest.raises(MarginError, match="entry 3 is not a finite number"):
        standardise([0.1, 0.2, 0.3, math.nan] + [0.0] * 20)
    with pytest.raises(MarginError, match="all are equal"):
        standardise([0.125] * 20)
