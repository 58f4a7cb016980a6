"""The frames of Binance that come by the thousand, as typed values: `msgspec` reads them and checks types and bounds.

A payload that is anything else, or lacks a field, is no such value: its reader says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias

import msgspec

from libs.venues.frames import MAX_INT64, MAX_MS, NS_PER_MS

PARTIAL_DEPTH = re.compile(r"@depth(5|10|20)(?:@|$)")
"""Streams of the top of the book, which are not its changes."""

_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT64)]
_Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_MS)]
_Symbol: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class TypedFrame(msgspec.Struct, tag_field="e", gc=False):
    """What all of them have: symbol, when it was sent, when it happened."""

    kind: ClassVar[str]

    symbol: _Symbol = msgspec.field(name="s")
    sent_ms: _Milliseconds = msgspec.field(name="E")
    at_ms: _Milliseconds = msgspec.field(name="T")

    @property
    def sent_time(self) -> int:
        """When the venue sent it."""
        return self.sent_ms * NS_PER_MS


class TradeFrame(TypedFrame, tag="trade", gc=False):
    """``trade``."""

    kind: ClassVar[str] = "trade"
    # What its event id calls it.
    word: ClassVar[str] = "trade"

    number: _Number = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    is_buyer_maker: bool = msgspec.field(name="m")
    # NA for what is no execution in the book.
    execution: str = msgspec.field(name="X", default="MARKET")


class AggregateTradeFrame(TypedFrame, tag="aggTrade", gc=False):
    """``aggTrade``."""

    kind: ClassVar[str] = "aggTrade"
    word: ClassVar[str] = "aggtrade"
    execution: ClassVar[str] = "MARKET"

    number: _Number = msgspec.field(name="a")
    price: str = msgspec.field(name="p")
    quantity: str = msgspec.field(name="q")
    is_buyer_maker: bool = msgspec.field(name="m")


class QuoteFrame(TypedFrame, tag="bookTicker", gc=False):
    """``bookTicker`` of USD-M: spot's has neither a kind nor times."""

    kind: ClassVar[str] = "bookTicker"

    number: _Number = msgspec.field(name="u")
    bid_price: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask_price: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


class DepthFrame(TypedFrame, tag="depthUpdate", gc=False):
    """``depthUpdate`` of USD-M, chained by pu."""

    kind: ClassVar[str] = "depthUpdate"

    first_number: _Number = msgspec.field(name="U")
    last_number: _Number = msgspec.field(name="u")
    previous_number: _Number = msgspec.field(name="pu")
    bids: list[tuple[str, str]] = msgspec.field(name="b")
    asks: list[tuple[str, str]] = msgspec.field(name="a")


_AnyFrame: TypeAlias = TradeFrame | AggregateTradeFrame | QuoteFrame | DepthFrame


class _Combined(msgspec.Struct, gc=False):
    stream: str
    data: _AnyFrame


_read_combined = msgspec.json.Decoder(_Combined).decode
_read_bare = msgspec.json.Decoder(_AnyFrame).decode


def read_typed(payload: bytes) -> TypedFrame | None:
    """Return the frame of a combined stream or of one alone, None where it has to be read field by field."""
    frame: TypedFrame
    try:
        if payload[2:8] != b"stream":
            frame = _read_bare(payload)
            return frame
        combined = _read_combined(payload)
    except msgspec.MsgspecError:
        return None
    # A partial book says the same fields and means another thing.
    stream: str = combined.stream
    return None if "@depth" in stream and PARTIAL_DEPTH.search(stream) else combined.data


def fields_of(frame: TypedFrame) -> Mapping[str, Any]:
    """Return a typed frame's fields by the venue's names."""
    fields: Mapping[str, Any] = msgspec.to_builtins(frame)
    return fields
