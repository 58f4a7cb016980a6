"""Fault injection for tests: requests and answers that are lost, delayed, or answered with a 503."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.exchange.core.account.refusals import BACK_END_TIMEOUT

Kind = Literal["lost_request", "lost_answer", "status_503", "status_503_after", "timeout"]


class Fault(BaseModel):
    """What goes wrong with the next `count` requests of a method and path, after `delay_ms` of wall time.

    ``lost_request``: closed unanswered, without effect. ``lost_answer``: takes effect, closed unanswered.
    ``status_503``: no effect, 503. ``status_503_after``: takes effect, 503. ``timeout``: takes effect and is answered
    after the delay, when the client has given up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str = Field(pattern=r"^/(fapi|api)/")
    kind: Kind
    count: int = Field(default=1, ge=1, le=1_000_000)
    delay_ms: int = Field(default=0, ge=0, le=600_000)


class Faults:
    """The pending faults, each with the number of requests it still applies to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        """Queue a fault behind those added before it."""
        with self._lock:
            self._coming.append((fault, fault.count))

    def clear(self) -> None:
        """Remove all pending faults."""
        with self._lock:
            self._coming.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that applies to a request, None for most."""
        with self._lock:
            for position, (fault, left) in enumerate(self._coming):
                if (fault.method, fault.path) == (method, path):
                    if left > 1:
                        self._coming[position] = (fault, left - 1)
                    else:
                        del self._coming[position]
                    return fault
        return None


class FaultyApp:
    """Wraps an ASGI application and injects the pending faults."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or inject a fault into it."""
        fault = self._faults.take(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        receive = await _keep_body(receive)
        await asyncio.sleep(fault.delay_ms / 1000)
        if fault.kind in ("lost_answer", "status_503_after"):
            await self._app(scope, receive, _discard)
        if fault.kind in ("lost_request", "lost_answer"):
            await _hang_up(receive, send)
        elif fault.kind == "timeout":
            await self._app(scope, receive, send)
        elif fault.kind == "status_503":
            await _answer_503(-1008, "Server is currently overloaded with other requests.")(scope, receive, send)
        else:
            await _answer_503(-1007, BACK_END_TIMEOUT)(scope, receive, send)


async def _keep_body(receive: Receive) -> Receive:
    """Read the whole request and replay it: the server no longer delivers it once the client has disconnected."""
    kept = deque([await receive()])
    while kept[-1].get("more_body"):
        kept.append(await receive())

    async def give() -> Message:
        return kept.popleft() if kept else await receive()

    return give


async def _discard(_message: Message) -> None:
    return


def _answer_503(code: int, text: str) -> JSONResponse:
    return JSONResponse({"code": code, "msg": text}, 503)


async def _hang_up(receive: Receive, send: Send) -> None:
    # ASGI cannot close a connection without an answer; uvicorn's `send` belongs to what holds the transport.
    send.__self__.transport.abort()  # type: ignore[attr-defined]
    # Until it has noticed, it would answer for an application that did not.
    while (await receive())["type"] != "http.disconnect":
        continue
