"""Models' paper accounts: returns by period, the champion against shadows, and the rule of promotion."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from libs.portfolio.model_scores import (
    HOUR_NS,
    EquityByPeriod,
    ModelScore,
    PromotionRule,
    chance_of_mean,
    is_model_account,
    model_account,
    score_models,
)


def an_account(*equities: float, first: int = 0) -> EquityByPeriod:
    """Make an account with one state in each hour."""
    account = EquityByPeriod()
    for number, equity in enumerate(equities, first):
        account.add(number * HOUR_NS + 1, equity)
    return account


def grown(returns: npt.NDArray[np.float64]) -> EquityByPeriod:
    return an_account(*(100.0 * np.cumprod(1.0 + np.concatenate([[0.0], returns, [0.0]]))).tolist())


def test_only_complete_periods_count_and_the_last_state_of_each() -> None:
    account = an_account(100.0, 101.0, 50.0)
    account.add(HOUR_NS + HOUR_NS // 2, 102.0)
    score = score_models({"a": account}, "a")["a"]
    assert score.periods == 1
    assert score.net_bps == pytest.approx(200.0)
    assert score.net_bps_per_day == pytest.approx(24 * 200.0)
    assert score.p_value is None


def test_periods_without_a_state_are_none_and_the_next_one_has_their_return() -> None:
    account = EquityByPeriod()
    # As a session begins: one state at its first bar of history, the next ones when the market runs.
    for hour, equity in ((0, 100.0), (25, 100.0), (26, 110.0), (27, 110.0)):
        account.add(hour * HOUR_NS, equity)
    score = score_models({"a": account}, "a")["a"]
    assert (score.periods, score.net_bps) == (2, pytest.approx(1_000.0))
    assert score.net_bps_per_day == pytest.approx(12_000.0)


def test_accounts_are_held_against_each_other_over_the_periods_that_all_have() -> None:
    champion, shadow = an_account(100.0, 100.0, 101.0, 101.0), an_account(200.0, 204.0, 204.0, first=1)
    scores = score_models({"c": champion, "s": shadow}, "c")
    assert [each.periods for each in scores.values()] == [1, 1]
    assert scores["s"].excess_bps_per_day == pytest.approx(24 * 100.0)
    assert scores["s"].samples == 1


def test_without_a_champion_shadows_are_held_against_nothing() -> None:
    assert score_models({"s": an_account(100.0, 101.0, 101.0)}, "")["s"].excess_bps_per_day == pytest.approx(2_400.0)
    assert score_models({"s": an_account(100.0, 101.0, 101.0)}, "not known yet")["s"].p_value is None
    assert score_models({"s": EquityByPeriod()}, "") == {}


def test_chance_is_that_of_a_mean_with_an_error_by_newey_and_west() -> None:
    values = np.random.default_rng(1).normal(0.1, 1.0, 200)
    variance = 0.0
    centred, lags = values - values.mean(), 4
    for lag in range(-lags, lags + 1):
        product = centred[abs(lag) :] @ centred[: len(centred) - abs(lag)]
        variance += (1.0 - abs(lag) / (lags + 1.0)) * product
    error = np.sqrt(variance) / len(values)
    assert chance_of_mean(values.tolist()) == pytest.approx(1.0 - NormalDist().cdf(values.mean() / error))
    assert chance_of_mean([0.5] * 100) == 1.0
    assert chance_of_mean([0.5, 0.4]) == 1.0


def test_a_better_shadow_is_promoted_and_one_that_only_looks_so_is_not() -> None:
    noise = np.random.default_rng(3).normal(0.0, 1e-3, (2, 400))
    better = score_models({"c": grown(noise[0]), "s": grown(noise[0] + 5e-4 + 0.3 * noise[1])}, "c")["s"]
    assert better.is_promoted_by(PromotionRule(), shadows=3)
    assert not better.is_promoted_by(PromotionRule(min_samples=401), shadows=3)
    alike = score_models({"c": grown(noise[0]), "s": grown(noise[1])}, "c")["s"]
    assert not alike.is_promoted_by(PromotionRule(), shadows=1)


def test_the_number_of_shadows_counts_and_the_champion_is_not_promoted() -> None:
    score = ModelScore(200, 10.0, 1.0, samples=150, excess_bps_per_day=2.0, p_value=0.03)
    assert score.is_promoted_by(PromotionRule(), shadows=1)
    assert not score.is_promoted_by(PromotionRule(), shadows=2)
    assert not ModelScore(200, 10.0, 1.0).is_promoted_by(PromotionRule(), shadows=1)


def test_the_account_of_a_model_is_named_after_its_version() -> None:
    assert model_account("0123456789abcdef") == "model-0123456789abcdef"
    assert is_model_account("model-0123456789abcdef") and not is_model_account("paper")
