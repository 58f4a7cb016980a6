"""How long a command takes to the venue, in market time: a constant and a spread that depends on the order's id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from libs.domain.numbers import NANOSECONDS


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """Latencies in ns of market time, all >= 0. Raises `ValueError` for negative ones.

    `jitter_ns` is the width of a spread on top: each client order id has its own place in it, the same in every run.
    A command whose time lies more than `max_lead_ns` ahead of the market carries a foreign clock (a person's halt
    during a replayed market): its own time is then ignored.
    """

    order_ns: int = 50_000_000
    cancel_ns: int = 50_000_000
    jitter_ns: int = 0
    max_lead_ns: int = 3_600 * NANOSECONDS

    def __post_init__(self) -> None:
        for name in ("order_ns", "cancel_ns", "jitter_ns", "max_lead_ns"):
            if getattr(self, name) < 0:
                raise ValueError(f"latency {name} must be 0 or more, got {getattr(self, name)}")

    def arrival_time(self, client_order_id: str, sent_time: int, market_time: int, *, is_cancel: bool) -> int:
        """Return when a command reaches the venue: a latency after it was sent or seen, whichever is later.

        `market_time` 0 means that no market was seen yet.
        """
        start = sent_time
        if market_time and (sent_time < market_time or sent_time - market_time > self.max_lead_ns):
            start = market_time
        latency = self.cancel_ns if is_cancel else self.order_ns
        if self.jitter_ns:
            digest = hashlib.sha256(client_order_id.encode()).digest()
            latency += int.from_bytes(digest[:8], "big") % (self.jitter_ns + 1)
        return start + latency
