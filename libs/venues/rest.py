"""GET requests to a venue, their failures distinguished, within one budget. Never retries by itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from libs.clock import SYSTEM_CLOCK, Clock
from libs.venues.errors import VenueRefused, VenueUnavailable

# How long a venue is left alone that asks for it and does not say how long: 418 is a ban, of two minutes at least.
_QUIET_S = {418: 120.0, 429: 10.0}
_USED_SHARE = 0.9


class RequestBudget:
    """What may be asked of a venue: its weight a minute, spent evenly, and nothing while it wants quiet. Thread-safe.

    All requests to a venue that come from one address share its limits, so its clients share one budget.
    """

    def __init__(self, weight_per_minute: int | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._most = None if weight_per_minute is None else weight_per_minute * _USED_SHARE
        self._left = self._most or 0.0
        self._clock = clock
        self._at = clock.monotonic_s()
        self._quiet_until = 0.0
        self._lock = threading.Lock()

    def spend(self, weight: int) -> None:
        """Take a request's weight. Raises `VenueUnavailable` where it must not be sent; nothing is taken then."""
        with self._lock:
            now = self._clock.monotonic_s()
            if now < self._quiet_until:
                wait_s = self._quiet_until - now
                raise VenueUnavailable(f"not asked: the venue wants quiet for another {wait_s:.1f} s", wait_s)
            if self._most is None:
                return
            self._left = min(self._most, self._left + (now - self._at) * self._most / 60.0)
            self._at = now
            if weight > self._left:
                wait_s = (weight - self._left) * 60.0 / self._most
                raise VenueUnavailable(f"not asked: the budget allows it in {wait_s:.1f} s", wait_s)
            self._left -= weight

    def be_quiet(self, seconds: float) -> None:
        """Send nothing for a time."""
        with self._lock:
            self._quiet_until = max(self._quiet_until, self._clock.monotonic_s() + seconds)


class RestClient:
    """Asks one base URL. `timeout_s` bounds connecting and each read; `budget` is shared by all clients of a venue."""

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 10.0,
        transport: httpx.BaseTransport | None = None,
        budget: RequestBudget | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._budget = budget or RequestBudget()
        self._client = httpx.Client(base_url=self.base_url, timeout=timeout_s, transport=transport)

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None, *, weight: int = 1) -> bytes:
        """Return an answer's body. Raises `VenueUnavailable` or `VenueRefused`."""
        self._budget.spend(weight)
        try:
            answer = self._client.get(path, params=dict(parameters or {}))
        except httpx.HTTPError as error:
            raise VenueUnavailable(f"{self.base_url}{path} does not answer: {error or type(error).__name__}") from error
        if answer.status_code in (403, 408, 418, 429) or answer.status_code >= 500:
            asked = answer.headers.get("Retry-After", "")
            quiet_s = float(asked) if asked.isdigit() else _QUIET_S.get(answer.status_code, 0.0)
            self._budget.be_quiet(quiet_s)
            text = f"{self.base_url}{path} answers {answer.status_code}: {answer.text[:200]}"
            raise VenueUnavailable(text, quiet_s)
        if answer.status_code >= 400:
            raise _refusal(f"{self.base_url}{path}", answer)
        return answer.content

    def get_json(self, path: str, parameters: Mapping[str, str | int] | None = None, *, weight: int = 1) -> Any:
        """Return an answer as JSON values. Raises `VenueUnavailable`, also where it is no JSON, or `VenueRefused`."""
        body = self.get(path, parameters, weight=weight)
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise VenueUnavailable(f"{self.base_url}{path} answers what is no JSON: {body[:80]!r}") from error

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def _refusal(url: str, answer: httpx.Response) -> VenueRefused:
    try:
        body = orjson.loads(answer.content)
        return VenueRefused(f"{url} refuses: {body['msg']} (code {body['code']})", int(body["code"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return VenueRefused(f"{url} answers {answer.status_code}: {answer.text[:200]}")
