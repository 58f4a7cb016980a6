from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed; pip install -e '.[training]'")
pytest.importorskip("skl2onnx", reason="skl2onnx is not installed; pip install -e '.[training]'")

import pyarrow as pa
import pyarrow.parquet as pq

from libs.domain.forecasts import ModelRole
from libs.runtime.errors import BadInput
from services.console.training_commands import FAMILIES as OFFERED
from services.inference.core import decode_manifest
from services.inference.onnx import find_model, load_model
from services.training.calibration import fit_calibration, fit_temperature
from services.training.checkpoints import open_checkpoints
from services.training.core.examples import Examples, gather_windows
from services.training.core.labels import LabelOptions, Labels
from services.training.core.outlook import LEVELS, SCALE_INPUT
from services.training.core.verdict import Verdict
from services.training.evaluation import explain, find_suspects, permutation_importance
from services.training.export import ExportError, check_export
from services.training.families import FAMILIES, FamilyError, FitRequest, Looking, Task, installed_families, load_family
from services.training.families.lightgbm import tune
from services.training.families.tft import WEEK, TemporalFusion
from services.training.fitting import FittedModel, ModelChoice, Sample, fit_model
from services.training.market_data import TrainingBars, read_bars, simulate_bars
from services.training.training import TrainingOptions, train_model

SMALL: dict[str, dict[str, int | float]] = {
    "forest": {"trees": 10, "leaf_examples": 20},
    "boosting": {"trees": 10, "leaf_examples": 20},
    "lightgbm": {"trees": 10, "leaf_examples": 20},
    "xgboost": {"trees": 10, "leaf_weight": 10.0},
    "transformer": {"epochs": 1, "examples_per_epoch": 512, "width": 8, "layers": 1},
    "tcn": {"epochs": 1, "examples_per_epoch": 256, "width": 8, "layers": 2},
    "nbeats": {"epochs": 1, "examples_per_epoch": 256, "width": 8, "blocks": 2},
    "patchtst": {"epochs": 1, "examples_per_epoch": 256, "width": 8, "layers": 1, "patch": 4},
    "informer": {"epochs": 1, "examples_per_epoch": 256, "width": 8},
    "tft": {"epochs": 1, "examples_per_epoch": 256, "width": 8},
}
OPTIONS = TrainingOptions(name="small", seed=3, family="logistic", folds=1, compares=False)
RECORDED = Path(__file__).parents[4] / "shared/data/market/ohlcv/binance_um_BTCUSDT_1m_20230718_20230817.parquet"


def be_quiet(_what: str, _done: int, _total: int, _loss: float) -> None:
    return None


@pytest.fixture(scope="module")
def day() -> TrainingBars:
    return simulate_bars(5, 1)


@pytest.fixture(scope="module")
def trained(day: TrainingBars, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(day, OPTIONS, tmp_path_factory.mktemp("models"), be_quiet).folder


def planted(count: int = 3_000, seed: int = 1) -> Sample:
    """Make features of which the first decides what follows, in units of the market's own scale."""
    values = np.random.default_rng(seed).normal(size=(count, 5)) * [1, 10, 0.1, 1, 1] + [0, 50, 0, 1, 1]
    values[::17, 2] = np.nan
    moves = values[:, 0] + np.random.default_rng(seed + 1).normal(size=count) * 0.3
    labels = Labels(moves * 10, moves, None, np.zeros(count, dtype=np.int64), np.full(count, 10.0))
    return Sample(("a", "b", "c", "d", "e"), values, labels, ("a", "b", "c", "d", "e"))


def choose(family: str, task: Task | None = None, seed: int = 1) -> ModelChoice:
    chosen = load_family(family)
    window = min(chosen.window, 8)
    return ModelChoice(chosen, task or chosen.tasks[0], window, seed, SMALL.get(family, {}))


NEURAL = ("transformer", "tcn", "nbeats", "patchtst", "informer", "tft")
QUICK = [
    (family, task) for family in installed_families() if family not in NEURAL for task in load_family(family).tasks
]
TRAIN, CALIBRATE, TEST = np.arange(10, 2_000), np.arange(2_000, 2_400), np.arange(2_400, 3_000)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "task"), [*QUICK, ("transformer", Task.CLASSIFY)])
def test_family_learns_exports_what_it_learnt_and_does_it_again(family: str, task: Task) -> None:
    sample = planted()
    model, again = (fit_model(sample, TRAIN, CALIBRATE, choose(family, task)) for _ in range(2))
    exported = model.export()
    windows = np.concatenate(
        [model.raw_rows(sample)[place - model.window + 1 : place + 1] for place in range(1_500, 2_500)]
    )
    windows = windows.reshape(1_000, model.window, -1)
    assert check_export(exported, model, windows) < 1e-5
    assert again.export() == exported
    probabilities, expected = model.forecast_bars(sample, TEST)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    if family != "transformer":
        called = probabilities[:, 2] > probabilities[:, 0]
        assert (called == (sample.labels.moves[TEST] > 0)).mean() > 0.7
        assert np.corrcoef(expected, sample.labels.moved_bps[TEST])[0, 1] > 0.5


