"""The feature sets that ship: `core_v1`, `core_v2` and `outside_v1` for models, `seven_v1` for comparison with other
libraries.

`core_v2` adds to `core_v1` what practitioners use beside it, has each number under one name, and, over a longer base,
no feature of a timeframe that is the base or below it. `outside_v1` adds to that the readings from outside the market's
stream, each with a flag that says whether it is known, and has settled funding in place of the predicted rate: files
have the one and only the stream has the other.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Final

from libs.domain.readings import READING_SERIES
from libs.indicators.feature_set import (
    BASE,
    TIMEFRAME_SECONDS,
    Feature,
    FeatureSet,
    FeatureSetError,
    features_of,
)

HIGHER_TIMEFRAMES: Final = ("5m", "15m", "1h", "4h", "1d")


def _core_base() -> list[Feature]:
    f = features_of
    return [
        *[x for n in (1, 5, 15, 60) for x in f("log_return", n=n)],
        *[x for n in (5, 20, 60) for x in f("roc", n=n)],
        *f("momentum", n=10),
        *f("gap"),
        *f("candle"),
        *f("channel", n=20),
        *f("channel", n=60),
        *[x for n in (20, 50, 200) for x in f("sma", n=n)],
        *[x for n in (9, 20, 50, 200) for x in f("ema", n=n)],
        *[x for n in (7, 14, 28) for x in f("rsi", n=n)],
        *f("macd"),
        *f("bollinger"),
        *f("atr", n=14),
        *f("directional", n=14),
        *f("stochastic"),
        *f("cci", n=20),
        *f("williams", n=14),
        *f("money_flow", n=14),
        *f("aroon", n=25),
        *f("keltner"),
        *f("supertrend"),
        *f("ichimoku"),
        *[x for n in (20, 60) for x in f("volume_ratio", n=n)],
        *f("volume_zscore", n=60),
        *f("vroc", n=10),
        *f("obv"),
        *f("obv_trend", n=20),
        *[x for n in (20, 60) for x in f("vwap", n=n)],
        *[x for n in (20, 60) for x in f("amihud", n=n)],
        *f("kyle_lambda", n=60),
        *f("taker_imbalance"),
        *[x for n in (20, 60) for x in f("taker_imbalance_mean", n=n)],
        *[x for n in (60, 240) for x in f("cvd", n=n)],
        *f("cvd_zscore", n=60),
        *f("roll_spread", n=60),
        *f("quote_volume_ratio", n=20),
        *[x for n in (20, 60) for x in f("historical_volatility", n=n)],
        *[x for n in (20, 60) for x in f("parkinson_volatility", n=n)],
        *[x for n in (20, 60) for x in f("garman_klass_volatility", n=n)],
        *[x for n in (20, 60) for x in f("rogers_satchell_volatility", n=n)],
        *[x for n in (20, 60) for x in f("yang_zhang_volatility", n=n)],
        *f("ewma_volatility"),
        *f("realised_volatility"),
        *f("realised_volatility_mean", n=20),
        *f("volatility_ratio"),
        *f("regression", n=20),
        *f("regression", n=60),
        *f("higher_highs", n=20),
        *f("lower_lows", n=20),
        *f("run"),
        *[x for n in (20, 60) for x in f("efficiency", n=n)],
        *f("hurst", n=120),
        *f("moments", n=60),
        *f("autocorrelation", n=60, p=1),
        *f("autocorrelation", n=60, p=5),
        *[x for n in (20, 60) for x in f("close_zscore", n=n)],
        *f("return_zscore", n=60),
        *f("permutation_entropy", n=60),
        *f("funding_rate"),
        *f("funding_cumulative", n=240),
        *f("funding_zscore", n=240),
        *f("time_to_funding"),
        *[x for n in (1, 15, 60) for x in f("open_interest_change", n=n)],
        *f("open_interest_zscore", n=240),
        *f("mark_basis"),
        *f("index_basis"),
        *f("mark_premium"),
        *f("mark_basis_zscore", n=60),
        *f("liquidation_imbalance"),
        *f("liquidation_imbalance_mean", n=60),
        *f("liquidation_share", n=60),
        *f("spread"),
        *f("spread_zscore", n=60),
        *f("depth_imbalance_1"),
        *f("depth_imbalance_5"),
        *f("depth_imbalance_10"),
        *f("depth_imbalance_mean", n=20),
        *f("microprice_deviation"),
        *f("order_flow_imbalance"),
        *f("order_flow_imbalance_sum", n=20),
        *f("order_flow_zscore", n=60),
        *f("trade_intensity"),
        *f("trade_intensity_ratio", n=20),
        *f("average_trade_size"),
        *f("average_trade_size_zscore", n=60),
        *f("calendar"),
    ]


def _core_higher(timeframe: str) -> list[Feature]:
    def f(kind: str, *only: str, **params: int) -> list[Feature]:
        return features_of(kind, timeframe, only, **params)

    return [
        *f("log_return", n=1),
        *f("channel", "position_in_range_{n}", n=20),
        *f("ema", "ema_{n}_distance", n=20),
        *f("rsi", n=14),
        *f("macd", "macd_histogram_bps_{n}_{p}_{q}"),
        *f("bollinger", "bollinger_percent_b_{n}_{k}"),
        *f("atr", "natr_{n}", n=14),
        *f("directional", "adx_{n}", "di_balance_{n}", n=14),
        *f("volume_ratio", n=20),
        *f("taker_imbalance_mean", n=20),
        *f("historical_volatility", n=20),
        *f("regression", "regression_slope_{n}", n=20),
        *f("open_interest_change", n=1),
        *f("funding_zscore", n=30),
    ]


def _core() -> FeatureSet:
    higher = [feature for timeframe in HIGHER_TIMEFRAMES for feature in _core_higher(timeframe)]
    return FeatureSet("core_v1", 1, (*_core_base(), *higher))


_REPEATED: Final = frozenset(
    {"bollinger_middle_20_2", "keltner_middle_20_10_2", "trend_direction_20", "trend_direction_60"}
)
"""What `core_v1` has under another name too, or as the sign of another."""


def _added_base() -> list[Feature]:
    f = features_of
    return [
        *[x for n in (20, 60) for x in f("semivariance", n=n)],
        *f("jump_share", n=60),
        *f("har_volatility", n=60),
        *[x for n in (20, 60) for x in f("vpin", n=n)],
        *[x for n in (20, 60) for x in f("price_volume_correlation", n=n)],
        *[x for n in (20, 60) for x in f("close_rank", n=n)],
        *[x for n in (20, 60) for x in f("close_quantiles", n=n)],
        *[x for n in (20, 60) for x in f("regression_residual", n=n)],
        *f("fractional_difference", n=60),
    ]


def _added_higher() -> list[Feature]:
    """The day, the week and the month of a heterogeneous autoregression, and their jumps."""
    return [
        *features_of("har_volatility", "1h", n=24),
        *features_of("har_volatility", "1h", n=168),
        *features_of("har_volatility", "1d", n=22),
        *features_of("semivariance", "1h", n=24),
        *features_of("jump_share", "1h", n=24),
    ]


def _core_second() -> FeatureSet:
    core = _core()
    return FeatureSet(
        "core_v2",
        1,
        (*(each for each in core.features if each.name not in _REPEATED), *_added_base(), *_added_higher()),
    )


def _outside_features() -> list[Feature]:
    f = features_of
    return [
        *f("settled_funding_rate"),
        *f("settled_funding_cumulative", n=240),
        *f("settled_funding_zscore", n=240),
        *f("fear_greed_index"),
        *f("accounts_long_short_ratio"),
        *f("top_accounts_long_short_ratio"),
        *f("top_positions_long_short_ratio"),
        *f("accounts_long_short_zscore", n=240),
        *f("funding_median_rate"),
        *f("funding_longs_pay_share"),
        *f("headline_polarity"),
        *f("headline_polarity_mean", n=240),
        *f("active_addresses_zscore", n=1440),
        *f("exchange_net_flow_zscore", n=1440),
        *f("spent_output_profit_ratio"),
        *f("market_value_to_realised_value"),
        *[x for n in (1, 5, 15, 60) for x in f("peer_return", n=n)],
        *[x for n in (1, 5, 15, 60) for x in f("peer_lead", n=n)],
        *f("peer_taker_imbalance"),
        *f("spot_basis"),
        *f("spot_basis_zscore", n=60),
        *f("spot_taker_imbalance"),
        *[x for n in (5, 20) for x in f("taker_imbalance_spread", n=n)],
        *f("other_venue_funding_rate"),
        *f("funding_spread"),
        *[x for name in READING_SERIES for x in f(f"{name}_known")],
    ]


def _outside() -> FeatureSet:
    kept = [each for each in _core_second().features if "funding_rate" not in each.kind.inputs]
    return FeatureSet("outside_v1", 1, (*kept, *_outside_features()))


def _without_lower(feature_set: FeatureSet) -> FeatureSet:
    """Leave out features of timeframes that the base builds itself, or that it cannot build."""
    base = TIMEFRAME_SECONDS[feature_set.base_timeframe]
    kept = [each for each in feature_set.features if each.timeframe == BASE or TIMEFRAME_SECONDS[each.timeframe] > base]
    return replace(feature_set, features=tuple(kept))


def _seven() -> FeatureSet:
    return FeatureSet(
        "seven_v1",
        1,
        (
            *features_of("ema", only=("ema_{n}",), n=20),
            *features_of("rsi", n=14),
            *features_of(
                "macd", only=("macd_line_{n}_{p}_{q}", "macd_signal_{n}_{p}_{q}", "macd_histogram_{n}_{p}_{q}")
            ),
            *features_of(
                "bollinger",
                only=("bollinger_upper_{n}_{k}", "bollinger_middle_{n}_{k}", "bollinger_lower_{n}_{k}"),
            ),
            *features_of("atr", only=("atr_{n}",), n=14),
            *features_of("directional", only=("adx_{n}", "plus_di_{n}", "minus_di_{n}"), n=14),
            *features_of("stochastic"),
        ),
    )


FEATURE_SETS: Final = {"core_v1": _core, "core_v2": _core_second, "outside_v1": _outside, "seven_v1": _seven}
DEFAULT_FEATURE_SET: Final = "core_v1"


@cache
def load_feature_set(name: str = DEFAULT_FEATURE_SET, base_timeframe: str = "1m") -> FeatureSet:
    """Build a shipped feature set over a base timeframe; FeatureSetError names those there are."""
    if name not in FEATURE_SETS:
        raise FeatureSetError(f"no feature set {name!r}; there are {', '.join(FEATURE_SETS)}")
    chosen = FEATURE_SETS[name]().on(base_timeframe)
    # What `core_v1` has there stays: its hash is in the models that were trained on it.
    return _without_lower(chosen) if name in ("core_v2", "outside_v1") else chosen
