"""What `core_v2` adds: formulas as pandas, numpy and scipy have them, one name for each number, none always empty."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy

from libs.indicators import columns as col
from libs.indicators.feature_set import BASE, FeatureSet
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.program import compile_feature_set
from libs.indicators.stream import FeatureStream
from tests.unit.indicators.look_ahead import find_look_ahead
from tests.unit.indicators.recorded import (
    BTC_1M,
    compute,
    compute_kind,
    fill_in,
    made_rows,
    recorded_rows,
    same_bits,
    stream_of,
)

FIRST = load_feature_set("core_v1")
ADDED = FeatureSet(
    "added", 1, tuple(one for one in load_feature_set("core_v2").features if one.name not in FIRST.names)
)
COUNT = 1_500
# What a model is told apart from by everybody else; `core_v2` is new, so its hash may still move.
MINUTES = {BASE: 1, "1h": 60, "1d": 1_440}


@pytest.fixture(scope="module")
def bars() -> tuple[np.ndarray, np.ndarray]:
    times, rows = made_rows(COUNT)
    return times, rows


def column(rows: np.ndarray, name: str) -> pd.Series:
    return pd.Series(rows[:, col.ROW_COLUMNS.index(name)])


def returns_of(rows: np.ndarray) -> pd.Series:
    return np.log(column(rows, "close")).diff()


def agree(ours: np.ndarray, theirs: pd.Series | np.ndarray, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    theirs = np.asarray(theirs, dtype=float)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def test_semivariance_is_that_of_rises_and_of_falls(bars: tuple[np.ndarray, np.ndarray]) -> None:
    times, rows = bars
    r = returns_of(rows)
    up, down = ((r.clip(lower=0) ** 2).rolling(20).sum(), (r.clip(upper=0) ** 2).rolling(20).sum())
    ours = compute_kind("semivariance", times, rows, n=20)
    agree(ours["semivariance_balance_20"], (up - down) / (up + down), atol=1e-9)
    agree(ours["downside_volatility_20"], np.sqrt(down / 20), rtol=1e-7, atol=1e-9)


def test_jump_share_is_what_bipower_variation_leaves(bars: tuple[np.ndarray, np.ndarray]) -> None:
    times, rows = bars
    r = returns_of(rows).abs()
    bipower = (r * r.shift()).rolling(60).sum() * math.pi / 2
    squares = (r**2).where(r.shift().notna()).rolling(60).sum()
    expected = (1 - bipower / squares).clip(0, 1)
    agree(compute_kind("jump_share", times, rows, n=60)["jump_share_60"], expected, rtol=1e-7, atol=1e-9)


def test_one_jump_among_small_moves_is_seen() -> None:
    times, rows = made_rows(200)
    close = 100.0 * np.cumprod(1.0 + np.where(np.arange(200) % 2, 1e-4, -1e-4))
    close[150:] *= 1.02
    for name in ("open", "high", "low", "close"):
        rows[:, col.ROW_COLUMNS.index(name)] = close
    share = compute_kind("jump_share", times, rows, n=60)["jump_share_60"]
    assert share[149] < 0.01
    assert share[150] > 0.95


def test_horizons_of_volatility_and_imbalance(bars: tuple[np.ndarray, np.ndarray]) -> None:
    times, rows = bars
    expected = np.sqrt((returns_of(rows) ** 2).rolling(60).mean())
    agree(compute_kind("har_volatility", times, rows, n=60)["har_volatility_60"], expected)
    volume, taker = column(rows, "volume"), column(rows, "taker_buy_volume")
    expected = (2 * taker - volume).abs().rolling(20).sum() / volume.rolling(20).sum()
    agree(compute_kind("vpin", times, rows, n=20)["vpin_20"], expected)


def test_correlation_of_price_and_volume_is_that_of_pandas(bars: tuple[np.ndarray, np.ndarray]) -> None:
    times, rows = bars
    expected = np.log(column(rows, "close")).rolling(20).corr(np.log1p(column(rows, "volume")))
    ours = compute_kind("price_volume_correlation", times, rows, n=20)["price_volume_correlation_20"]
    agree(ours, expected, rtol=1e-6, atol=1e-7)


def test_rank_and_quantiles_are_those_of_pandas_and_numpy(bars: tuple[np.ndarray, np.ndarray]) -> None:
    times, rows = bars
    close = column(rows, "close").round(0)
    rows = rows.copy()
    rows[:, col.ROW_CLOSE] = close
    rank = (close.rolling(20).rank(method="average") - 1) / 19
    agree(compute_kind("close_rank", times, rows, n=20)["close_rank_20"], rank)
    ours = compute_kind("close_quantiles", times, rows, n=20)
    agree(ours["lower_quantile_20"], close.rolling(20).quantile(0.2) / close - 1)
    agree(ours["upper_quantile_20"], close.rolling(20).quantile(0.8) / close - 1)


def test_residual_is_that_of_scipys_line(bars: tuple[np.ndarray, np.ndarray]) -> None:
    times, rows = bars
    log_close = np.log(column(rows, "close")).to_numpy()
    ours = compute_kind("regression_residual", times, rows, n=20)["regression_residual_20"]
    assert np.isnan(ours[:19]).all()
    for end in range(19, COUNT, 97):
        line = scipy.stats.linregress(np.arange(20), log_close[end - 19 : end + 1])
        expected = (log_close[end] - (line.intercept + line.slope * 19)) * 1e4
        assert ours[end] == pytest.approx(expected, rel=1e-7, abs=1e-6)


def test_fractional_difference_lies_between_the_price_and_its_change(bars: tuple[np.ndarray, np.ndarray]) -> None:
    times, rows = bars
    log_close = np.log(column(rows, "close")).to_numpy()
    for order in (0.4, 0.999999):
        weights = [1.0]
        for lag in range(1, 60):
            weights.append(-weights[-1] * (order - lag + 1) / lag)
        ours = compute_kind("fractional_difference", times, rows, d=order)[f"fractional_difference_{order}_60"]
        for end in range(59, COUNT, 97):
            window = log_close[end - 59 : end + 1][::-1]
            assert ours[end] == pytest.approx(float(np.dot(weights, window - window[-1])), rel=1e-9, abs=1e-12)
    change = np.diff(log_close)
    np.testing.assert_allclose(ours[59:], change[58:], atol=1e-6)


def test_flat_prices_have_plain_answers() -> None:
    times, rows = made_rows(200)
    for name in ("open", "high", "low", "close"):
        rows[:, col.ROW_COLUMNS.index(name)] = 100.0
    base = FeatureSet("base", 1, tuple(one for one in ADDED.features if one.timeframe == BASE))
    last = dict(zip(base.names, compute(base, times, rows)[-1], strict=True))
    assert last["close_rank_20"] == 0.5
    flat = {name: value for name, value in last.items() if not name.startswith(("vpin", "close_rank"))}
    assert set(flat.values()) == {0.0}


def test_first_value_comes_exactly_at_the_end_of_the_warm_up() -> None:
    times, rows = made_rows(1_440 * 24)
    out = compute(ADDED, times, rows)
    for feature, values in zip(ADDED.features, out.T, strict=True):
        assert int(np.argmax(~np.isnan(values))) + 1 == feature.warm_up * MINUTES[feature.timeframe], feature.name


def test_stream_and_batch_agree_to_the_bit_and_stay_in_range() -> None:
    times, rows = made_rows(2_000)
    rows[np.random.default_rng(4).random(rows.shape) < 0.02] = np.nan
    for name in ("open", "high", "low", "close", "volume", "close_time"):
        rows[:, col.ROW_COLUMNS.index(name)] = made_rows(2_000)[1][:, col.ROW_COLUMNS.index(name)]
    program = compile_feature_set(ADDED)
    stream = FeatureStream(program)
    streamed = np.array(
        [stream.values.copy() for bar in stream_of("X", times, rows, program.timeframes[1:]) if stream.take(bar)]
    )
    batched = compute(ADDED, times, rows)
    assert same_bits(streamed, batched).all()
    for feature, values in zip(ADDED.features, batched.T, strict=True):
        known = values[~np.isnan(values)]
        low, high = feature.definition.low, feature.definition.high
        assert low is None or (known >= low - 1e-9).all(), feature.name
        assert high is None or (known <= high + 1e-9).all(), feature.name


def test_no_added_feature_knows_the_future() -> None:
    times, rows = made_rows(1_500)
    assert (
        find_look_ahead(lambda t, r: compute(ADDED, t, r), ADDED.names, times, rows, (1, 61, 301, 1_439, 1_441)) == {}
    )


@pytest.mark.parametrize(("timeframe", "step", "count"), [("1m", 1, 3_000), ("5m", 5, 3_000), ("1h", 60, 700)])
def test_no_number_has_two_names_and_none_is_always_unknown(timeframe: str, step: int, count: int) -> None:
    times, rows = recorded_rows(BTC_1M, count)
    fill_in(rows, times)
    times = times[0] - times[0] % 86_400 + np.arange(count) * 60 * step
    rows[:, col.ROW_CLOSE_TIME] = times + 60 * step
    chosen = load_feature_set("core_v2", timeframe)
    assert not {one.timeframe for one in chosen.features} & {timeframe}
    out = compute(chosen, times, rows, 60 * step)
    seen: dict[bytes, str] = {}
    for feature, values in zip(chosen.features, out.T, strict=True):
        if np.isnan(values).all():
            days = feature.warm_up * {"1h": 60, "4h": 240, "1d": 1_440}.get(feature.timeframe, 1) / step
            assert days >= count - 1_440, f"{feature.name} is unknown throughout"
            continue
        twin = seen.setdefault(values.tobytes(), feature.name)
        assert twin == feature.name, f"{feature.name} is {twin}"


def test_the_first_set_is_not_touched_by_the_second() -> None:
    second = load_feature_set("core_v2")
    left_out = set(FIRST.names) - set(second.names)
    assert left_out == {"bollinger_middle_20_2", "keltner_middle_20_10_2", "trend_direction_20", "trend_direction_60"}
    # Over a longer base the first set repeats its own timeframe, as its models expect; the second does not.
    assert any(one.timeframe == "1h" for one in load_feature_set("core_v1", "1h").features)
