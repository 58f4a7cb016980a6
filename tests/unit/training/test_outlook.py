from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from services.training.core.bars import BarTable
from services.training.core.labels import LabelOptions
from services.training.core.outlook import (
    LEVELS,
    MASSES,
    SPREAD,
    day_scales_bps,
    make_paths,
    quantile_loss,
    score_outlook,
)

HOUR = 3_600 * 10**9


def some_bars(count: int = 200) -> BarTable:
    opens = 100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, count)))
    times = np.arange(count, dtype=np.int64) * HOUR
    return BarTable("1h", times, opens, opens, opens, opens, opens, opens, opens, opens)


def test_path_is_the_return_from_the_next_open_to_each_days_end_in_volatilities() -> None:
    bars = some_bars()
    paths = make_paths(bars, np.full(200, 0.01), 3)
    assert paths[10, 1] == pytest.approx(np.log(bars.open[59] / bars.open[11]) / (0.01 * 48**0.5))
    assert day_scales_bps(3, HOUR)[1] == pytest.approx(1e4 * 48**0.5)
    # The last day that is known ends with the last bar.
    assert np.isfinite(paths[200 - 73 - 1, 2])
    assert np.isnan(paths[200 - 73, 2])


def test_path_over_a_gap_is_not_known() -> None:
    bars = some_bars()
    times = bars.open_times.copy()
    times[100:] += HOUR
    paths = make_paths(dataclasses.replace(bars, open_times=times), np.full(200, 0.01), 1)
    assert np.isfinite(paths[74, 0])
    assert np.isnan(paths[76:99, 0]).all()
    assert np.isfinite(paths[100, 0])


def test_labels_reach_as_far_as_the_outlook() -> None:
    assert LabelOptions(4).reach(HOUR) == 5
    assert LabelOptions(4, outlook_days=30).reach(HOUR) == 721


def test_masses_are_whole_and_the_spread_makes_a_normal_deviation_exact() -> None:
    assert sum(MASSES) == pytest.approx(1.0)
    assert 0.9 < SPREAD < 1.0


def test_outlook_that_knows_more_than_the_past_has_skill() -> None:
    chance = np.random.default_rng(2)
    means = chance.normal(size=(4_000, 2))
    paths = means + chance.normal(size=(4_000, 2)) * 0.3
    normal = np.array([-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645])
    knowing = np.concatenate([means[:, :, None] + 0.3 * normal, np.zeros((4_000, 2, 3))], axis=2)
    blind = np.concatenate([np.broadcast_to(1.04 * normal, (4_000, 2, 7)), np.zeros((4_000, 2, 3))], axis=2)
    good, none = score_outlook(knowing, paths, paths), score_outlook(blind, paths, paths)
    assert (good.skill > 0.6).all()
    assert np.abs(none.skill).max() < 0.01
    assert good.coverage == pytest.approx(0.9, abs=0.02)


def test_quantile_loss_is_least_at_the_quantile() -> None:
    happened = np.random.default_rng(3).normal(size=(5_000, 1))
    own = np.quantile(happened, LEVELS)
    losses = [quantile_loss(np.broadcast_to(own + shift, (5_000, 1, 7)), happened)[0] for shift in (-0.3, 0.0, 0.3)]
    assert min(losses) == losses[1]
