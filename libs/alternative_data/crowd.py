"""What the crowd on Binance USD-M holds and pays: long/short ratios, and how many contracts pay funding."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
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

URL: Final = "https://fapi.binance.com"
RATIOS: Final = {
    "accounts_long_short_ratio": "globalLongShortAccountRatio",
    "top_accounts_long_short_ratio": "topLongShortAccountRatio",
    "top_positions_long_short_ratio": "topLongShortPositionRatio",
}
_PERIODS_S: Final = {"5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400}
_MOST: Final = 500


class LongShortSource:
    """Long/short ratios of one symbol, by accounts and by positions of the largest traders.

    The exchange keeps 30 days. A stamp names the end of its period, from which the value is usable.
    """

    name = "long_short"

    def __init__(self, client: httpx.Client, *, symbol: str = "BTCUSDT", period: str = "5m", url: str = URL) -> None:
        if period not in _PERIODS_S:
            raise ValueError(f"period {period!r} is not one of {', '.join(_PERIODS_S)}")
        self._client = client
        self._symbol = symbol
        self._period = period
        self._url = url

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get all ratios stamped in [begin, end), 500 at a time."""
        readings = []
        length = _PERIODS_S[self._period] * NANOSECONDS
        for metric, path in RATIOS.items():
            at = begin
            while at < end:
                until = min(end, at + _MOST * length)
                params: dict[str, str | int] = {
                    "symbol": self._symbol,
                    "period": self._period,
                    "limit": _MOST,
                    "startTime": at // MILLISECONDS,
                    "endTime": (until - 1) // MILLISECONDS,
                }
                answer = get_json(self._client, self.name, f"{self._url}/futures/data/{path}", params=params)
                for record in read_list(self.name, answer):
                    stamp = int(read_number(self.name, record, "timestamp")) * MILLISECONDS
                    value = read_number(self.name, record, "longShortRatio")
                    if at <= stamp < until:
                        readings.append(Reading(self.name, metric, stamp - length, stamp, value))
                at = until
        return readings


class FundingCrowdSource:
    """Funding over all perpetuals at one moment: the median rate and the share of contracts whose longs pay."""

    name = "funding_crowd"

    def __init__(self, client: httpx.Client, *, url: str = URL) -> None:
        self._client = client
        self._url = url

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get the rates of now; nothing where now, by the exchange's clock, is outside [begin, end)."""
        answer = get_json(self._client, self.name, f"{self._url}/fapi/v1/premiumIndex")
        rates = []
        latest = 0
        for record in read_list(self.name, answer):
            if not isinstance(record, dict):
                raise SourceMalformed(f"{self.name}: a record was expected, not {str(record)[:80]}")
            # Delivery contracts are in the list too; they have no funding.
            if record.get("lastFundingRate") in (None, "") or not record.get("nextFundingTime"):
                continue
            rates.append(read_number(self.name, record, "lastFundingRate"))
            latest = max(latest, int(read_number(self.name, record, "time")) * MILLISECONDS)
        if not rates:
            raise SourceMalformed(f"{self.name}: no contract has a funding rate")
        if not begin <= latest < end:
            return []
        share = sum(rate > 0.0 for rate in rates) / len(rates)
        return [
            Reading(self.name, "median_rate", latest, latest, median(rates)),
            Reading(self.name, "longs_pay_share", latest, latest, share),
        ]
