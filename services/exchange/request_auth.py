"""Authenticates signed requests: the API key, the HMAC-SHA256 signature over the parameters, and the timestamp."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any
from urllib.parse import parse_qsl

from services.exchange.clock import MarketClock
from services.exchange.core.account import Refused
from services.exchange.core.account.parameters import Parameters

DEFAULT_RECEIVE_WINDOW_MS = 5000
MAX_RECEIVE_WINDOW_MS = 60_000
MAX_LEAD_MS = 1000
_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")
_ENVELOPE = ("timestamp", "recvWindow", "signature")


class RequestAuth:
    """Authenticates requests of one API key. Times are the exchange's; the windows stretch with the clock's speed.

    A sender's clock runs at wall-clock speed: over one second of delay the exchange's clock advances `speed` seconds.
    """

    def __init__(self, api_key: str, api_secret: str, clock: MarketClock) -> None:
        self._key = api_key
        self._secret = api_secret.encode()
        self._clock = clock

    def check_key(self, given: str | None) -> None:
        """Refuse a missing, malformed or unknown key."""
        if given is None or not given.isascii() or not given.isprintable() or not given or len(given) > 128:
            raise Refused(-2014, "API-key format invalid.", 401)
        if not hmac.compare_digest(given, self._key):
            raise Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)

    def authenticate(self, given_key: str | None, query: str, body: str) -> dict[str, str]:
        """Return the parameters of a signed request, without the signature and its time. Raises `Refused`.

        The signature is over the query and the form body put together as they were sent, less the signature itself.
        """
        self.check_key(given_key)
        sent = read_parameters(query, body)
        reader = Parameters(sent)
        timestamp = reader.integer("timestamp")
        window = reader.integer("recvWindow", DEFAULT_RECEIVE_WINDOW_MS)
        if window > MAX_RECEIVE_WINDOW_MS:
            raise Refused(-1131, f"recvWindow must be less than {MAX_RECEIVE_WINDOW_MS}.")
        signature = reader.text("signature")
        signed = f"{_SIGNATURE.sub('', query)}{_SIGNATURE.sub('', body)}"
        expected = hmac.new(self._secret, signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise Refused(-1022, "Signature for this request is not valid.")
        self._check_time(timestamp, window)
        return {name: text for name, text in sent.items() if name not in _ENVELOPE}

    def _check_time(self, timestamp_ms: int, window_ms: int) -> None:
        now_ms, stretch = self._clock.now_ms(), max(1.0, self._clock.speed)
        if timestamp_ms >= now_ms + MAX_LEAD_MS * stretch:
            raise Refused(-1021, f"Timestamp for this request was {MAX_LEAD_MS}ms ahead of the server's time.")
        if now_ms - timestamp_ms > window_ms * stretch:
            raise Refused(-1021, "Timestamp for this request is outside of the recvWindow.")


def read_parameters(query: str, body: str) -> dict[str, str]:
    """Read query and form body; one that is in both counts as the query has it. Refuses one that comes twice."""
    out: dict[str, str] = {}
    for text in (body, query):
        pairs: list[tuple[str, str]] = parse_qsl(text, keep_blank_values=True)
        names: dict[str, Any] = {}
        for name, value in pairs:
            if name in names:
                raise Refused(-1101, f"Too many parameters; expected one '{name}'.")
            names[name] = value
        out |= names
    return out
