"""Closed bars, enriched with what the order book and the derivatives feeds said while they were open."""

from __future__ import annotations

from dataclasses import dataclass

from libs.domain.numbers import NANOSECONDS

TIMEFRAMES: dict[str, int] = {
    "1m": 60 * NANOSECONDS,
    "5m": 300 * NANOSECONDS,
    "15m": 900 * NANOSECONDS,
    "1h": 3600 * NANOSECONDS,
    "4h": 14400 * NANOSECONDS,
    "1d": 86400 * NANOSECONDS,
}
"""Timeframe name to its length in ns. Bars are aligned to the epoch in UTC."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A closed bar over [open_time, close_time), `close_time` = `open_time` + timeframe, ns.

    `event_id` is ``INSTRUMENT/TIMEFRAME/open_time``; `event_time` is `close_time`. Everything optional is None when its
    source was silent during the bar. `spread_mean_bps`, imbalances in [-1, 1] and `microprice_deviation_bps` are means
    over the bar's best-quote or book updates; `order_flow_imbalance` is the sum of Cont-Kukanov-Stoikov increments in
    base units; `realised_variance` is the sum of squared log returns of trade prices. A history bar was filled in
    from klines before the stream began. An incomplete one lacks trades that the venue had: a gap says which.
    `funding_rate_e8` is the rate predicted for the next settlement. From `settled_funding_rate` on are the latest
    readings from outside the stream that were known at the close (`libs.domain.readings`), None without a fresh one.
    """

    instrument: str
    event_id: str
    event_time: int
    timeframe: str
    open_time: int
    close_time: int
    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_e8: int
    quote_volume_e8: int | None
    taker_buy_volume_e8: int | None
    trade_count: int | None
    spread_mean_bps: float | None = None
    depth_imbalance_1: float | None = None
    depth_imbalance_5: float | None = None
    depth_imbalance_10: float | None = None
    order_flow_imbalance: float | None = None
    microprice_deviation_bps: float | None = None
    realised_variance: float | None = None
    mark_close_e8: int | None = None
    index_close_e8: int | None = None
    funding_rate_e8: int | None = None
    next_funding_time: int | None = None
    open_interest_e8: int | None = None
    liquidation_buy_e8: int | None = None
    liquidation_sell_e8: int | None = None
    is_history: bool = False
    is_incomplete: bool = False
    settled_funding_rate: float | None = None
    fear_greed_index: float | None = None
    accounts_long_short_ratio: float | None = None
    top_accounts_long_short_ratio: float | None = None
    top_positions_long_short_ratio: float | None = None
    funding_median_rate: float | None = None
    funding_longs_pay_share: float | None = None
    headline_polarity: float | None = None
    active_addresses: float | None = None
    exchange_net_flow: float | None = None
    spent_output_profit_ratio: float | None = None
    market_value_to_realised_value: float | None = None
    peer_price: float | None = None
    peer_taker_imbalance: float | None = None
    spot_price: float | None = None
    spot_taker_imbalance: float | None = None
    other_venue_funding_rate: float | None = None


@dataclass(frozen=True, slots=True)
class BarRevision:
    """What a closed bar is now that trades of it have come late. The bar stays as it was published, and so does what
    was computed from it.

    `event_id` is ``BAR_ID/revision/NUMBER``; `event_time` the market time of the revision. What books and derivatives
    feeds said is the bar's own. An incomplete one lacks trades still, and will: the venue has them no more. `causes`
    are the gaps behind it.
    """

    instrument: str
    event_id: str
    event_time: int
    bar_id: str
    revision: int
    causes: tuple[str, ...]
    timeframe: str
    open_time: int
    close_time: int
    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_e8: int
    quote_volume_e8: int | None
    taker_buy_volume_e8: int | None
    trade_count: int | None
    is_incomplete: bool = False


def bar_event_id(instrument: str, timeframe: str, open_time: int) -> str:
    """Name a bar: one instrument has one bar per timeframe and open time."""
    return f"{instrument}/{timeframe}/{open_time}"
