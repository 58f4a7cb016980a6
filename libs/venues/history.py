"""The port of a venue's past: series of one symbol, asked for page by page over a range of time.

Values are the doubles nearest to the decimals that the venue wrote. What a venue does not give is refused by name, with
where else to take it from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import orjson

from libs.domain.bars import TIMEFRAMES
from libs.venues.frames import FrameError

Kind: TypeAlias = Literal["klines", "mark", "funding", "open-interest", "trades", "book"]
ColumnType: TypeAlias = Literal["time", "real", "count", "flag"]

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
TIMEFRAME_MS: dict[str, int] = {name: length // 1_000_000 for name, length in TIMEFRAMES.items()}

COLUMNS: dict[Kind, tuple[tuple[str, ColumnType], ...]] = {
    "klines": (
        ("open_time", "time"),
        *((name, "real") for name in ("open", "high", "low", "close", "volume", "quote_volume")),
        ("trades", "count"),
        ("taker_buy_volume", "real"),
    ),
    "mark": (("open_time", "time"), *((name, "real") for name in ("open", "high", "low", "close"))),
    "funding": (("time", "time"), ("rate", "real"), ("mark_price", "real")),
    "open-interest": (("time", "time"), ("open_interest", "real"), ("open_interest_value", "real")),
    "trades": (("time", "time"), ("price", "real"), ("qty", "real"), ("is_buyer_maker", "flag"), ("id", "count")),
}
"""What a row of each kind holds: times in ms since epoch UTC, quantities in base units, funding rates as fractions."""

TIMED: frozenset[Kind] = frozenset({"klines", "mark", "open-interest"})
"""The kinds that come in timeframes."""


class HistoryRefused(ValueError):
    """A venue does not give what was asked for; the text says what does."""


class TimeSpan(NamedTuple):
    """From `begin` (inclusive) to `end` (exclusive), ms since epoch UTC."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Rows in the order of the kind's columns, ascending, and the span that they do not reach, None where all came."""

    rows: Sequence[tuple[Any, ...]]
    rest: TimeSpan | None


class MarketHistory(Protocol):
    """The past of one venue. Every method that asks raises `VenueUnavailable`, `VenueRefused` or `FrameError`.

    `reach` says of kinds how far back they can be asked for (ms), and what to do where that is not enough.
    """

    reach: Mapping[Kind, tuple[int, str]]

    def now_ms(self) -> int:
        """Return the venue's clock."""
        ...

    def check(self, kind: Kind, timeframe: str) -> None:
        """Raise `HistoryRefused` where the venue does not give a series."""
        ...

    def page_span_ms(self, kind: Kind, timeframe: str) -> int:
        """Return the span that one question covers, or so."""
        ...

    def page(self, symbol: str, kind: Kind, timeframe: str, span: TimeSpan) -> HistoryPage:
        """Return rows of a span; of an unfinished bar none."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def refuse_timeframe(kind: Kind, timeframe: str, known: Sequence[str], venue: str) -> None:
    """Raise `HistoryRefused` where a venue has no such timeframe of a kind."""
    if kind in TIMED and timeframe not in known:
        raise HistoryRefused(f"{venue} has no {kind} of {timeframe}; choose from {', '.join(known)}")


def read_rows(answer: Any, path: str) -> list[Any]:
    """Return an answer that must be a list. Raises `FrameError`."""
    if not isinstance(answer, list):
        raise FrameError(f"{path} answers {orjson.dumps(answer)[:80]!r}", "a list was asked for")
    return answer


def read_real(value: Any, name: str) -> float:
    """Return the double nearest to a decimal. Raises `FrameError`."""
    try:
        real = float(value)
    except (TypeError, ValueError):
        raise FrameError(f"field {name!r} is {value!r}, not a number", "ask the venue again") from None
    if not math.isfinite(real):
        raise FrameError(f"field {name!r} is {value!r}, not a finite number", "ask the venue again")
    return real


def read_optional_real(value: Any, name: str) -> float | None:
    """Return the double nearest to a decimal, None where there is none. Raises `FrameError`."""
    return None if value in (None, "") else read_real(value, name)


def read_whole(value: Any, name: str) -> int:
    """Return a whole number that may come as text. Raises `FrameError`."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise FrameError(f"field {name!r} is {value!r}, not a whole number", "ask the venue again") from None


def field_of(row: Any, name: str | int, path: str) -> Any:
    """Return a field of a row. Raises `FrameError` where the row has another form."""
    try:
        return row[name]
    except (LookupError, TypeError):
        text = f"{path} gives a row {orjson.dumps(row)[:80]!r} without {name!r}"
        raise FrameError(text, "ask the venue again") from None


def read_times(rows: Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]], name: str | int, path: str) -> list[int]:
    """Return a time of each row, ms. Raises `FrameError`."""
    return [read_whole(field_of(row, name, path), str(name)) for row in rows]
