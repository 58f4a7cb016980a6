"""The crypto fear-and-greed index of alternative.me: one number a day from 0 (fear) to 100 (greed)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import httpx

from libs.alternative_data.api import Reading, SourceMalformed, get_json, read_list, read_number
from libs.domain.numbers import NANOSECONDS

URL: Final = "https://api.alternative.me/fng/"
_DAY: Final = 86400 * NANOSECONDS


class FearGreedSource:
    """The index by day; its time stamp is when it was published."""

    name = "fear_greed"

    def __init__(self, client: httpx.Client, *, url: str = URL) -> None:
        self._client = client
        self._url = url

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get the days published in [begin, end). The source only counts back from today, so all are asked for."""
        answer = get_json(self._client, self.name, self._url, params={"limit": 0, "format": "json"})
        if not isinstance(answer, dict) or "data" not in answer:
            raise SourceMalformed(f"{self.name}: no 'data' in the answer")
        readings = []
        for record in read_list(self.name, answer["data"]):
            published = int(read_number(self.name, record, "timestamp")) * NANOSECONDS
            value = read_number(self.name, record, "value")
            if not 0.0 <= value <= 100.0:
                raise SourceMalformed(f"{self.name}: index {value} is not from 0 to 100")
            if begin <= published < end:
                readings.append(Reading(self.name, "index", published - _DAY, published, value))
        return readings
