"""Packs record headers into one compact blob and back, for the buses that store records themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from struct import Struct

_SIZES = Struct("<HI")


def encode_headers(headers: Mapping[str, bytes]) -> bytes:
    """Pack headers, in their order: per header two lengths (16 and 32 bit, little endian), the UTF-8 name, the value.

    Raises `ValueError` for a name longer than 65,535 bytes.
    """
    if not headers:
        return b""
    parts: list[bytes] = []
    for name, value in headers.items():
        encoded = name.encode()
        if len(encoded) > 0xFFFF:
            raise ValueError(f"header name of {len(encoded)} bytes: at most 65535 fit")
        parts += (_SIZES.pack(len(encoded), len(value)), encoded, value)
    return b"".join(parts)


def decode_headers(blob: bytes) -> dict[str, bytes]:
    """Unpack what `encode_headers` made. Raises `ValueError` when the blob is cut short."""
    headers: dict[str, bytes] = {}
    at, size = 0, len(blob)
    while at < size:
        if at + 6 > size:
            raise ValueError(f"headers end in the middle of a length, at byte {at} of {size}")
        name_size, value_size = _SIZES.unpack_from(blob, at)
        value_at = at + 6 + name_size
        end = value_at + value_size
        if end > size:
            raise ValueError(f"headers end in the middle of a value, at byte {size} of {end}")
        headers[blob[at + 6 : value_at].decode()] = blob[value_at:end]
        at = end
    return headers


class PackedHeaders(Mapping[str, bytes]):
    """Headers that are unpacked when somebody asks for one: most readers ask for those of few records."""

    __slots__ = ("_blob", "_headers")

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._headers: dict[str, bytes] | None = None

    def _unpacked(self) -> dict[str, bytes]:
        if self._headers is None:
            self._headers = decode_headers(self._blob)
        return self._headers

    def __getitem__(self, name: str) -> bytes:
        return self._unpacked()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._unpacked())

    def __len__(self) -> int:
        return len(self._unpacked())

    def __repr__(self) -> str:
        return repr(self._unpacked())
