"""The private websocket: account events for clients that hold the listen key."""

from __future__ import annotations

import asyncio

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from services.exchange.session import TradingSession
from services.exchange.streams import LOOK_EVERY_S

UNKNOWN_KEY = "This listenKey does not exist."
POLICY_VIOLATION = 1008


async def serve_private(socket: WebSocket, session: TradingSession, *, is_combined: bool) -> None:
    """Serve one connection until it closes or its listen key ends; `events` in the address chooses kinds."""
    served = session.event_count
    key = socket.query_params.get("listenKey", "")
    await socket.accept()
    if not key or key != session.listen_key:
        await socket.close(POLICY_VIOLATION, UNKNOWN_KEY)
        return
    kinds = {kind for kind in socket.query_params.get("events", "").replace(",", "/").split("/") if kind}
    listener = asyncio.create_task(_wait_for_end(socket))
    try:
        while not listener.done():
            is_open = session.listen_key == key
            if session.event_count > served:
                events = session.events_after(served)
                if events is None:
                    # Too slow a reader is disconnected rather than served with a gap.
                    await socket.close(POLICY_VIOLATION, "too far behind")
                    return
                for text in events:
                    kind = orjson.loads(text)["e"]
                    if not kinds or kind in kinds or kind == "listenKeyExpired":
                        await socket.send_text(_wrap(key, text) if is_combined else text.decode())
                served += len(events)
            if not is_open:
                await socket.close(1000, "the listenKey has ended")
                return
            await asyncio.wait((listener,), timeout=LOOK_EVERY_S)
    except (WebSocketDisconnect, RuntimeError):
        # The client disconnected while a message was being sent.
        return
    finally:
        listener.cancel()


def _wrap(key: str, text: bytes) -> str:
    return f'{{"stream":"{key}","data":{text.decode()}}}'


async def _wait_for_end(socket: WebSocket) -> None:
    while True:
        try:
            await socket.receive_text()
        except (WebSocketDisconnect, RuntimeError):
            return
