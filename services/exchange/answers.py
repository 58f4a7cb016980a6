"""What the simulated exchange answers on Binance's public REST paths at a moment of market time, as JSON values."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from libs.domain.instruments import find_instrument
from libs.domain.numbers import format_decimal
from services.exchange.core import HISTORY_MINUTES, START_MS, Minute
from services.exchange.core.account import Refused
from services.exchange.core.account.conditional import MAX_ALGO_ORDERS
from services.exchange.core.account.liquidation import LIQUIDATION_FEE_RATE
from services.exchange.core.account.requests import CONDITIONAL_TYPES
from services.exchange.core.dynamics import (
    DELTA,
    FUNDING_MS,
    INTEREST,
    KLINE,
    MARK,
    MINUTE_MS,
    QUOTE,
    SNAPSHOT,
    TRADE,
    Ints,
)
from services.exchange.core.frames import (
    INSTRUMENT,
    SYMBOL,
    format_data,
    format_kline,
    format_lots,
    format_price,
    format_rate,
)
from services.exchange.limits import RATE_LIMITS
from services.exchange.market_tape import MarketTape, minute_index, rows_until

INTERVAL_MINUTES = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440}
_LOOK_BACK_MINUTES = 120


def check_symbol(symbol: str) -> None:
    """Refuse any symbol but the simulated one, as Binance does."""
    if symbol.upper() != SYMBOL:
        raise Refused(-1121, f"Invalid symbol; this exchange lists {SYMBOL}.")


def exchange_info(now_ms: int) -> dict[str, Any]:
    """Describe the one instrument and its filters."""
    rules = find_instrument(INSTRUMENT)
    lot = {"minQty": rules.min_quantity, "stepSize": rules.step_size}
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.10", "maxPrice": "4529764", "tickSize": _text(rules.tick_size)},
        {"filterType": "LOT_SIZE", "maxQty": _text(rules.max_quantity), **{k: _text(v) for k, v in lot.items()}},
        {
            "filterType": "MARKET_LOT_SIZE",
            "maxQty": _text(rules.market_max_quantity),
            **{k: _text(v) for k, v in lot.items()},
        },
        {"filterType": "MAX_NUM_ORDERS", "limit": rules.max_open_orders},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": MAX_ALGO_ORDERS},
        {"filterType": "MIN_NOTIONAL", "notional": _text(rules.min_notional)},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": _text(rules.price_multiplier_up),
            "multiplierDown": _text(rules.price_multiplier_down),
            "multiplierDecimal": "4",
        },
    ]
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": RATE_LIMITS,
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": None}],
        "symbols": [
            {
                "symbol": SYMBOL,
                "pair": SYMBOL,
                "contractType": "PERPETUAL",
                "status": "TRADING",
                "baseAsset": rules.base_asset,
                "quoteAsset": rules.quote_asset,
                "marginAsset": rules.quote_asset,
                "pricePrecision": 2,
                "quantityPrecision": 3,
                "onboardDate": START_MS - HISTORY_MINUTES * MINUTE_MS,
                "triggerProtect": "0.0500",
                "liquidationFee": _text(LIQUIDATION_FEE_RATE),
                "marketTakeBound": _text(rules.price_multiplier_up - 1),
                "orderTypes": ["LIMIT", "MARKET", *CONDITIONAL_TYPES],
                "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
                "filters": filters,
            }
        ],
    }


def _text(value: Any) -> str:
    return format_decimal(value)


def depth(tape: MarketTape, now_ms: int, limit: int) -> dict[str, Any]:
    """Return the book as the stream has shown it, with the update id that its deltas go on from."""
    index = minute_index(now_ms)
    bids, asks = ({int(t): int(n) for t, n in side} for side in tape.opening_book(index))
    last = _last_row(tape, now_ms, (DELTA, SNAPSHOT))
    minute = tape.minute(index)
    for row in rows_until(minute, now_ms).tolist():
        if row[0] == SNAPSHOT:
            _apply(bids, minute.levels, row[4], row[5])
            _apply(asks, minute.levels, row[4] + row[5], row[6])
        elif row[0] == DELTA:
            _apply(bids, minute.levels, row[6], row[7])
            _apply(asks, minute.levels, row[6] + row[7], row[8])
    return {
        "lastUpdateId": last[4] if last[0] == DELTA else last[3],
        "E": now_ms,
        "T": last[1],
        "bids": [[format_price(t), format_lots(bids[t])] for t in sorted(bids, reverse=True)[:limit]],
        "asks": [[format_price(t), format_lots(asks[t])] for t in sorted(asks)[:limit]],
    }


def _apply(side: dict[int, int], levels: Ints, first: int, count: int) -> None:
    for ticks, lots in levels[first : first + count].tolist():
        if lots:
            side[ticks] = lots
        else:
            side.pop(ticks, None)


def find_row(tape: MarketTape, now_ms: int, kinds: tuple[int, ...]) -> list[int] | None:
    """Return the last row of some kinds up to now, None where there is none within two hours."""
    newest = minute_index(now_ms)
    for index in range(newest, max(-1, newest - _LOOK_BACK_MINUTES), -1):
        rows = rows_until(tape.minute(index), now_ms)
        found = np.flatnonzero(np.isin(rows[:, 0], kinds))
        if len(found):
            row: list[int] = rows[found[-1]].tolist()
            return row
    return None


def _last_row(tape: MarketTape, now_ms: int, kinds: tuple[int, ...]) -> list[int]:
    row = find_row(tape, now_ms, kinds)
    if row is None:
        raise Refused(-1122, "Nothing of this kind has happened yet.")
    return row


def klines(
    tape: MarketTape, now_ms: int, interval: str, start_ms: int | None, end_ms: int | None, limit: int
) -> list[Any]:
    """Return klines by open time in [start, end], oldest first, the unfinished one last; without a start the newest."""
    if interval not in INTERVAL_MINUTES:
        raise Refused(-1120, f"Invalid interval; known are {', '.join(INTERVAL_MINUTES)}.")
    length = INTERVAL_MINUTES[interval] * MINUTE_MS
    oldest = START_MS - HISTORY_MINUTES * MINUTE_MS
    newest = min(now_ms if end_ms is None else end_ms, now_ms)
    last_open = newest - newest % length
    if start_ms is None:
        first_open = last_open - (limit - 1) * length
    else:
        first_open = -(-start_ms // length) * length
    first_open = max(first_open, -(-oldest // length) * length)
    opens = range(first_open, last_open + 1, length)[:limit]
    return [orjson.loads(format_kline(_kline_at(tape, now_ms, open_ms, length))) for open_ms in opens]


def _kline_at(tape: MarketTape, now_ms: int, open_ms: int, length: int) -> Ints:
    whole = np.zeros(KLINE, dtype=np.int64)
    whole[0] = open_ms
    for minute_ms in range(open_ms, min(open_ms + length, now_ms + 1), MINUTE_MS):
        index = minute_index(minute_ms)
        part = tape.kline(index)
        if minute_ms + MINUTE_MS > now_ms:
            part = _unfinished(tape, index, now_ms)
        if not whole[1]:
            whole[1:5] = part[1:5]
        whole[2] = max(whole[2], part[2])
        whole[3] = min(whole[3], part[3])
        whole[4] = part[4]
        whole[5:] += part[5:]
    return whole


def _unfinished(tape: MarketTape, index: int, now_ms: int) -> Ints:
    minute = tape.minute(index)
    rows = rows_until(minute, now_ms)
    trades = rows[rows[:, 0] == TRADE]
    part = np.zeros(KLINE, dtype=np.int64)
    part[0] = minute.open_ms
    if not len(trades):
        part[1:5] = tape.kline(index - 1)[4]
        return part
    ticks, lots, is_buy = trades[:, 4], trades[:, 5], trades[:, 6] == 0
    part[1:5] = ticks[0], ticks.max(), ticks.min(), ticks[-1]
    part[5:] = lots.sum(), (ticks * lots).sum(), lots[is_buy].sum(), (ticks * lots)[is_buy].sum(), len(trades)
    return part


def aggregate_trades(
    tape: MarketTape, now_ms: int, from_id: int | None, start_ms: int | None, end_ms: int | None, limit: int
) -> list[Any]:
    """Return trades from an id or within a time range, oldest first; without either the newest."""
    end = min(now_ms if end_ms is None else end_ms, now_ms)
    if from_id is None and start_ms is None:
        return _newest_trades(tape, end, limit)
    out: list[Any] = []
    first = 0 if from_id is not None else max(0, minute_index(start_ms or START_MS))
    for index in range(first, minute_index(end) + 1):
        minute = tape.minute(index)
        trades = _trades_of(minute, end)
        if from_id is not None:
            trades = trades[trades[:, 3] >= from_id]
        if start_ms is not None:
            trades = trades[trades[:, 1] >= start_ms]
        out.extend(orjson.loads(format_data(row, minute.levels)) for row in trades[: limit - len(out)].tolist())
        if len(out) >= limit:
            break
    return [_without_stream_fields(trade) for trade in out]


def _newest_trades(tape: MarketTape, end_ms: int, limit: int) -> list[Any]:
    out: list[Any] = []
    for index in range(minute_index(end_ms), -1, -1):
        minute = tape.minute(index)
        rows = _trades_of(minute, end_ms)[-(limit - len(out)) :].tolist()
        out = [orjson.loads(format_data(row, minute.levels)) for row in rows] + out
        if len(out) >= limit:
            break
    return [_without_stream_fields(trade) for trade in out]


def _trades_of(minute: Minute, end_ms: int) -> Ints:
    rows = rows_until(minute, end_ms)
    trades: Ints = rows[rows[:, 0] == TRADE]
    return trades


def _without_stream_fields(trade: dict[str, Any]) -> dict[str, Any]:
    return {name: trade[name] for name in ("a", "p", "q", "nq", "f", "l", "T", "m")}


def premium_index(tape: MarketTape, now_ms: int) -> dict[str, Any]:
    """Return mark, index and funding."""
    row = _last_row(tape, now_ms, (MARK,))
    data = orjson.loads(format_data(row, tape.minute(minute_index(row[1])).levels))
    return {
        "symbol": SYMBOL,
        "markPrice": data["p"],
        "indexPrice": data["i"],
        "estimatedSettlePrice": data["P"],
        "lastFundingRate": data["r"],
        "interestRate": "0.00010000",
        "nextFundingTime": data["T"],
        "time": row[1],
    }


def funding_rates(tape: MarketTape, now_ms: int, start_ms: int | None, end_ms: int | None, limit: int) -> list[Any]:
    """Return the fundings settled in the stream so far."""
    end = min(now_ms if end_ms is None else end_ms, now_ms)
    first = -(-(START_MS + 1 if start_ms is None else max(start_ms, START_MS + 1)) // FUNDING_MS) * FUNDING_MS
    times = range(first, end + 1, FUNDING_MS)
    chosen = times[-limit:] if start_ms is None else times[:limit]
    out = []
    for time_ms in chosen:
        # The rate in force until the settlement is what was last published before it.
        row = _last_row(tape, time_ms - 1, (MARK,))
        at = _last_row(tape, time_ms, (MARK,))
        out.append(
            {
                "symbol": SYMBOL,
                "fundingTime": time_ms,
                "fundingRate": format_rate(row[5]),
                "markPrice": f"{format_price(at[3])}000000",
            }
        )
    return out


def open_interest(tape: MarketTape, now_ms: int) -> dict[str, Any]:
    """Return the open interest."""
    row = _last_row(tape, now_ms, (INTEREST,))
    return {"openInterest": format_lots(row[3]), "symbol": SYMBOL, "time": row[1]}


def book_ticker(tape: MarketTape, now_ms: int) -> dict[str, Any]:
    """Return the top of the book."""
    row = _last_row(tape, now_ms, (QUOTE,))
    return {
        "symbol": SYMBOL,
        "bidPrice": format_price(row[4]),
        "bidQty": format_lots(row[5]),
        "askPrice": format_price(row[6]),
        "askQty": format_lots(row[7]),
        "lastUpdateId": row[3],
        "time": row[1],
    }


def ticker_price(tape: MarketTape, now_ms: int) -> dict[str, Any]:
    """Return the last trade's price; before the first trade the history's last."""
    try:
        row = _last_row(tape, now_ms, (TRADE,))
    except Refused:
        return {"symbol": SYMBOL, "price": format_price(int(tape.kline(-1)[4])), "time": START_MS}
    return {"symbol": SYMBOL, "price": format_price(row[4]), "time": row[1]}
