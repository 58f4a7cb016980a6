from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from services.console.training_commands import train_models

app = typer.Typer()
app.command()(train_models)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --input BARS.parquet or --simulated-seed N"),
        (["--input", "a.parquet", "--simulated-seed", "1"], "one of them"),
        (["--starter", "--simulated-seed", "1"], "--starter is made of fixed data"),
        (["--simulated-seed", "1", "--name", "../x"], "--name '../x': use letters"),
    ],
)
def test_contradicting_options_are_refused(arguments: list[str], message: str) -> None:
    outcome = CliRunner().invoke(app, arguments)
    assert isinstance(outcome.exception, BadInput)
    assert message in str(outcome.exception)


def test_training_prints_what_it_made_as_json(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed; pip install -e '.[training]'")
    arguments = ["--simulated-seed", "5", "--days", "1", "--folds", "1", "--epochs", "1", "--name", "tiny", "--json"]
    outcome = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    answer = orjson.loads(outcome.stdout)
    assert (answer["name"], answer["timeframe"]) == ("tiny", "1m")
    assert Path(answer["folder"], "model.onnx").is_file()
    assert answer["metrics"]["walk_forward_mean"]["rows"] > 0
