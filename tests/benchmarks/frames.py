"""Measures the decoding of Binance's frames: `python -m tests.benchmarks.frames [capture]`. Fails below a floor.

Beside it what one would write with msgspec: typed decoding, and each decimal text made an integer of 1e-8, without
checks, event ids or events. Processor time, the best of several rounds; a round is every frame of a kind once. Without
a capture (lines of a receive time and a frame) the frames are those of the simulated market.
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from libs.venues.binance_frames import BinanceDecoder
from services.exchange.core import SimulatedMarket
from services.exchange.core.frames import format_lines

FRAMES, MINUTES, ROUNDS = 20_000, 5, 7
KINDS = ("bookTicker", "trade", "aggTrade", "depthUpdate")
# What one typed decode and its integers take, by what this takes.
FLOORS = {"bookTicker": 0.5, "trade": 0.4, "aggTrade": 0.4, "depthUpdate": 0.8}


class Quote(msgspec.Struct, tag_field="e", tag="bookTicker"):
    """A best quote as it comes."""

    u: int
    s: str
    b: str
    B: str
    a: str
    A: str
    T: int
    E: int


class Trade(msgspec.Struct, tag_field="e", tag="trade"):
    """A trade as it comes."""

    E: int
    T: int
    s: str
    t: int
    p: str
    q: str
    m: bool


class AggregateTrade(msgspec.Struct, tag_field="e", tag="aggTrade"):
    """A taker's trades as they come."""

    E: int
    T: int
    s: str
    a: int
    p: str
    q: str
    m: bool


class Depth(msgspec.Struct, tag_field="e", tag="depthUpdate"):
    """Changes of a book as they come."""

    E: int
    T: int
    s: str
    U: int
    u: int
    pu: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class Combined(msgspec.Struct):
    """A frame of a combined stream."""

    data: Quote | Trade | AggregateTrade | Depth


typed = msgspec.json.Decoder(Combined).decode


def to_integer(text: str) -> int:
    """Make a decimal text an integer of 1e-8."""
    whole, _, fraction = text.partition(".")
    return int(whole) * 100_000_000 + int(fraction.ljust(8, "0"))


def decode_by_msgspec(payload: bytes) -> object:
    """Read a frame and its numbers."""
    data = typed(payload).data
    if type(data) is Quote:
        return to_integer(data.b), to_integer(data.B), to_integer(data.a), to_integer(data.A)
    if type(data) is Trade or type(data) is AggregateTrade:
        return to_integer(data.p), to_integer(data.q)
    assert type(data) is Depth
    return [[(to_integer(price), to_integer(size)) for price, size in side] for side in (data.b, data.a)]


def read_lines(capture: str) -> Iterator[bytes]:
    """Yield the lines of a capture, or of the simulated market."""
    if not capture:
        market = SimulatedMarket(7)
        for _ in range(MINUTES):
            yield from (line.encode() for line in format_lines(market.next_minute()))
        return
    path = Path(capture)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from file


def cost_us(decode: Callable[[bytes], object], payloads: Sequence[bytes]) -> float:
    """Return what a frame costs."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for payload in payloads:
            decode(payload)
        best = min(best, time.process_time() - started)
    return best / len(payloads) * 1e6


def main() -> int:
    """Print the table; the answer is 1 where a floor is not reached."""
    capture = sys.argv[1] if len(sys.argv) > 1 else ""
    payloads = [line.partition(b" ")[2].strip() for line in islice(read_lines(capture), FRAMES)]
    decoder = BinanceDecoder()

    def decode(payload: bytes) -> object:
        frame = decoder.open(payload)
        return frame and decoder.decode(frame, received_time=1, fallback_time=1)

    is_slow, total, total_typed = False, 0.0, 0.0
    print(f"{'frame':<14}{'frames':>8}{'us':>8}{'msgspec us':>12}{'times':>8}")
    for kind in KINDS:
        word = f'"e":"{kind}"'.encode()
        members = [payload for payload in payloads if word in payload]
        if not members:
            continue
        cost, cost_typed = cost_us(decode, members), cost_us(decode_by_msgspec, members)
        total, total_typed = total + cost * len(members), total_typed + cost_typed * len(members)
        is_slow |= cost_typed / cost < FLOORS[kind]
        print(f"{kind:<14}{len(members):>8}{cost:>8.2f}{cost_typed:>12.2f}{cost_typed / cost:>8.2f}")
    print(f"{'all of them':<14}{'':>8}{'':>8}{'':>12}{total_typed / total:>8.2f}")
    return 1 if is_slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