@pytest.mark.slow
@pytest.mark.skipif(not RECORDED.is_file(), reason=f"{RECORDED} is absent")
@pytest.mark.parametrize("family", installed_families())
def test_graph_agrees_with_its_framework_on_a_thousand_recorded_windows(family: str) -> None:
    from services.training.training import find_examples, make_sample

    table = read_bars(RECORDED).table
    bars = dataclasses.replace(
        table,
        **{
            field.name: getattr(table, field.name)[:4_000]
            for field in dataclasses.fields(table)
            if field.name != "timeframe"
        },
    )
    label = LabelOptions(horizon=15)
    sample, choice = make_sample(bars, "core_v1", label), choose(family)
    usable = find_examples(bars, sample, label, choice.window)
    model = fit_model(sample, usable[:1_500], usable[1_600:2_000], choice)
    rows = model.raw_rows(sample)
    windows = np.stack([rows[place - model.window + 1 : place + 1] for place in usable[-1_000:]])
    assert check_export(model.export(), model, windows) < 1e-5


def test_trials_tune_within_the_training_examples_alone() -> None:
    pytest.importorskip("optuna", reason="optuna is not installed; pip install -e '.[training]'")
    sample = planted()
    tuned = dataclasses.replace(choose("lightgbm"), parameters={**SMALL["lightgbm"], "trials": 3})
    first = fit_model(sample, TRAIN, CALIBRATE, tuned)
    again = fit_model(sample, TRAIN, CALIBRATE, tuned)
    plain = fit_model(sample, TRAIN, CALIBRATE, choose("lightgbm"))
    assert first.export() == again.export() != plain.export()
    # What is held back may change what stops and calibrates, never what was chosen.
    family = load_family("lightgbm")
    requests = [
        FitRequest(
            _examples(sample, TRAIN), _examples(sample, held_back), Task.CLASSIFY, 1, family.complete({"trees": 10})
        )
        for held_back in (CALIBRATE, TEST)
    ]
    assert tune(requests[0], 3) == tune(requests[1], 3)


def _examples(sample: Sample, places: np.ndarray) -> Examples:
    rows = np.nan_to_num(sample.values.astype(np.float32))
    return Examples(rows, places, 1, sample.classes(places, 0.4), sample.labels.moves[places])


def with_calendar() -> Sample:
    """Make hourly features with a calendar and a daily column, and paths of three days that the first one decides."""
    honest = planted()
    hours = np.arange(3_000)
    week = 2 * np.pi * hours / 168
    day = 2 * np.pi * hours / 24
    daily = np.repeat(np.random.default_rng(8).normal(size=125), 24)
    volatility = np.full(3_000, 0.01) + hours * 1e-9
    calendar = (np.sin(week), np.cos(week), np.sin(day), np.cos(day))
    values = np.column_stack([honest.values[:, 0], volatility, *calendar, daily])
    names = ("a", SCALE_INPUT, *WEEK, "hour_sine", "hour_cosine", "rsi_14_1d")
    paths = honest.values[:, :1] * [1.0, 0.5, 0.25] + np.random.default_rng(9).normal(size=(3_000, 3)) * 0.2
    return Sample(names, values, honest.labels, names, paths, 3_600 * 10**9)


