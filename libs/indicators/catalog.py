"""The catalog: every kind of feature, defined once."""

from __future__ import annotations

from typing import Final

from libs.domain.readings import READING_SERIES
from libs.indicators.kinds import Count, Kind, Params, kind, lead_of, output
from libs.indicators.state_sizes import (
    BOLLINGER_STATE,
    COVARIANCE_STATE,
    DIRECTION_STATE,
    EXTREME_STATE,
    HURST_STATE,
    PERMUTATIONS,
    SUM_STATE,
    VARIANCE_STATE,
)


def _bars(count: int) -> Count:
    return lambda _params: count


def _after(*names: str, plus: int = 0) -> Count:
    return lambda params: sum(int(params[name]) for name in names) + plus


def _window(
    name: str,
    group: str,
    step: str,
    series: tuple[str, ...],
    unit: str,
    low: float | None,
    high: float | None,
    source: str,
    description: str,
    *,
    n: int,
    constant: float = 1.0,
    pattern: str = "",
) -> Kind:
    """Define a kind over one window of `n` bars with one value."""
    sums = {"zscore": VARIANCE_STATE, "deviation": VARIANCE_STATE, "sum_ratio": 2 * SUM_STATE}
    state = sums.get(step, SUM_STATE)
    warm_up = _after("n", plus=lead_of(series))
    if step in ("lag_difference", "lag_ratio"):
        state = 0
        warm_up = _after("n", plus=1)
    made = output(pattern or name + "_{n}", unit, low, high, warm_up, description)
    least = 2 if step in ("zscore", "deviation") else 1
    return kind(name, group, step, series, (made,), source, state=state, constant=constant, least=least, n=n)


def _now(
    name: str,
    group: str,
    step: str,
    series: tuple[str, ...],
    unit: str,
    low: float | None,
    high: float | None,
    source: str,
    description: str,
    constant: float = 1.0,
) -> Kind:
    """Define a kind over the current bar alone with one value."""
    made = output(name, unit, low, high, _bars(1 + lead_of(series)), description)
    return kind(name, group, step, series, (made,), source, constant=constant)


def _ichimoku_state(params: Params) -> int:
    return 6 * EXTREME_STATE + 2 * int(params["p"])


def _stochastic_state(params: Params) -> int:
    return 2 * EXTREME_STATE + int(params["p"]) + int(params["q"])


_PRICE: Final = (
    _window("log_return", "price", "lag_difference", ("log_close",), "fraction", None, None,
            "ln(close / close n bars ago)", "Log return over n bars.", n=1),
    _window("roc", "price", "lag_ratio", ("close",), "percent", -100.0, None,
            "TA-Lib ROC", "Rate of change of the close over n bars.", n=20, constant=100.0),
    _window("momentum", "price", "lag_difference", ("close",), "quote", None, None,
            "TA-Lib MOM", "Change of the close over n bars.", n=10),
    _now("gap", "price", "value", ("overnight",), "bps", None, None,
         "ln(open / previous close)", "Gap between the previous close and this open.", 1e4),
    kind("candle", "price", "candle", ("open", "high", "low", "close"), (
        output("candle_body", "fraction", -1.0, 1.0, _bars(1), "Close less open, as a share of the range."),
        output("candle_upper_shadow", "fraction", 0.0, 1.0, _bars(1), "Upper shadow as a share of the range."),
        output("candle_lower_shadow", "fraction", 0.0, 1.0, _bars(1), "Lower shadow as a share of the range."),
        output("candle_close_location", "fraction", 0.0, 1.0, _bars(1), "Place of the close between low and high."),
        output("candle_range", "bps", 0.0, None, _bars(1), "High less low over close."),
    ), "Nison 1991, shares of high - low"),
    kind("channel", "price", "channel", ("high", "low", "close"), (
        output("position_in_range_{n}", "fraction", 0.0, 1.0, _after("n"), "Place of the close between the extremes."),
        output("drawdown_{n}", "fraction", -1.0, 0.0, _after("n"), "Close below the highest high."),
        output("rally_{n}", "fraction", 0.0, None, _after("n"), "Close above the lowest low."),
        output("channel_width_{n}", "bps", 0.0, None, _after("n"), "Highest high less lowest low over close."),
    ), "Donchian channel", state=2 * EXTREME_STATE, n=20),
)  # fmt: skip

