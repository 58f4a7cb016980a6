"""The layout of a bar row (what a step reads) and of the derived series (what windows look back on).

A row is one closed bar as float64, NaN where the source was silent. A series is one number a bar, kept in a ring.
"""

from __future__ import annotations

from typing import Final

from libs.domain.readings import READING_SERIES

ROW_COLUMNS: Final = (
    "open",
    "high",
    "low",
    "close",
    "volume",
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
    "close_time",
    *READING_SERIES,
)
"""Prices in quote units, volumes in base units, times in seconds since the epoch, the rest as in a `Bar`.

`funding_rate` is the predicted rate, which no file of settlements has; `settled_funding_rate` the one settled last.
"""

ROW_WIDTH: Final = len(ROW_COLUMNS)

(
    ROW_OPEN,
    ROW_HIGH,
    ROW_LOW,
    ROW_CLOSE,
    ROW_VOLUME,
    ROW_QUOTE,
    ROW_TAKER,
    ROW_TRADES,
    ROW_SPREAD,
    ROW_DEPTH_1,
    ROW_DEPTH_5,
    ROW_DEPTH_10,
    ROW_FLOW,
    ROW_MICROPRICE,
    ROW_REALISED,
    ROW_MARK,
    ROW_INDEX,
    ROW_FUNDING,
    ROW_NEXT_FUNDING,
    ROW_INTEREST,
    ROW_LIQUIDATION_BUY,
    ROW_LIQUIDATION_SELL,
    ROW_CLOSE_TIME,
) = range(ROW_WIDTH - len(READING_SERIES))

ROW_READINGS: Final = ROW_CLOSE_TIME + 1
"""The first of the readings from outside, in the order of `READING_SERIES`."""

ROW_SETTLED_FUNDING: Final = ROW_COLUMNS.index("settled_funding_rate")
ROW_PEER_PRICE: Final = ROW_COLUMNS.index("peer_price")
ROW_SPOT_PRICE: Final = ROW_COLUMNS.index("spot_price")
ROW_SPOT_IMBALANCE: Final = ROW_COLUMNS.index("spot_taker_imbalance")
ROW_OTHER_FUNDING: Final = ROW_COLUMNS.index("other_venue_funding_rate")

_SERIES: Final[dict[str, tuple[str, ...]]] = {
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume": ("volume",),
    "quote_volume": ("quote_volume",),
    "trade_count": ("trade_count",),
    "log_close": ("close",),
    "log_return": ("close",),
    "absolute_return": ("close",),
    "overnight": ("open", "close"),
    "open_to_close": ("open", "close"),
    "parkinson": ("high", "low"),
    "garman_klass": ("open", "high", "low", "close"),
    "rogers_satchell": ("open", "high", "low", "close"),
    "squared_return": ("close",),
    "true_range": ("high", "low", "close"),
    "typical": ("high", "low", "close"),
    "traded_value": ("high", "low", "close", "volume"),
    "flow_up": ("high", "low", "close", "volume"),
    "flow_down": ("high", "low", "close", "volume"),
    "directed_volume": ("close", "volume"),
    "illiquidity": ("close", "volume"),
    "signed_volume": ("volume", "taker_buy_volume"),
    "trade_size": ("volume", "trade_count"),
    "trade_rate": ("trade_count",),
    "spread": ("spread_mean_bps",),
    "depth_imbalance_1": ("depth_imbalance_1",),
    "depth_imbalance_5": ("depth_imbalance_5",),
    "depth_imbalance_10": ("depth_imbalance_10",),
    "order_flow": ("order_flow_imbalance",),
    "microprice": ("microprice_deviation_bps",),
    "realised_variance": ("realised_variance",),
    "mark_basis": ("close", "mark_close"),
    "index_basis": ("close", "index_close"),
    "mark_index_basis": ("mark_close", "index_close"),
    "funding": ("funding_rate",),
    "funding_accrual": ("funding_rate",),
    "time_to_funding": ("next_funding_time",),
    "interest": ("open_interest",),
    "liquidation_net": ("liquidation_buy", "liquidation_sell"),
    "liquidation_total": ("liquidation_buy", "liquidation_sell"),
    "higher_high": ("high",),
    "lower_low": ("low",),
    "path": ("close",),
    "clock": ("close_time",),
    # New ones at the end: feature sets that do without them keep the layout of their memory.
    "signed_square": ("close",),
    "absolute_signed_volume": ("volume", "taker_buy_volume"),
    "log_volume": ("volume",),
    **{name: (name,) for name in READING_SERIES},
    "settled_funding_accrual": ("settled_funding_rate",),
    "log_peer": ("peer_price",),
    "log_peer_ratio": ("peer_price", "close"),
    "spot_basis": ("close", "spot_price"),
    "taker_imbalance_spread": ("volume", "taker_buy_volume", "spot_taker_imbalance"),
    "funding_spread": ("settled_funding_rate", "other_venue_funding_rate"),
}

SERIES: Final = tuple(_SERIES)
"""Derived series by index; `series_inputs` says which row columns each is made of."""

SERIES_COUNT: Final = len(SERIES)


def series_index(name: str) -> int:
    """Find a series; KeyError names what is not there."""
    try:
        return SERIES.index(name)
    except ValueError:
        raise KeyError(f"no series {name!r}; there are {', '.join(SERIES)}") from None


def series_inputs(name: str) -> tuple[str, ...]:
    """Name the row columns that a series is made of."""
    return _SERIES[name]
