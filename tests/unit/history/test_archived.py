"""What a venue's REST interface does not give comes from the files of its archive, checked, each day once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import orjson
import pytest
from typer.testing import CliRunner

from libs.clock import SimulatedClock
from libs.history.archived import collect_days, plan_days
from libs.history.files import SeriesFiles
from libs.history.series import make_series
from libs.runtime.errors import DependencyUnavailable
from libs.venues.archives import ArchiveClient
from libs.venues.errors import VenueUnavailable
from libs.venues.history import TimeSpan
from libs.venues.registry import find_venue
from services.console.main import app
from tests.kit.fake_archive import FakeArchive
from tests.kit.fake_past import DAY_MS, NOW_MS, FakePast


def run(
    archive: FakeArchive, path: Path, begin: int, end: int, *, kind: str = "open-interest", timeframe: str = "5m"
) -> tuple[SeriesFiles, list[int]]:
    files = SeriesFiles(path, make_series("BINANCE", "BTCUSDT", kind, timeframe), "test")
    days = [(files, day) for day in plan_days(files, TimeSpan(begin, end), NOW_MS)]
    declared = find_venue("BINANCE").archive
    with ArchiveClient(declared, "http://archive.test", transport=httpx.MockTransport(archive.respond)) as client:
        absent = collect_days(
            client, days, now_ms=NOW_MS, clock=SimulatedClock(0), advance=lambda _covered, _rows: None
        )
    return files, [day for _, day in absent]


def test_each_day_is_fetched_once_and_a_day_without_a_file_is_told_and_asked_for_again(tmp_path: Path) -> None:
    archive = FakeArchive(absent=["2026-01-03"])
    begin = NOW_MS - 40 * DAY_MS
    files, absent = run(archive, tmp_path / "oi", begin, begin + 4 * DAY_MS)
    assert absent == [begin + 2 * DAY_MS]
    assert len(files.read()) == 3 * 288
    archive.asked.clear()
    archive.absent.clear()
    files, absent = run(archive, tmp_path / "oi", begin, begin + 5 * DAY_MS)
    assert not absent
    assert len(files.read()) == 5 * 288
    assert sorted(path for path in archive.asked if path.endswith(".zip")) == [
        "/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-01-03.zip",
        "/data/futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2026-01-05.zip",
    ]


def test_a_longer_timeframe_is_read_out_of_the_one_that_is_published(tmp_path: Path) -> None:
    files, _ = run(FakeArchive(), tmp_path / "oi", NOW_MS - 40 * DAY_MS, NOW_MS - 39 * DAY_MS, timeframe="1h")
    table = files.read()
    assert len(table) == 24
    assert table.column("open_interest")[1].as_py() == 20_012.5


def test_a_damaged_file_is_fetched_again_and_one_that_stays_damaged_is_refused(tmp_path: Path) -> None:
    begin = NOW_MS - 40 * DAY_MS
    files, _ = run(FakeArchive(damaged=["2026-01-01"]), tmp_path / "oi", begin, begin + DAY_MS)
    assert len(files.read()) == 288

    class Broken(FakeArchive):
        def respond(self, request: httpx.Request) -> httpx.Response:
            self.damaged.add("2026-01-01")
            return super().respond(request)

    with pytest.raises(VenueUnavailable, match="came damaged: its checksum is another"):
        run(Broken(), tmp_path / "other", begin, begin + DAY_MS)


@contextmanager
def served(*answering: Any) -> Iterator[str]:
    """Serve a past and an archive at one address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            request = httpx.Request("GET", f"http://past.test{self.path}")
            is_file = self.path.startswith(("/data/", "/trading/"))
            answer = next(each for each in answering if isinstance(each, FakeArchive) == is_file).respond(request)
            self.send_response(answer.status_code)
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the standard library's name)
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def collect(url: str, output: Path, *arguments: str) -> dict[str, Any]:
    words = ("collect-data", "--output", str(output), "--url", url, "--archive-url", url, "--json", *arguments)
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = orjson.loads(done.stdout)
    return answer


def test_open_interest_beyond_thirty_days_comes_from_the_archive_and_the_rest_from_rest(tmp_path: Path) -> None:
    past, archive = FakePast(), FakeArchive()
    with served(past, archive) as url:
        answer = collect(url, tmp_path / "oi.parquet", "--kind", "open-interest", "--timeframe", "5m", "--days", "35")
    assert (answer["gaps"], answer["days_not_in_archive"]) == (0, [])
    assert answer["first_time_ms"] == NOW_MS - 35 * DAY_MS
    assert answer["rows"] == 35 * 288
    # Of 30 days REST gives what it has; no day is asked of both.
    assert len([path for path in archive.asked if path.endswith(".zip")]) == 5
    assert min(begin for begin, _ in past.spans_asked()) == NOW_MS - 30 * DAY_MS


def test_past_trades_of_bybit_come_from_its_archive(tmp_path: Path) -> None:
    archive = FakeArchive(absent=["2026-02-08"])
    words = ("--venue", "bybit", "--kind", "trades", "--from", "2026-02-06", "--to", "2026-02-10")
    with served(FakePast(), archive) as url:
        answer = collect(url, tmp_path / "trades", *words)
    assert answer["new_rows"] == 3 * 1440
    assert answer["days_not_in_archive"] == ["BTCUSDT.BYBIT trades 2026-02-08"]


def test_an_archive_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with served(FakePast()) as url, pytest.raises(DependencyUnavailable, match=r"http://127\.0\.0\.1:9/trading"):
        words = ["collect-data", "--output", str(tmp_path / "t"), "--url", url, "--archive-url", "http://127.0.0.1:9"]
        words += ["--venue", "bybit", "--kind", "trades", "--from", "2026-02-06", "--to", "2026-02-07"]
        CliRunner().invoke(app, words, catch_exceptions=False)