@pytest.mark.slow
def test_tft_forecasts_the_days_ahead_and_says_what_it_looked_at() -> None:
    sample = with_calendar()
    parameters = {"epochs": 4, "examples_per_epoch": 2_000, "width": 8, "batch": 64, "learning_rate": 1e-2}
    model = fit_model(sample, TRAIN, CALIBRATE, dataclasses.replace(choose("tft"), parameters=parameters))
    windows = gather_windows(model.raw_rows(sample), TEST[:64], model.window)
    assert check_export(model.export(), model, windows) < 1e-5
    moments = model.outlook(windows)
    assert moments is not None
    assert sample.paths is not None
    assert moments.shape == (64, 3, 3)
    # In bps: a volatility of 1 % a bar over a day of 24.
    assert np.corrcoef(moments[:, 0, 0], sample.paths[TEST[:64], 0])[0, 1] > 0.8
    assert moments[:, 0, 0].std() == pytest.approx(0.01 * 24**0.5 * 1e4, rel=0.4)
    fitted = model.fitted
    assert isinstance(fitted, Looking)
    quantiles = fitted.outlook(model.inputs.scale(windows))[:, :, : len(LEVELS)]
    assert (np.diff(quantiles, axis=2) > 0).all()
    variables, bars = fitted.looked_at(model.inputs.scale(windows))
    assert (variables.sum(), bars.sum()) == (pytest.approx(1.0, abs=1e-4), pytest.approx(1.0, abs=1e-4))
    assert len(bars) == model.window


def test_days_ahead_are_known_of_the_future_by_the_calendar() -> None:
    import torch

    network = TemporalFusion(4, 8, 4, 0.0, static=[3], known=[0, 1, 2], days=7)
    angle = 1.1
    known = network._known_of(torch.tensor([[np.sin(angle), np.cos(angle), 5.0, 9.0]], dtype=torch.float32))
    assert known.shape == (1, 7, 4)
    ahead = angle + 2 * np.pi * 3 / 7
    assert known[0, 2].tolist() == pytest.approx([np.sin(ahead), np.cos(ahead), 5.0, 3 / 7], abs=1e-5)
    # A week later the time of week is what it was.
    assert known[0, 6, :2].tolist() == pytest.approx([np.sin(angle), np.cos(angle)], abs=1e-5)


def test_outlook_is_refused_of_families_and_feature_sets_that_have_none(day: TrainingBars, tmp_path: Path) -> None:
    ahead = LabelOptions(horizon=5, outlook_days=2)
    for changes, message in (
        ({"label": ahead}, "family logistic gives no outlook; tft does"),
        ({"label": ahead, "family": "tft", "feature_set": "seven_v1"}, f"needs the feature {SCALE_INPUT}"),
    ):
        with pytest.raises(BadInput, match=message):
            train_model(day, dataclasses.replace(OPTIONS, **changes), tmp_path, be_quiet)


def test_command_offers_the_families_there_are() -> None:
    assert OFFERED == FAMILIES


def test_noise_is_not_believed() -> None:
    sample = planted()
    noise = np.random.default_rng(4).normal(size=3_000)
    blind = dataclasses.replace(sample, labels=dataclasses.replace(sample.labels, moves=noise, moved_bps=noise * 10))
    model = fit_model(blind, TRAIN, CALIBRATE, choose("logistic"))
    probabilities, expected = model.forecast_bars(blind, TEST)
    assert probabilities.max(axis=1).mean() < 0.45
    assert np.abs(expected).mean() < 2.0


def test_label_planted_with_the_future_is_caught() -> None:
    honest = planted()
    noise = np.random.default_rng(4).normal(size=3_000)
    labels = dataclasses.replace(honest.labels, moves=noise, moved_bps=noise * 10)
    values = honest.values.copy()
    values[:, 3] = noise + np.random.default_rng(5).normal(size=3_000)
    assert find_suspects(dataclasses.replace(honest, labels=labels), TEST) == ()
    assert find_suspects(dataclasses.replace(honest, labels=labels, values=values), TEST) == ("d",)


def test_training_on_a_planted_future_says_so_and_is_no_edge(
    day: TrainingBars, tmp_path: Path, monkeypatch: Any
) -> None:
    from services.training import training

    honest = training.make_sample

    def leak(*arguments: Any) -> Sample:
        sample = honest(*arguments)
        values = sample.values.copy()
        values[:, sample.names.index("rsi_14")] = sample.labels.moved_bps
        return dataclasses.replace(sample, values=values)

    monkeypatch.setattr(training, "make_sample", leak)
    trained = train_model(day, OPTIONS, tmp_path, be_quiet)
    assert trained.evaluation.verdict is Verdict.LEAK
    assert trained.evaluation.suspects == ("rsi_14",)
    assert trained.manifest.verdict == "leak suspected"


