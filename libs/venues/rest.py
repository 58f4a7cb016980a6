"""GET requests to a venue, their failures distinguished. Never retries by itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from libs.venues.errors import VenueRefused, VenueUnavailable


class RestClient:
    """Asks one base URL. `timeout_s` bounds connecting and each read."""

    def __init__(self, base_url: str, *, timeout_s: float = 10.0, transport: httpx.BaseTransport | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._client = httpx.Client(base_url=self.base_url, timeout=timeout_s, transport=transport)

    def get(self, path: str, parameters: Mapping[str, str | int] | None = None) -> bytes:
        """Return an answer's body. Raises `VenueUnavailable` or `VenueRefused`."""
        try:
            answer = self._client.get(path, params=dict(parameters or {}))
        except httpx.HTTPError as error:
            raise VenueUnavailable(f"{self.base_url}{path} does not answer: {error or type(error).__name__}") from error
        if answer.status_code in (403, 408, 418, 429) or answer.status_code >= 500:
            asked = answer.headers.get("Retry-After", "0")
            raise VenueUnavailable(
                f"{self.base_url}{path} answers {answer.status_code}: {answer.text[:200]}",
                float(asked) if asked.isdigit() else 0.0,
            )
        if answer.status_code >= 400:
            raise _refusal(f"{self.base_url}{path}", answer)
        return answer.content

    def get_json(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Any:
        """Return an answer as JSON values. Raises `VenueUnavailable`, also where it is no JSON, or `VenueRefused`."""
        body = self.get(path, parameters)
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
