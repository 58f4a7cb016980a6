"""The catalog keeps its word: names, groups, warm-ups, ranges and inputs hold on recorded bars."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from libs.indicators import columns as col
from libs.indicators.catalog import CATALOG
from libs.indicators.feature_set import BASE, Feature, FeatureSet, FeatureSetError, features_of
from libs.indicators.feature_sets import FEATURE_SETS, load_feature_set
from libs.indicators.kinds import GROUPS
from tests.unit.indicators.golden import GOLDEN, golden_values
from tests.unit.indicators.recorded import BTC_1H, LTC_1M, compute, fill_in, made_rows, recorded_rows, same_bits

CORE = load_feature_set()
NOT_IN_KLINES = (
    "quote_volume",
    "taker_buy_volume",
    "trade_count",
    "spread_mean_bps",
    "depth_imbalance_1",
    "depth_imbalance_5",
    "depth_imbalance_10",
    "order_flow_imbalance",
    "microprice_deviation_bps",
    "realised_variance",
    "mark_close",
    "index_close",
    "funding_rate",
    "next_funding_time",
    "open_interest",
    "liquidation_buy",
    "liquidation_sell",
)


def test_core_has_at_least_120_features_over_one_bar_and_every_group() -> None:
    base = [feature for feature in CORE.features if feature.timeframe == BASE]
    assert len(base) >= 120
    assert {feature.kind.group for feature in base} == set(GROUPS) - {"outside"}
    assert len(set(CORE.names)) == len(CORE)
    assert set(CORE.timeframes) == {"1m", "5m", "15m", "1h", "4h", "1d"}


@pytest.mark.parametrize("feature", CORE.features, ids=lambda feature: feature.name)
def test_every_feature_says_what_it_is(feature: Feature) -> None:
    said = feature.describe()
    assert json.loads(json.dumps(said)) == said
    assert all(said[key] for key in ("name", "group", "unit", "inputs", "formula_source", "description"))
    assert said["warm_up"] >= 1
    assert len(said["range"]) == 2
    assert set(said["inputs"]) <= set(col.ROW_COLUMNS)


def test_first_value_comes_exactly_at_the_end_of_the_warm_up() -> None:
    times, rows = made_rows(700)
    base = FeatureSet("base", 1, tuple(f for f in CORE.features if f.timeframe == BASE))
    out = compute(base, times, rows)
    first = {name: int(np.argmax(~np.isnan(column))) + 1 for name, column in zip(base.names, out.T, strict=True)}
    assert first == {feature.name: feature.warm_up for feature in base.features}
    assert not np.isnan(out[max(first.values()) :]).any()


def test_first_value_of_a_higher_timeframe_comes_when_its_last_bar_closes() -> None:
    times, rows = made_rows(60 * 24 * 36)
    higher = FeatureSet("higher", 1, tuple(f for f in CORE.features if f.timeframe != BASE))
    out = compute(higher, times, rows)
    minutes = {"5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
    for feature, column in zip(higher.features, out.T, strict=True):
        assert int(np.argmax(~np.isnan(column))) + 1 == feature.warm_up * minutes[feature.timeframe], feature.name


@pytest.mark.slow
@pytest.mark.parametrize(("file", "step"), [(LTC_1M, 60), (BTC_1H, 3600)])
def test_values_stay_within_their_range_on_recorded_bars(file: str, step: int) -> None:
    times, rows = recorded_rows(file, 30_000)
    fill_in(rows, times)
    out = compute(CORE, times, rows, step)
    assert not np.isinf(out).any()
    for feature, column in zip(CORE.features, out.T, strict=True):
        known = column[~np.isnan(column)]
        low, high = feature.definition.low, feature.definition.high
        assert low is None or (known >= low - 1e-9).all(), feature.name
        assert high is None or (known <= high + 1e-9).all(), feature.name


@pytest.mark.parametrize("missing", NOT_IN_KLINES)
def test_a_missing_input_empties_exactly_the_features_that_need_it(missing: str) -> None:
    times, rows = made_rows(2000)
    whole = compute(CORE, times, rows)
    rows[:, col.ROW_COLUMNS.index(missing)] = np.nan
    without = compute(CORE, times, rows)
    for j, feature in enumerate(CORE.features):
        if missing in feature.kind.inputs:
            assert np.isnan(without[:, j]).all(), feature.name
        else:
            assert same_bits(without[:, j], whole[:, j]).all(), feature.name


def test_an_input_missing_for_a_while_comes_back_once_it_has_left_the_windows() -> None:
    times, rows = made_rows(900)
    whole = compute(CORE, times, rows)
    for name in NOT_IN_KLINES:
        rows[300:320, col.ROW_COLUMNS.index(name)] = np.nan
    holed = compute(CORE, times, rows)
    base = [j for j, feature in enumerate(CORE.features) if feature.timeframe == BASE]
    assert np.isnan(holed[310, CORE.names.index("taker_imbalance_20")])
    # Sums that were taken afresh at other bars may differ in their last bits; cancelling ones show more of that.
    np.testing.assert_allclose(holed[600:, base], whole[600:, base], rtol=1e-6, atol=1e-7)


def test_every_shipped_set_loads_and_keeps_its_name() -> None:
    for name in FEATURE_SETS:
        assert load_feature_set(name).name == name


# What models, tables and vectors carry. Where a formula or the list changes on purpose, raise the formula's version or
# the set's, and put the new hash here: models made with the old one are then refused.
CORE_HASH = "7165fb7d99a09fcf97bf78223d97164c4b6e24d9e0daa0918b42e05db143a299"


def test_core_is_still_the_set_that_models_were_made_with() -> None:
    assert CORE.schema_hash == CORE_HASH


def test_hash_moves_with_everything_that_defines_a_set() -> None:
    chosen = FeatureSet("a", 1, tuple(features_of("rsi", n=14) + features_of("gap")))
    others = [
        FeatureSet("b", 1, chosen.features),
        FeatureSet("a", 2, chosen.features),
        FeatureSet("a", 1, chosen.features[::-1]),
        FeatureSet("a", 1, chosen.features[:1]),
        FeatureSet("a", 1, tuple(features_of("rsi", n=15) + features_of("gap"))),
        FeatureSet("a", 1, tuple(features_of("rsi", "1h", n=14) + features_of("gap"))),
        chosen.on("5m"),
    ]
    assert len({chosen.schema_hash, *(other.schema_hash for other in others)}) == 8
    assert FeatureSet("a", 1, chosen.features).schema_hash == chosen.schema_hash


def test_another_hash_is_refused_with_both_named() -> None:
    with pytest.raises(
        FeatureSetError, match=f"model m1 was made with .* 0123456789ab, but core_v1 .* {CORE_HASH[:12]}"
    ):
        CORE.check_hash("0123456789ab" + "0" * 52, "model m1")
    CORE.check_hash(CORE_HASH, "model m2")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: features_of("rsj"), "no kind of feature 'rsj'"),
        (lambda: features_of("rsi", "2m"), "no timeframe '2m'"),
        (lambda: features_of("rsi", period=3), "rsi has no parameter 'period'; it has n"),
        (lambda: features_of("rsi", n=0), "n=0 must be a whole number of bars"),
        (lambda: features_of("rsi", n=2.5), "n=2.5 must be a whole number of bars"),
        (lambda: features_of("moments", n=3), "n=3 must be a whole number of bars from 4"),
        (lambda: features_of("macd", n=26, p=12), "macd n=26 must be below p=12"),
        (lambda: features_of("bollinger", k=-1.0), "k=-1.0 must be above 0"),
        (lambda: features_of("macd", only=("line",)), "macd has no output 'line'"),
        (lambda: FeatureSet("s", 1, tuple(features_of("gap") * 2)), "feature set s has gap twice"),
        (lambda: FeatureSet("s", 1, ()), "feature set s is empty"),
        (lambda: load_feature_set("core_v9"), "no feature set 'core_v9'; there are core_v1"),
    ],
)
def test_a_malformed_set_is_refused_by_name(make: Callable[[], object], message: str) -> None:
    with pytest.raises(FeatureSetError, match=message):
        make()


def test_any_kind_runs_on_any_timeframe() -> None:
    times, rows = made_rows(60 * 24 * 3)
    for name in CATALOG:
        short: dict[str, Any] = {period: 3 for period in ("n", "p", "q") if period in dict(CATALOG[name].defaults)}
        if name == "moments":
            short = {"n": 4}
        if name in ("macd", "volatility_ratio"):
            short |= {"n": 2, "p": 4}
        chosen = FeatureSet("x", 1, tuple(features_of(name, "15m", **short)))
        out = compute(chosen, times, rows)
        assert not np.isnan(out[-1]).any(), name


@pytest.mark.slow
def test_formulas_still_give_the_values_that_the_hash_stands_for() -> None:
    """Written by `python -m tests.unit.indicators.golden`; a changed formula needs a new version in the catalog."""
    golden = json.loads(GOLDEN.read_text())
    assert golden["schema_hash"] == CORE.schema_hash, "the set has changed: write the golden values afresh"
    for bar, values in golden_values().items():
        np.testing.assert_allclose(
            np.array(values, dtype=float), np.array(golden["values"][bar], dtype=float), rtol=1e-7, atol=1e-10
        )
