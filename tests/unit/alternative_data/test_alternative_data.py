"""Outside series from recorded answers, and how they are absent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from libs.alternative_data.api import (
    Reading,
    ReadingSource,
    SourceMalformed,
    SourceUnavailable,
    collect_readings,
)
from libs.alternative_data.crowd import FundingCrowdSource, LongShortSource
from libs.alternative_data.fear_greed import FearGreedSource
from libs.alternative_data.glassnode import GlassnodeSource
from libs.alternative_data.headlines import HeadlineSource, score_headline
from libs.alternative_data.sources import build_sources
from libs.domain.numbers import NANOSECONDS
from libs.domain.readings import SERIES_OF_METRIC
from libs.runtime.errors import DependencyUnavailable
from services.console.alternative_commands import collect
from services.ingestion.settings import IngestionSettings
from services.training.published import read_alternative

FIXTURES = Path(__file__).parent / "fixtures"
MIDNIGHT = 1_767_225_600 * NANOSECONDS
DAY = 86_400 * NANOSECONDS
HOUR = 3600 * NANOSECONDS
FEED = "https://feed.example/rss"

Handler = Callable[[httpx.Request], httpx.Response]


def _client(handler: Handler) -> httpx.Client:
    return httpx.Client(transport=httpx.MockTransport(handler))


def _answering(name: str, seen: list[httpx.Request] | None = None) -> httpx.Client:
    def handler(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)
        return httpx.Response(200, content=(FIXTURES / name).read_bytes())

    return _client(handler)


def _every(client: httpx.Client, key: str = "k") -> list[ReadingSource]:
    return [
        GlassnodeSource(client, key),
        FearGreedSource(client),
        LongShortSource(client),
        FundingCrowdSource(client),
        HeadlineSource(client, url=FEED),
    ]


def test_glassnode_values_are_usable_once_their_day_is_over() -> None:
    seen: list[httpx.Request] = []
    source = GlassnodeSource(_answering("glassnode_sopr.json", seen), "secret", metrics={"sopr": "indicators/sopr"})
    readings = source.fetch(MIDNIGHT - DAY, MIDNIGHT + DAY)
    assert readings == [
        Reading("glassnode", "sopr", MIDNIGHT - 2 * DAY, MIDNIGHT - DAY, 1.0123),
        Reading("glassnode", "sopr", MIDNIGHT - DAY, MIDNIGHT, 0.9981),
    ]
    (request,) = seen
    assert request.url.path == "/v1/metrics/indicators/sopr"
    assert request.headers["x-api-key"] == "secret"
    assert "secret" not in str(request.url)


def test_glassnode_without_a_key_is_absent_and_says_what_to_set() -> None:
    with pytest.raises(SourceUnavailable, match="PERPFLOW_INGESTION_GLASSNODE_KEY"):
        GlassnodeSource(_answering("glassnode_sopr.json"), "").fetch(MIDNIGHT, MIDNIGHT + DAY)


def test_fear_and_greed_is_known_from_its_stamp() -> None:
    readings = FearGreedSource(_answering("fear_greed.json")).fetch(MIDNIGHT, MIDNIGHT + DAY)
    assert readings == [Reading("fear_greed", "index", MIDNIGHT - DAY, MIDNIGHT, 24.0)]


def test_long_short_ratios_come_in_pages_of_500() -> None:
    seen: list[httpx.Request] = []
    source = LongShortSource(_answering("long_short_ratio.json", seen))
    readings = source.fetch(MIDNIGHT, MIDNIGHT + 600 * 300 * NANOSECONDS)
    assert len(seen) == 6
    assert [int(request.url.params["startTime"]) for request in seen[:2]] == [1_767_225_600_000, 1_767_375_600_000]
    assert len(readings) == 6
    first = readings[0]
    assert (first.metric, first.value, first.published_time) == ("accounts_long_short_ratio", 1.9604, MIDNIGHT)


def test_funding_crowd_leaves_out_delivery_contracts() -> None:
    source = FundingCrowdSource(_answering("premium_index.json"))
    now = 1_767_226_001 * NANOSECONDS
    assert source.fetch(MIDNIGHT, MIDNIGHT + HOUR) == [
        Reading("funding_crowd", "median_rate", now, now, 0.00005),
        Reading("funding_crowd", "longs_pay_share", now, now, 2 / 3),
    ]
    assert source.fetch(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY) == []


def test_headlines_about_the_market_have_a_polarity() -> None:
    readings = HeadlineSource(_answering("headlines.xml"), url=FEED).fetch(MIDNIGHT, MIDNIGHT + HOUR)
    minutes = [(reading.published_time - MIDNIGHT) // (60 * NANOSECONDS) for reading in readings]
    assert list(zip(minutes, [reading.value for reading in readings], strict=True)) == [
        (10, 1.0),
        (30, -1.0),
        (50, 1.0),
    ]


@pytest.mark.parametrize(
    ("headline", "score"),
    [
        ("Bitcoin rallies", 1.0),
        ("Bitcoin crashes", -1.0),
        ("Bitcoin rebounds after crash", 0.0),
        ("Bitcoin is not bullish", -1.0),
        ("Fund isn’t banned", 1.0),
        ("Bitcoin", 0.0),
        ("", 0.0),
        ("Losses fall as Bitcoin gains, gains and gains", 0.2),
    ],
)
def test_a_headline_is_scored_by_its_words(headline: str, score: float) -> None:
    assert score_headline(headline) == pytest.approx(score)


def test_collected_readings_are_in_order_of_publication_and_within_the_span() -> None:
    sources: list[ReadingSource] = [
        HeadlineSource(_answering("headlines.xml"), url=FEED),
        FundingCrowdSource(_answering("premium_index.json")),
    ]
    collected = collect_readings(sources, MIDNIGHT, MIDNIGHT + HOUR)
    times = [reading.published_time for reading in collected.readings]
    assert times == sorted(times)
    assert {reading.source for reading in collected.readings} == {"headlines", "funding_crowd"}
    assert collected.absences == ()


def _refuse(status: int, **headers: str) -> Handler:
    return lambda _request: httpx.Response(status, headers=headers, json={"code": -1})


def _unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody there", request=request)


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (_unreachable, "cannot be reached: ConnectError nobody there"),
        (_refuse(503), "answered 503"),
        (_refuse(401), "refuses us (401); check the key"),
        (_refuse(429, **{"retry-after": "30"}), "wants no more requests for 30 seconds"),
    ],
)
def test_every_source_may_be_absent_without_harm(handler: Handler, reason: str) -> None:
    sources = _every(_client(handler))
    collected = collect_readings(sources, MIDNIGHT, MIDNIGHT + DAY)
    assert collected.readings == ()
    assert all(absence.reason.startswith(f"{absence.source} {reason}") for absence in collected.absences)
    assert len(collected.absences) == 5


def test_one_absent_source_leaves_the_others_alone() -> None:
    sources: list[ReadingSource] = [
        HeadlineSource(_client(_unreachable), url=FEED),
        FundingCrowdSource(_answering("premium_index.json")),
    ]
    collected = collect_readings(sources, MIDNIGHT, MIDNIGHT + HOUR)
    assert len(collected.readings) == 2
    assert [absence.source for absence in collected.absences] == ["headlines"]


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (b"<html>maintenance", ("not JSON",) * 4 + ("not XML",)),
        (b'{"data": 3}', ("a list was expected",) * 4 + ("not XML",)),
        (b'[{"t": "x"}]', ("no number 't'", "no 'data'", "no number 'timestamp'", "no contract", "not XML")),
        (b"<rss><channel/></rss>", ("not JSON",) * 4 + ("no items",)),
    ],
)
def test_an_answer_of_another_form_is_named(body: bytes, messages: tuple[str, ...]) -> None:
    client = _client(lambda _request: httpx.Response(200, content=body))
    for source, message in zip(_every(client), messages, strict=True):
        with pytest.raises(SourceMalformed, match=message):
            source.fetch(MIDNIGHT, MIDNIGHT + DAY)


@pytest.mark.slow
def test_a_collection_is_written_in_order_and_names_what_is_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources: list[ReadingSource] = [
        HeadlineSource(_answering("headlines.xml"), url=FEED),
        FearGreedSource(_client(_unreachable)),
    ]
    assert len(collect(sources, MIDNIGHT, MIDNIGHT + HOUR, tmp_path / "outside.parquet").absences) == 1
    table = pq.read_table(tmp_path / "outside.parquet")
    assert table.column_names == ["published_time", "event_time", "source", "metric", "value"]
    assert table["value"].to_pylist() == [1.0, -1.0, 1.0]
    assert "absent: fear_greed cannot be reached" in capsys.readouterr().err


def test_a_collection_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DependencyUnavailable, match=r"every source is absent: .*fear_greed"):
        collect(_every(_client(_unreachable)), MIDNIGHT, MIDNIGHT + HOUR, tmp_path / "o.parquet")
    assert list(tmp_path.iterdir()) == []


def test_every_source_is_built_and_the_key_stays_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_INGESTION_GLASSNODE_KEY", "hush")
    settings = IngestionSettings()
    sources = build_sources(_client(_unreachable), settings.glassnode_key.get_secret_value(), settings.headlines_url)
    assert {source.name for source in sources} > {source.name for source in _every(_client(_unreachable))}
    assert "hush" not in repr(settings)


def test_readings_become_columns_known_from_their_publication_on(tmp_path: Path) -> None:
    path = tmp_path / "alternative.parquet"
    sources: list[ReadingSource] = [
        HeadlineSource(_answering("headlines.xml"), url=FEED),
        FearGreedSource(_answering("fear_greed.json")),
    ]
    readings = collect(sources, 0, 2 * MIDNIGHT, path).readings
    series = read_alternative(path)
    assert set(series) == {SERIES_OF_METRIC[reading.source, reading.metric].name for reading in readings}
    last = max((reading for reading in readings if reading.source == "fear_greed"), key=lambda one: one.published_time)
    column = series["fear_greed_index"]
    known_ms = -(-last.published_time // 1_000_000) + 3_600_000
    values, _ = column.as_of(np.array([known_ms - 1, known_ms, known_ms + 10 * 86_400_000]))
    assert values[0] != last.value or len(column.times) == 1
    assert values[1] == last.value
    assert np.isnan(values[2])