_TECHNICAL: Final = (
    kind("sma", "technical", "sma", ("close",), (
        output("sma_{n}", "quote", 0.0, None, _after("n"), "Simple moving average of the close."),
        output("sma_{n}_distance", "fraction", -1.0, None, _after("n"), "Close over its simple average, less 1."),
    ), "TA-Lib SMA", state=SUM_STATE, n=20),
    kind("ema", "technical", "ema", ("close",), (
        output("ema_{n}", "quote", 0.0, None, _after("n"), "Exponential moving average of the close."),
        output("ema_{n}_distance", "fraction", -1.0, None, _after("n"), "Close over its exponential average, less 1."),
    ), "TA-Lib EMA, seeded with the mean of the first n", state=1, n=20),
    kind("rsi", "technical", "rsi", ("close",), (
        output("rsi_{n}", "percent", 0.0, 100.0, _after("n", plus=1), "Relative strength index."),
    ), "Wilder 1978; TA-Lib RSI", state=2, n=14),
    kind("macd", "technical", "macd", ("close",), (
        output("macd_line_{n}_{p}_{q}", "quote", None, None, _after("p"), "Fast less slow average."),
        output("macd_signal_{n}_{p}_{q}", "quote", None, None, _after("p", "q", plus=-1), "Average of the line."),
        output("macd_histogram_{n}_{p}_{q}", "quote", None, None, _after("p", "q", plus=-1), "Line less signal."),
        output("macd_histogram_bps_{n}_{p}_{q}", "bps", None, None, _after("p", "q", plus=-1), "Histogram over close."),
    ), "Appel 1979; TA-Lib MACD", state=3, is_ordered=True, n=12, p=26, q=9),
    kind("bollinger", "technical", "bollinger", ("close",), (
        output("bollinger_upper_{n}_{k}", "quote", None, None, _after("n"), "Mean plus k deviations."),
        output("bollinger_middle_{n}_{k}", "quote", 0.0, None, _after("n"), "Mean of the close."),
        output("bollinger_lower_{n}_{k}", "quote", None, None, _after("n"), "Mean less k deviations."),
        output("bollinger_percent_b_{n}_{k}", "fraction", None, None, _after("n"), "Place of the close in the bands."),
        output("bollinger_bandwidth_{n}_{k}", "fraction", 0.0, None, _after("n"), "Width of the bands over the mean."),
    ), "Bollinger 2001; TA-Lib BBANDS, population deviation", state=BOLLINGER_STATE - 1, constant="k", n=20, k=2),
    kind("atr", "technical", "atr", ("true_range", "close"), (
        output("atr_{n}", "quote", 0.0, None, _after("n", plus=1), "Average true range."),
        output("natr_{n}", "percent", 0.0, None, _after("n", plus=1), "Average true range over close."),
    ), "Wilder 1978; TA-Lib ATR, NATR", state=1, n=14),
    kind("directional", "technical", "directional", ("high", "low", "true_range"), (
        output("adx_{n}", "percent", 0.0, 100.0, lambda p: 2 * int(p["n"]), "Average directional index."),
        output("plus_di_{n}", "percent", 0.0, 100.0, _after("n", plus=1), "Positive directional indicator."),
        output("minus_di_{n}", "percent", 0.0, 100.0, _after("n", plus=1), "Negative directional indicator."),
        output("di_balance_{n}", "fraction", -1.0, 1.0, _after("n", plus=1), "Difference of the two over their sum."),
    ), "Wilder 1978; TA-Lib ADX, PLUS_DI, MINUS_DI", state=DIRECTION_STATE, n=14),
    kind("stochastic", "technical", "stochastic", ("high", "low", "close"), (
        output("stochastic_k_{n}_{p}_{q}", "percent", 0.0, 100.0, _after("n", "p", plus=-1), "Slow %K."),
        output("stochastic_d_{n}_{p}_{q}", "percent", 0.0, 100.0, _after("n", "p", "q", plus=-2), "Slow %D."),
    ), "Lane 1984; TA-Lib STOCH with simple averages", state=_stochastic_state, n=14, p=3, q=3),
    kind("cci", "technical", "cci", ("typical",), (
        output("cci_{n}", "index", None, None, _after("n"), "Commodity channel index."),
    ), "Lambert 1980; TA-Lib CCI", state=SUM_STATE, n=20),
    kind("williams", "technical", "williams", ("high", "low", "close"), (
        output("williams_r_{n}", "percent", -100.0, 0.0, _after("n"), "Williams %R."),
    ), "Williams 1973; TA-Lib WILLR", state=2 * EXTREME_STATE, n=14),
    kind("money_flow", "technical", "money_flow", ("flow_up", "flow_down"), (
        output("mfi_{n}", "percent", 0.0, 100.0, _after("n", plus=1), "Money flow index."),
    ), "Quong and Soudack 1989; TA-Lib MFI", state=2 * SUM_STATE, n=14),
    kind("aroon", "technical", "aroon", ("high", "low"), (
        output("aroon_up_{n}", "percent", 0.0, 100.0, _after("n", plus=1), "How lately the highest high was."),
        output("aroon_down_{n}", "percent", 0.0, 100.0, _after("n", plus=1), "How lately the lowest low was."),
        output("aroon_oscillator_{n}", "percent", -100.0, 100.0, _after("n", plus=1), "Aroon up less Aroon down."),
    ), "Chande 1995; TA-Lib AROON, AROONOSC", state=2 * EXTREME_STATE,
        reach=lambda p: int(p["n"]) + 1, n=25),
    kind("keltner", "technical", "keltner", ("close", "true_range"), (
        output("keltner_upper_{n}_{p}_{k}", "quote", None, None, lambda p: max(int(p["n"]), int(p["p"]) + 1),
               "EMA plus k average true ranges."),
        output("keltner_middle_{n}_{p}_{k}", "quote", 0.0, None, _after("n"), "EMA of the close."),
        output("keltner_lower_{n}_{p}_{k}", "quote", None, None, lambda p: max(int(p["n"]), int(p["p"]) + 1),
               "EMA less k average true ranges."),
        output("keltner_position_{n}_{p}_{k}", "fraction", None, None, lambda p: max(int(p["n"]), int(p["p"]) + 1),
               "Place of the close in the channel."),
    ), "Raschke's Keltner channel: EMA and Wilder ATR", state=2, constant="k", n=20, p=10, k=2),
    kind("supertrend", "technical", "supertrend", ("high", "low", "close", "true_range"), (
        output("supertrend_{n}_{k}", "quote", None, None, _after("n", plus=1), "Band that trails the close."),
        output("supertrend_direction_{n}_{k}", "sign", -1.0, 1.0, _after("n", plus=1), "1 up, -1 down."),
        output("supertrend_distance_{n}_{k}", "fraction", None, None, _after("n", plus=1), "Close over band, less 1."),
    ), "Seban 2009, Wilder ATR", state=4, constant="k", n=10, k=3),
    kind("ichimoku", "technical", "ichimoku", ("high", "low", "close"), (
        output("ichimoku_conversion_{n}_{p}_{q}", "quote", 0.0, None, _after("n"), "Middle of the range of n bars."),
        output("ichimoku_base_{n}_{p}_{q}", "quote", 0.0, None, _after("p"), "Middle of the range of p bars."),
        output("ichimoku_span_a_{n}_{p}_{q}", "quote", 0.0, None, lambda p: int(p["p"]) + max(int(p["n"]), int(p["p"])),
               "Mean of conversion and base, p bars ago."),
        output("ichimoku_span_b_{n}_{p}_{q}", "quote", 0.0, None, _after("q", "p"),
               "Middle of the range of q bars, p bars ago."),
        output("ichimoku_cloud_distance_{n}_{p}_{q}", "fraction", None, None,
               lambda p: int(p["p"]) + max(int(p["n"]), int(p["p"]), int(p["q"])),
               "Close beyond the nearer edge of the cloud, 0 inside."),
    ), "Hosoda 1968; spans as they lie over the current bar", state=_ichimoku_state, n=9, p=26, q=52),
)  # fmt: skip

