"""The simulated exchange's clock: market time runs at a speed from when the session began, across restarts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson

from libs.clock import SYSTEM_CLOCK
from libs.domain.numbers import NANOSECONDS
from services.exchange.core import START_MS


class MarketClock:
    """Maps the wall clock to market time; `speed` 0 counts as 1."""

    def __init__(
        self, speed: float, started_at_s: float, wall: Callable[[], float] = lambda: SYSTEM_CLOCK.now_ns() / NANOSECONDS
    ) -> None:
        self.speed = speed or 1.0
        self.began_s = started_at_s
        self._wall = wall

    def now_ms(self) -> int:
        """Return the market time, ms since the epoch; never before the stream's beginning."""
        return START_MS + max(0, int((self._wall() - self.began_s) * self.speed * 1000))


def open_clock(
    run_dir: Path, seed: int, speed: float, wall: Callable[[], float] = lambda: SYSTEM_CLOCK.now_ns() / NANOSECONDS
) -> MarketClock:
    """Go on with the clock that this session's exchange began with, or begin it now."""
    path = run_dir / "exchange-clock.json"
    facts = {"seed": seed, "speed": speed}
    if path.is_file():
        held = orjson.loads(path.read_bytes())
        if {name: held.get(name) for name in facts} == facts:
            return MarketClock(speed, held["started_at_s"], wall)
    started_at_s = wall()
    run_dir.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_bytes(orjson.dumps({**facts, "started_at_s": started_at_s}))
    draft.replace(path)
    return MarketClock(speed, started_at_s, wall)
