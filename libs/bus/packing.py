"""Packs key, headers and value of a record into one compressed blob, and back, for the bus that keeps a file.

Records of a topic look alike and are small, so zstd compresses each against a dictionary of what records look like:
`dictionary_1.zdict`, made by ``python -m tests.kit.record_dictionary``. A dictionary that was released is never changed
or removed, because files were written with it; a better one takes the next number.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from struct import Struct

import zstandard

_FOLDER = Path(__file__).resolve().parent
_SIZES = Struct("<HI")
_LEVEL = 1


@cache
def _read_dictionary(number: int) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict((_FOLDER / f"dictionary_{number}.zdict").read_bytes())


def lay_out(key: bytes, headers: bytes, value: bytes) -> bytes:
    """Return a record's parts one behind the other, their sizes first. Raises `ValueError` for a key beyond 65,535."""
    if len(key) > 0xFFFF:
        raise ValueError(f"a key of {len(key)} bytes: at most 65535 fit")
    return b"".join((_SIZES.pack(len(key), len(headers)), key, headers, value))


class RecordPacker:
    """Packs and unpacks for one thread at a time. Packed records name the dictionary that they need: `NUMBER`."""

    NUMBER = 1

    def __init__(self) -> None:
        dictionary = _read_dictionary(self.NUMBER)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            _LEVEL, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_dict_id=0, write_content_size=1
        )
        self._compress = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress
        self._decompress = zstandard.ZstdDecompressor(
            dict_data=dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS
        ).decompress

    def pack(self, key: bytes, headers: bytes, value: bytes) -> bytes:
        """Return the blob of a record; `headers` are packed ones."""
        return self._compress(lay_out(key, headers, value))

    def unpack(self, blob: bytes) -> tuple[bytes, bytes, bytes]:
        """Return key, packed headers and value. Raises `ValueError` for what `pack` did not make."""
        try:
            parts = self._decompress(blob)
            key_size, headers_size = _SIZES.unpack_from(parts)
        except Exception as error:
            raise ValueError(f"it cannot be unpacked: {error}") from error
        headers_at = 6 + key_size
        value_at = headers_at + headers_size
        if value_at > len(parts):
            raise ValueError(f"it ends at byte {len(parts)} of {value_at}")
        return parts[6:headers_at], parts[headers_at:value_at], parts[value_at:]
