"""The one interface of outside series, and how several are collected so that an absent one harms nothing.

::

    SourceError
    |- SourceUnavailable    it cannot be reached, wants a key, or has had enough of us; trying again may help
    `- SourceMalformed      it answered something else than its documentation says
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

MILLISECONDS = 1_000_000


class SourceError(Exception):
    """An outside source gave nothing that can be used."""


class SourceUnavailable(SourceError):
    """The source cannot be reached, refuses, or has no key."""


class SourceMalformed(SourceError):
    """The source's answer does not have the documented form."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One number of an outside series.

    `event_time` is the moment or the start of the span that it describes, `published_time` the earliest at which it
    may be used; both ns since the epoch.
    """

    source: str
    metric: str
    event_time: int
    published_time: int
    value: float


@dataclass(frozen=True, slots=True)
class Absence:
    """A source that gave nothing, and why."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Collection:
    """What several sources gave, in order of publication, and which of them were absent."""

    readings: tuple[Reading, ...]
    absences: tuple[Absence, ...]


class ReadingSource(Protocol):
    """An outside series."""

    @property
    def name(self) -> str:
        """Short name, such as ``glassnode``."""
        ...

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get what was published in [begin, end) ns. Raises `SourceUnavailable` or `SourceMalformed`."""
        ...


def collect_readings(sources: Iterable[ReadingSource], begin: int, end: int) -> Collection:
    """Ask every source; one that fails is an absence, the others' readings are unaffected."""
    readings: list[Reading] = []
    absences: list[Absence] = []
    for source in sources:
        try:
            found = source.fetch(begin, end)
        except SourceError as error:
            absences.append(Absence(source.name, str(error)))
            continue
        readings += [reading for reading in found if begin <= reading.published_time < end]
    readings.sort(key=lambda reading: (reading.published_time, reading.source, reading.metric))
    return Collection(tuple(readings), tuple(absences))


def get_body(client: httpx.Client, source: str, url: str, **request: Any) -> httpx.Response:
    """Send a GET; SourceUnavailable for no answer, a refusal or a limit that was reached."""
    try:
        answer = client.get(url, **request)
    except httpx.HTTPError as error:
        raise SourceUnavailable(f"{source} cannot be reached: {type(error).__name__} {error}".rstrip()) from error
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        wait = answer.headers.get("retry-after", "some")
        raise SourceUnavailable(f"{source} wants no more requests for {wait} seconds")
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise SourceUnavailable(f"{source} refuses us ({answer.status_code}); check the key and what it may read")
    if not answer.is_success:
        raise SourceUnavailable(f"{source} answered {answer.status_code}")
    return answer


def get_json(client: httpx.Client, source: str, url: str, **request: Any) -> Any:
    """Send a GET and read its JSON; SourceMalformed where there is none."""
    answer = get_body(client, source, url, **request)
    try:
        return answer.json()
    except ValueError as error:
        raise SourceMalformed(f"{source} answered something that is not JSON") from error


def read_number(source: str, record: Any, field: str) -> float:
    """Take a finite number, written as one or as text, out of a record; SourceMalformed names the field."""
    try:
        value = float(record[field])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SourceMalformed(f"{source}: no number {field!r} in {str(record)[:80]}") from error
    if not math.isfinite(value):
        raise SourceMalformed(f"{source}: {field!r} is {value}")
    return value


def read_list(source: str, value: Any) -> list[Any]:
    """Take a list; SourceMalformed for anything else."""
    if not isinstance(value, list):
        raise SourceMalformed(f"{source}: a list was expected, not {str(value)[:80]}")
    return value
