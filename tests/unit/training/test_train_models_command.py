from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from services.console.models_registry import find_entry, read_default, read_shadows, shorten
from services.console.training_commands import parse_horizon, parse_parameters, train_models

app = typer.Typer()
app.command()(train_models)

QUICK = [
    "--simulated-seed",
    "5",
    "--days",
    "1",
    "--folds",
    "1",
    "--family",
    "logistic",
    "--no-compare",
    "--name",
    "tiny",
]


def train(*arguments: str) -> Any:
    pytest.importorskip("skl2onnx", reason="skl2onnx is not installed; pip install -e '.[training]'")
    return CliRunner().invoke(app, [*QUICK, *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --input BARS.parquet or --simulated-seed N"),
        (["--input", "a.parquet", "--simulated-seed", "1"], "one of them"),
        (["--starter", "--simulated-seed", "1"], "--starter is made of fixed data"),
        (["--simulated-seed", "1", "--name", "../x"], "--name '../x': use letters"),
        (["--starter", "--shadow"], "--starter is no model of the registry"),
        (["--simulated-seed", "1", "--promote", "--retrain-every", "7d"], "contradict each other"),
        (["--simulated-seed", "1", "--metrics", "http://a"], "--metrics belongs to --retrain-on-drift"),
        (["--simulated-seed", "1", "--param", "trees"], "--param 'trees': write NAME=NUMBER"),
    ],
)
def test_contradicting_options_are_refused(arguments: list[str], message: str) -> None:
    outcome = CliRunner().invoke(app, arguments)
    assert isinstance(outcome.exception, BadInput)
    assert message in str(outcome.exception)


def test_parameters_are_whole_numbers_where_they_can_be() -> None:
    assert parse_parameters(["trees=200", "rate=0.5"]) == {"trees": 200, "rate": 0.5}


def test_horizon_is_a_whole_number_of_bars() -> None:
    minute = 60 * 10**9
    assert (parse_horizon("1h", minute), parse_horizon("", minute)) == (60, 5)
    with pytest.raises(BadInput, match="no whole number"):
        parse_horizon("90s", minute)


def test_training_prints_what_it_made_as_json(tmp_path: Path) -> None:
    outcome = train("--json", "--horizon", "10m", "--output", str(tmp_path))
    assert outcome.exit_code == 0, outcome.output
    answer = orjson.loads(outcome.stdout)
    assert (answer["name"], answer["timeframe"], answer["horizon_ns"]) == ("tiny", "1m", 600 * 10**9)
    assert Path(answer["folder"], "model.onnx").is_file()
    assert answer["metrics"]["model"]["auc"]["value"] > 0
    assert find_entry(tmp_path, answer["reference"]).bundle_sha256 == answer["bundle_sha256"]


def test_model_without_an_edge_is_promoted_only_where_that_is_accepted(tmp_path: Path) -> None:
    refused = train("--promote", "--output", str(tmp_path))
    assert refused.exit_code == 1
    assert "give --accept-no-edge" in refused.stderr
    assert "tiny/" in refused.stdout
    assert read_default(tmp_path) == ""
    accepted = train("--promote", "--accept-no-edge", "--json", "--output", str(tmp_path))
    assert accepted.exit_code == 0, accepted.output
    promoted = read_default(tmp_path)
    assert find_entry(tmp_path, promoted).bundle_sha256 == json.loads(accepted.stdout)["bundle_sha256"]
    assert promoted.startswith("tiny/")


def test_retraining_trains_only_where_that_is_due_and_what_it_makes_starts_as_a_shadow(tmp_path: Path) -> None:
    first = train("--retrain-every", "7d", "--output", str(tmp_path))
    assert first.exit_code == 0, first.output
    assert "there is no model yet" in first.stderr
    (shadow,) = read_shadows(tmp_path)
    again = train("--retrain-every", "7d", "--json", "--output", str(tmp_path))
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == {"is_due": False, "newest": shorten(shadow)}
