"""Signed calls to Binance USD-M through python-binance, their failures distinguished, on the venue's own clock.

Never repeats a call. What a failure means for an order: a refusal by Binance's code says that nothing happened; a
timeout, a lost connection, a 5xx or one of the codes that Binance documents as unknown says nothing at all.
"""

from __future__ import annotations

import asyncio
from typing import Any

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException

from libs.clock import SYSTEM_CLOCK, Clock
from libs.venues.errors import VenueRefused, VenueUnavailable

MS = 1_000_000
# Together below five seconds, after which a process without a heartbeat counts as hung: the outbox waits for answers.
CONNECT_TIMEOUT_S = 1.5
READ_TIMEOUT_S = 3.0
# Binance: unknown, disconnected, unexpected response, timeout, and an id that is taken already: ask for the order.
_UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007, -4116})
_TIMESTAMP_CODE = -1021
# Too many requests, too many orders: not carried out, but worth another try later.
_RATE_STATUSES = frozenset({418, 429})
_QUIET_S = 10.0


def make_client(api_key: str, api_secret: str, **settings: Any) -> Client:
    """Return python-binance's client without the event loop that it opens for itself and neither runs nor closes.

    Its calls are synchronous and use none.
    """
    with asyncio.Runner() as runner:
        runner.get_loop()
        return Client(api_key, api_secret, ping=False, **settings)


class BinanceClient:
    """python-binance's client at one base URL, like https://fapi.binance.com.

    `speed` is how many times faster than ours the venue's clock runs: 1 but for a simulated exchange.
    """

    def __init__(
        self,
        rest_url: str,
        api_key: str,
        api_secret: str,
        *,
        speed: float = 1.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.rest_url = rest_url.rstrip("/")
        self._client = make_client(
            api_key, api_secret, requests_params={"timeout": (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)}
        )
        self._client.FUTURES_URL = f"{self.rest_url}/fapi"
        self._speed = speed
        self._clock = clock
        # When the venue was last asked for its time, and what it said.
        self._asked = (clock.monotonic_s(), clock.now_ns() / MS)
        self._quiet_until = 0.0

    def now_ms(self) -> float:
        """Return the venue's clock, ms since epoch, as far as it is known; ours before `synchronise`."""
        at, venue_ms = self._asked
        return venue_ms + (self._clock.monotonic_s() - at) * 1000.0 * self._speed

    def synchronise(self) -> None:
        """Ask for the venue's time. Raises `VenueUnavailable`."""
        asked = self._clock.monotonic_s()
        answer = self.ask("futures_time")
        answered = self._clock.monotonic_s()
        try:
            server_ms = float(answer["serverTime"])
        except (KeyError, TypeError, ValueError):
            raise VenueUnavailable(f"{self.rest_url} answers {answer!r} for its time") from None
        self._asked = ((asked + answered) / 2.0, server_ms)

    def ask(self, call: str, **parameters: Any) -> Any:
        """Make a call of python-binance's client, named by its method. Raises `VenueRefused` and `VenueUnavailable`.

        A question that is refused is not answered; it is for the caller to take that as unavailable.
        """
        wait_s = self._quiet_until - self._clock.monotonic_s()
        if wait_s > 0:
            # Asking on would lengthen the ban. Nothing was sent.
            raise VenueRefused(f"-1003 not sent: {self.rest_url} asked for quiet for another {wait_s:.0f} s", -1003)
        self._client.timestamp_offset = self.now_ms() - self._clock.now_ns() / MS
        try:
            return getattr(self._client, call)(**parameters)
        except BinanceAPIException as error:
            raise self._failure(error) from error
        except BinanceRequestException as error:
            raise VenueUnavailable(f"{self.rest_url} answers what is no JSON: {error.message}") from error
        except requests.RequestException as error:
            # urllib3 wraps the cause in a text that repeats address and path.
            cause = getattr(error.args[0], "reason", error) if error.args else error
            raise VenueUnavailable(f"{self.rest_url} does not answer: {cause}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close_connection()

    def _failure(self, error: BinanceAPIException) -> Exception:
        code = error.code if isinstance(error.code, int) else 0
        text = f"{code} {error.message}"
        if error.status_code in _RATE_STATUSES:
            asked = error.response.headers.get("Retry-After", "")
            self._quiet_until = self._clock.monotonic_s() + (float(asked) if asked.isdigit() else _QUIET_S)
            return VenueRefused(text, code)
        if error.status_code >= 500 or error.status_code == 408 or code in _UNKNOWN_CODES or not code:
            return VenueUnavailable(f"{error.status_code}: {text}")
        if code == _TIMESTAMP_CODE:
            text += "; the clocks differ: is this machine's time set by NTP?"
        return VenueRefused(text, code)
