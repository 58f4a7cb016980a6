"""Files that venues publish of their past, one a day: where they are, and how one is fetched and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import httpx

from libs.venues.errors import VenueRefused, VenueUnavailable
from libs.venues.history import Kind


@dataclass(frozen=True, slots=True)
class VenueArchive:
    """An archive: the path of a day's file by kind, with {symbol}, {timeframe} and {day} in it.

    `only_timeframe` names the one timeframe that a kind is published in; others are read out of it. Beside each file
    there may be one with its SHA-256, under its name and `checksum_suffix`.
    """

    url: str
    paths: Mapping[Kind, str]
    only_timeframe: Mapping[Kind, str] = field(default_factory=dict)
    checksum_suffix: str = ""

    def path_of(self, symbol: str, kind: Kind, timeframe: str, day_ms: int) -> str:
        """Return the path of a day's file."""
        day = datetime.fromtimestamp(day_ms // 1000, UTC).strftime("%Y-%m-%d")
        return self.paths[kind].format(symbol=symbol, timeframe=timeframe, day=day)


NO_ARCHIVE = VenueArchive("", {})


class ArchiveClient:
    """Fetches files of an archive; threads may share it."""

    def __init__(
        self,
        archive: VenueArchive,
        url: str = "",
        *,
        transport: httpx.BaseTransport | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self.archive = archive
        self.url = (url or archive.url).rstrip("/")
        self._client = httpx.Client(base_url=self.url, timeout=timeout_s, transport=transport, follow_redirects=True)

    def fetch(self, path: str) -> bytes | None:
        """Return a file, None where there is none. Raises `VenueUnavailable` (a damaged one too) or `VenueRefused`."""
        body = self._get(path)
        if body is None or not self.archive.checksum_suffix:
            return body
        stated = self._get(f"{path}{self.archive.checksum_suffix}")
        if stated is not None and stated.split()[:1] != [hashlib.sha256(body).hexdigest().encode()]:
            raise VenueUnavailable(f"{self.url}/{path} came damaged: its checksum is another")
        return body

    def _get(self, path: str) -> bytes | None:
        try:
            answer = self._client.get(f"/{path}")
        except httpx.HTTPError as error:
            raise VenueUnavailable(f"{self.url}/{path} does not answer: {error or type(error).__name__}") from error
        if answer.status_code == 404:
            return None
        if answer.status_code in (403, 408, 429) or answer.status_code >= 500:
            asked = answer.headers.get("Retry-After", "")
            wait_s = float(asked) if asked.isdigit() else 0.0
            raise VenueUnavailable(f"{self.url}/{path} answers {answer.status_code}", wait_s)
        if answer.status_code >= 400:
            raise VenueRefused(f"{self.url}/{path} answers {answer.status_code}")
        return answer.content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._client.close()
