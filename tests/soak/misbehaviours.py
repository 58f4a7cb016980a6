"""Lets an exchange misbehave in every way that the tests know and prints what came of each: `make misbehaviours`.

A recorded market of two minutes runs a hundred times faster than it did. Every trade must be there or told of, every
bar right, marked, or revised; the table says how long it took from the first wrong thing to the end of the last gap.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import structlog

from libs.clock import SYSTEM_CLOCK
from libs.domain.bars import BarRevision
from libs.domain.market import LateTrade
from tests.kit.fake_exchange import Asking, Mishap, Sending
from tests.unit.ingestion.test_misbehaving_exchange import (
    BOOKS,
    FILLED,
    QUARANTINED,
    AnswersBadly,
    ClockIsOff,
    FallsSilent,
    Repeats,
    follow,
    follow_book,
    from_ms,
)

_SILENT: dict[str, Any] = {"stale_after_s": 0.7}
CASES: Mapping[str, tuple[Mishap, dict[str, Any]]] = {
    **{name: (mishap, {}) for name, mishap in FILLED.items()},
    **{name: (mishap, {}) for name, (mishap, _) in QUARANTINED.items()},
    **{name: (mishap, {}) for name, mishap in BOOKS.items()},
    "every frame twice": (Repeats(), {}),
    "a clock two minutes ahead": (ClockIsOff(), {}),
    "one subscription silent": (FallsSilent("aggTrade"), _SILENT),
    "a half-open socket": (FallsSilent("aggTrade", "markPriceUpdate"), _SILENT),
    "two connections silent": (FallsSilent("aggTrade", "bookTicker"), _SILENT),
    "silence, bars do not wait": (FallsSilent("aggTrade"), {**_SILENT, "wait_for_trades_s": 0.05}),
    "renewed again and again": (Mishap(), {"renew_after_s": 0.2}),
    "an answer after 1.5 s, bars wait 0.3 s": (AnswersBadly(slow_s=1.5), {"wait_for_trades_s": 0.3}),
}


class Timed(Mishap):
    """Another mishap, and when its time came."""

    def __init__(self, mishap: Mishap) -> None:
        self._mishap = mishap
        self.begun_s = 0.0

    def send(self, sending: Sending) -> Iterable[bytes]:
        if not self.begun_s and sending.frame.at_ms >= from_ms():
            self.begun_s = SYSTEM_CLOCK.monotonic_s()
        return self._mishap.send(sending)

    def answer(self, asking: Asking) -> httpx.Response:
        return self._mishap.answer(asking)


def measure(name: str, mishap: Mishap, settings: dict[str, Any]) -> str:
    """Return the row of one misbehaviour; fails where something is missing or wrong."""
    timed = Timed(mishap)
    followed = follow_book(timed) if name in BOOKS else follow(timed, **settings)
    if name not in BOOKS and not isinstance(mishap, ClockIsOff):
        followed.check()
    # When the recording ends, everything falls silent.
    end = (followed.exchange.frames[-1].at_ms - 1000) * 1_000_000
    states = {
        gap.gap_id: f"{gap.kind.name.lower()} {gap.state.name.lower()}" for gap in followed.gaps if gap.from_time < end
    }
    told = ", ".join(f"{count} {words}" for words, count in sorted(Counter(states.values()).items())) or "-"
    late = sum(isinstance(event, LateTrade) for event in followed.out)
    revised = sum(isinstance(bar, BarRevision) for bar in followed.bars())
    recovered = f"{max(0.0, followed.ended_s - timed.begun_s):.2f}" if followed.ended_s else "-"
    return f"| {name} | {told} | {len(followed.dead)} | {late} | {revised} | {recovered} |"


def main() -> int:
    """Print the table; the answer is 1 where a misbehaviour left something missing or wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print("| misbehaviour | gaps | quarantined | late trades | bars revised | recovered after s |")
    print("|---|---|---:|---:|---:|---:|")
    failed = []
    for name, (mishap, settings) in CASES.items():
        try:
            print(measure(name, mishap, settings), flush=True)
        except AssertionError as error:
            failed.append(name)
            print(f"| {name} | FAILED: {str(error).splitlines()[0] if str(error) else 'a check'} |", flush=True)
    if failed:
        sys.stderr.write(f"{len(failed)} of {len(CASES)} left something missing or wrong: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
