"""A websocket read by a thread of its own into a bounded queue; it reconnects by itself and says so.

A connection that is silent for too long is taken for dead; one near the venue's age limit is renewed. When the queue is
full the thread halts, and with it the reading of the socket: nothing is ever dropped.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from enum import Enum

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy
from libs.venues.api import StreamDeclaration

_PUT_S = 0.5
_RECEIVE_S = 0.5
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class ArrivalKind(Enum):
    """A frame, or a change of the connection: CONNECTED and LOST come in the order in which they happened."""

    FRAME = 1
    CONNECTED = 2
    LOST = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a stream brought: `received_time` in ns; `payload` is the frame, or why the connection was lost."""

    kind: ArrivalKind
    stream: str
    received_time: int
    payload: bytes = b""


class StreamReader:
    """Reads one websocket into a queue until stopped; says and asks there what its declaration says."""

    def __init__(
        self,
        declaration: StreamDeclaration,
        arrivals: queue.Queue[Arrival],
        *,
        stale_after_s: float,
        renew_after_s: float,
        open_timeout_s: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._clock = clock
        self._entropy = entropy
        self.name = declaration.name
        self._declaration = declaration
        self._arrivals = arrivals
        self._stale_after_s = stale_after_s
        self._renew_after_s = renew_after_s
        self._open_timeout_s = open_timeout_s
        self._stopping = threading.Event()
        self._wants_snapshot = threading.Event()
        self._reconnect_reason = ""
        self._thread = threading.Thread(target=self._run, name=f"stream-{self.name}", daemon=True)

    def start(self) -> None:
        """Begin to connect and read."""
        self._thread.start()

    def resubscribe(self) -> None:
        """Have the venue send the book's snapshot anew; from any thread."""
        self._wants_snapshot.set()

    def reconnect(self, reason: str) -> None:
        """Close the connection and open another; from any thread."""
        self._reconnect_reason = reason

    def stop(self) -> None:
        """Stop reading and wait for the thread, if it was started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            begun = self._clock.monotonic_s()
            try:
                reason = self._read_connection()
            except (OSError, WebSocketException, TimeoutError) as error:
                reason = f"{type(error).__name__}: {error}"
            self._put(ArrivalKind.LOST, reason.encode())
            if self._clock.monotonic_s() - begun > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            # Spread out, so that many readers do not come back at the same moment.
            self._stopping.wait(pause_s * (0.5 + self._entropy.fraction()))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _read_connection(self) -> str:
        with connect(
            self._declaration.url, open_timeout=self._open_timeout_s, close_timeout=1.0, max_size=2**24
        ) as connection:
            self._put(ArrivalKind.CONNECTED, b"")
            self._wants_snapshot.clear()
            self._reconnect_reason = ""
            for message in self._declaration.subscribe:
                connection.send(message, text=True)
            return self._read_frames(connection)

    def _read_frames(self, connection: ClientConnection) -> str:
        connected = heard = pinged = self._clock.monotonic_s()
        while not self._stopping.is_set():
            if self._reconnect_reason:
                return self._reconnect_reason
            if self._wants_snapshot.is_set():
                self._wants_snapshot.clear()
                for message in self._declaration.resubscribe:
                    connection.send(message, text=True)
            if self._declaration.ping and self._clock.monotonic_s() - pinged > self._declaration.ping_every_s:
                connection.send(self._declaration.ping, text=True)
                pinged = self._clock.monotonic_s()
            try:
                payload = connection.recv(timeout=_RECEIVE_S, decode=False)
            except TimeoutError:
                if self._clock.monotonic_s() - heard > self._stale_after_s:
                    return f"nothing came for {self._stale_after_s:g} s"
                continue
            self._put(ArrivalKind.FRAME, payload)
            heard = self._clock.monotonic_s()
            if heard - connected > self._renew_after_s:
                return f"renewed after {self._renew_after_s:g} s"
        return "stopped"

    def _put(self, kind: ArrivalKind, payload: bytes) -> None:
        arrival = Arrival(kind, self.name, self._clock.now_ns(), payload)
        while not self._stopping.is_set():
            try:
                self._arrivals.put(arrival, timeout=_PUT_S)
                return
            except queue.Full:
                continue
