"""HTTP content codings both ways: gzip, deflate, br, lz4 and zstd; ClickHouse's own compressed blocks are refused."""

from __future__ import annotations

from typing import Protocol

import cramjam

from infra.local.clickhouse.errors import CANNOT_DECOMPRESS, UNKNOWN_COMPRESSION_METHOD, refuse

# HTTP's "deflate" is a zlib stream (RFC 9110, 8.4.1.2).
_CODECS = {
    "zstd": cramjam.zstd,
    "br": cramjam.brotli,
    "lz4": cramjam.lz4,
    "gzip": cramjam.gzip,
    "deflate": cramjam.zlib,
}


class Compressor(Protocol):
    """Compresses a stream piece by piece; `add` and `finish` return what is ready to be sent."""

    def add(self, piece: bytes) -> bytes:
        """Compress a piece and flush it, so that the reader can have it at once."""
        ...

    def finish(self) -> bytes:
        """End the stream."""
        ...


class _Coded:
    def __init__(self, coding: str) -> None:
        self._compressor = _CODECS[coding].Compressor()

    def add(self, piece: bytes) -> bytes:
        self._compressor.compress(piece)
        return bytes(self._compressor.flush())

    def finish(self) -> bytes:
        return bytes(self._compressor.finish())


class _Plain:
    def add(self, piece: bytes) -> bytes:
        return piece

    def finish(self) -> bytes:
        return b""


def choose_coding(accept_encoding: str) -> str | None:
    """Choose what a ClickHouse server would: zstd, br, lz4, gzip, deflate in this order; None for identity."""
    offered = {part.partition(";")[0].strip().lower() for part in accept_encoding.split(",")}
    return next((coding for coding in _CODECS if coding in offered), None)


def compress(body: bytes, coding: str | None) -> bytes:
    """Compress a whole body."""
    return body if coding is None else bytes(_CODECS[coding].compress(body))


def stream_compressor(coding: str | None) -> Compressor:
    """Open a compressor for a streamed body."""
    return _Plain() if coding is None else _Coded(coding)


def decompress(body: bytes, coding: str) -> bytes:
    """Undo a request's Content-Encoding. Raises `EngineError` for a coding that is unknown or does not fit the body."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    codec = _CODECS.get(coding)
    if codec is None:
        raise refuse(
            UNKNOWN_COMPRESSION_METHOD,
            f"Unknown compression method {coding}. Send one of {', '.join(_CODECS)} in Content-Encoding",
        )
    try:
        return bytes(codec.decompress(body)) if body else body
    except cramjam.DecompressionError as error:
        raise refuse(CANNOT_DECOMPRESS, f"The request's body is not {coding}: {error}") from None
