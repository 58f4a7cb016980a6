"""A websocket read by a thread of its own into a bounded queue; it reconnects by itself and says so.

A connection that is silent for too long is taken for dead. One near the venue's age limit, or that is suspected, is
replaced while it is still read: another is opened beside it and takes its place once it has brought something and both
have been open for a moment, so that nothing lies between them; what both bring the reader of the queue drops by number,
a snapshot with which the new one begins too, where it is no newer than the book. When the queue is full the thread
halts, and with it the reading of the socket: nothing is ever dropped.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack
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
# A connection that brought frames for so long was a good one: the next failure begins with the first pause again.
_STEADY_S = 5.0
# How long two connections are both open at least, and how long the new one has to bring something.
_OVERLAP_S = 1.0
_PROOF_S = 10.0


class ArrivalKind(Enum):
    """A frame, or a change of the connection: CONNECTED and LOST come in the order in which they happened.

    RENEWED is a connection that took the place of another while both were open: nothing is missing.
    """

    FRAME = 1
    CONNECTED = 2
    LOST = 3
    RENEWED = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a stream brought: `received_time` in ns; `payload` is the frame, or why the connection was lost."""

    kind: ArrivalKind
    stream: str
    received_time: int
    payload: bytes = b""


class _Successor:
    """A connection that is opened by a thread of its own, to take the place of another."""

    def __init__(self, open_connection: Callable[[], ClientConnection], begun_s: float, reason: str) -> None:
        self.begun_s = begun_s
        self.reason = reason
        self.has_failed = False
        self._open = open_connection
        self._connection: ClientConnection | None = None
        self._is_wanted = True
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="stream-successor", daemon=True).start()

    def _run(self) -> None:
        try:
            connection = self._open()
        except (OSError, WebSocketException, TimeoutError):
            self.has_failed = True
            return
        with self._lock:
            if self._is_wanted:
                self._connection = connection
                return
        connection.close()

    def take(self) -> tuple[ClientConnection, bytes] | None:
        """Return the connection, which is the caller's to close then, and the first frame it brought.

        None while there is none; asks without waiting.
        """
        with self._lock:
            connection = self._connection
        if connection is None:
            return None
        try:
            first = connection.recv(timeout=0, decode=False)
        except TimeoutError:
            return None
        except WebSocketException:
            self.has_failed = True
            return None
        self._connection = None
        return connection, first

    def close(self) -> None:
        """Let go of it, also while it is being opened."""
        with self._lock:
            self._is_wanted = False
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


