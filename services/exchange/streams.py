"""The simulated exchange's websockets: what happened since the last look goes out, at the market clock's pace."""

from __future__ import annotations

import asyncio

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from services.exchange.clock import MarketClock
from services.exchange.core.dynamics import DELTA, LIQUIDATION, MARK, MINUTE_MS, QUOTE, TRADE
from services.exchange.core.frames import SYMBOL, format_data
from services.exchange.market_tape import MarketTape, minute_index

# Since 2026-04-23 Binance serves books under /public and the rest under /market; each ignores the other's streams.
_ENDINGS: dict[str, dict[str, int]] = {
    "public": {
        "depth": DELTA,
        "depth@100ms": DELTA,
        "depth@250ms": DELTA,
        "depth@500ms": DELTA,
        "bookTicker": QUOTE,
    },
    "market": {"aggTrade": TRADE, "markPrice": MARK, "markPrice@1s": MARK, "forceOrder": LIQUIDATION},
}
LOOK_EVERY_S = 0.02


class Subscription:
    """One connection: which streams it wants and how far it has been served."""

    def __init__(self, category: str, streams: list[str], *, is_combined: bool) -> None:
        self._kinds: dict[int, str] = {}
        self._category = category
        self._is_combined = is_combined
        self.subscribe(streams)

    def subscribe(self, streams: list[str]) -> None:
        """Add streams; those of the other path and unknown ones stay silent, as at Binance."""
        for stream in streams:
            symbol, _, ending = stream.partition("@")
            kind = _ENDINGS[self._category].get(ending)
            if symbol == SYMBOL.lower() and kind is not None:
                self._kinds[kind] = stream

    def unsubscribe(self, streams: list[str]) -> None:
        """Remove streams."""
        self._kinds = {kind: stream for kind, stream in self._kinds.items() if stream not in streams}

    def messages(self, tape: MarketTape, after_ms: int, until_ms: int) -> list[str]:
        """Return the messages of (after, until]."""
        out: list[str] = []
        for index in range(minute_index(after_ms), minute_index(until_ms) + 1):
            minute = tape.minute(index)
            for row in minute.rows.tolist():
                stream = self._kinds.get(row[0])
                if stream is None or not after_ms < row[1] <= until_ms:
                    continue
                data = format_data(row, minute.levels)
                out.append(f'{{"stream":"{stream}","data":{data}}}' if self._is_combined else data)
        return out


async def serve_stream(socket: WebSocket, tape: MarketTape, clock: MarketClock, subscription: Subscription) -> None:
    """Serve one connection until it closes: subscriptions come in, messages go out."""
    await socket.accept()
    listener = asyncio.create_task(_listen(socket, subscription))
    served_ms = clock.now_ms()
    try:
        while not listener.done():
            now_ms = clock.now_ms()
            if now_ms - served_ms > 10 * MINUTE_MS:
                # Too slow a reader is disconnected rather than served from the past.
                await socket.close(1008)
                return
            if now_ms > served_ms:
                for message in await asyncio.to_thread(subscription.messages, tape, served_ms, now_ms):
                    await socket.send_text(message)
                served_ms = now_ms
            await asyncio.wait((listener,), timeout=LOOK_EVERY_S)
    except (WebSocketDisconnect, RuntimeError):
        # The client disconnected while a message was being sent.
        return
    finally:
        listener.cancel()


async def _listen(socket: WebSocket, subscription: Subscription) -> None:
    while True:
        try:
            text = await socket.receive_text()
        except (WebSocketDisconnect, RuntimeError):
            return
        await socket.send_text(_answer(text, subscription))


def _answer(text: str, subscription: Subscription) -> str:
    try:
        request = orjson.loads(text)
        method, streams, request_id = request["method"], list(request.get("params", [])), request.get("id")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return '{"error":{"code":3,"msg":"Invalid JSON: expected method, params and id"},"id":null}'
    if method == "SUBSCRIBE":
        subscription.subscribe(streams)
    elif method == "UNSUBSCRIBE":
        subscription.unsubscribe(streams)
    else:
        return orjson.dumps({"error": {"code": 2, "msg": f"Unknown method {method}"}, "id": request_id}).decode()
    return orjson.dumps({"result": None, "id": request_id}).decode()
