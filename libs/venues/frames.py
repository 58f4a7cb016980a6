"""What every venue's frame parser shares: the error it raises and the exact reading of numbers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from libs.domain.numbers import InexactNumber, parse_e8

NS_PER_MS = 1_000_000
MAX_KNOWN = 65_536
MAX_INT64 = 2**63 - 1
MAX_MS = MAX_INT64 // NS_PER_MS


class FrameError(ValueError):
    """A frame cannot be read: `reason` says what is wrong with it, `fix` what to do about it."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(f"{reason}; {fix}")
        self.reason = reason
        self.fix = fix


class OpenedFrame(Protocol):
    """A frame whose kind and symbol are known and that is not decoded yet.

    `symbol` is empty where the frame names none (an answer to a question); the reader supplies it. `sent_time` (ns) is
    when the venue sent it, 0 where it does not say.
    """

    @property
    def kind(self) -> str:
        """What it is, in the venue's word."""
        ...

    @property
    def symbol(self) -> str:
        """The venue's name of the instrument."""
        ...

    @property
    def sent_time(self) -> int:
        """When the venue sent it."""
        ...


class Frame(NamedTuple):
    """An `OpenedFrame` with its fields as they came."""

    kind: str
    symbol: str
    data: Mapping[str, Any]
    sent_time: int = 0


class KnownNumbers(dict[str, int]):
    """Integers of 1e-8 by their decimal text: frames say the same ones again and again.

    Looking one up raises `TypeError` for what is no text and `InexactNumber` for what is no number.
    """

    def __missing__(self, text: str) -> int:
        if type(text) is not str:
            raise TypeError(f"{text!r} is no text")
        scaled = parse_e8(text)
        if len(self) >= MAX_KNOWN:
            self.clear()
        self[text] = scaled
        return scaled


KNOWN_NUMBERS = KnownNumbers()


def kline_event_id(instrument: str, timeframe: str, open_time: int) -> str:
    """Name an exchange bar: one instrument has one kline per timeframe and open time (ns)."""
    return f"{instrument}/kline/{timeframe}/{open_time}"


def read_document(payload: bytes) -> dict[str, Any]:
    """Return a frame's JSON object. Raises `FrameError`, for a list naming what its rows are."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise FrameError(f"not JSON: {error}", "the line was cut or overwritten; record it again") from None
    if isinstance(document, dict):
        return document
    first = document[0] if isinstance(document, list) and document else None
    rows = f", rows with fields {sorted(first)}" if isinstance(first, dict) else ""
    raise FrameError(f"a JSON {type(document).__name__} where an object is due{rows}", "give frames as objects")


_FIX_FRAME = "check the recorder that wrote this line"


def read_field(data: Mapping[str, Any], name: str) -> Any:
    """Return a field that must be there. Raises `FrameError` naming it."""
    try:
        return data[name]
    except KeyError:
        raise FrameError(f"field {name!r} is missing from {sorted(data)}", _FIX_FRAME) from None


def read_int(data: Mapping[str, Any], name: str) -> int:
    """Return a field that must be a non-negative whole number. Raises `FrameError`."""
    value = read_field(data, name)
    if type(value) is not int or not 0 <= value <= MAX_INT64:
        raise FrameError(f"field {name!r} is {value!r}, not a whole number from 0 to {MAX_INT64}", _FIX_FRAME)
    return value


def read_ms(data: Mapping[str, Any], name: str) -> int:
    """Return a field of milliseconds since the epoch as nanoseconds. Raises `FrameError`."""
    milliseconds = read_int(data, name)
    if milliseconds > MAX_MS:
        raise FrameError(f"field {name!r} is {milliseconds}, no time in milliseconds", _FIX_FRAME)
    return milliseconds * NS_PER_MS


def read_signed_e8(text: Any, name: str) -> int:
    """Read a decimal string of either sign as an integer of 1e-8. Raises `FrameError`."""
    if not isinstance(text, str):
        raise FrameError(f"field {name!r} is {text!r}, not a decimal string", _FIX_FRAME)
    try:
        scaled = parse_e8(text)
    except InexactNumber as error:
        raise FrameError(f"field {name!r}: {error}", _FIX_FRAME) from None
    if abs(scaled) > MAX_INT64:
        raise FrameError(f"field {name!r} is too large: {text}", _FIX_FRAME)
    return scaled


def read_e8(text: Any, name: str) -> int:
    """Read a decimal string of at least 0 as an integer of 1e-8. Raises `FrameError`."""
    scaled = read_signed_e8(text, name)
    if scaled < 0:
        raise FrameError(f"field {name!r} is negative: {text}", _FIX_FRAME)
    return scaled


def read_price_e8(text: Any, name: str) -> int:
    """Read a decimal string above 0 as an integer of 1e-8. Raises `FrameError`."""
    scaled = read_e8(text, name)
    if not scaled:
        raise FrameError(f"field {name!r} is 0, not a price", _FIX_FRAME)
    return scaled


def read_levels(levels: Any, name: str, *, is_bid: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Read ``[[price, quantity], ...]`` into parallel tuples, best price first. Raises `FrameError`."""
    if not isinstance(levels, Sequence) or isinstance(levels, str):
        raise FrameError(f"field {name!r} is {levels!r}, not a list of [price, quantity]", _FIX_FRAME)
    read = read_plain_levels(levels, is_bid=is_bid) if {*map(type, levels)} <= {list, tuple} else None
    if read is not None:
        return read
    pairs = []
    for level in levels:
        if not isinstance(level, Sequence) or isinstance(level, str) or len(level) < 2:
            raise FrameError(f"a level of {name!r} is {level!r}, not [price, quantity]", _FIX_FRAME)
        try:
            price, quantity = parse_e8(level[0]), parse_e8(level[1])
        except (InexactNumber, AttributeError, TypeError):
            price = quantity = -1
        if not (0 < price <= MAX_INT64 and 0 <= quantity <= MAX_INT64):
            # These say what is wrong with it.
            price, quantity = read_price_e8(level[0], name), read_e8(level[1], name)
        pairs.append((price, quantity))
    pairs.sort(reverse=is_bid)
    return tuple(price for price, _ in pairs), tuple(quantity for _, quantity in pairs)


def read_plain_levels(
    levels: Sequence[Sequence[Any]], *, is_bid: bool
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Read levels that are just as they should be; None where one is not, which the caller looks at closely."""
    try:
        prices = [KNOWN_NUMBERS[price] for price, _ in levels]
        quantities = [KNOWN_NUMBERS[quantity] for _, quantity in levels]
    except (TypeError, ValueError):
        return None
    if levels and not (min(prices) > 0 and min(quantities) >= 0):
        return None
    # Venues send them in order, one way or the other.
    if prices != sorted(prices, reverse=is_bid):
        pairs = sorted(zip(prices, quantities, strict=True), reverse=is_bid)
        return tuple(price for price, _ in pairs), tuple(quantity for _, quantity in pairs)
    return tuple(prices), tuple(quantities)
