"""A minute's rows as capture lines, ``<received ns> <Binance combined-stream frame or REST answer>``, and as events."""

from __future__ import annotations

from collections.abc import Iterator

from libs.domain.instruments import instrument_id
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    Liquidation,
    MarketEvent,
    MarkPrice,
    OpenInterest,
    Side,
    Trade,
)
from services.exchange.core.dynamics import (
    DELTA,
    INTEREST,
    LIQUIDATION,
    MARK,
    MINUTE_MS,
    QUOTE,
    SNAPSHOT,
    TRADE,
    Ints,
)
from services.exchange.core.market import Minute

SYMBOL = "BTCUSDT"
INSTRUMENT = instrument_id(SYMBOL, "BINANCE")
TICK_E8 = 10_000_000
LOT_E8 = 100_000
_CENT_E8 = 1_000_000
_NS = 1_000_000


def format_price(ticks: int) -> str:
    """Write ticks of 0.1 as Binance does, with two decimals."""
    return f"{ticks // 10}.{ticks % 10}0"


def format_lots(lots: int) -> str:
    """Write lots of 0.001 with three decimals."""
    return f"{lots // 1000}.{lots % 1000:03d}"


def format_rate(rate_e8: int) -> str:
    """Write a rate of 1e-8 with eight decimals."""
    sign = "-" if rate_e8 < 0 else ""
    return f"{sign}{abs(rate_e8) // 100_000_000}.{abs(rate_e8) % 100_000_000:08d}"


def format_levels(levels: Ints, first: int, count: int) -> str:
    """Write book levels as the inside of a JSON list."""
    return ",".join(
        f'["{ticks // 10}.{ticks % 10}0","{lots // 1000}.{lots % 1000:03d}"]'
        for ticks, lots in levels[first : first + count].tolist()
    )


def stream_of(kind: int) -> str:
    """Name the stream that carries a kind of row; empty for REST answers."""
    return _STREAMS.get(kind, "")


_LOWER = SYMBOL.lower()
_STREAMS = {
    TRADE: f"{_LOWER}@aggTrade",
    QUOTE: f"{_LOWER}@bookTicker",
    DELTA: f"{_LOWER}@depth@500ms",
    MARK: f"{_LOWER}@markPrice@1s",
    LIQUIDATION: f"{_LOWER}@forceOrder",
}


def format_data(row: list[int], levels: Ints) -> str:
    """Write a row's payload as JSON, in the venue's field names."""
    kind, ms, _, a, b, c, d, e, f = row
    if kind == TRADE:
        return (
            f'{{"e":"aggTrade","E":{ms},"s":"{SYMBOL}","a":{a},"p":"{format_price(b)}","q":"{format_lots(c)}",'
            f'"nq":"{format_lots(c)}","f":{a},"l":{a},"T":{ms},"m":{"true" if d else "false"},"st":1}}'
        )
    if kind == QUOTE:
        return (
            f'{{"e":"bookTicker","u":{a},"s":"{SYMBOL}","ps":"{SYMBOL}","b":"{format_price(b)}","B":"{format_lots(c)}",'
            f'"a":"{format_price(d)}","A":"{format_lots(e)}","T":{ms},"E":{ms},"st":1}}'
        )
    if kind == DELTA:
        return (
            f'{{"e":"depthUpdate","E":{ms},"T":{ms},"s":"{SYMBOL}","ps":"{SYMBOL}","U":{a},"u":{b},"pu":{c},'
            f'"b":[{format_levels(levels, d, e)}],"a":[{format_levels(levels, d + e, f)}],"st":1}}'
        )
    if kind == SNAPSHOT:
        return (
            f'{{"lastUpdateId":{a},"E":{ms},"T":{ms},'
            f'"bids":[{format_levels(levels, b, c)}],"asks":[{format_levels(levels, b + c, d)}]}}'
        )
    if kind == MARK:
        mark = f"{a // 10}.{a % 10}0000000"
        return (
            f'{{"e":"markPriceUpdate","E":{ms},"s":"{SYMBOL}","p":"{mark}","ap":"{mark}","P":"{mark}",'
            f'"i":"{b // 100}.{b % 100:02d}000000","r":"{format_rate(c)}","T":{d},"st":1}}'
        )
    if kind == INTEREST:
        return f'{{"symbol":"{SYMBOL}","openInterest":"{format_lots(a)}","time":{ms}}}'
    side, price, lots = "SELL" if a else "BUY", format_price(b), format_lots(c)
    return (
        f'{{"e":"forceOrder","E":{ms},"o":{{"s":"{SYMBOL}","S":"{side}","o":"LIMIT","f":"IOC","q":"{lots}",'
        f'"p":"{price}","ap":"{price}","X":"FILLED","l":"{lots}","z":"{lots}","T":{ms}}},"ps":"{SYMBOL}","st":1}}'
    )


