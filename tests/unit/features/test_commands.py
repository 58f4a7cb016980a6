"""`perpflow features list` and `perpflow engineer-features`, on recorded and on faulty files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from libs.indicators.feature_sets import load_feature_set
from libs.runtime.errors import BadInput, DependencyUnavailable
from services.console.features_commands import engineer_features, features_app
from tests.unit.indicators.recorded import (
    BTC_1H,
    LTC_1M,
    compute,
    made_rows,
    recorded_file,
    recorded_rows,
    same_bits,
)

CORE = load_feature_set()

app = typer.Typer()
app.add_typer(features_app, name="features")
app.command("engineer-features")(engineer_features)


def _run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def _engineer(tmp_path: Path, *words: object) -> dict:
    result = _run("engineer-features", *words, "--output", tmp_path / "out.parquet", "--json")
    if result.exception is not None:
        raise result.exception
    assert result.stderr == ""
    return json.loads(result.stdout)


def _features_of(path: Path) -> np.ndarray:
    table = pq.read_table(path)
    return np.column_stack([table[name].to_numpy() for name in CORE.names])


def _write_bars(path: Path, count: int = 200, **changes: object) -> Path:
    times, rows = made_rows(count)
    columns = {
        "open_time": pa.array(times * 1000).cast(pa.timestamp("ms", "UTC")),
        **{name: rows[:, j] for j, name in enumerate(("open", "high", "low", "close", "volume"))},
    }
    columns |= changes
    pq.write_table(pa.table({name: column for name, column in columns.items() if column is not None}), path)
    return path


def test_list_says_everything_about_every_feature() -> None:
    rows = json.loads(_run("features", "list", "--json").stdout)
    assert [row["name"] for row in rows] == list(CORE.names)
    assert len(rows) >= 120
    for row in rows:
        assert {"name", "group", "unit", "range", "warm_up", "inputs", "formula_source"} <= set(row)


def test_list_of_a_group_is_a_table() -> None:
    result = _run("features", "list", "--group", "volatility")
    assert result.exit_code == 0
    assert "parkinson" in result.stdout
    assert "rsi" not in result.stdout


def test_list_refuses_what_there_is_not() -> None:
    assert isinstance(_run("features", "list", "--group", "luck").exception, BadInput)
    assert isinstance(_run("features", "list", "--feature-set", "core_v9").exception, BadInput)


@pytest.mark.slow
def test_output_has_times_and_one_column_a_feature_with_the_batchs_bits(tmp_path: Path) -> None:
    said = _engineer(tmp_path, "--input", recorded_file(LTC_1M))
    times, rows = recorded_rows(LTC_1M)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["open_time", "close_time", *CORE.names]
    assert table["open_time"].cast("int64").to_numpy().tolist() == (times * 1000).tolist()
    assert table["close_time"].cast("int64").to_numpy().tolist() == (times * 1000 + 60_000).tolist()
    out = _features_of(tmp_path / "out.parquet")
    assert same_bits(out, compute(CORE, times, rows)).all()
    assert said["rows"] == len(times) == 40_320
    assert said["features"] == len(CORE)
    assert said["base_timeframe"] == "1m"
    assert said["warm_up"] == {feature.name: feature.warm_up for feature in CORE.features}
    assert said["nan_share"] == dict(zip(CORE.names, np.isnan(out).mean(axis=0), strict=True))
    assert said["seconds"] > 0
    metadata = table.schema.metadata
    assert metadata[b"perpflow.schema_hash"].decode() == said["schema_hash"] == CORE.schema_hash


@pytest.mark.slow
def test_funding_interest_and_mark_are_joined_by_publication(tmp_path: Path) -> None:
    funding = recorded_file("funding/binance_um_BTCUSDT_funding_20190910_20250630.parquet")
    mark = recorded_file("mark/binance_um_BTCUSDT_mark_1h_20191223_20250630.parquet")
    said = _engineer(
        tmp_path, "--input", recorded_file(BTC_1H), "--funding", funding, "--mark", mark, "--feature-set", "outside_v1"
    )
    table = pq.read_table(tmp_path / "out.parquet")
    assert said["base_timeframe"] == "1h"
    assert said["schema_hash"] == load_feature_set("outside_v1", "1h").schema_hash
    closes = table["close_time"].cast("int64").to_numpy()
    settled = pq.read_table(funding)
    stamps, rates = settled["time"].cast("int64").to_numpy(), settled["rate"].to_numpy()
    index = np.searchsorted(stamps + 60_000, closes, side="right") - 1
    known = index >= 0
    ours = table["settled_funding_rate"].to_numpy()
    np.testing.assert_allclose(ours[known], rates[index[known]], atol=5e-9)
    assert np.isnan(ours[~known]).all()
    marks = pq.read_table(mark)
    price = dict(
        zip((marks["open_time"].cast("int64").to_numpy() + 3_600_000).tolist(), marks["close"].to_pylist(), strict=True)
    )
    close = pq.read_table(recorded_file(BTC_1H))["close"].to_numpy()
    expected = [(c / price[t] - 1) * 1e4 if t in price else np.nan for t, c in zip(closes.tolist(), close, strict=True)]
    np.testing.assert_allclose(table["mark_basis"].to_numpy(), expected, rtol=1e-6, atol=1e-6)
    assert "open_interest" in said["missing_inputs"]
    assert "settled_funding_rate" not in said["missing_inputs"]


@pytest.mark.slow
def test_missing_columns_empty_exactly_the_features_that_need_them(tmp_path: Path) -> None:
    source = pq.read_table(recorded_file(LTC_1M)).slice(0, 3000)
    pq.write_table(source, tmp_path / "all.parquet")
    _engineer(tmp_path, "--input", tmp_path / "all.parquet")
    whole = _features_of(tmp_path / "out.parquet")
    pq.write_table(source.drop_columns(["taker_buy_volume", "trades"]), tmp_path / "some.parquet")
    said = _engineer(tmp_path, "--input", tmp_path / "some.parquet")
    out = _features_of(tmp_path / "out.parquet")
    lost = set(said["missing_inputs"]["taker_buy_volume"]) | set(said["missing_inputs"]["trade_count"])
    assert "taker_imbalance_20" in lost
    assert "trade_intensity" in lost
    for j, name in enumerate(CORE.names):
        assert np.isnan(out[:, j]).all() if name in lost else same_bits(out[:, j], whole[:, j]).all(), name
    assert sum("no taker_buy_volume in the input" in note for note in said["notes"]) == 1


def test_summary_for_a_person_goes_to_stdout_and_progress_to_stderr(tmp_path: Path) -> None:
    bars = _write_bars(tmp_path / "bars.parquet")
    result = _run("engineer-features", "--input", bars, "--output", tmp_path / "out.parquet")
    assert result.exit_code == 0
    assert "200 bars of 1m, 243 features of core_v1" in result.stdout
    assert "200/200" in result.stderr


def test_times_may_be_whole_milliseconds(tmp_path: Path) -> None:
    times, _rows = made_rows(200)
    said = _engineer(tmp_path, "--input", _write_bars(tmp_path / "bars.parquet", open_time=times * 1000))
    assert said["rows"] == 200


def test_gaps_and_repeats_are_reported(tmp_path: Path) -> None:
    table = pq.read_table(_write_bars(tmp_path / "bars.parquet"))
    pq.write_table(pa.concat_tables([table.slice(0, 50), table.slice(49, 1), table.slice(60)]), tmp_path / "b.parquet")
    said = _engineer(tmp_path, "--input", tmp_path / "b.parquet")
    assert said["rows"] == 190
    assert said["gaps"] == {"count": 1, "missing_bars": 10, "first_row": 51}
    assert said["duplicates"] == {"dropped": 1, "first_row": 50}
    assert any("10 bars missing, the first before row 51" in note for note in said["notes"])


def _spoilt(column: str, value: Any) -> dict[str, object]:
    _times, rows = made_rows(200)
    values = rows[:, ("open", "high", "low", "close", "volume").index(column)].copy()
    values[77] = value
    return {column: values}


TIMES = made_rows(200)[0] * 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_spoilt("close", np.nan), "row 77 .* has no finite close"),
        (_spoilt("close", np.inf), "row 77 .* has no finite close"),
        (_spoilt("low", 0.0), "row 77 .* has a low that is not above zero"),
        (_spoilt("volume", -1.0), "row 77 .* has a negative volume"),
        ({"open_time": TIMES[::-1].copy()}, "fewer than two bars|row 1 .* is not later"),
        ({"open_time": np.concatenate((TIMES[:99], TIMES[98:99], TIMES[100:]))}, "row 99 .* with other values"),
        ({"open_time": TIMES // 1000}, "row 0 has open_time .* not ms between"),
        ({"open_time": pa.array(["x"] * 200)}, "column open_time is string"),
        ({"open_time": pa.array([None, *TIMES[1:].tolist()])}, "row 0 has no open_time"),
        ({"open_time": None}, "there is no column open_time"),
        ({"volume": None}, "there is no column volume; bars need"),
        ({"close": pa.array(["1"] * 200)}, "column close is string; it must be a number"),
    ],
)
def test_a_wrong_file_is_refused_by_file_row_and_fix(tmp_path: Path, changes: dict, message: str) -> None:
    bars = _write_bars(tmp_path / "bars.parquet", **changes)
    with pytest.raises(BadInput, match=f"bars.parquet: .*({message})"):
        _engineer(tmp_path, "--input", bars)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.parquet"]


def test_what_is_no_bars_file_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere.parquet: no such file"):
        _engineer(tmp_path, "--input", tmp_path / "nowhere.parquet")
    (tmp_path / "text.parquet").write_text("not a table")
    with pytest.raises(BadInput, match=r"text.parquet: cannot be read as Parquet"):
        _engineer(tmp_path, "--input", tmp_path / "text.parquet")
    with pytest.raises(BadInput, match="the file has no rows"):
        _engineer(tmp_path, "--input", _write_bars(tmp_path / "empty.parquet", 0))
    with pytest.raises(BadInput, match="fewer than two bars"):
        _engineer(tmp_path, "--input", _write_bars(tmp_path / "one.parquet", 1))


def test_output_is_not_the_input_and_needs_a_folder(tmp_path: Path) -> None:
    bars = _write_bars(tmp_path / "out.parquet")
    with pytest.raises(BadInput, match="is the input; choose another file"):
        _engineer(tmp_path, "--input", bars)
    result = _run("engineer-features", "--input", bars, "--output", tmp_path / "no" / "out.parquet", "--json")
    assert isinstance(result.exception, BadInput)
    assert "there is no folder" in str(result.exception)


def test_a_wrong_side_file_is_refused_by_name(tmp_path: Path) -> None:
    bars = _write_bars(tmp_path / "bars.parquet")
    pq.write_table(pa.table({"time": TIMES, "rate": np.full(200, np.nan)}), tmp_path / "funding.parquet")
    with pytest.raises(BadInput, match=r"funding.parquet: row 0 has no finite rate"):
        _engineer(tmp_path, "--input", bars, "--funding", tmp_path / "funding.parquet")
    with pytest.raises(BadInput, match=r"bars.parquet: there is no column time"):
        _engineer(tmp_path, "--input", bars, "--open-interest", bars)


def test_clickhouse_input_needs_a_form_and_a_server(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not of the form clickhouse:INSTRUMENT/TIMEFRAME"):
        _engineer(tmp_path, "--input", "clickhouse:BTCUSDT", "--clickhouse", "http://127.0.0.1:9")
    with pytest.raises(DependencyUnavailable, match=r"clickhouse:BTCUSDT\.BINANCE/1m"):
        _engineer(tmp_path, "--input", "clickhouse:BTCUSDT.BINANCE/1m", "--clickhouse", "http://127.0.0.1:9")