_LIQUIDITY: Final = (
    _window("volume_ratio", "liquidity", "ratio_to_mean", ("volume",), "ratio", 0.0, None,
            "volume / mean volume of n bars", "Volume beside its mean.", n=20),
    _window("volume_zscore", "liquidity", "zscore", ("volume",), "deviations", None, None,
            "(x - mean) / sample deviation", "Volume in deviations from its mean.", n=60),
    _window("vroc", "liquidity", "lag_ratio", ("volume",), "percent", -100.0, None,
            "TA-Lib ROC over volume; 0 after a bar without volume", "Rate of change of volume.", n=10, constant=100.0),
    kind("obv", "liquidity", "cumulative", ("directed_volume",), (
        output("obv", "base", None, None, _bars(1), "On-balance volume since the first bar seen."),
    ), "Granville 1963; TA-Lib OBV", state=1),
    _window("obv_trend", "liquidity", "sum_ratio", ("directed_volume", "volume"), "fraction", -1.0, 1.0,
            "change of OBV / volume over n bars", "Share of volume on balance.", n=20),
    kind("vwap", "liquidity", "vwap", ("traded_value", "volume", "close"), (
        output("vwap_{n}", "quote", 0.0, None, _after("n"), "Volume-weighted typical price."),
        output("vwap_{n}_deviation", "bps", None, None, _after("n"), "Close over it, less 1."),
    ), "Berkowitz, Logue and Noser 1988, typical price", state=2 * SUM_STATE, n=20),
    _window("amihud", "liquidity", "mean", ("illiquidity",), "fraction per million quote", 0.0, None,
            "Amihud 2002", "Mean absolute log return per million of value traded.", n=20),
    kind("kyle_lambda", "liquidity", "slope", ("log_return", "signed_volume"), (
        output("kyle_lambda_{n}", "bps per base", None, None, _after("n", plus=1), "Slope of return on signed volume."),
    ), "Kyle 1985, least squares", state=COVARIANCE_STATE, constant=1e4, least=2, n=60),
    _now("taker_imbalance", "liquidity", "share", ("signed_volume", "volume"), "fraction", -1.0, 1.0,
         "(taker buys - taker sells) / volume", "Taker imbalance of the bar."),
    _window("taker_imbalance_mean", "liquidity", "sum_ratio", ("signed_volume", "volume"), "fraction", -1.0, 1.0,
            "sum of signed volume / sum of volume", "Taker imbalance over n bars.", n=20,
            pattern="taker_imbalance_{n}"),
    _window("cvd", "liquidity", "sum", ("signed_volume",), "base", None, None,
            "sum of taker buys - taker sells", "Cumulative volume delta over n bars.", n=60),
    _window("cvd_zscore", "liquidity", "zscore", ("signed_volume",), "deviations", None, None,
            "(x - mean) / sample deviation", "Volume delta in deviations from its mean.", n=60),
    _window("vpin", "liquidity", "sum_ratio", ("absolute_signed_volume", "volume"), "fraction", 0.0, 1.0,
            "Easley, Lopez de Prado and O'Hara 2012, bars in place of volume buckets, takers' side as published",
            "Share of volume that was imbalance.", n=60),
    kind("price_volume_correlation", "liquidity", "correlation", ("log_close", "log_volume"), (
        output("price_volume_correlation_{n}", "correlation", -1.0, 1.0, _after("n"),
               "Correlation of log price and log volume."),
    ), "qlib Alpha158 CORR", least=2, n=20),
    kind("roll_spread", "liquidity", "roll_spread", ("log_return",), (
        output("roll_spread_{n}", "bps", 0.0, None, _after("n", plus=2), "Effective spread implied by bounce."),
    ), "Roll 1984", state=COVARIANCE_STATE, reach=_after("n", plus=1), least=2, n=60),
    _window("quote_volume_ratio", "liquidity", "ratio_to_mean", ("quote_volume",), "ratio", 0.0, None,
            "quote volume / mean of n bars", "Value traded beside its mean.", n=20),
)  # fmt: skip

