from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed; pip install -e '.[training]'")
pytest.importorskip("onnx", reason="onnx is not installed; pip install -e '.[training]'")

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from libs.domain.forecasts import ModelRole
from libs.runtime.errors import BadInput
from services.inference.core import decode_manifest
from services.inference.onnx import find_model, load_model
from services.training.core.scores import log_loss
from services.training.export import ExportError, check_export, export_onnx
from services.training.fitting import Examples, FitOptions, FittedModel, fit_model, fit_temperature
from services.training.market_data import TrainingBars, read_bars, simulate_bars
from services.training.network import DirectionTransformer
from services.training.training import TrainingOptions, train_model

OPTIONS = TrainingOptions(name="small", seed=3, folds=1, epochs=1)


def be_quiet(_what: str, _done: int, _total: int) -> None:
    return None


@pytest.fixture(scope="module")
def day() -> TrainingBars:
    return simulate_bars(5, 1)


@pytest.fixture(scope="module")
def trained(day: TrainingBars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(day, OPTIONS, tmp_path_factory.mktemp("models"), be_quiet).folder


def planted(count: int, seed: int) -> Examples:
    """Make windows whose last bar's first input decides the class."""
    windows = np.random.default_rng(seed).normal(size=(count, 8, 4)).astype(np.float32)
    signal = windows[:, -1, 0]
    classes = np.where(signal > 0.43, 2, np.where(signal < -0.43, 0, 1)).astype(np.int64)
    return Examples(windows, classes, signal.astype(np.float64) * 10.0)


def test_planted_signal_is_learned() -> None:
    model = fit_model(planted(4000, 1), planted(800, 2), FitOptions(seed=1, epochs=4), lambda _e, _l: None)
    test = planted(800, 3)
    probabilities, expected = model.forecast(test.windows)
    assert log_loss(probabilities, test.classes) < 0.5
    assert np.corrcoef(expected, test.moved_bps)[0, 1] > 0.9


def test_noise_is_not_believed() -> None:
    noise = np.random.default_rng(4)
    train, calibrate = planted(1500, 1), planted(800, 2)
    train, calibrate = (
        dataclasses.replace(
            part, classes=noise.integers(0, 3, len(part.classes)), moved_bps=noise.normal(size=len(part.classes))
        )
        for part in (train, calibrate)
    )
    model = fit_model(train, calibrate, FitOptions(seed=1, epochs=3), lambda _e, _l: None)
    probabilities, _ = model.forecast(planted(800, 3).windows)
    assert probabilities.max(axis=1).mean() < 0.45


def test_temperature_undoes_overconfidence() -> None:
    generator = np.random.default_rng(6)
    logits = generator.normal(size=(4000, 3))
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.array([generator.choice(3, p=row) for row in weights], dtype=np.int64)
    assert fit_temperature(logits * 2.0, classes) == pytest.approx(2.0, rel=0.15)


def test_same_data_and_seed_give_the_same_files(day: TrainingBars, trained: Path, tmp_path: Path) -> None:
    again = train_model(day, OPTIONS, tmp_path, be_quiet).folder
    assert again.name == trained.name
    for name in ("model.onnx", "manifest.json"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()


def test_another_seed_gives_another_version(day: TrainingBars, trained: Path, tmp_path: Path) -> None:
    other = train_model(day, dataclasses.replace(OPTIONS, seed=4), tmp_path, be_quiet).folder
    assert other.name != trained.name


def test_what_was_trained_is_found_and_loaded_by_inference(trained: Path) -> None:
    registry = trained.parents[1]
    assert find_model(registry, "small") == trained
    model = load_model(trained, ModelRole.CHAMPION)
    window = np.zeros((1, model.manifest.window, len(model.manifest.inputs)), dtype=np.float32)
    assert sum(dataclasses.astuple(model.score(window))[:3]) == pytest.approx(1.0, abs=1e-5)


def test_manifest_says_on_what_it_was_trained_and_how_well_it_did(trained: Path) -> None:
    manifest = decode_manifest((trained / "manifest.json").read_bytes())
    assert manifest.training["data"] == {"source": "simulated market", "seed": 5, "days": 1, "bars": 1440}
    assert manifest.horizon_ns == 300_000_000_000
    assert manifest.version == manifest.onnx_sha256[:8]
    mean = manifest.metrics["walk_forward_mean"]
    assert isinstance(mean, dict)
    assert {"log_loss", "log_loss_naive", "calibration_error", "share_up"} <= set(mean)


def test_exported_file_is_small_and_names_no_place_of_its_making(trained: Path) -> None:
    exported = (trained / "model.onnx").read_bytes()
    assert len(exported) < 200_000
    for trace in (b"services", b".py", b"File ", str(Path.cwd()).encode()):
        assert trace not in exported


def test_export_that_differs_from_torch_is_refused() -> None:
    torch.manual_seed(1)
    one, other = (FittedModel(DirectionTransformer(4, 8).eval(), 1.0, 1.0, 0.0) for _ in range(2))
    windows = planted(8, 1).windows
    exported = export_onnx(one, 8, 4)
    assert check_export(exported, one, windows) < 1e-5
    with pytest.raises(ExportError, match="differ by"):
        check_export(exported, other, windows)


def test_too_few_bars_are_refused_with_the_fix(day: TrainingBars, tmp_path: Path) -> None:
    few = dataclasses.replace(
        day.table,
        **{
            field.name: getattr(day.table, field.name)[:120]
            for field in dataclasses.fields(day.table)
            if field.name != "timeframe"
        },
    )
    with pytest.raises(BadInput, match="give more bars"):
        train_model(TrainingBars(few, day.description), OPTIONS, tmp_path, be_quiet)


def write_bars(path: Path, day: TrainingBars, **changes: object) -> Path:
    table = day.table
    columns = {
        "open_time": pa.array(table.open_times, type=pa.timestamp("ns", tz="UTC")),
        **{name: table.__getattribute__(name) for name in ("open", "high", "low", "close", "volume")},
        **changes,
    }
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


def test_bars_are_read_from_parquet_with_the_hash_of_the_file(day: TrainingBars, tmp_path: Path) -> None:
    read = read_bars(write_bars(tmp_path / "bars.parquet", day))
    assert np.array_equal(read.table.close, day.table.close)
    assert read.description["file"] == "bars.parquet"
    assert len(str(read.description["sha256"])) == 64


def test_faults_of_a_file_are_named(day: TrainingBars, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.parquet does not exist"):
        read_bars(tmp_path / "absent.parquet")
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 and no more")
    with pytest.raises(BadInput, match="cannot be read as Parquet"):
        read_bars(torn)
    with pytest.raises(BadInput, match="column volume is missing"):
        read_bars(write_bars(tmp_path / "a.parquet", day, volume=None))
    with pytest.raises(BadInput, match="column open_time is int64, must be a timestamp"):
        read_bars(write_bars(tmp_path / "b.parquet", day, open_time=pa.array(day.table.open_times)))
    close = day.table.close.copy()
    close[9] = -1.0
    with pytest.raises(BadInput, match=r"c\.parquet: row 10: close -1\.0 is no price"):
        read_bars(write_bars(tmp_path / "c.parquet", day, close=close))
