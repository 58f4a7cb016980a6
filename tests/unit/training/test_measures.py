from __future__ import annotations

import numpy as np
import pytest

from services.training.core.distribution import ScoredReturns
from services.training.core.labels import DAY_NS
from services.training.core.measures import Forecasts, measure, side_score
from services.training.core.trading import Costs, decide, resample_mean, sharpe_ratio, trade
from services.training.core.verdict import Evidence, Verdict, deflated_sharpe_of, judge, overfitting_of

HOUR = 3_600 * 10**9


def some_forecasts(count: int = 2_000, signal: float = 0.5) -> Forecasts:
    chance = np.random.default_rng(1)
    moved = chance.normal(0, 10, count)
    logits = np.column_stack((-moved, np.zeros(count), moved)) * signal / 10 + chance.normal(size=(count, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.where(moved > 4, 2, np.where(moved < -4, 0, 1))
    times = np.arange(count, dtype=np.int64) * HOUR
    returns = ScoredReturns(np.abs(moved), np.full(count, -10.0), np.full(count, 10.0))
    score = side_score(probabilities)
    return Forecasts(times, score, classes, moved, score * 5, probabilities, returns)


def test_measures_agree_with_scikit_learn() -> None:
    # It takes longer to load than all these tests to run.
    from sklearn import metrics

    made = some_forecasts()
    assert made.probabilities is not None
    measured = {name: one.value for name, one in measure(made, 1, resamples=2).items()}
    sided = made.classes != 1
    assert measured["auc"] == pytest.approx(metrics.roc_auc_score(made.moved_bps > 0, made.score))
    assert measured["auc_direction"] == pytest.approx(
        metrics.roc_auc_score(made.classes[sided] == 2, made.score[sided])
    )
    assert measured["auc_move"] == pytest.approx(metrics.roc_auc_score(sided, 1 - made.probabilities[:, 1]))
    assert measured["log_loss"] == pytest.approx(metrics.log_loss(made.classes, made.probabilities))
    assert measured["brier"] == pytest.approx(metrics.brier_score_loss(made.classes, made.probabilities))
    assert measured["direction_accuracy"] == pytest.approx(metrics.accuracy_score(made.moved_bps > 0, made.score > 0))
    assert measured["crps"] == pytest.approx(np.abs(made.moved_bps).mean())
    assert measured["coverage"] == pytest.approx((np.abs(made.moved_bps) <= 10).mean())
    assert measured["interval_bps"] == 20.0
    assert measured["balanced_accuracy"] == pytest.approx(
        metrics.balanced_accuracy_score(made.moved_bps > 0, made.score > 0)
    )


def test_interval_holds_the_measure_and_narrows_with_more_days() -> None:
    few, many = (measure(some_forecasts(count), 1)["auc"] for count in (500, 8_000))
    assert few.low < few.value < few.high
    assert many.high - many.low < few.high - few.low


def test_tied_scores_rank_nothing() -> None:
    made = some_forecasts()
    still = Forecasts(made.times, np.zeros(len(made)), made.classes, made.moved_bps)
    assert measure(still, 1, resamples=2)["auc"].value == 0.5


def test_one_decision_is_held_for_its_horizon_and_pays_both_sides() -> None:
    times = np.arange(6, dtype=np.int64) * HOUR
    positions = np.array([1.0, -1.0, 0.0, -1.0, 0.0, 0.0])
    traded = trade(times, positions, np.array([20.0, 5.0, 5.0, 8.0, 0.0, 0.0]), 2 * HOUR, Costs(4.5, 0.5))
    # Decided at hours 0, 2 and 4 alone: long, then out.
    assert traded.gross_bps.sum() == pytest.approx(20.0)
    assert traded.net_bps.sum() == pytest.approx(20.0 - 10.0)
    assert traded.trades == 2


def test_turning_costs_twice_staying_nothing_and_funding_is_paid_by_longs() -> None:
    times = np.arange(3, dtype=np.int64) * HOUR
    costs = Costs(4.0, 1.0, funding_bps_per_hour=0.5)
    turned = trade(times, np.array([1.0, -1.0, -1.0]), np.zeros(3), HOUR, costs)
    assert turned.net_bps.sum() == pytest.approx(-5.0 - 10.0 - 5.0 - 0.5 + 0.5 + 0.5)
    assert turned.trades == 3


def test_position_is_closed_at_a_gap() -> None:
    times = np.array([0, 1, 30], dtype=np.int64) * HOUR
    traded = trade(times, np.ones(3), np.zeros(3), HOUR, Costs(5.0, 0.0))
    assert traded.net_bps.sum() == pytest.approx(-20.0)
    assert traded.days.tolist() == [0, 1]


def test_only_what_beats_a_round_trip_is_traded() -> None:
    assert decide(np.array([9.0, -10.1, 10.1, 0.0]), Costs(5.0, 0.0)).tolist() == [0.0, -1.0, 1.0, 0.0]


def test_sharpe_ratio_is_of_days_a_year_of_them() -> None:
    daily = np.array([1.0, -1.0, 2.0])
    assert sharpe_ratio(daily) == pytest.approx(daily.mean() / daily.std() * 365**0.5)
    assert sharpe_ratio(np.zeros(3)) == 0.0
    low, high = resample_mean(daily, 1)
    assert -1.0 <= low < daily.mean() < high <= 2.0


def test_more_trials_deflate_the_same_sharpe_ratio() -> None:
    daily = np.random.default_rng(1).normal(0.15, 1.0, 500)
    alone = deflated_sharpe_of(daily, np.array([0.15]))
    among = deflated_sharpe_of(daily, np.random.default_rng(2).normal(0, 0.1, 50))
    assert alone > 0.95 > among


def test_best_of_pure_chance_is_overfitted_and_a_real_edge_is_not() -> None:
    markets = [np.random.default_rng(seed).normal(size=(400, 20)) for seed in range(8)]
    chances = [overfitting_of(market) or 0.0 for market in markets]
    assert 0.3 < np.mean(chances) < 0.7
    noise = markets[0]
    noise[:, 7] += 0.4
    assert overfitting_of(noise) == 0.0
    assert overfitting_of(noise[:30]) is None


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        (Evidence(0.49, 5.0, 1.0, 0.99, 0.1), Verdict.NOT_DISTINGUISHABLE),
        (Evidence(0.52, 0.0, 0.0, 0.0, None), Verdict.NO_EDGE),
        (Evidence(0.52, -3.0, -9.0, 0.0, 0.1), Verdict.NO_EDGE),
        (Evidence(0.52, 3.0, -1.0, 0.99, 0.1), Verdict.NOT_DISTINGUISHABLE),
        (Evidence(0.52, 3.0, 1.0, 0.9, 0.1), Verdict.NOT_DISTINGUISHABLE),
        (Evidence(0.52, 3.0, 1.0, 0.99, 0.5), Verdict.NOT_DISTINGUISHABLE),
        (Evidence(float("nan"), 3.0, 1.0, 0.99, 0.1), Verdict.NOT_DISTINGUISHABLE),
        (Evidence(0.52, 3.0, 1.0, 0.99, None), Verdict.EDGE),
    ],
)
def test_verdict_follows_the_stated_rules(evidence: Evidence, verdict: Verdict) -> None:
    assert judge(evidence)[0] is verdict


def test_day_is_of_utc() -> None:
    assert DAY_NS == 24 * HOUR