def test_temperature_undoes_overconfidence() -> None:
    generator = np.random.default_rng(6)
    logits = generator.normal(size=(4000, 3))
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = np.array([generator.choice(3, p=row) for row in weights], dtype=np.int64)
    assert fit_temperature(logits * 2.0, classes) == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("present", [(0, 1, 2), (0, 2), (1,)])
def test_return_becomes_probabilities_whatever_classes_the_calibration_bars_have(present: tuple[int, ...]) -> None:
    answers = np.random.default_rng(1).normal(size=400)
    classes = np.array([present[int(one > 0) * (len(present) - 1)] for one in answers])
    classes[: len(present)] = present
    probabilities = fit_calibration(answers, classes, Task.REGRESS).apply(answers)
    assert np.allclose(probabilities.sum(axis=1), 1.0)
    assert (probabilities.argmax(axis=1) == classes).mean() > 0.9


def test_unknown_family_and_parameter_are_refused_naming_those_there_are(day: TrainingBars, tmp_path: Path) -> None:
    with pytest.raises(FamilyError, match=r"no family .oracle.; there are linear, logistic"):
        load_family("oracle")
    for changes, message in (
        ({"family": "oracle"}, "no family 'oracle'"),
        ({"parameters": {"depth": 3}}, "family logistic has no parameter 'depth'; it has inverse_penalty"),
        ({"task": "regress"}, "family logistic cannot regress; it can classify"),
    ):
        with pytest.raises(BadInput, match=message):
            train_model(day, dataclasses.replace(OPTIONS, **changes), tmp_path, be_quiet)


def test_same_data_and_seed_give_the_same_files(day: TrainingBars, trained: Path, tmp_path: Path) -> None:
    again = train_model(day, OPTIONS, tmp_path, be_quiet).folder
    assert again.name == trained.name
    for name in ("model.onnx", "manifest.json", "report.json", "report.html"):
        assert (again / name).read_bytes() == (trained / name).read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
from services.training.market_data import simulate_bars
from services.training.training import train_model
from tests.unit.training.test_model_training import RESUMED

def progress(what, done, total, loss):
    if what == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