_VOLATILITY: Final = (
    _window("historical_volatility", "volatility", "deviation", ("log_return",), "fraction per bar", 0.0, None,
            "sample deviation of log returns", "Close-to-close volatility of one bar.", n=20),
    _window("parkinson_volatility", "volatility", "root_mean", ("parkinson",), "fraction per bar", 0.0, None,
            "Parkinson 1980", "Volatility of one bar from its range.", n=20),
    _window("garman_klass_volatility", "volatility", "root_mean", ("garman_klass",), "fraction per bar", 0.0, None,
            "Garman and Klass 1980", "Volatility of one bar from its prices.", n=20),
    _window("rogers_satchell_volatility", "volatility", "root_mean", ("rogers_satchell",), "fraction per bar", 0.0,
            None, "Rogers and Satchell 1991", "Volatility of one bar, free of drift.", n=20),
    kind("yang_zhang_volatility", "volatility", "yang_zhang", ("overnight", "open_to_close", "rogers_satchell"), (
        output("yang_zhang_volatility_{n}", "fraction per bar", 0.0, None, _after("n", plus=1),
               "Volatility of one bar, gaps included."),
    ), "Yang and Zhang 2000", state=2 * VARIANCE_STATE + SUM_STATE, least=2, n=20),
    kind("ewma_volatility", "volatility", "ewma_volatility", ("squared_return",), (
        output("ewma_volatility_{decay}", "fraction per bar", 0.0, None, _after("n", plus=1),
               "Volatility of one bar, recent bars weighing most."),
    ), "RiskMetrics 1996, seeded with the mean of the first n", state=1, constant="decay", n=20, decay=0.94),
    _now("realised_volatility", "volatility", "root", ("realised_variance",), "fraction per bar", 0.0, None,
         "Andersen and Bollerslev 1998, from trades", "Realised volatility of the bar's trades."),
    _window("realised_volatility_mean", "volatility", "root_mean", ("realised_variance",), "fraction per bar", 0.0,
            None, "Andersen and Bollerslev 1998, from trades", "Realised volatility over n bars.", n=20,
            pattern="realised_volatility_{n}"),
    kind("semivariance", "volatility", "asymmetry", ("squared_return", "signed_square"), (
        output("semivariance_balance_{n}", "fraction", -1.0, 1.0, _after("n", plus=1),
               "Upward less downward realised variance, over both."),
        output("downside_volatility_{n}", "fraction per bar", 0.0, None, _after("n", plus=1),
               "Volatility of one bar from falls alone."),
    ), "Barndorff-Nielsen, Kinnebrock and Shephard 2010", state=2 * SUM_STATE, n=60),
    kind("jump_share", "volatility", "jump_share", ("absolute_return",), (
        output("jump_share_{n}", "fraction", 0.0, 1.0, _after("n", plus=2),
               "Share of realised variance that came in jumps."),
    ), "Barndorff-Nielsen and Shephard 2004, bipower variation", state=COVARIANCE_STATE, reach=_after("n", plus=1),
        least=2, n=60),
    _window("har_volatility", "volatility", "root_mean", ("squared_return",), "fraction per bar", 0.0, None,
            "Corsi 2009: a horizon's component of heterogeneous autoregression", "Realised volatility of a horizon.",
            n=60),
    kind("volatility_ratio", "volatility", "deviation_ratio", ("log_return",), (
        output("volatility_ratio_{n}_{p}", "ratio", 0.0, None, lambda p: max(int(p["n"]), int(p["p"])) + 1,
               "Short beside long volatility."),
    ), "ratio of sample deviations", state=2 * VARIANCE_STATE, constant=1.0, least=2, is_ordered=True, n=10, p=60),
)  # fmt: skip

