"""Turn a bar row into the derived series that windows look back on."""

from __future__ import annotations

import math
from typing import Final

from libs.indicators import columns as col
from libs.indicators.arrays import Code, Memory, Row
from libs.indicators.columns import series_index
from libs.indicators.compiling import compiled

PREVIOUS_SLOTS: Final = 7

_OPEN = series_index("open")
_HIGH = series_index("high")
_LOW = series_index("low")
_CLOSE = series_index("close")
_VOLUME = series_index("volume")
_QUOTE = series_index("quote_volume")
_TRADES = series_index("trade_count")
_LOG_CLOSE = series_index("log_close")
_LOG_RETURN = series_index("log_return")
_ABSOLUTE_RETURN = series_index("absolute_return")
_OVERNIGHT = series_index("overnight")
_OPEN_TO_CLOSE = series_index("open_to_close")
_PARKINSON = series_index("parkinson")
_GARMAN_KLASS = series_index("garman_klass")
_ROGERS_SATCHELL = series_index("rogers_satchell")
_SQUARED_RETURN = series_index("squared_return")
_TRUE_RANGE = series_index("true_range")
_TYPICAL = series_index("typical")
_TRADED_VALUE = series_index("traded_value")
_ILLIQUIDITY = series_index("illiquidity")
_SIGNED_VOLUME = series_index("signed_volume")
_TRADE_SIZE = series_index("trade_size")
_TRADE_RATE = series_index("trade_rate")
_SPREAD = series_index("spread")
_DEPTH_1 = series_index("depth_imbalance_1")
_DEPTH_5 = series_index("depth_imbalance_5")
_DEPTH_10 = series_index("depth_imbalance_10")
_ORDER_FLOW = series_index("order_flow")
_MICROPRICE = series_index("microprice")
_REALISED = series_index("realised_variance")
_MARK_BASIS = series_index("mark_basis")
_INDEX_BASIS = series_index("index_basis")
_MARK_INDEX_BASIS = series_index("mark_index_basis")
_FUNDING = series_index("funding")
_FUNDING_ACCRUAL = series_index("funding_accrual")
_TIME_TO_FUNDING = series_index("time_to_funding")
_INTEREST = series_index("interest")
_LIQUIDATION_NET = series_index("liquidation_net")
_LIQUIDATION_TOTAL = series_index("liquidation_total")
_HIGHER_HIGH = series_index("higher_high")
_LOWER_LOW = series_index("lower_low")
_PATH = series_index("path")
_CLOCK = series_index("clock")
_FLOW_UP = series_index("flow_up")
_FLOW_DOWN = series_index("flow_down")
_DIRECTED_VOLUME = series_index("directed_volume")
_SIGNED_SQUARE = series_index("signed_square")
_ABSOLUTE_SIGNED_VOLUME = series_index("absolute_signed_volume")
_LOG_VOLUME = series_index("log_volume")
_FIRST_READING = series_index(col.ROW_COLUMNS[col.ROW_READINGS])
_READING_COUNT = col.ROW_WIDTH - col.ROW_READINGS
_SETTLED_ACCRUAL = series_index("settled_funding_accrual")
_LOG_PEER = series_index("log_peer")
_LOG_PEER_RATIO = series_index("log_peer_ratio")
_SPOT_BASIS = series_index("spot_basis")
_IMBALANCE_SPREAD = series_index("taker_imbalance_spread")
_FUNDING_SPREAD = series_index("funding_spread")

_FUNDING_INTERVAL_S: Final = 28800.0
_PARKINSON_SCALE: Final = 1.0 / (4.0 * math.log(2.0))
_GARMAN_KLASS_SCALE: Final = 2.0 * math.log(2.0) - 1.0
_MILLION: Final = 1e6
_BPS: Final = 1e4
_ROUNDING: Final = 1e-12
_INTEREST_CARRIED_BARS: Final = 5.0


@compiled
def _put(code: Code, k: int, series: int, m: Memory, slot: int, x: float) -> None:
    a = code[k + series]
    if a >= 0:
        m[a + slot] = x


