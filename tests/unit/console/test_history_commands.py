"""`perpflow collect-data`, `import` and `data quality`: as a person calls them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from libs.runtime.errors import BadInput, DependencyUnavailable
from services.backtest.inputs import open_recording
from services.console.main import app
from services.console.market_choice import plays_sample_data
from services.exchange.core import generate_history
from tests.unit.exchange.served import an_exchange
from tests.unit.ingestion.builders import trade_line, write_capture


def perpflow(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_klines_are_collected_exactly_and_the_next_call_goes_on(tmp_path: Path) -> None:
    output = tmp_path / "bars.parquet"
    with an_exchange(seed=7) as exchange:
        first = json.loads(
            perpflow("collect-data", "--days", "0.5", "--output", str(output), "--url", exchange.url, "--json")
        )
        exchange.wall.seconds += 120
        second = json.loads(perpflow("collect-data", "--output", str(output), "--url", exchange.url, "--json"))
    assert (first["gaps"], second["gaps"]) == (0, 0)
    assert second["new_rows"] == 2
    assert second["rows"] == first["rows"] + 2
    rows = pq.read_table(output).to_pylist()
    known = {bar.open_time // 1_000_000: bar for bar in generate_history(7)}
    for row in rows:
        row["open_time"] = round(row["open_time"].timestamp() * 1000)
    shared = [row for row in rows if row["open_time"] in known]
    assert len(shared) == 720
    for row in shared:
        bar = known[row["open_time"]]
        assert round(row["close"] * 1e8) == bar.close_e8
        assert round(row["taker_buy_volume"] * 1e8) == bar.taker_buy_volume_e8
        assert row["trades"] == bar.trade_count


def test_an_exchange_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(DependencyUnavailable, match=r"http://127\.0\.0\.1:9/"):
        perpflow("collect-data", "--output", str(tmp_path / "bars.parquet"), "--url", "http://127.0.0.1:9")


def test_a_file_of_another_kind_is_not_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "notes.parquet"
    output.write_text("not Parquet")
    with pytest.raises(BadInput, match="name another --output"):
        perpflow("collect-data", "--output", str(output), "--url", "http://127.0.0.1:9")
    assert output.read_text() == "not Parquet"


def test_a_wrong_symbol_is_refused_within_a_second(tmp_path: Path) -> None:
    with an_exchange(seed=7) as exchange:
        started = time.monotonic()
        with pytest.raises(BadInput, match=r"Invalid symbol"):
            collect(tmp_path / "x.parquet", exchange.url, "--symbol", "BTCUSDX", "--days", "300")
        assert time.monotonic() - started < 10
    assert not (tmp_path / "x.parquet").exists()


def collect(output: Path, url: str, *arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        perpflow("collect-data", "--output", str(output), "--url", url, "--json", *arguments)
    )
    return answer


def test_several_series_go_into_a_folder_and_none_is_wrong(tmp_path: Path) -> None:
    with an_exchange(seed=7) as exchange:
        exchange.wall.seconds += 600
        kinds = ("--kind", "klines,trades", "--timeframe", "1m,5m", "--days", "0.01")
        answer = collect(tmp_path / "history", exchange.url, *kinds)
    assert [each["series"] for each in answer["series"]] == [
        "BTCUSDT.BINANCE klines 1m",
        "BTCUSDT.BINANCE klines 5m",
        "BTCUSDT.BINANCE trades",
    ]
    assert all(each["rows"] for each in answer["series"])
    reports = json.loads(perpflow("data", "quality", str(tmp_path / "history"), "--json"))
    assert [report["findings"] for report in reports] == [[], [], []]


def test_sample_data_stands_in_for_a_venue_that_does_not_answer_and_says_so(tmp_path: Path) -> None:
    output = tmp_path / "bars.parquet"
    nowhere = "http://127.0.0.1:9"
    answer = collect(output, nowhere, "--sample-seed", "7", "--timeframe", "5m", "--days", "1")
    assert (answer["is_sample"], answer["rows"], answer["gaps"]) == (True, 288, 0)
    metadata = pq.read_metadata(output).metadata
    assert metadata[b"perpflow.is_sample"] == b"yes"
    assert metadata[b"perpflow.source"] == b"made up: simulated market, seed 7"
    (report,) = json.loads(perpflow("data", "quality", str(output), "--json"))
    assert (report["series"], report["is_sample"]) == ("BTCUSDT.BINANCE klines 5m (sample data)", True)
    # The page and the report of a backtest say so too.
    assert plays_sample_data(f"recorded:{output}", None)
    assert plays_sample_data(f"recorded:{tmp_path}", None)
    market = open_recording(output, instrument="BTCUSDT.BINANCE", history=None, history_bars=0)
    assert market.description["sample_data"] == "yes"
    with an_exchange(seed=7) as exchange, pytest.raises(BadInput, match=r"holds .* \(sample data\), not BTCUSDT"):
        collect(output, exchange.url, "--timeframe", "5m")


def test_files_of_others_are_imported_and_then_examined(tmp_path: Path) -> None:
    source = tmp_path / "BTCUSDT-1h-2024-10-28.csv"
    rows = [f"{1730073600000 + hour * 3_600_000},2,3,1,2,5,0,10,4,2,1,0" for hour in (0, 1, 3)]
    source.write_text("\n".join(rows))
    (answer,) = json.loads(perpflow("import", str(source), "--output", str(tmp_path / "history"), "--json"))
    assert (answer["series"], answer["rows"]) == ("BTCUSDT.BINANCE klines 1h", 3)
    done = CliRunner().invoke(app, ["data", "quality", str(tmp_path / "history")])
    assert done.exit_code == 1
    assert "1 gaps (1 rows missing), first at 2024-10-28 01:00:00.000 UTC" in done.stdout


def test_a_recording_is_examined_event_by_event(tmp_path: Path) -> None:
    capture = write_capture(tmp_path / "one.ns-jsonl", [trade_line(n, n * 300) for n in (1, 2, 3)] + [b"{garbage\n"])
    done = CliRunner().invoke(app, ["data", "quality", str(capture), "--instrument", "BTCUSDT.BINANCE", "--json"])
    report = json.loads(done.stdout)
    assert (done.exit_code, report["delay_ms"]) == (1, [5, 5, 5])
    assert [(each["what"], each["count"]) for each in report["findings"]] == [
        ("lines that cannot be read or cannot be true", 1)
    ]
    done = CliRunner().invoke(app, ["data", "quality", str(capture), "--instrument", "BTCUSDT.BINANCE"])
    assert "received 5.0 to 5.0 ms after they happened" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--kind", "klines,mark", "--output", "x.parquet"), "is one file for 2 series; name a folder"),
        (("--venue", "krake", "--output", "x"), "unknown venue 'KRAKE'"),
        (("--kind", "candles", "--output", "x"), "unknown kind 'candles'"),
        (("--symbol", "btc-usdt", "--output", "x"), "is no symbol"),
        (("--from", "yesterday", "--output", "x"), "--from 'yesterday' is not a time"),
    ],
)
def test_words_that_mean_nothing_are_refused(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        perpflow("collect-data", "--url", "http://127.0.0.1:9", *arguments)