_TREND: Final = (
    kind("regression", "trend", "regression", ("log_close",), (
        output("regression_slope_{n}", "bps per bar", None, None, _after("n"), "Slope of the log close."),
        output("regression_r2_{n}", "fraction", 0.0, 1.0, _after("n"), "Share of variance that the line explains."),
        output("trend_direction_{n}", "sign", -1.0, 1.0, _after("n"), "Sign of the slope."),
    ), "least squares on the bar number", least=2, n=20),
    kind("regression_residual", "trend", "residual", ("log_close",), (
        output("regression_residual_{n}", "bps", None, None, _after("n"), "Log close above its line of n bars."),
    ), "qlib Alpha158 RESI, on the log close", least=2, n=20),
    _window("higher_highs", "trend", "mean", ("higher_high",), "fraction", 0.0, 1.0,
            "share of bars whose high exceeds the one before", "How often highs rise.", n=20),
    _window("lower_lows", "trend", "mean", ("lower_low",), "fraction", 0.0, 1.0,
            "share of bars whose low undercuts the one before", "How often lows fall.", n=20),
    kind("run", "trend", "run", ("close",), (
        output("direction_run", "bars", None, None, _bars(2), "Bars in a row that closed the same way."),
    ), "signed run length of closes", state=1),
    kind("efficiency", "trend", "efficiency", ("close", "path"), (
        output("efficiency_ratio_{n}", "fraction", 0.0, 1.0, _after("n", plus=1), "Net move over path."),
    ), "Kaufman 1995", state=SUM_STATE, n=20),
    kind("hurst", "trend", "hurst", ("log_close",), (
        output("hurst_{n}", "exponent", 0.0, 1.0, _after("n", plus=16), "0.5 random, above trending, below reverting."),
    ), "Di Matteo 2007, order 2, lags 1 2 4 8 16", state=HURST_STATE, reach=_after("n", plus=16), n=120),
)  # fmt: skip

