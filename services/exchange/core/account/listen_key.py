"""The listen key: opens the private stream, ends an hour of exchange time after it was last asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from services.exchange.core.account.refusals import Refused

LIFE_MS = 60 * 60_000


@dataclass(eq=False)
class ListenKeyState:
    """What is kept: `text` is empty and `ends_ms` 0 while there is no key."""

    text: str = ""
    ends_ms: int = 0
    _count: int = 0


class ListenKey(ListenKeyState):
    """The one key of the account."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def open(self, now_ms: int) -> dict[str, Any]:
        """Return the key for another hour, a new one if there is none."""
        if not self.text:
            self._count += 1
            self.text = hashlib.sha256(f"{self._seed}/listen-key/{self._count}".encode()).hexdigest()
        self.ends_ms = now_ms + LIFE_MS
        return {"listenKey": self.text}

    def extend(self, named: str | None, now_ms: int) -> dict[str, Any]:
        """Extend the key by another hour; a key that is named must match. Raises `Refused`."""
        self._check(named)
        return self.open(now_ms)

    def close(self, named: str | None, _now_ms: int) -> dict[str, Any]:
        """End the key. Raises `Refused`."""
        self._check(named)
        self.text, self.ends_ms = "", 0
        return {}

    def expire(self) -> dict[str, Any]:
        """End the key that was not asked for in time; return the event that says so."""
        event = {"e": "listenKeyExpired", "E": self.ends_ms, "listenKey": self.text}
        self.text, self.ends_ms = "", 0
        return event

    def _check(self, named: str | None) -> None:
        if not self.text or named not in (None, self.text):
            raise Refused(-1125, "This listenKey does not exist.")
