"""`perpflow collect-data` against the simulated exchange, and `perpflow models`."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from libs.runtime.errors import BadInput, DependencyUnavailable
from services.console.main import app
from services.exchange.core import generate_history
from tests.unit.exchange.served import an_exchange


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


def test_the_model_that_ships_is_listed(tmp_path: Path) -> None:
    (model,) = json.loads(perpflow("models", "--models", str(tmp_path), "--json"))
    assert model["name"] == "starter"
    assert len(model["onnx_sha256"]) == 64
    assert "rsi_14" in model["inputs"]


def test_a_registry_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(BadInput, match=r"--models .*models is not a folder"):
        perpflow("models", "--models", str(tmp_path / "models"))


@pytest.mark.parametrize("content", [b"{}", b"{", b"\xff\xfe"])
def test_a_damaged_manifest_is_named(content: bytes, tmp_path: Path) -> None:
    broken = tmp_path / "mine" / "1" / "manifest.json"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content)
    with pytest.raises(BadInput, match=r"manifest\.json is no model manifest"):
        perpflow("models", "--models", str(tmp_path))