_STATISTICS: Final = (
    kind("moments", "statistics", "moments", ("log_return",), (
        output("skewness_{n}", "index", None, None, _after("n", plus=1), "Sample skewness of returns."),
        output("kurtosis_{n}", "index", None, None, _after("n", plus=1), "Sample excess kurtosis of returns."),
    ), "Joanes and Gill 1998 G1, G2; pandas skew, kurt", least=4, n=60),
    kind("autocorrelation", "statistics", "autocorrelation", ("log_return",), (
        output("autocorrelation_{p}_{n}", "correlation", -1.0, 1.0, _after("n", "p", plus=1),
               "Correlation of returns with those p bars before."),
    ), "Pearson, both windows of n", state=COVARIANCE_STATE, reach=_after("n", "p"), n=60, p=1),
    _window("close_zscore", "statistics", "zscore", ("close",), "deviations", None, None,
            "(x - mean) / sample deviation", "Close in deviations from its mean.", n=20),
    _window("return_zscore", "statistics", "zscore", ("log_return",), "deviations", None, None,
            "(x - mean) / sample deviation", "Return in deviations from its mean.", n=60),
    kind("close_rank", "statistics", "rank", ("close",), (
        output("close_rank_{n}", "fraction", 0.0, 1.0, _after("n"), "Rank of the close among the last n."),
    ), "qlib Alpha158 RANK, ties at their middle", least=2, n=20),
    kind("close_quantiles", "statistics", "quantiles", ("close",), (
        output("lower_quantile_{n}", "fraction", -1.0, None, _after("n"),
               "Lower fifth of n closes over the last one, less 1."),
        output("upper_quantile_{n}", "fraction", -1.0, None, _after("n"),
               "Upper fifth of n closes over the last one, less 1."),
    ), "qlib Alpha158 QTLD, QTLU", state=lambda p: int(p["n"]), least=2, n=20),
    kind("fractional_difference", "statistics", "fractional_difference", ("log_close",), (
        output("fractional_difference_{d}_{n}", "fraction", None, None, _after("n"),
               "Log close differenced to a fractional order."),
    ), "Lopez de Prado 2018, chapter 5, fixed window from its oldest value", constant="d", least=2, n=60, d=0.4),
    kind("permutation_entropy", "statistics", "permutation_entropy", ("close",), (
        output("permutation_entropy_{n}", "fraction", 0.0, 1.0, _after("n", plus=2), "Disorder of successive closes."),
    ), "Bandt and Pompe 2002, order 3", state=PERMUTATIONS, reach=_after("n", plus=2), n=60),
)  # fmt: skip

_DERIVATIVES: Final = (
    _now("funding_rate", "derivatives", "value", ("funding",), "fraction", None, None,
         "exchange", "Funding rate predicted for the next settlement."),
    _window("funding_cumulative", "derivatives", "sum", ("funding_accrual",), "fraction", None, None,
            "sum of rate x bar / 8 h", "Funding accrued over n bars.", n=240),
    _window("funding_zscore", "derivatives", "zscore", ("funding",), "deviations", None, None,
            "(x - mean) / sample deviation", "Funding in deviations from its mean.", n=240),
    _now("time_to_funding", "derivatives", "value", ("time_to_funding",), "hours", 0.0, None,
         "next funding time - close time", "Time to the next funding."),
    _window("open_interest_change", "derivatives", "lag_ratio", ("interest",), "percent", -100.0, None,
            "change over n bars", "Change of open interest.", n=15, constant=100.0),
    _window("open_interest_zscore", "derivatives", "zscore", ("interest",), "deviations", None, None,
            "(x - mean) / sample deviation", "Open interest in deviations from its mean.", n=240),
    _now("mark_basis", "derivatives", "value", ("mark_basis",), "bps", None, None,
         "close / mark - 1", "Last trade beside the mark price last published."),
    _now("index_basis", "derivatives", "value", ("index_basis",), "bps", None, None,
         "close / index - 1", "Perpetual beside spot index."),
    _now("mark_premium", "derivatives", "value", ("mark_index_basis",), "bps", None, None,
         "mark / index - 1", "Mark price beside spot index."),
    _window("mark_basis_zscore", "derivatives", "zscore", ("mark_basis",), "deviations", None, None,
            "(x - mean) / sample deviation", "Basis to the mark in deviations from its mean.", n=60),
    _now("liquidation_imbalance", "derivatives", "share", ("liquidation_net", "liquidation_total"), "fraction", -1.0,
         1.0, "(buys - sells) / both", "Imbalance of liquidations of the bar."),
    _window("liquidation_imbalance_mean", "derivatives", "sum_ratio", ("liquidation_net", "liquidation_total"),
            "fraction", -1.0, 1.0, "sum of (buys - sells) / sum of both", "Imbalance of liquidations over n bars.",
            n=60, pattern="liquidation_imbalance_{n}"),
    _window("liquidation_share", "derivatives", "sum_ratio", ("liquidation_total", "volume"), "fraction", 0.0, None,
            "liquidated / traded volume", "Share of volume that was liquidation.", n=60),
)  # fmt: skip


