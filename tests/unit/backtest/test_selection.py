from __future__ import annotations

import numpy as np
import pytest

from services.backtest.selection import (
    cross_validate_choice,
    reality_check,
    resample_paths,
    resample_trades,
)

NOISE = np.random.default_rng(3).normal(0.0, 0.01, (640, 20))


def with_edge(edge: float) -> np.ndarray:
    returns = NOISE.copy()
    returns[:, 7] += edge
    return returns


def test_reality_check_tells_noise_from_an_edge() -> None:
    noise, edge = reality_check(NOISE, seed=1, draws=300), reality_check(with_edge(0.003), seed=1, draws=300)
    assert noise is not None
    assert noise > 0.05
    assert edge == 0.0
    assert reality_check(NOISE, seed=1, draws=50) == reality_check(NOISE, seed=1, draws=50)


def test_resampled_trades_keep_their_mean_and_find_deeper_drawdowns_than_the_order_that_was() -> None:
    profits = [10.0, -8.0] * 100
    found = resample_trades(profits, 1000.0, seed=2)
    assert found is not None
    assert found.profit[0] < 200.0 < found.profit[2]
    assert found.profit[1] == pytest.approx(200.0, abs=30.0)
    assert found.drawdown[2] > 8.0 / 1000.0
    assert 0.0 < found.loss_probability < 0.5
    assert resample_trades([], 1000.0, seed=2) is None


def test_resampled_paths_of_a_sure_gain_never_lose() -> None:
    found = resample_paths(np.full(50, 0.01), 100.0, seed=4, draws=20)
    assert found is not None
    assert found.profit == pytest.approx((100 * (1.01**50 - 1),) * 3)
    assert found.drawdown == (0.0, 0.0, 0.0)
    assert found.loss_probability == 0.0


def test_choice_among_noise_keeps_nothing_out_of_sample_and_a_real_edge_stays() -> None:
    noise, edge = cross_validate_choice(NOISE), cross_validate_choice(with_edge(0.004))
    assert noise is not None and edge is not None
    # Ten groups, two of them tested: 45 splits, nine paths.
    assert noise.paths == edge.paths == 9
    assert noise.sharpe[1] < 0.12
    assert noise.loss_share > 0.2
    assert edge.sharpe[0] > 0.3
    assert edge.loss_share == 0.0


def test_every_step_of_a_path_comes_from_a_split_that_did_not_see_it() -> None:
    # The best of each group of time is another variant; who sees its own group chooses it.
    returns = np.full((400, 10), -0.001) + np.random.default_rng(1).normal(0, 1e-4, (400, 10))
    for variant in range(10):
        returns[variant * 40 : variant * 40 + 40, variant] += 0.05
    found = cross_validate_choice(returns)
    assert found is not None
    assert found.loss_share == 1.0


@pytest.mark.parametrize("shape", [(400, 1), (20, 5)])
def test_too_little_is_not_cross_validated(shape: tuple[int, int]) -> None:
    assert cross_validate_choice(np.zeros(shape)) is None
