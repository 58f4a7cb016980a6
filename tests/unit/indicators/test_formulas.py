"""What pandas, scipy and plain numpy answer from the formulas' definitions, on recorded bars."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import scipy

from libs.indicators import columns as col
from tests.unit.indicators.recorded import BTC_1M, LTC_1M, compute_kind, fill_in, made_rows, recorded_rows

COUNT = 4000
FILES = (BTC_1M, LTC_1M)


@pytest.fixture(params=FILES)
def bars(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    times, rows = recorded_rows(request.param, COUNT, start=5000)
    return times, fill_in(rows, times)


def _column(rows: np.ndarray, name: str) -> pd.Series:
    return pd.Series(rows[:, col.ROW_COLUMNS.index(name)])


def _returns(rows: np.ndarray) -> pd.Series:
    return np.log(_column(rows, "close")).diff()


def _agree(ours: np.ndarray, theirs: pd.Series | np.ndarray, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    theirs = np.asarray(theirs, dtype=float)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def test_log_returns_and_gap(bars: tuple) -> None:
    times, rows = bars
    close = _column(rows, "close")
    _agree(compute_kind("log_return", times, rows, n=15)["log_return_15"], np.log(close).diff(15))
    _agree(compute_kind("gap", times, rows)["gap"], np.log(_column(rows, "open") / close.shift()) * 1e4, atol=1e-9)


def test_candle_shape(bars: tuple) -> None:
    times, rows = bars
    o, h, low, c = (_column(rows, name) for name in ("open", "high", "low", "close"))
    span = (h - low).where(h > low)
    ours = compute_kind("candle", times, rows)
    _agree(ours["candle_body"], ((c - o) / span).fillna(0.0))
    _agree(ours["candle_upper_shadow"], ((h - np.maximum(o, c)) / span).fillna(0.0))
    _agree(ours["candle_lower_shadow"], ((np.minimum(o, c) - low) / span).fillna(0.0))
    _agree(ours["candle_close_location"], ((c - low) / span).fillna(0.5))
    _agree(ours["candle_range"], (h - low) / c * 1e4)


def test_place_in_the_range(bars: tuple) -> None:
    times, rows = bars
    top, bottom = _column(rows, "high").rolling(60).max(), _column(rows, "low").rolling(60).min()
    ours = compute_kind("channel", times, rows, n=60)
    _agree(ours["position_in_range_60"], (_column(rows, "close") - bottom) / (top - bottom))
    _agree(ours["channel_width_60"], (top - bottom) / _column(rows, "close") * 1e4)


def test_volatilities(bars: tuple) -> None:
    times, rows = bars
    o, h, low, c = (_column(rows, name) for name in ("open", "high", "low", "close"))
    r = _returns(rows)
    n = 20

    def ours(kind: str) -> np.ndarray:
        return compute_kind(kind, times, rows, n=n)[f"{kind}_{n}"]

    _agree(ours("historical_volatility"), r.rolling(n).std(), rtol=1e-8)
    parkinson = np.sqrt((np.log(h / low) ** 2).rolling(n).mean() / (4 * math.log(2)))
    _agree(ours("parkinson_volatility"), parkinson, rtol=1e-8)
    garman_klass = 0.5 * np.log(h / low) ** 2 - (2 * math.log(2) - 1) * np.log(c / o) ** 2
    _agree(ours("garman_klass_volatility"), np.sqrt(garman_klass.rolling(n).mean()), rtol=1e-8)
    rogers = np.log(h / c) * np.log(h / o) + np.log(low / c) * np.log(low / o)
    _agree(ours("rogers_satchell_volatility"), np.sqrt(rogers.rolling(n).mean()), rtol=1e-6)
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    night = np.log(o / c.shift()).rolling(n).var()
    yang = np.sqrt(night + k * np.log(c / o).rolling(n).var() + (1 - k) * rogers.rolling(n).mean())
    _agree(ours("yang_zhang_volatility"), yang, rtol=1e-8)
    ratio = compute_kind("volatility_ratio", times, rows)["volatility_ratio_10_60"]
    _agree(ratio, r.rolling(10).std() / r.rolling(60).std(), rtol=1e-8)
    realised = compute_kind("realised_volatility_mean", times, rows, n=20)["realised_volatility_20"]
    _agree(realised, np.sqrt(_column(rows, "realised_variance").rolling(20).mean()))


def test_ewma_volatility(bars: tuple) -> None:
    times, rows = bars
    squares = (_returns(rows) ** 2).to_numpy()
    expected = np.full(len(squares), np.nan)
    variance = squares[1:21].mean()
    expected[20] = variance
    for i in range(21, len(squares)):
        variance = 0.94 * variance + 0.06 * squares[i]
        expected[i] = variance
    _agree(compute_kind("ewma_volatility", times, rows)["ewma_volatility_0.94"], np.sqrt(expected))


def test_shape_of_returns_is_that_of_pandas(bars: tuple) -> None:
    times, rows = bars
    r = _returns(rows)
    ours = compute_kind("moments", times, rows, n=60)
    windows = np.lib.stride_tricks.sliding_window_view(r.to_numpy()[1:], 60)
    skew = np.concatenate((np.full(60, np.nan), scipy.stats.skew(windows, axis=1, bias=False)))
    kurtosis = np.concatenate((np.full(60, np.nan), scipy.stats.kurtosis(windows, axis=1, bias=False)))
    _agree(ours["skewness_60"], skew, rtol=1e-8, atol=1e-10)
    _agree(ours["kurtosis_60"], kurtosis, rtol=1e-8, atol=1e-10)
    assert pd.Series(windows[0]).skew() == pytest.approx(ours["skewness_60"][60])
    assert pd.Series(windows[0]).kurt() == pytest.approx(ours["kurtosis_60"][60])


def test_autocorrelation_and_roll_spread(bars: tuple) -> None:
    times, rows = bars
    r = _returns(rows)
    for lag in (1, 5):
        ours = compute_kind("autocorrelation", times, rows, n=60, p=lag)[f"autocorrelation_{lag}_60"]
        _agree(ours, r.rolling(60).corr(r.shift(lag)), rtol=1e-7, atol=1e-9)
    covariance = r.rolling(60).cov(r.shift(1))
    expected = 2 * np.sqrt(-covariance.clip(upper=0.0)) * 1e4
    _agree(compute_kind("roll_spread", times, rows, n=60)["roll_spread_60"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "name", "source"),
    [
        ("close_zscore", "close_zscore_60", "close"),
        ("volume_zscore", "volume_zscore_60", "volume"),
        ("spread_zscore", "spread_zscore_60", "spread_mean_bps"),
        ("order_flow_zscore", "order_flow_zscore_60", "order_flow_imbalance"),
        ("funding_zscore", "funding_zscore_60", "funding_rate"),
        ("open_interest_zscore", "open_interest_zscore_60", "open_interest"),
    ],
)
def test_z_scores(bars: tuple, kind: str, name: str, source: str) -> None:
    times, rows = bars
    x = _column(rows, source)
    expected = (x - x.rolling(60).mean()) / x.rolling(60).std()
    _agree(compute_kind(kind, times, rows, n=60)[name], expected, rtol=1e-6, atol=1e-8)


def test_regression_is_that_of_scipy(bars: tuple) -> None:
    times, rows = bars
    ours = compute_kind("regression", times, rows, n=60)
    log_close = np.log(rows[:, col.ROW_CLOSE])
    for i in range(59, COUNT, 97):
        fit = scipy.stats.linregress(np.arange(60), log_close[i - 59 : i + 1])
        assert ours["regression_slope_60"][i] == pytest.approx(fit.slope * 1e4, rel=1e-8, abs=1e-9)
        assert ours["regression_r2_60"][i] == pytest.approx(fit.rvalue**2, rel=1e-7, abs=1e-9)
        assert ours["trend_direction_60"][i] == np.sign(fit.slope)


def test_kyle_lambda_is_the_slope_of_return_on_signed_volume(bars: tuple) -> None:
    times, rows = bars
    ours = compute_kind("kyle_lambda", times, rows, n=60)["kyle_lambda_60"]
    signed = 2 * rows[:, col.ROW_TAKER] - rows[:, col.ROW_VOLUME]
    r = _returns(rows).to_numpy()
    assert np.isnan(ours[:60]).all()
    for i in range(60, COUNT, 97):
        slope = scipy.stats.linregress(signed[i - 59 : i + 1], r[i - 59 : i + 1]).slope
        assert ours[i] == pytest.approx(slope * 1e4, rel=1e-7, abs=1e-12)


def test_liquidity_ratios(bars: tuple) -> None:
    times, rows = bars
    v, c, taker = _column(rows, "volume"), _column(rows, "close"), _column(rows, "taker_buy_volume")
    typical = (_column(rows, "high") + _column(rows, "low") + c) / 3
    _agree(compute_kind("volume_ratio", times, rows, n=20)["volume_ratio_20"], v / v.rolling(20).mean())
    vwap = (typical * v).rolling(20).sum() / v.rolling(20).sum()
    ours = compute_kind("vwap", times, rows, n=20)
    _agree(ours["vwap_20"], vwap)
    _agree(ours["vwap_20_deviation"], (c / vwap - 1) * 1e4, rtol=1e-6, atol=1e-7)
    amihud = (_returns(rows).abs() / (c * v) * 1e6).rolling(20).mean()
    _agree(compute_kind("amihud", times, rows, n=20)["amihud_20"], amihud)
    signed = 2 * taker - v
    _agree(compute_kind("taker_imbalance", times, rows)["taker_imbalance"], signed / v)
    imbalance = compute_kind("taker_imbalance_mean", times, rows, n=20)["taker_imbalance_20"]
    _agree(imbalance, signed.rolling(20).sum() / v.rolling(20).sum(), atol=1e-10)
    _agree(compute_kind("cvd", times, rows, n=60)["cvd_60"], signed.rolling(60).sum(), atol=1e-6)


def test_trend_counts(bars: tuple) -> None:
    times, rows = bars
    h, c = _column(rows, "high"), _column(rows, "close")
    rising = (h.diff() > 0).astype(float).where(h.shift().notna())
    _agree(compute_kind("higher_highs", times, rows, n=20)["higher_highs_20"], rising.rolling(20).mean())
    ratio = c.diff(20).abs() / c.diff().abs().rolling(20).sum()
    _agree(compute_kind("efficiency", times, rows, n=20)["efficiency_ratio_20"], ratio, atol=1e-10)
    run, runs = 0, [math.nan]
    for move in np.sign(c.diff().to_numpy()[1:]):
        run = 0 if move == 0 else (run + int(move) if run * move > 0 else int(move))
        runs.append(float(run))
    _agree(compute_kind("run", times, rows)["direction_run"], np.array(runs))


def test_hurst_exponent_is_half_the_slope_of_mean_squared_moves(bars: tuple) -> None:
    times, rows = bars
    ours = compute_kind("hurst", times, rows, n=120)["hurst_120"]
    log_close = np.log(rows[:, col.ROW_CLOSE])
    for i in range(135, COUNT, 97):
        squares = [
            np.mean([(log_close[t] - log_close[t - lag]) ** 2 for t in range(i - 119, i + 1)])
            for lag in (1, 2, 4, 8, 16)
        ]
        slope = np.polyfit(np.log([1, 2, 4, 8, 16]), np.log(squares), 1)[0]
        assert ours[i] == pytest.approx(min(1.0, max(0.0, slope / 2)), abs=1e-8)


def test_hurst_exponent_tells_trends_from_reversion() -> None:
    times, rows = made_rows(4000)
    rng = np.random.default_rng(3)
    noise = rng.normal(0.0, 1e-3, 4000)
    trending = np.convolve(noise, np.ones(40) / 6.0)[:4000].cumsum()
    reverting = noise
    means = {}
    for name, log_close in (("random", noise.cumsum()), ("trending", trending), ("reverting", reverting)):
        rows[:, col.ROW_CLOSE] = 60_000 * np.exp(log_close)
        means[name] = np.nanmean(compute_kind("hurst", times, rows, n=240)["hurst_240"])
    assert means["random"] == pytest.approx(0.5, abs=0.05)
    assert means["trending"] > 0.8
    assert means["reverting"] < 0.1


def test_permutation_entropy_counts_orders(bars: tuple) -> None:
    times, rows = bars
    ours = compute_kind("permutation_entropy", times, rows, n=60)["permutation_entropy_60"]
    close = rows[:, col.ROW_CLOSE]
    for i in range(61, COUNT, 97):
        counts = dict.fromkeys(permutations(range(3)), 0)
        for t in range(i - 59, i + 1):
            counts[tuple(int(j) for j in np.argsort(close[t - 2 : t + 1], kind="stable"))] += 1
        shares = np.array([count for count in counts.values() if count]) / 60
        assert ours[i] == pytest.approx(-(shares * np.log(shares)).sum() / math.log(6), abs=1e-12)


def test_derivatives(bars: tuple) -> None:
    times, rows = bars
    c, mark, index = _column(rows, "close"), _column(rows, "mark_close"), _column(rows, "index_close")
    rate, interest = _column(rows, "funding_rate"), _column(rows, "open_interest")
    _agree(compute_kind("mark_basis", times, rows)["mark_basis"], (c / mark - 1) * 1e4, rtol=1e-6, atol=1e-6)
    _agree(compute_kind("mark_premium", times, rows)["mark_premium"], (mark / index - 1) * 1e4, rtol=1e-6, atol=1e-6)
    accrued = compute_kind("funding_cumulative", times, rows, n=240)["funding_cumulative_240"]
    _agree(accrued, rate.rolling(240).sum() * 60 / 28800, atol=1e-15)
    change = compute_kind("open_interest_change", times, rows, n=15)["open_interest_change_15"]
    _agree(change, (interest / interest.shift(15) - 1) * 100, rtol=1e-6, atol=1e-9)
    hours = compute_kind("time_to_funding", times, rows)["time_to_funding"]
    _agree(hours, (8 - ((times + 60) % 28800) / 3600.0))
    net = _column(rows, "liquidation_buy") - _column(rows, "liquidation_sell")
    total = _column(rows, "liquidation_buy") + _column(rows, "liquidation_sell")
    ours = compute_kind("liquidation_imbalance", times, rows)["liquidation_imbalance"]
    _agree(ours, (net / total).where(total > 0, 0.0), rtol=1e-6, atol=1e-6)


def test_microstructure(bars: tuple) -> None:
    times, rows = bars
    v, trades = _column(rows, "volume"), _column(rows, "trade_count")
    _agree(compute_kind("trade_intensity", times, rows)["trade_intensity"], trades / 60)
    _agree(compute_kind("average_trade_size", times, rows)["average_trade_size"], v / trades)
    flow = compute_kind("order_flow_imbalance_sum", times, rows, n=20)["order_flow_imbalance_20"]
    _agree(flow, _column(rows, "order_flow_imbalance").rolling(20).sum(), atol=1e-9)
    assert (compute_kind("depth_imbalance_10", times, rows)["depth_imbalance_10"] == rows[:, col.ROW_DEPTH_10]).all()


def test_calendar_is_that_of_pandas(bars: tuple) -> None:
    times, rows = bars
    when = pd.DatetimeIndex((times + 60) * 10**9)
    ours = compute_kind("calendar", times, rows)
    day = (when.hour + when.minute / 60) / 24
    _agree(ours["hour_sine"], np.sin(2 * np.pi * day), atol=1e-9)
    _agree(ours["hour_cosine"], np.cos(2 * np.pi * day), atol=1e-9)
    _agree(ours["minute_sine"], np.sin(2 * np.pi * when.minute / 60), atol=1e-9)
    _agree(ours["weekday_cosine"], np.cos(2 * np.pi * (when.day_of_week + day) / 7), atol=1e-9)
    np.testing.assert_array_equal(ours["session_asia"], (when.hour < 8).astype(float))
    np.testing.assert_array_equal(ours["session_europe"], ((when.hour >= 7) & (when.hour < 16)).astype(float))
    np.testing.assert_array_equal(ours["session_america"], ((when.hour >= 13) & (when.hour < 22)).astype(float))
    np.testing.assert_array_equal(ours["weekend"], (when.day_of_week >= 5).astype(float))


def test_flat_prices_have_plain_answers() -> None:
    times, rows = made_rows(300)
    rows[:, col.ROW_OPEN : col.ROW_CLOSE + 1] = 100.0
    rows[:, col.ROW_VOLUME] = 0.0
    rows[:, col.ROW_TAKER] = 0.0
    expected = {
        "rsi": {"rsi_14": 0.0},
        "close_zscore": {"close_zscore_20": 0.0},
        "bollinger": {"bollinger_percent_b_20_2": 0.5, "bollinger_bandwidth_20_2": 0.0},
        "channel": {"position_in_range_20": 0.5},
        "hurst": {"hurst_120": 0.5},
        "moments": {"skewness_60": 0.0, "kurtosis_60": 0.0},
        "autocorrelation": {"autocorrelation_1_60": 0.0},
        "regression": {"regression_r2_20": 0.0, "trend_direction_20": 0.0},
        "volume_ratio": {"volume_ratio_20": 0.0},
        "vwap": {"vwap_20": 100.0, "vwap_20_deviation": 0.0},
        "amihud": {"amihud_20": 0.0},
        "taker_imbalance": {"taker_imbalance": 0.0},
        "volatility_ratio": {"volatility_ratio_10_60": 1.0},
        "permutation_entropy": {"permutation_entropy_60": 0.0},
    }
    for kind, values in expected.items():
        ours = compute_kind(kind, times, rows)
        for name, value in values.items():
            assert ours[name][-1] == value, name


def test_a_spike_that_has_left_the_window_leaves_no_trace() -> None:
    times, rows = made_rows(400)
    calm = compute_kind("close_zscore", times, rows, n=20)["close_zscore_20"]
    rows[100, col.ROW_HIGH] = rows[100, col.ROW_CLOSE] = 6e9
    spiked = compute_kind("close_zscore", times, rows, n=20)["close_zscore_20"]
    np.testing.assert_allclose(spiked[141:], calm[141:], rtol=1e-9)


def test_silence_after_the_first_liquidation_is_none() -> None:
    times, rows = made_rows(200)
    both = [col.ROW_LIQUIDATION_BUY, col.ROW_LIQUIDATION_SELL]
    rows[:, both] = np.nan
    rows[[50, 80], col.ROW_LIQUIDATION_BUY] = 3.0
    rows[[50, 80], col.ROW_LIQUIDATION_SELL] = [1.0, 0.0]
    now = compute_kind("liquidation_imbalance", times, rows)["liquidation_imbalance"]
    assert np.isnan(now[:50]).all()
    assert (now[50], now[51], now[80]) == (0.5, 0.0, 1.0)
    mean = compute_kind("liquidation_imbalance_mean", times, rows, n=60)["liquidation_imbalance_60"]
    assert np.isnan(mean[:109]).all()
    assert (mean[109], mean[139], mean[199]) == (5 / 7, 1.0, 0.0)


def test_open_interest_that_was_not_polled_is_at_most_five_bars_old() -> None:
    times, rows = made_rows(40)
    rows[:, col.ROW_INTEREST] = np.arange(100.0, 140.0)
    rows[10:20, col.ROW_INTEREST] = np.nan
    change = compute_kind("open_interest_change", times, rows, n=1)["open_interest_change_1"]
    np.testing.assert_array_equal(np.isnan(change), [j == 0 or 15 <= j <= 20 for j in range(40)])
    assert change[12] == 0.0
