"""Minutes of other markets and settled funding, from answers of the form that the exchanges document."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from libs.alternative_data.api import ReadingSource, SourceMalformed
from libs.alternative_data.markets import MinuteSource, OtherVenueFundingSource, SettledFundingSource
from libs.alternative_data.sources import build_sources
from libs.domain.numbers import NANOSECONDS
from libs.domain.readings import READING_SERIES, SERIES_OF_METRIC

MINUTE_MS = 60_000
START_MS = 1_767_225_600_000
MS = 1_000_000
URL = "https://spot.example"


def _client(answer: Callable[[httpx.Request], object]) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=answer(request))))


def _kline(open_ms: int, close: str = "60000.1", volume: str = "4", taker: str = "3") -> list[object]:
    return [open_ms, "1", "2", "0.5", close, volume, open_ms + 59_999, "240000", 7, taker, "180000", "0"]


def _klines(request: httpx.Request) -> object:
    """Every minute from the one asked for on, as the exchange has them, the running one included."""
    first, limit = int(request.url.params["startTime"]), int(request.url.params["limit"])
    last = START_MS + 2_500 * MINUTE_MS
    return [_kline(at) for at in range(first, min(first + limit * MINUTE_MS, last + MINUTE_MS), MINUTE_MS)]


def test_a_minute_is_known_when_it_has_ended_and_not_while_it_runs() -> None:
    source = MinuteSource(_client(_klines), "spot", symbol="BTCUSDT", url=URL)
    end = (START_MS + 2_500 * MINUTE_MS + 30_000) * MS
    readings = source.fetch((START_MS + 2_498 * MINUTE_MS + 1) * MS, end)
    prices = [one for one in readings if one.metric == "price"]
    assert [one.published_time // MS - START_MS for one in prices] == [2_499 * MINUTE_MS, 2_500 * MINUTE_MS]
    assert {one.value for one in prices} == {60_000.1}
    assert {one.value for one in readings if one.metric == "taker_imbalance"} == {0.5}
    assert all(one.published_time - one.event_time == 60 * NANOSECONDS for one in readings)


def test_many_minutes_are_asked_for_a_thousand_at_a_time() -> None:
    asked: list[int] = []

    def answer(request: httpx.Request) -> object:
        asked.append(int(request.url.params["startTime"]))
        return _klines(request)

    source = MinuteSource(_client(answer), "peer", symbol="ETHUSDT", url=URL)
    readings = source.fetch(START_MS * MS, (START_MS + 2_500 * MINUTE_MS) * MS)
    assert asked == [START_MS - MINUTE_MS, START_MS + 999 * MINUTE_MS, START_MS + 1_999 * MINUTE_MS]
    times = [one.published_time for one in readings if one.metric == "price"]
    assert len(times) == len(set(times)) == 2_500


def test_a_minute_without_trades_has_no_imbalance() -> None:
    client = _client(lambda request: [_kline(int(request.url.params["startTime"]), volume="0", taker="0")])
    readings = MinuteSource(client, "spot", symbol="BTCUSDT", url=URL).fetch(START_MS * MS, (START_MS + 1) * MS)
    assert [(one.metric, one.value) for one in readings] == [("price", 60_000.1), ("taker_imbalance", 0.0)]


def test_settlements_are_known_at_their_second_on_either_venue() -> None:
    ours = [{"symbol": "BTCUSDT", "fundingTime": START_MS + 3, "fundingRate": "0.00010000", "markPrice": "1"}]
    theirs = {"list": [{"symbol": "BTCUSDT", "fundingRate": "-0.0002", "fundingRateTimestamp": str(START_MS)}]}
    sources: list[ReadingSource] = [
        SettledFundingSource(_client(lambda _: ours)),
        OtherVenueFundingSource(_client(lambda _: {"retCode": 0, "result": theirs})),
    ]
    found = [one for source in sources for one in source.fetch((START_MS - 1) * MS, (START_MS + 10) * MS)]
    assert [(one.source, one.metric, one.value) for one in found] == [
        ("funding", "settled_rate", 0.0001),
        ("other_venue", "settled_rate", -0.0002),
    ]
    assert {one.published_time for one in found} == {START_MS * MS}


@pytest.mark.parametrize("answer", [{"retCode": 10001, "result": {}}, {"retCode": 0}, [], {"retCode": 0, "result": {}}])
def test_an_answer_of_another_form_is_named(answer: object) -> None:
    with pytest.raises(SourceMalformed, match="other_venue"):
        OtherVenueFundingSource(_client(lambda _: answer)).fetch(0, NANOSECONDS)


@pytest.mark.parametrize("answer", [{}, [7], [[START_MS, "1"]], [_kline(START_MS, close="nan")]])
def test_klines_of_another_form_are_named(answer: object) -> None:
    with pytest.raises(SourceMalformed, match="spot"):
        source = MinuteSource(_client(lambda _: answer), "spot", symbol="B", url=URL)
        source.fetch(START_MS * MS, (START_MS + 61_000) * MS)


def test_every_series_that_a_bar_holds_has_a_source_and_no_market_is_its_own_peer() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> object:
        asked.append(request)
        return []

    client = _client(answer)
    names = {source.name for source in build_sources(client, "k", URL)}
    assert {one.source for one in READING_SERIES.values()} == names
    assert len(SERIES_OF_METRIC) == len(READING_SERIES)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        peer = build_sources(client, "k", URL, symbol)[-1]
        peer.fetch(0, NANOSECONDS)
        assert asked[-1].url.params["symbol"] != symbol
