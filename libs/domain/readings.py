"""Readings of series from outside a market's own stream, and the rule by which a bar knows them.

A reading counts from its publication plus its series' lag, by when whoever polls the source has surely brought it, and
never before it came. So a file of the source and the stream that polled it tell a bar the same.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from libs.domain.numbers import NANOSECONDS

_MINUTE: Final = 60 * NANOSECONDS
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class ReadingSeries:
    """A series of readings: the `source` and `metric` that give it and the field of a bar that holds it.

    A reading counts from `lag_ns` after its publication, for `max_age_ns`.
    """

    name: str
    source: str
    metric: str
    lag_ns: int
    max_age_ns: int


SETTLED_FUNDING_RATE: Final = "settled_funding_rate"
"""The rate that was settled last, not the predicted one of `MarkPrice`. Settlements tell it, and so may a source."""

_ALL: Final = (
    # The venue says that funding was settled up to some seconds after the minute that ends with it has closed.
    ReadingSeries(SETTLED_FUNDING_RATE, "funding", "settled_rate", _MINUTE, 16 * _HOUR),
    ReadingSeries("fear_greed_index", "fear_greed", "index", _HOUR, 2 * _DAY),
    ReadingSeries("accounts_long_short_ratio", "long_short", "accounts_long_short_ratio", 5 * _MINUTE, _HOUR),
    ReadingSeries("top_accounts_long_short_ratio", "long_short", "top_accounts_long_short_ratio", 5 * _MINUTE, _HOUR),
    ReadingSeries("top_positions_long_short_ratio", "long_short", "top_positions_long_short_ratio", 5 * _MINUTE, _HOUR),
    ReadingSeries("funding_median_rate", "funding_crowd", "median_rate", 5 * _MINUTE, _HOUR),
    ReadingSeries("funding_longs_pay_share", "funding_crowd", "longs_pay_share", 5 * _MINUTE, _HOUR),
    ReadingSeries("headline_polarity", "headlines", "polarity", 10 * _MINUTE, _DAY),
    # On-chain metrics of a day appear some hours after its end.
    ReadingSeries("active_addresses", "glassnode", "active_addresses", 12 * _HOUR, 3 * _DAY),
    ReadingSeries("exchange_net_flow", "glassnode", "exchange_net_flow", 12 * _HOUR, 3 * _DAY),
    ReadingSeries("spent_output_profit_ratio", "glassnode", "spent_output_profit_ratio", 12 * _HOUR, 3 * _DAY),
    ReadingSeries(
        "market_value_to_realised_value", "glassnode", "market_value_to_realised_value", 12 * _HOUR, 3 * _DAY
    ),
    ReadingSeries("peer_price", "peer", "price", _MINUTE, 10 * _MINUTE),
    ReadingSeries("peer_taker_imbalance", "peer", "taker_imbalance", _MINUTE, 10 * _MINUTE),
    ReadingSeries("spot_price", "spot", "price", _MINUTE, 10 * _MINUTE),
    ReadingSeries("spot_taker_imbalance", "spot", "taker_imbalance", _MINUTE, 10 * _MINUTE),
    ReadingSeries("other_venue_funding_rate", "other_venue", "settled_rate", 5 * _MINUTE, 16 * _HOUR),
)

READING_SERIES: Final[dict[str, ReadingSeries]] = {one.name: one for one in _ALL}
"""Every series by its name, in the order of a bar's fields."""

SERIES_OF_METRIC: Final[dict[tuple[str, str], ReadingSeries]] = {(one.source, one.metric): one for one in _ALL}
"""The series of a source's metric."""

_Known: TypeAlias = tuple[int, int, float]


@dataclass(slots=True)
class LatestReadings:
    """What is known of each series: readings as (published, known from, value) by publication, no more than matter."""

    series: dict[str, list[_Known]] = field(default_factory=dict)

    def add(self, name: str, published_time: int, came_time: int, value: float) -> None:
        """Take a reading that came at `came_time` (ns); one that is known already changes nothing.

        KeyError for a series that there is not.
        """
        lag = READING_SERIES[name].lag_ns
        known = self.series.setdefault(name, [])
        if any(each[0] == published_time and each[2] == value for each in known):
            return
        # Of two that were published at one time the later one counts.
        known[:] = [each for each in known if each[0] != published_time]
        insort(known, (published_time, max(published_time + lag, came_time), value))

    def forget(self, close_time: int) -> None:
        """Drop what no bar that closes after `close_time` reads: all that is older than the latest known by then."""
        for known in self.series.values():
            latest = max((at for at, each in enumerate(known) if each[1] <= close_time), default=0)
            del known[:latest]

    def as_of(self, close_time: int) -> Iterator[tuple[str, float]]:
        """Yield the name and value of each series that a bar closing at `close_time` (ns) knows."""
        for name, known in self.series.items():
            for published, known_from, value in reversed(known):
                if known_from <= close_time:
                    one = READING_SERIES[name]
                    if close_time - published - one.lag_ns < one.max_age_ns:
                        yield name, value
                    break