train_model(simulate_bars(5, 1), RESUMED, Path(sys.argv[1]), progress)
"""
RESUMED = dataclasses.replace(OPTIONS, family="lightgbm", parameters=SMALL["lightgbm"], folds=2)


@pytest.mark.slow
def test_training_killed_between_windows_goes_on_there_and_comes_out_the_same(
    day: TrainingBars, tmp_path: Path
) -> None:
    whole = train_model(day, RESUMED, tmp_path / "whole", be_quiet).folder
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), "lightgbm, fold 2 of 2"])
    assert killed.returncode == -signal.SIGKILL
    seen: set[str] = set()
    resumed = train_model(day, RESUMED, tmp_path / "killed", lambda what, *_rest: seen.add(what)).folder
    assert "lightgbm, fold 1 of 2" not in seen
    assert {"lightgbm, fold 2 of 2", "final fit"} <= seen
    for name in ("model.onnx", "manifest.json", "report.json", "report.html"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    assert not list((tmp_path / "killed" / ".unfinished").iterdir())


def refuse_to_fit() -> FittedModel:
    raise LookupError("this was not to be fitted again")


def test_checkpoints_of_another_training_are_not_seen(tmp_path: Path) -> None:
    one, other = (open_checkpoints(tmp_path, {"seed": seed}) for seed in (1, 2))
    model = fit_model(planted(), TRAIN, CALIBRATE, choose("linear"))
    assert one.fit("fold", lambda: model) is model
    with pytest.raises(LookupError):
        other.fit("fold", refuse_to_fit)
    assert one.fit("fold", refuse_to_fit).export() == model.export()


@pytest.mark.slow
def test_training_is_tracked_in_a_folder_of_mlflow(day: TrainingBars, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed; pip install -e '.[tracking]'")
    from mlflow.tracking import MlflowClient

    from services.training.tracking import Tracker

    with pytest.raises(BadInput, match="give a folder, or the URL"):
        Tracker("ftp://host", "small")
    tracker = Tracker(str(tmp_path / "runs"), "small")
    run_id = tracker.finish(train_model(day, OPTIONS, tmp_path, be_quiet))
    client = MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["family"] == "logistic"
    assert run.data.params["label.horizon_bars"] == "5"
    assert run.data.metrics["auc.value"] > 0
    assert run.data.tags["reference"] == f"small/{trained.name}"
    assert {one.path for one in client.list_artifacts(run_id)} >= {"model.onnx", "report.html"}
    Tracker(str(tmp_path / "runs"), "small").fail()
    (experiment,) = (one for one in client.search_experiments() if one.name == "small")
    statuses = {one.info.status for one in client.search_runs([experiment.experiment_id])}
    assert statuses == {"FINISHED", "FAILED"}


def test_another_horizon_gives_another_version(day: TrainingBars, trained: Path, tmp_path: Path) -> None:
    other = train_model(day, dataclasses.replace(OPTIONS, label=LabelOptions(horizon=6)), tmp_path, be_quiet).folder
    assert other.name != trained.name


def test_what_was_trained_is_found_and_loaded_by_inference(trained: Path) -> None:
    registry = trained.parents[1]
    folder, pin = find_model(registry, f"small/{trained.name}")
    assert folder == trained
    model = load_model(folder, pin, ModelRole.CHAMPION)
    window = np.zeros((1, model.manifest.window, len(model.manifest.inputs)), dtype=np.float32)
    assert sum(dataclasses.astuple(model.score(window))[:3]) == pytest.approx(1.0, abs=1e-5)


def test_manifest_says_on_what_it_was_trained_and_how_well_it_did(trained: Path) -> None:
    manifest = decode_manifest((trained / "manifest.json").read_bytes())
    assert manifest.training["data"] == {"source": "simulated market", "seed": 5, "days": 1, "bars": 1440}
    assert manifest.horizon_ns == 300_000_000_000
    assert manifest.version == trained.name
    metrics: Any = manifest.metrics
    assert {"auc", "log_loss", "calibration_error", "net_bps_per_day"} <= set(metrics["model"])
    assert {"majority", "last sign", "reversal", "buy and hold"} <= set(metrics["beside"])
    report = json.loads((trained / "report.json").read_text())
    assert report["verdict"] == manifest.verdict
    page = (trained / "report.html").read_text()
    assert manifest.verdict in page
    for part in ("Evidence", "deflated Sharpe ratio", "CRPS, bps", "coverage of 0.9", "Permutation importance"):
        assert part in page


def test_exported_file_is_small_and_names_no_place_of_its_making(trained: Path) -> None:
    exported = (trained / "model.onnx").read_bytes()
    assert len(exported) < 200_000
    for trace in (b"services", b".py", b"File ", str(Path.cwd()).encode()):
        assert trace not in exported


def test_export_that_differs_from_its_framework_is_refused() -> None:
    sample = planted()
    one = fit_model(sample, TRAIN, CALIBRATE, choose("logistic"))
    other = fit_model(sample, TRAIN[:500], CALIBRATE, choose("logistic"))
    windows = one.raw_rows(sample)[TEST][:, np.newaxis, :]
    with pytest.raises(ExportError, match="differ by"):
        check_export(one.export(), other, windows)


def test_too_few_bars_are_refused_with_the_fix(day: TrainingBars, tmp_path: Path) -> None:
    few = dataclasses.replace(
        day.table,
        **{
            field.name: getattr(day.table, field.name)[:70]
            for field in dataclasses.fields(day.table)
            if field.name != "timeframe"
        },
    )
    with pytest.raises(BadInput, match=r"give more bars|are too few"):
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


def test_permutation_and_shap_name_the_input_that_decides() -> None:
    sample = planted()
    model = fit_model(sample, TRAIN, CALIBRATE, choose("lightgbm"))
    assert next(iter(permutation_importance(model, sample, TEST, 1))) == "a"
    assert next(iter(explain(model, sample, TEST, 1))) == "a"
    assert explain(fit_model(sample, TRAIN, CALIBRATE, choose("logistic")), sample, TEST, 1) == {}
