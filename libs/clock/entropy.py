"""Sources of chance: the operating system's, and one that a seed repeats."""

from __future__ import annotations

import base64
import random
import secrets
from typing import Protocol


class Entropy(Protocol):
    """Makes tokens for ids and keys, and numbers for delays that must not be alike."""

    def token_hex(self, byte_count: int) -> str:
        """Return `byte_count` random bytes in hexadecimal."""
        ...

    def token_urlsafe(self, byte_count: int) -> str:
        """Return `byte_count` random bytes as text that needs no quoting in a URL."""
        ...

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        ...


class SystemEntropy:
    """The operating system's, good enough for keys."""

    def token_hex(self, byte_count: int) -> str:
        return secrets.token_hex(byte_count)

    def token_urlsafe(self, byte_count: int) -> str:
        return secrets.token_urlsafe(byte_count)

    def fraction(self) -> float:
        return secrets.randbits(53) / (1 << 53)


SYSTEM_ENTROPY = SystemEntropy()
"""The one source of chance: what `main` hands in, and what stands in for it where a signature says so."""


class SeededEntropy:
    """Repeats with its seed; for simulations only, never for keys."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token_hex(self, byte_count: int) -> str:
        return self._random.randbytes(byte_count).hex()

    def token_urlsafe(self, byte_count: int) -> str:
        return base64.urlsafe_b64encode(self._random.randbytes(byte_count)).rstrip(b"=").decode()

    def fraction(self) -> float:
        return self._random.random()
