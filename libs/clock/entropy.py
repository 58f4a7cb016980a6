"""Sources of chance: the operating system's, and one that a seed repeats."""

from __future__ import annotations

import random
import secrets
from typing import Protocol


class Entropy(Protocol):
    """Makes tokens for ids and keys."""

    def token_hex(self, byte_count: int) -> str:
        """Return `byte_count` random bytes in hexadecimal."""
        ...


class SystemEntropy:
    """The operating system's, good enough for keys."""

    def token_hex(self, byte_count: int) -> str:
        return secrets.token_hex(byte_count)


class SeededEntropy:
    """Repeats with its seed; for simulations only, never for keys."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def token_hex(self, byte_count: int) -> str:
        return self._random.randbytes(byte_count).hex()