@dataclass(slots=True)
class _Current:
    """The connection that is read, since when it is open, and the one that is to follow it."""

    connection: ClientConnection
    opened_s: float
    successor: _Successor | None = None


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
        self._frames_since_s: float | None = None
        self._replace_again_s = 0.0
        self._replace_pause_s = _FIRST_PAUSE_S
        self._thread = threading.Thread(target=self._run, name=f"stream-{self.name}", daemon=True)

    def start(self) -> None:
        """Begin to connect and read."""
        self._thread.start()

    def resubscribe(self) -> None:
        """Have the venue send the book's snapshot anew; from any thread."""
        self._wants_snapshot.set()

    def reconnect(self, reason: str) -> None:
        """Have another connection take the place of this one, which is suspected; from any thread."""
        self._reconnect_reason = reason

    def stop(self) -> None:
        """Stop reading and wait for the thread, if it was started."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                reason = self._read_connection()
            except (OSError, WebSocketException, TimeoutError) as error:
                reason = f"{type(error).__name__}: {error}"
            self._put(ArrivalKind.LOST, reason.encode())
            if self._frames_since_s is not None and self._clock.monotonic_s() - self._frames_since_s > _STEADY_S:
                pause_s = _FIRST_PAUSE_S
            # Spread out, so that many readers do not come back at the same moment.
            self._stopping.wait(pause_s * (0.5 + self._entropy.fraction()))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _connect(self) -> ClientConnection:
        # It outlives the block that opens it; whoever holds it closes it.
        connection = ExitStack().enter_context(
            connect(self._declaration.url, open_timeout=self._open_timeout_s, close_timeout=1.0, max_size=2**24)
        )
        for message in self._declaration.subscribe:
            connection.send(message, text=True)
        return connection

    def _read_connection(self) -> str:
        self._frames_since_s = None
        current = _Current(self._connect(), self._clock.monotonic_s())
        try:
            self._put(ArrivalKind.CONNECTED, b"")
            self._wants_snapshot.clear()
            self._reconnect_reason = ""
            return self._read_frames(current)
        finally:
            current.connection.close()
            if current.successor is not None:
                current.successor.close()

    def _read_frames(self, current: _Current) -> str:
        heard = pinged = self._clock.monotonic_s()
        while not self._stopping.is_set():
            connection = current.connection
            now = self._clock.monotonic_s()
            reason = self._reconnect_reason or (
                f"renewed after {self._renew_after_s:g} s" if now - current.opened_s > self._renew_after_s else ""
            )
            if (reason or current.successor is not None) and self._replace(current, reason):
                heard = self._clock.monotonic_s()
                continue
            if self._wants_snapshot.is_set():
                self._wants_snapshot.clear()
                for message in self._declaration.resubscribe:
                    connection.send(message, text=True)
            if self._declaration.ping and now - pinged > self._declaration.ping_every_s:
                connection.send(self._declaration.ping, text=True)
                pinged = now
            try:
                payload = connection.recv(timeout=_RECEIVE_S if current.successor is None else 0.05, decode=False)
            except TimeoutError:
                if self._clock.monotonic_s() - heard > self._stale_after_s:
                    return f"nothing came for {self._stale_after_s:g} s"
                continue
            self._put(ArrivalKind.FRAME, payload)
            heard = self._clock.monotonic_s()
            if self._frames_since_s is None:
                self._frames_since_s = heard
        return "stopped"

    def _replace(self, current: _Current, reason: str) -> bool:
        """Go on with replacing the connection; true once it is done. Never waits: the old one is read meanwhile."""
        now = self._clock.monotonic_s()
        if current.successor is None:
            if now >= self._replace_again_s:
                current.successor = _Successor(self._connect, now, reason)
            return False
        successor = current.successor
        if now - successor.begun_s < _OVERLAP_S:
            return False
        taken = successor.take()
        if taken is None:
            if successor.has_failed or now - successor.begun_s > _PROOF_S + self._open_timeout_s:
                # The old one is better than none; another try in a while.
                successor.close()
                current.successor = None
                self._replace_again_s = now + self._replace_pause_s
                self._replace_pause_s = min(2 * self._replace_pause_s, _LONGEST_PAUSE_S)
            return False
        suspicion = self._reconnect_reason
        self._reconnect_reason = ""
        self._replace_pause_s = _FIRST_PAUSE_S
        self._drain(current.connection)
        current.connection.close()
        current.connection, first = taken
        current.opened_s, current.successor = now, None
        if suspicion:
            # Something may be missing: whoever reads the queue is to look.
            self._put(ArrivalKind.LOST, suspicion.encode())
            self._put(ArrivalKind.CONNECTED, b"")
        else:
            self._put(ArrivalKind.RENEWED, successor.reason.encode())
        self._put(ArrivalKind.FRAME, first)
        return True

    def _drain(self, connection: ClientConnection) -> None:
        """Take what a connection has brought already."""
        while True:
            try:
                self._put(ArrivalKind.FRAME, connection.recv(timeout=0, decode=False))
            except (TimeoutError, WebSocketException):
                return

    def _put(self, kind: ArrivalKind, payload: bytes) -> None:
        arrival = Arrival(kind, self.name, self._clock.now_ns(), payload)
        while not self._stopping.is_set():
            try:
                self._arrivals.put(arrival, timeout=_PUT_S)
                return
            except queue.Full:
                continue
