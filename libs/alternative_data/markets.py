"""What other markets say: minutes of spot and of a peer, and funding as it was settled here and on another venue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import httpx

from libs.alternative_data.api import (
    MILLISECONDS,
    Reading,
    SourceMalformed,
    get_json,
    read_list,
    read_number,
)
from libs.domain.numbers import NANOSECONDS

PERPETUALS_URL: Final = "https://fapi.binance.com/fapi/v1"
SPOT_URL: Final = "https://api.binance.com/api/v3"
OTHER_VENUE_URL: Final = "https://api.bybit.com"
_MINUTE: Final = 60 * NANOSECONDS
_MOST_KLINES: Final = 1000
_MOST_SETTLEMENTS: Final = 200
# Where a venue settles every hour, a request of so long a time still gets all of them.
_SETTLEMENTS_SPAN: Final = _MOST_SETTLEMENTS * 3600 * NANOSECONDS
_KLINE_FIELDS: Final = {"open_time": 0, "close": 4, "volume": 5, "taker_buy_volume": 9}


class MinuteSource:
    """The last price and the taker imbalance of each minute of a Binance market, known when the minute has ended."""

    def __init__(self, client: httpx.Client, name: str, *, symbol: str, url: str) -> None:
        self.name = name
        self._client = client
        self._symbol = symbol
        self._url = url

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get the minutes that ended in [begin, end), a thousand at a time."""
        readings = []
        at = begin - begin % _MINUTE - _MINUTE
        while at + _MINUTE < end:
            params: dict[str, str | int] = {
                "symbol": self._symbol,
                "interval": "1m",
                "startTime": at // MILLISECONDS,
                "limit": _MOST_KLINES,
            }
            answer = read_list(self.name, get_json(self._client, self.name, f"{self._url}/klines", params=params))
            opened = at
            for kline in answer:
                opened = int(self._number(kline, "open_time")) * MILLISECONDS
                published = opened + _MINUTE
                if not begin <= published < end:
                    continue
                volume, taker = self._number(kline, "volume"), self._number(kline, "taker_buy_volume")
                imbalance = (2.0 * taker - volume) / volume if volume > 0.0 else 0.0
                readings.append(Reading(self.name, "price", opened, published, self._number(kline, "close")))
                readings.append(Reading(self.name, "taker_imbalance", opened, published, imbalance))
            if len(answer) < _MOST_KLINES:
                break
            at = opened + _MINUTE
        return readings

    def _number(self, kline: object, field: str) -> float:
        place = _KLINE_FIELDS[field]
        if not isinstance(kline, list) or len(kline) <= place:
            raise SourceMalformed(f"{self.name}: a kline was expected, not {str(kline)[:80]}")
        return read_number(self.name, {field: kline[place]}, field)


class SettledFundingSource:
    """The funding rate of one Binance perpetual as it was settled."""

    name = "funding"

    def __init__(self, client: httpx.Client, *, symbol: str = "BTCUSDT", url: str = PERPETUALS_URL) -> None:
        self._client = client
        self._symbol = symbol
        self._url = url

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get what was settled in [begin, end)."""
        readings = []
        for page in _pages(begin, end):
            params = {"symbol": self._symbol, **page}
            answer = get_json(self._client, self.name, f"{self._url}/fundingRate", params=params)
            readings += _settlements(self.name, read_list(self.name, answer), "fundingTime")
        return [reading for reading in readings if begin <= reading.published_time < end]


class OtherVenueFundingSource:
    """The funding rate of the same contract on Bybit as it was settled."""

    name = "other_venue"

    def __init__(self, client: httpx.Client, *, symbol: str = "BTCUSDT", url: str = OTHER_VENUE_URL) -> None:
        self._client = client
        self._symbol = symbol
        self._url = url

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get what was settled in [begin, end)."""
        readings = []
        for page in _pages(begin, end):
            params = {"category": "linear", "symbol": self._symbol, **page}
            answer = get_json(self._client, self.name, f"{self._url}/v5/market/funding/history", params=params)
            if not isinstance(answer, dict) or answer.get("retCode") != 0 or not isinstance(answer.get("result"), dict):
                raise SourceMalformed(f"{self.name}: no 'result' in {str(answer)[:80]}")
            records = read_list(self.name, answer["result"].get("list"))
            readings += _settlements(self.name, records, "fundingRateTimestamp")
        readings.sort(key=lambda reading: reading.published_time)
        return [reading for reading in readings if begin <= reading.published_time < end]


def _settlements(source: str, records: Sequence[object], time_field: str) -> list[Reading]:
    """Read settlements, each of the second of its time: venues stamp it some ms late."""
    readings = []
    for record in records:
        at = int(read_number(source, record, time_field)) // 1000 * NANOSECONDS
        readings.append(Reading(source, "settled_rate", at, at, read_number(source, record, "fundingRate")))
    return readings


def _pages(begin: int, end: int) -> Iterator[dict[str, str | int]]:
    """Yield the parameters of each request, which both venues name alike."""
    for first in range(begin, end, _SETTLEMENTS_SPAN):
        last = min(end, first + _SETTLEMENTS_SPAN)
        yield {
            "startTime": first // MILLISECONDS,
            "endTime": (last - 1) // MILLISECONDS,
            "limit": _MOST_SETTLEMENTS,
        }
