"""Binance's user data stream, read only as a hint that the account has changed; what changed is queried by REST.

So a message that is lost, late or malformed costs time and nothing else.
"""

from __future__ import annotations

import queue
from collections.abc import Callable

from libs.clock import SYSTEM_CLOCK, Clock
from libs.venues.api import StreamDeclaration
from libs.venues.errors import VenueUnavailable
from libs.venues.streams import Arrival, ArrivalKind, StreamReader

# A listen key lives for an hour; asking for it again prolongs it.
RENEW_AFTER_S = 30 * 60.0
_RETRY_S = 5.0
_STALE_AFTER_S = 24 * 3600.0
_CONNECTION_AGE_S = 23 * 3600.0
_QUEUE_SIZE = 10_000
_EXPIRED = b"listenKeyExpired"


class BinanceUserDataStream:
    """Reads ``STREAM_URL/private/ws`` in a thread of its own. `speed` is how fast the venue's clock runs."""

    def __init__(self, stream_url: str, *, speed: float = 1.0, clock: Clock = SYSTEM_CLOCK) -> None:
        self._stream_url = stream_url.rstrip("/")
        self._renew_after_s = RENEW_AFTER_S / speed
        self._clock = clock
        self._arrivals: queue.Queue[Arrival] = queue.Queue(_QUEUE_SIZE)
        self._reader: StreamReader | None = None
        self._key = ""
        self._next_key = 0.0

    def has_update(self, ask_key: Callable[[], str]) -> bool:
        """Return whether anything came since the last call; asks for the listen key when that is due.

        A lost connection counts as an update, for what it would have brought. Where no key is given one is asked for
        again a little later.
        """
        has_update = False
        while True:
            try:
                arrival = self._arrivals.get_nowait()
            except queue.Empty:
                break
            has_update = True
            if arrival.kind is ArrivalKind.LOST or _EXPIRED in arrival.payload:
                self._next_key = 0.0
        now = self._clock.monotonic_s()
        if now >= self._next_key:
            self._next_key = now + _RETRY_S
            try:
                self._use(ask_key())
            except VenueUnavailable:
                return True
            self._next_key = now + self._renew_after_s
        return has_update

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.stop()

    def _use(self, key: str) -> None:
        if key == self._key:
            return
        self.close()
        self._key = key
        self._reader = StreamReader(
            StreamDeclaration(
                "account",
                f"{self._stream_url}/private/ws?listenKey={key}",
                carries_trades=False,
                carries_book=False,
            ),
            self._arrivals,
            stale_after_s=_STALE_AFTER_S,
            renew_after_s=_CONNECTION_AGE_S,
            clock=self._clock,
        )
        self._reader.start()
