"""Sizes learnt and sizes by rule, in one walk: money exact, costs paid, liquidation felt."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="gymnasium is not installed; pip install -e '.[training]'")

from libs.runtime.errors import BadInput
from services.training.core.bars import BarTable
from services.training.sizing import (
    OBSERVED,
    RULES,
    SizedWalk,
    SizingEnvironment,
    SizingMarket,
    SizingResult,
    SizingTerms,
    compare_sizes,
    exchange_bars,
    size_by_rule,
    walk_with,
)
from tests.kit.builders import BTC, START

HOUR_NS = 3_600 * 10**9
FREE = SizingTerms(slippage_bps=Decimal(0))


def a_market(closes: list[float], up: float = 0.6, horizon: int = 1) -> SizingMarket:
    """Make a market whose bars open where the last one closed, forecast alike at each."""
    opens = [closes[0], *closes[:-1]]
    hours = np.arange(len(closes), dtype=np.int64) * HOUR_NS + START
    highs, lows = np.maximum(opens, closes), np.minimum(opens, closes)
    unknown = np.full(len(closes), np.nan)
    table = BarTable(
        "1h",
        hours,
        np.array(opens),
        highs,
        lows,
        np.array(closes),
        np.full(len(closes), 1e6),
        unknown,
        unknown,
        unknown,
    )
    count = len(closes)
    probabilities = np.tile([0.9 - up, 0.1, up], (count, 1))
    return SizingMarket(
        BTC, exchange_bars(table, BTC), probabilities, np.full(count, 5.0), np.full(count, 50.0), horizon
    )


def test_a_held_size_earns_the_move_from_the_next_open_less_its_fee() -> None:
    environment = SizingEnvironment(a_market([50_000.0, 50_000.0, 51_000.0, 51_000.0]), FREE)
    environment.hold(1.0)
    # 0.2 of 50,000: the venue's taker fee of 5 bps is paid at the open.
    assert environment.equity == Decimal(10_000) - Decimal("0.0005") * 10_000
    environment.hold(1.0)
    assert environment.equity == pytest.approx(Decimal("9995") + Decimal("0.199") * 1000, abs=1)


def test_the_side_is_the_forecasts_and_no_size_costs_nothing() -> None:
    closes = [50_000.0, 50_000.0, 51_000.0, 51_000.0, 51_000.0]
    assert walk_with(a_market(closes, up=0.2), FREE, lambda _: 1.0).returns.sum() < -0.01
    assert walk_with(a_market(closes), FREE, lambda _: 1.0).returns.sum() > 0.01
    assert walk_with(a_market(closes), FREE, lambda _: 0.0).returns.tolist() == [0.0] * 4


def test_leverage_is_held_to_the_most_and_a_fall_beyond_the_margin_liquidates() -> None:
    terms = SizingTerms(slippage_bps=Decimal(0), max_leverage=Decimal(20))
    walk = walk_with(a_market([50_000.0, 50_000.0, 47_000.0, 50_000.0]), terms, lambda _: 1_000.0)
    assert walk.is_liquidated
    assert walk.returns[-1] == -5.0
    held = walk_with(a_market([50_000.0, 50_000.0, 47_000.0, 50_000.0]), FREE, lambda _: 1_000.0)
    assert not held.is_liquidated
    assert 0.15 < held.drawdown < 0.2


def test_every_rule_answers_a_size_and_none_without_a_forecast() -> None:
    environment = SizingEnvironment(a_market([50_000.0] * 5), SizingTerms())
    sizes = {name: size_by_rule(name, environment) for name in RULES}
    assert all(size > 0.0 for size in sizes.values())
    assert sizes["volatility_target"] == pytest.approx(2.0)
    silent = a_market([50_000.0] * 5)
    silent.probabilities[:] = np.nan
    assert {size_by_rule(name, SizingEnvironment(silent, SizingTerms())) for name in RULES} == {0.0}


def test_the_environment_keeps_to_its_spaces_and_begins_anew() -> None:
    environment = SizingEnvironment(a_market([50_000.0 + 10 * number for number in range(40)], horizon=3), FREE)
    first, _ = environment.reset(seed=1)
    assert environment.observation_space.contains(first) and first.shape == (OBSERVED,)
    steps = 0
    is_over = False
    while not is_over:
        seen, _, has_ended, is_cut, _ = environment.step(np.array([0.5], np.float32))
        assert environment.observation_space.contains(seen)
        is_over, steps = has_ended or is_cut, steps + 1
    assert steps == 13
    again, _ = environment.reset(seed=1)
    assert again.tolist() == first.tolist()


def test_too_few_bars_are_refused() -> None:
    with pytest.raises(BadInput, match="too few for two decisions of 5 bars"):
        SizingEnvironment(a_market([50_000.0] * 8, horizon=5), FREE)


def test_better_is_said_only_where_no_rule_is_as_good() -> None:
    walks = {"ppo": SizedWalk(np.full(10, 0.01), 0.0, False), "kelly": SizedWalk(np.zeros(10), 0.0, False)}
    assert SizingResult(walks, {"kelly": 0.01}, 100.0).describe()["verdict"] == "better than every rule"
    assert not SizingResult(walks, {"kelly": 0.01, "fixed_fraction": 0.03}, 100.0).is_better
    assert SizingResult(walks, {"kelly": 0.2}, 100.0).describe()["verdict"] == "not better than every rule"


@pytest.mark.slow
def test_an_agent_learns_to_stay_out_where_every_position_loses() -> None:
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed; pip install -e '.[training]'")
    falling = a_market([50_000.0 - 100 * number for number in range(300)])
    result = compare_sizes(falling, falling, SizingTerms(), 2_048, seed=1)
    assert set(result.walks) == {"ppo", *RULES}
    assert result.walks["ppo"].returns.sum() > walk_with(falling, SizingTerms(), lambda _: 3.0).returns.sum() / 2
    assert walk_with(falling, SizingTerms(), partial(size_by_rule, "kelly")).returns.sum() < 0
