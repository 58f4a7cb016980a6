"""A venue's past comes whole, is asked for once, and goes on after any end; what is not that series is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.history.collection import collect, plan
from libs.history.errors import HistoryError
from libs.history.files import SeriesFiles, subtract, unite
from libs.history.series import make_series
from libs.venues.errors import VenueRefused, VenueUnavailable
from libs.venues.history import HistoryRefused, MarketHistory, TimeSpan
from libs.venues.registry import find_venue
from libs.venues.rest import RequestBudget, RestClient
from tests.kit.fake_past import DAY_MS, NOW_MS, FakePast, price_at

MINUTE_MS = 60_000


class SteppingClock:
    """Every look at it is three seconds later, so that every page is a time to write."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ns(self) -> int:
        return int(self.seconds * 1e9)

    def monotonic_s(self) -> float:
        self.seconds += 3.0
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def open_past(past: FakePast, venue: str, weight_per_minute: int | None = None) -> MarketHistory:
    rest = RestClient(
        "http://past.test",
        transport=httpx.MockTransport(past.respond),
        budget=RequestBudget(weight_per_minute, clock=SteppingClock()),
    )
    return find_venue(venue).open_history(rest)


def run(
    past: FakePast,
    path: Path,
    begin: int,
    end: int = NOW_MS,
    *,
    venue: str = "BINANCE",
    kind: str = "klines",
    timeframe: str = "1m",
    advance: Callable[[int, int], None] = lambda _ms, _rows: None,
) -> pa.Table:
    files = SeriesFiles(path, make_series(venue, "BTCUSDT", kind, timeframe), "test")
    history = open_past(past, venue)
    pieces = [(files, piece) for piece in plan(history, files, TimeSpan(begin, end), past.now_ms)]
    collect(history, pieces, now_ms=past.now_ms, clock=SteppingClock(), advance=advance)
    return files.read()


def times_of(table: pa.Table) -> list[int]:
    return table.column(0).cast(pa.int64()).to_pylist()