def format_frame(row: list[int], levels: Ints) -> str:
    """Write a row as the message a combined stream sends; REST answers stand as they are."""
    stream = _STREAMS.get(row[0])
    data = format_data(row, levels)
    return f'{{"stream":"{stream}","data":{data}}}' if stream else data


def format_lines(minute: Minute) -> list[str]:
    """Write a minute as capture lines."""
    return [f"{row[2]} {format_frame(row, minute.levels)}" for row in minute.rows.tolist()]


def decode_rows(minute: Minute) -> Iterator[MarketEvent]:
    """Yield the market events of a minute: what reading its lines gives, without the text between."""
    for row in minute.rows.tolist():
        yield _decode_row(row, minute.levels)


def _decode_row(row: list[int], levels: Ints) -> MarketEvent:
    kind, ms, received, a, b, c, d, e, f = row
    at = ms * _NS
    if kind == TRADE:
        return Trade(INSTRUMENT, f"{INSTRUMENT}/aggtrade/{a}", at, received, b * TICK_E8, c * LOT_E8, bool(d), a)
    if kind == QUOTE:
        return BestQuote(
            INSTRUMENT, f"{INSTRUMENT}/quote/{a}", at, received, a, b * TICK_E8, c * LOT_E8, d * TICK_E8, e * LOT_E8
        )
    if kind == DELTA:
        return DepthDelta(
            INSTRUMENT,
            f"{INSTRUMENT}/depth/{b}",
            at,
            received,
            a,
            b,
            c,
            *_levels_e8(levels, d, e),
            *_levels_e8(levels, d + e, f),
        )
    if kind == SNAPSHOT:
        return DepthSnapshot(
            INSTRUMENT,
            f"{INSTRUMENT}/snapshot/{a}",
            at,
            received,
            a,
            *_levels_e8(levels, b, c),
            *_levels_e8(levels, b + c, d),
        )
    if kind == MARK:
        return MarkPrice(INSTRUMENT, f"{INSTRUMENT}/mark/{ms}", at, received, a * TICK_E8, b * _CENT_E8, c, d * _NS)
    if kind == INTEREST:
        return OpenInterest(INSTRUMENT, f"{INSTRUMENT}/oi/{ms}", at, received, a * LOT_E8)
    side = Side.SELL if a else Side.BUY
    price, quantity = b * TICK_E8, c * LOT_E8
    event_id = f"{INSTRUMENT}/liquidation/{ms}/{side.name}/{price}/{quantity}"
    return Liquidation(INSTRUMENT, event_id, at, received, side, price, quantity)


def _levels_e8(levels: Ints, first: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    part = levels[first : first + count]
    return tuple((part[:, 0] * TICK_E8).tolist()), tuple((part[:, 1] * LOT_E8).tolist())


def decode_kline(kline: Ints, *, is_history: bool = True) -> ExchangeBar:
    """Turn a minute's kline into an exchange bar, received at its close."""
    open_ms, opened, high, low, closed, lots, quote, taker_lots, _, trades = kline.tolist()
    open_time = open_ms * _NS
    close_time = open_time + MINUTE_MS * _NS
    return ExchangeBar(
        instrument=INSTRUMENT,
        event_id=f"{INSTRUMENT}/kline/1m/{open_time}",
        event_time=close_time,
        received_time=close_time,
        timeframe="1m",
        open_time=open_time,
        close_time=close_time,
        open_e8=opened * TICK_E8,
        high_e8=high * TICK_E8,
        low_e8=low * TICK_E8,
        close_e8=closed * TICK_E8,
        volume_e8=lots * LOT_E8,
        quote_volume_e8=quote * 10_000,
        taker_buy_volume_e8=taker_lots * LOT_E8,
        trade_count=trades,
        is_history=is_history,
    )


def format_kline(kline: Ints) -> str:
    """Write a kline as a row of GET /fapi/v1/klines."""
    open_ms, opened, high, low, closed, lots, quote, taker_lots, taker_quote, trades = kline.tolist()
    return (
        f'[{open_ms},"{format_price(opened)}","{format_price(high)}","{format_price(low)}","{format_price(closed)}",'
        f'"{format_lots(lots)}",{open_ms + MINUTE_MS - 1},"{_format_quote(quote)}",{trades},'
        f'"{format_lots(taker_lots)}","{_format_quote(taker_quote)}","0"]'
    )


def _format_quote(quote: int) -> str:
    return f"{quote // 10_000}.{quote % 10_000:04d}0"
