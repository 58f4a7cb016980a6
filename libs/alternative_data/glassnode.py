"""On-chain metrics from Glassnode's REST interface. A key is needed; without one the source is absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import httpx

from libs.alternative_data.api import (
    Reading,
    SourceUnavailable,
    get_json,
    read_list,
    read_number,
)
from libs.domain.numbers import NANOSECONDS

URL: Final = "https://api.glassnode.com/v1/metrics/"
METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "active_addresses": "addresses/active_count",
        "exchange_net_flow": "transactions/transfers_volume_exchanges_net",
        "spent_output_profit_ratio": "indicators/sopr",
        "market_value_to_realised_value": "market/mvrv",
    }
)
"""Our name of a metric to its path."""

_INTERVALS_S: Final = {"1h": 3600, "24h": 86400}


class GlassnodeSource:
    """Metrics of one asset at one interval; a value is usable from the end of the interval that it describes."""

    name = "glassnode"

    def __init__(
        self,
        client: httpx.Client,
        key: str,
        *,
        asset: str = "BTC",
        interval: str = "24h",
        metrics: Mapping[str, str] = METRICS,
        url: str = URL,
    ) -> None:
        if interval not in _INTERVALS_S:
            raise ValueError(f"interval {interval!r} is not one of {', '.join(_INTERVALS_S)}")
        self._client = client
        self._key = key
        self._asset = asset
        self._interval = interval
        self._metrics = dict(metrics)
        self._url = url

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get every metric's values whose interval ended in [begin, end)."""
        if not self._key:
            raise SourceUnavailable("glassnode needs a key; set PERPFLOW_INGESTION_GLASSNODE_KEY to use it")
        length_s = _INTERVALS_S[self._interval]
        readings = []
        for metric, path in self._metrics.items():
            params = {
                "a": self._asset,
                "i": self._interval,
                "s": begin // NANOSECONDS - length_s,
                "u": end // NANOSECONDS,
            }
            answer = get_json(
                self._client, self.name, self._url + path, params=params, headers={"X-Api-Key": self._key}
            )
            for record in read_list(self.name, answer):
                start = int(read_number(self.name, record, "t")) * NANOSECONDS
                value = read_number(self.name, record, "v")
                readings.append(Reading(self.name, metric, start, start + length_s * NANOSECONDS, value))
        return [reading for reading in readings if begin <= reading.published_time < end]