def _reading(name: str, unit: str, low: float | None, high: float | None, source: str, description: str) -> Kind:
    """Define a kind that is the latest reading of a series of the same name."""
    return _now(name, "outside", "value", (name,), unit, low, high, source, description)


_OUTSIDE: Final = (
    _reading("settled_funding_rate", "fraction", None, None, "exchange", "Funding rate that was settled last."),
    _window("settled_funding_cumulative", "outside", "sum", ("settled_funding_accrual",), "fraction", None, None,
            "sum of rate x bar / 8 h", "Settled funding accrued over n bars.", n=240),
    _window("settled_funding_zscore", "outside", "zscore", ("settled_funding_rate",), "deviations", None, None,
            "(x - mean) / sample deviation", "Settled funding in deviations from its mean.", n=240),
    _reading("fear_greed_index", "index", 0.0, 100.0, "alternative.me", "Fear (0) and greed (100) of the day."),
    _reading("accounts_long_short_ratio", "ratio", 0.0, None, "Binance",
             "Accounts that are long over those that are short."),
    _reading("top_accounts_long_short_ratio", "ratio", 0.0, None, "Binance",
             "The same of the largest traders' accounts."),
    _reading("top_positions_long_short_ratio", "ratio", 0.0, None, "Binance",
             "The same of the largest traders' positions."),
    _window("accounts_long_short_zscore", "outside", "zscore", ("accounts_long_short_ratio",), "deviations", None,
            None, "(x - mean) / sample deviation", "Accounts' ratio in deviations from its mean.", n=240),
    _reading("funding_median_rate", "fraction", None, None, "Binance", "Median predicted rate of all perpetuals."),
    _reading("funding_longs_pay_share", "fraction", 0.0, 1.0, "Binance", "Share of perpetuals whose longs pay."),
    _reading("headline_polarity", "fraction", -1.0, 1.0, "libs.alternative_data.headlines",
             "Polarity of the latest headline."),
    _window("headline_polarity_mean", "outside", "mean", ("headline_polarity",), "fraction", -1.0, 1.0,
            "mean of the bars' polarity", "Polarity of headlines over n bars.", n=240),
    _window("active_addresses_zscore", "outside", "zscore", ("active_addresses",), "deviations", None, None,
            "(x - mean) / sample deviation", "Active addresses in deviations from their mean.", n=1440),
    _window("exchange_net_flow_zscore", "outside", "zscore", ("exchange_net_flow",), "deviations", None, None,
            "(x - mean) / sample deviation", "Net flow to exchanges in deviations from its mean.", n=1440),
    _reading("spent_output_profit_ratio", "ratio", 0.0, None, "Glassnode", "SOPR."),
    _reading("market_value_to_realised_value", "ratio", None, None, "Glassnode", "MVRV."),
    _window("peer_return", "outside", "lag_difference", ("log_peer",), "fraction", None, None,
            "ln(price / price n bars ago)", "Log return of the peer's price over n bars, a minute late.", n=5),
    _window("peer_lead", "outside", "lag_difference", ("log_peer_ratio",), "fraction", None, None,
            "return of the peer - own return", "What the peer gained over n bars and this market did not.", n=5),
    _reading("peer_taker_imbalance", "fraction", -1.0, 1.0, "exchange", "Taker imbalance of the peer's last minute."),
    _now("spot_basis", "outside", "value", ("spot_basis",), "bps", None, None,
         "close / spot - 1", "Perpetual beside spot, a minute late."),
    _window("spot_basis_zscore", "outside", "zscore", ("spot_basis",), "deviations", None, None,
            "(x - mean) / sample deviation", "Basis to spot in deviations from its mean.", n=60),
    _reading("spot_taker_imbalance", "fraction", -1.0, 1.0, "exchange", "Taker imbalance of spot's last minute."),
    _window("taker_imbalance_spread", "outside", "mean", ("taker_imbalance_spread",), "fraction", -2.0, 2.0,
            "mean of perpetual's - spot's", "Taker imbalance of the perpetual less that of spot over n bars.", n=20),
    _reading("other_venue_funding_rate", "fraction", None, None, "the other exchange",
             "Funding rate that another venue settled last."),
    _now("funding_spread", "outside", "value", ("funding_spread",), "fraction", None, None,
         "own rate - the other venue's", "Settled funding beside that of another venue."),
    *(
        _now(f"{name}_known", "outside", "known", (name,), "flag", 0.0, 1.0, "1 or 0", f"Whether {name} is known.")
        for name in READING_SERIES
    ),
)  # fmt: skip

