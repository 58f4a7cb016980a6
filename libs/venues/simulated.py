"""The simulated exchange's declaration, and the client of its numbered frames.

It speaks Binance USD-M's protocol for market data and trading. Its numbered frames are any stretch of its market, the
same however often it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.domain.bars import TIMEFRAMES
from libs.domain.market import ExchangeBar
from libs.venues.api import Venue
from libs.venues.archives import NO_ARCHIVE
from libs.venues.binance import open_market, open_trading
from libs.venues.binance_frames import BinanceDecoder, decode_klines
from libs.venues.binance_history import open_history
from libs.venues.errors import VenueUnavailable
from libs.venues.rest import RestClient

_MINUTE_MS = TIMEFRAMES["1m"] // 1_000_000
_PAGE = 1500


@dataclass(frozen=True, slots=True)
class SimulatedFrame:
    """A numbered frame: its sequence, when it was received (ns, simulated) and the frame itself."""

    sequence: int
    received_time: int
    payload: bytes


class SimulatedMarketClient:
    """Reads frames and klines of the simulated exchange behind a `RestClient`."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest
        self._start_ms = 0

    def identify(self) -> tuple[int, str]:
        """Return the seed and the symbol that it simulates. Raises `VenueUnavailable`, `VenueRefused`."""
        facts = self._rest.get_json("/sim/v1/market")
        self._start_ms = int(facts["start_ms"])
        return int(facts["seed"]), str(facts["symbol"])

    def now_ms(self) -> int:
        """Return the exchange's clock. Raises `VenueUnavailable`, `VenueRefused`."""
        return int(self._rest.get_json("/fapi/v1/time")["serverTime"])

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    def frames(self, after: int, limit: int) -> list[SimulatedFrame]:
        """Return the frames with sequences from `after` + 1 on. Raises `VenueUnavailable` also where one is missing."""
        body = self._rest.get("/sim/v1/frames", {"after": after, "limit": limit})
        frames = []
        for position, line in enumerate(body.splitlines()):
            sequence, received_time, payload = line.split(b" ", 2)
            if int(sequence) != after + 1 + position:
                raise VenueUnavailable(f"frame {after + 1 + position} is missing from the simulated exchange's answer")
            frames.append(SimulatedFrame(int(sequence), int(received_time), payload))
        return frames

    def history(self, symbol: str, instrument: str, count: int) -> list[ExchangeBar]:
        """Return the last `count` klines before the stream begins, fewer where there are fewer, ascending."""
        bars: list[ExchangeBar] = []
        end_ms = self._start_ms - 1
        while len(bars) < count:
            limit = min(_PAGE, count - len(bars))
            rows = self._rest.get_json(
                "/fapi/v1/klines",
                {
                    "symbol": symbol,
                    "interval": "1m",
                    "startTime": end_ms + 1 - limit * _MINUTE_MS,
                    "endTime": end_ms,
                    "limit": limit,
                },
            )
            page = decode_klines(rows, instrument=instrument)
            bars = page + bars
            if len(page) < limit:
                break
            end_ms -= limit * _MINUTE_MS
        return bars


_ADDRESSES = ("http://127.0.0.1:8090", "ws://127.0.0.1:8090")

VENUE = Venue(
    "SIMULATED",
    _ADDRESSES,
    BinanceDecoder,
    open_market,
    open_history,
    2400,
    NO_ARCHIVE,
    {"testnet": _ADDRESSES},
    open_trading,
)