@compiled
def derive_series(
    code: Code, k: int, m: Memory, previous: int, row: Row, i: int, mask: int, bar_seconds: float
) -> None:
    """Write every wanted series of bar `i` into its ring.

    `code[k + series]` is a ring's place or -1. `previous` is the place of the last bar's high, low, close and typical
    price, the last open interest with its age, and whether liquidations have been received.

    Sources: Parkinson 1980; Garman-Klass 1980; Rogers-Satchell 1991; Amihud 2002 (absolute log return per million of
    quote value traded, 0 for a bar without volume); true range Wilder 1978. Funding accrues at rate / 8 h. Open
    interest is polled, so a bar without it takes the value before, at most five bars old. A liquidation feed only
    speaks when there is one, so once it has spoken a bar without a word had none.
    """
    j = i & mask
    o = row[col.ROW_OPEN]
    h = row[col.ROW_HIGH]
    low = row[col.ROW_LOW]
    c = row[col.ROW_CLOSE]
    volume = row[col.ROW_VOLUME]
    taker = row[col.ROW_TAKER]
    trades = row[col.ROW_TRADES]
    last_high = math.nan
    last_low = math.nan
    last = math.nan
    if i > 0:
        last_high = m[previous]
        last_low = m[previous + 1]
        last = m[previous + 2]
    m[previous] = h
    m[previous + 1] = low
    m[previous + 2] = c
    _put(code, k, _OPEN, m, j, o)
    _put(code, k, _HIGH, m, j, h)
    _put(code, k, _LOW, m, j, low)
    _put(code, k, _CLOSE, m, j, c)
    _put(code, k, _VOLUME, m, j, volume)
    _put(code, k, _QUOTE, m, j, row[col.ROW_QUOTE])
    _put(code, k, _TRADES, m, j, trades)
    if code[k + _LOG_CLOSE] >= 0:
        m[code[k + _LOG_CLOSE] + j] = math.log(c)
    change = math.nan
    if i > 0:
        change = math.log(c / last)
    _put(code, k, _LOG_RETURN, m, j, change)
    _put(code, k, _ABSOLUTE_RETURN, m, j, abs(change))
    _put(code, k, _SQUARED_RETURN, m, j, change * change)
    _put(code, k, _SIGNED_SQUARE, m, j, change * abs(change))
    if code[k + _OVERNIGHT] >= 0:
        m[code[k + _OVERNIGHT] + j] = math.log(o / last) if i > 0 else math.nan
    body = math.log(c / o)
    _put(code, k, _OPEN_TO_CLOSE, m, j, body)
    if code[k + _PARKINSON] >= 0 or code[k + _GARMAN_KLASS] >= 0:
        span = math.log(h / low)
        _put(code, k, _PARKINSON, m, j, span * span * _PARKINSON_SCALE)
        _put(code, k, _GARMAN_KLASS, m, j, 0.5 * span * span - _GARMAN_KLASS_SCALE * body * body)
    if code[k + _ROGERS_SATCHELL] >= 0:
        up = math.log(h / o)
        down = math.log(low / o)
        m[code[k + _ROGERS_SATCHELL] + j] = up * (up - body) + down * (down - body)
    if code[k + _TRUE_RANGE] >= 0:
        true_range = math.nan
        if i > 0:
            true_range = max(h - low, max(abs(h - last), abs(low - last)))
        m[code[k + _TRUE_RANGE] + j] = true_range
    typical = (h + low + c) / 3.0
    _put(code, k, _TYPICAL, m, j, typical)
    _put(code, k, _TRADED_VALUE, m, j, typical * volume)
    flow_up = math.nan
    flow_down = math.nan
    directed = volume
    if i > 0:
        last_typical = m[previous + 3]
        # The mean of three prices that add up to the same differs in its last bit by their order: that is no move.
        move = typical - last_typical
        if abs(move) <= _ROUNDING * typical:
            move = 0.0
        flow_up = typical * volume if move > 0.0 else 0.0
        flow_down = typical * volume if move < 0.0 else 0.0
        directed = volume if c > last else (-volume if c < last else 0.0)
    m[previous + 3] = typical
    _put(code, k, _FLOW_UP, m, j, flow_up)
    _put(code, k, _FLOW_DOWN, m, j, flow_down)
    _put(code, k, _DIRECTED_VOLUME, m, j, directed)
    illiquidity = 0.0 if i > 0 else math.nan
    if volume > 0.0:
        illiquidity = abs(change) / (c * volume) * _MILLION
    _put(code, k, _ILLIQUIDITY, m, j, illiquidity)
    _put(code, k, _SIGNED_VOLUME, m, j, 2.0 * taker - volume)
    _put(code, k, _ABSOLUTE_SIGNED_VOLUME, m, j, abs(2.0 * taker - volume))
    if code[k + _LOG_VOLUME] >= 0:
        m[code[k + _LOG_VOLUME] + j] = math.log1p(volume)
    _put(code, k, _TRADE_SIZE, m, j, volume / trades if trades != 0.0 else 0.0)
    _put(code, k, _TRADE_RATE, m, j, trades / bar_seconds)
    _put(code, k, _SPREAD, m, j, row[col.ROW_SPREAD])
    _put(code, k, _DEPTH_1, m, j, row[col.ROW_DEPTH_1])
    _put(code, k, _DEPTH_5, m, j, row[col.ROW_DEPTH_5])
    _put(code, k, _DEPTH_10, m, j, row[col.ROW_DEPTH_10])
    _put(code, k, _ORDER_FLOW, m, j, row[col.ROW_FLOW])
    _put(code, k, _MICROPRICE, m, j, row[col.ROW_MICROPRICE])
    _put(code, k, _REALISED, m, j, row[col.ROW_REALISED])
    mark = row[col.ROW_MARK]
    index = row[col.ROW_INDEX]
    _put(code, k, _MARK_BASIS, m, j, (c / mark - 1.0) * _BPS)
    _put(code, k, _INDEX_BASIS, m, j, (c / index - 1.0) * _BPS)
    _put(code, k, _MARK_INDEX_BASIS, m, j, (mark / index - 1.0) * _BPS)
    rate = row[col.ROW_FUNDING]
    _put(code, k, _FUNDING, m, j, rate)
    _put(code, k, _FUNDING_ACCRUAL, m, j, rate * bar_seconds / _FUNDING_INTERVAL_S)
    _put(code, k, _TIME_TO_FUNDING, m, j, (row[col.ROW_NEXT_FUNDING] - row[col.ROW_CLOSE_TIME]) / 3600.0)
    interest = row[col.ROW_INTEREST]
    if interest == interest:
        m[previous + 4] = interest
        m[previous + 5] = 0.0
    else:
        m[previous + 5] += 1.0
        if m[previous + 5] <= _INTEREST_CARRIED_BARS:
            interest = m[previous + 4]
    _put(code, k, _INTEREST, m, j, interest)
    buy = row[col.ROW_LIQUIDATION_BUY]
    sell = row[col.ROW_LIQUIDATION_SELL]
    if buy == buy and sell == sell:
        m[previous + 6] = 1.0
    elif buy != buy and sell != sell and m[previous + 6] == 1.0:
        buy = 0.0
        sell = 0.0
    _put(code, k, _LIQUIDATION_NET, m, j, buy - sell)
    _put(code, k, _LIQUIDATION_TOTAL, m, j, buy + sell)
    _put(code, k, _HIGHER_HIGH, m, j, (1.0 if h > last_high else 0.0) if i > 0 else math.nan)
    _put(code, k, _LOWER_LOW, m, j, (1.0 if low < last_low else 0.0) if i > 0 else math.nan)
    _put(code, k, _PATH, m, j, abs(c - last) if i > 0 else math.nan)
    _put(code, k, _CLOCK, m, j, row[col.ROW_CLOSE_TIME])
    for reading in range(_READING_COUNT):
        _put(code, k, _FIRST_READING + reading, m, j, row[col.ROW_READINGS + reading])
    settled = row[col.ROW_SETTLED_FUNDING]
    _put(code, k, _SETTLED_ACCRUAL, m, j, settled * bar_seconds / _FUNDING_INTERVAL_S)
    _put(code, k, _FUNDING_SPREAD, m, j, settled - row[col.ROW_OTHER_FUNDING])
    peer = row[col.ROW_PEER_PRICE]
    _put(code, k, _LOG_PEER, m, j, math.log(peer) if peer > 0.0 else math.nan)
    _put(code, k, _LOG_PEER_RATIO, m, j, math.log(peer / c) if peer > 0.0 else math.nan)
    _put(code, k, _SPOT_BASIS, m, j, (c / row[col.ROW_SPOT_PRICE] - 1.0) * _BPS)
    imbalance = (2.0 * taker - volume) / volume if volume > 0.0 else 0.0 * taker
    _put(code, k, _IMBALANCE_SPREAD, m, j, imbalance - row[col.ROW_SPOT_IMBALANCE])