@pytest.mark.parametrize("venue", ["BINANCE", "BYBIT"])
@pytest.mark.parametrize(
    ("kind", "timeframe", "step_ms"),
    [
        ("klines", "1m", MINUTE_MS),
        ("mark", "1h", 60 * MINUTE_MS),
        ("funding", "", 480 * MINUTE_MS),
        ("open-interest", "5m", 5 * MINUTE_MS),
    ],
)
@pytest.mark.parametrize("name", ["bars.parquet", "folder"])
def test_a_series_comes_whole_and_is_asked_for_once(
    tmp_path: Path, venue: str, kind: str, timeframe: str, step_ms: int, name: str
) -> None:
    begin, past = NOW_MS - 20 * DAY_MS, FakePast()
    table = run(past, tmp_path / name, begin, venue=venue, kind=kind, timeframe=timeframe)
    newest = NOW_MS if kind in ("funding",) else NOW_MS - step_ms
    assert times_of(table) == list(range(-(-begin // step_ms) * step_ms, newest + 1, step_ms))[: len(table)]
    assert times_of(table)[-1] >= newest - step_ms
    again = FakePast()
    assert run(again, tmp_path / name, begin, venue=venue, kind=kind, timeframe=timeframe) == table
    assert all(end - asked <= 2 * step_ms for asked, end in again.spans_asked())


def test_prices_are_the_doubles_nearest_to_what_was_written(tmp_path: Path) -> None:
    table = run(FakePast(), tmp_path / "bars.parquet", NOW_MS - DAY_MS)
    assert table.column("open").to_pylist() == [float(price_at(at)) for at in times_of(table)]
    assert set(table.column("trades").to_pylist()) == {100}


def test_an_earlier_and_a_later_end_ask_for_what_is_new_alone(tmp_path: Path) -> None:
    path, past = tmp_path / "bars.parquet", FakePast()
    middle, last = NOW_MS - 3 * DAY_MS, NOW_MS - 2 * DAY_MS
    run(past, path, middle, last)
    past.asked.clear()
    table = run(past, path, middle - DAY_MS, last + DAY_MS)
    assert times_of(table) == list(range(middle - DAY_MS, last + DAY_MS, MINUTE_MS))
    assert {(begin >= last or end <= middle) for begin, end in past.spans_asked()} == {True}


def test_pages_are_on_disk_before_the_next_ones_come(tmp_path: Path) -> None:
    path, seen = tmp_path / "bars.parquet", []

    def note(_covered_ms: int, _rows: int) -> None:
        seen.append(pq.read_metadata(path).num_rows if path.exists() else 0)

    run(FakePast(), path, NOW_MS - 10 * DAY_MS, advance=note)
    assert seen[0] == 0 < seen[1] < seen[-1]


def test_a_collection_that_ended_early_goes_on_where_it_was(tmp_path: Path) -> None:
    path, begin = tmp_path / "folder", NOW_MS - 10 * DAY_MS

    def ban(_request: httpx.Request, number: int) -> httpx.Response | None:
        return httpx.Response(500, text="down") if number > 5 else None

    broken = FakePast(ban)
    with pytest.raises(VenueUnavailable, match="500"):
        run(broken, path, begin)
    past = FakePast()
    table = run(past, path, begin)
    assert times_of(table) == list(range(begin, NOW_MS, MINUTE_MS))
    assert len(past.asked) <= 6


def test_a_limit_is_waited_out(tmp_path: Path) -> None:
    def limit(_request: httpx.Request, number: int) -> httpx.Response | None:
        answer = httpx.Response(429, headers={"Retry-After": "1"}, json={"code": -1003, "msg": "Too many requests"})
        return answer if number in (2, 3) else None

    begin = NOW_MS - 4 * DAY_MS
    assert times_of(run(FakePast(limit), tmp_path / "bars.parquet", begin)) == list(range(begin, NOW_MS, MINUTE_MS))


def test_trades_that_a_page_cuts_within_a_millisecond_all_come(tmp_path: Path) -> None:
    begin, end = NOW_MS - DAY_MS, NOW_MS - DAY_MS + 5 * MINUTE_MS + 500
    table = run(FakePast(), tmp_path / "folder", begin, end, kind="trades", timeframe="")
    assert table.column("id").to_pylist() == list(range(begin // 100, begin // 100 + 301 * 10))
    (file,) = (tmp_path / "folder").rglob("*.parquet")
    assert file.relative_to(tmp_path / "folder").parts[:3] == ("venue=BINANCE", "symbol=BTCUSDT", "kind=trades")


def test_a_wrong_symbol_is_refused_at_the_first_question(tmp_path: Path) -> None:
    def refuse(_request: httpx.Request, _number: int) -> httpx.Response | None:
        return httpx.Response(400, json={"code": -1121, "msg": "Invalid symbol."})

    past = FakePast(refuse)
    with pytest.raises(VenueRefused, match="Invalid symbol"):
        run(past, tmp_path / "bars.parquet", NOW_MS - 300 * DAY_MS)
    assert len(past.asked) < 30
    assert not (tmp_path / "bars.parquet").exists()


def test_the_newest_rows_are_asked_for_again_until_they_are_published(tmp_path: Path) -> None:
    path, past = tmp_path / "interest.parquet", FakePast()
    past.now_ms -= 10 * MINUTE_MS
    history, series = open_past(past, "BINANCE"), make_series("BINANCE", "BTCUSDT", "open-interest", "5m")
    files = SeriesFiles(path, series, "test")
    pieces = [(files, piece) for piece in plan(history, files, TimeSpan(NOW_MS - DAY_MS, NOW_MS), NOW_MS)]
    collect(history, pieces, now_ms=NOW_MS, clock=SteppingClock(), advance=lambda _ms, _rows: None)
    table = run(FakePast(), path, NOW_MS - DAY_MS, kind="open-interest", timeframe="5m")
    assert times_of(table) == list(range(NOW_MS - DAY_MS, NOW_MS, 5 * MINUTE_MS))


@pytest.mark.parametrize(
    ("venue", "kind", "timeframe", "reason"),
    [
        ("BINANCE", "book", "", r"no past books; take bookDepth .*data\.binance\.vision"),
        ("BINANCE", "open-interest", "5m", "of the last 30 days alone"),
        ("BINANCE", "open-interest", "1m", "no open-interest of 1m; choose from 5m, 15m, 1h, 4h, 1d"),
        (
            "BYBIT",
            "trades",
            "",
            "newest 1,000 trades alone",
        ),
        ("BYBIT", "book", "", "the present book alone"),
    ],
)
def test_what_a_venue_does_not_give_is_refused_saying_who_does(
    tmp_path: Path, venue: str, kind: str, timeframe: str, reason: str
) -> None:
    with pytest.raises(HistoryRefused, match=reason):
        run(FakePast(), tmp_path / "folder", NOW_MS - 35 * DAY_MS, venue=venue, kind=kind, timeframe=timeframe)


def test_a_file_of_another_series_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    run(FakePast(), path, NOW_MS - DAY_MS)
    before = path.read_bytes()
    for other in (
        make_series("BINANCE", "ETHUSDT", "klines", "1m"),
        make_series("BYBIT", "BTCUSDT", "klines", "1m"),
        make_series("BINANCE", "BTCUSDT", "klines", "5m"),
        make_series("BINANCE", "BTCUSDT", "klines", "1m", is_sample=True),
    ):
        with pytest.raises(HistoryError, match=r"holds BTCUSDT\.BINANCE klines 1m, not "):
            SeriesFiles(path, other, "test")
    assert path.read_bytes() == before
    pq.write_table(pa.table({"open_time": [1]}), tmp_path / "plain.parquet")
    with pytest.raises(HistoryError, match="does not say what it is of"):
        SeriesFiles(tmp_path / "plain.parquet", make_series("BINANCE", "BTCUSDT", "klines", "1m"), "test")


def test_spans_are_united_and_subtracted() -> None:
    covered = unite([TimeSpan(5, 9), TimeSpan(0, 3), TimeSpan(3, 4), TimeSpan(8, 12), TimeSpan(7, 7)])
    assert covered == [TimeSpan(0, 4), TimeSpan(5, 12)]
    assert subtract(TimeSpan(-2, 20), covered) == [TimeSpan(-2, 0), TimeSpan(4, 5), TimeSpan(12, 20)]
    assert subtract(TimeSpan(1, 3), covered) == []


@pytest.mark.parametrize(
    ("symbol", "kind", "timeframe", "reason"),
    [
        ("btcusdt", "klines", "1m", "a symbol is written like BTCUSDT"),
        ("BTCUSDT", "candles", "1m", "unknown kind 'candles'; the kinds are klines"),
        ("BTCUSDT", "klines", "2m", "unknown timeframe '2m'"),
    ],
)
def test_words_that_name_no_series_are_refused(symbol: str, kind: str, timeframe: str, reason: str) -> None:
    with pytest.raises(HistoryError, match=reason):
        make_series("binance", symbol, kind, timeframe)