_MICROSTRUCTURE: Final = (
    _now("spread", "microstructure", "value", ("spread",), "bps", 0.0, None,
         "(ask - bid) / mid", "Mean quoted spread of the bar."),
    _window("spread_zscore", "microstructure", "zscore", ("spread",), "deviations", None, None,
            "(x - mean) / sample deviation", "Spread in deviations from its mean.", n=60),
    _now("depth_imbalance_1", "microstructure", "value", ("depth_imbalance_1",), "fraction", -1.0, 1.0,
         "(bids - asks) / both, 1 level", "Mean depth imbalance at the best level."),
    _now("depth_imbalance_5", "microstructure", "value", ("depth_imbalance_5",), "fraction", -1.0, 1.0,
         "(bids - asks) / both, 5 levels", "Mean depth imbalance over 5 levels."),
    _now("depth_imbalance_10", "microstructure", "value", ("depth_imbalance_10",), "fraction", -1.0, 1.0,
         "(bids - asks) / both, 10 levels", "Mean depth imbalance over 10 levels."),
    _window("depth_imbalance_mean", "microstructure", "mean", ("depth_imbalance_5",), "fraction", -1.0, 1.0,
            "mean of the bars' imbalance", "Depth imbalance at 5 levels over n bars.", n=20,
            pattern="depth_imbalance_5_mean_{n}"),
    _now("microprice_deviation", "microstructure", "value", ("microprice",), "bps", None, None,
         "Stoikov 2018: size-weighted mid / mid - 1", "Mean deviation of the microprice from the mid."),
    _now("order_flow_imbalance", "microstructure", "value", ("order_flow",), "base", None, None,
         "Cont, Kukanov and Stoikov 2014", "Order-flow imbalance of the bar."),
    _window("order_flow_imbalance_sum", "microstructure", "sum", ("order_flow",), "base", None, None,
            "Cont, Kukanov and Stoikov 2014", "Order-flow imbalance over n bars.", n=20,
            pattern="order_flow_imbalance_{n}"),
    _window("order_flow_zscore", "microstructure", "zscore", ("order_flow",), "deviations", None, None,
            "(x - mean) / sample deviation", "Order flow in deviations from its mean.", n=60),
    _now("trade_intensity", "microstructure", "value", ("trade_rate",), "trades per second", 0.0, None,
         "trades / bar length", "Trades a second."),
    _window("trade_intensity_ratio", "microstructure", "ratio_to_mean", ("trade_count",), "ratio", 0.0, None,
            "trades / mean of n bars", "Trades beside their mean.", n=20),
    _now("average_trade_size", "microstructure", "value", ("trade_size",), "base", 0.0, None,
         "volume / trades", "Mean size of a trade."),
    _window("average_trade_size_zscore", "microstructure", "zscore", ("trade_size",), "deviations", None, None,
            "(x - mean) / sample deviation", "Trade size in deviations from its mean.", n=60),
)  # fmt: skip

_TIME: Final = (
    kind("calendar", "time", "calendar", ("clock",), (
        output("minute_sine", "sine", -1.0, 1.0, _bars(1), "Minute of the hour at the close, UTC."),
        output("minute_cosine", "cosine", -1.0, 1.0, _bars(1), "Minute of the hour at the close, UTC."),
        output("hour_sine", "sine", -1.0, 1.0, _bars(1), "Time of day at the close, UTC."),
        output("hour_cosine", "cosine", -1.0, 1.0, _bars(1), "Time of day at the close, UTC."),
        output("weekday_sine", "sine", -1.0, 1.0, _bars(1), "Time of week at the close, UTC."),
        output("weekday_cosine", "cosine", -1.0, 1.0, _bars(1), "Time of week at the close, UTC."),
        output("session_asia", "flag", 0.0, 1.0, _bars(1), "Asia is open, 00-08 UTC."),
        output("session_europe", "flag", 0.0, 1.0, _bars(1), "Europe is open, 07-16 UTC."),
        output("session_america", "flag", 0.0, 1.0, _bars(1), "America is open, 13-22 UTC."),
        output("weekend", "flag", 0.0, 1.0, _bars(1), "Saturday or Sunday, UTC."),
    ), "calendar at the close"),
)  # fmt: skip

CATALOG: Final[dict[str, Kind]] = {
    k.name: k
    for k in (
        *_PRICE,
        *_TECHNICAL,
        *_LIQUIDITY,
        *_VOLATILITY,
        *_TREND,
        *_STATISTICS,
        *_DERIVATIVES,
        *_OUTSIDE,
        *_MICROSTRUCTURE,
        *_TIME,
    )
}
"""Every kind by name."""
