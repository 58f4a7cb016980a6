from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from services.console.research_commands import sweep, walk_forward

app = typer.Typer()
app.command()(sweep)
app.command("walk-forward")(walk_forward)
MARKET = ["--strategy", "ema_cross", "--vary", "fast_bars=2,3", "--seed", "7", "--workers", "1"]


@pytest.mark.slow
def test_sweep_ranks_what_ran_and_judges_the_choice(tmp_path: Path) -> None:
    arguments = ["sweep", *MARKET, "--span", "2m", "--by", "return", "--output", str(tmp_path)]
    outcome = CliRunner().invoke(app, [*arguments, "--json"])
    assert outcome.exit_code == 0, outcome.output
    told = orjson.loads(outcome.stdout)
    assert {one["parameters"]["fast_bars"] for one in told["ranked"]} == {2, 3}
    assert told["choice"]["variants"] == 2
    again = CliRunner().invoke(app, arguments)
    assert "best by return" in again.stdout


@pytest.mark.slow
def test_walk_forward_shows_only_what_came_after_the_choosing(tmp_path: Path) -> None:
    arguments = ["walk-forward", *MARKET, "--span", "3m", "--by", "return", "--train", "2m", "--test", "1m"]
    outcome = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    assert "compound return over the tests" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "luck"], "--by 'luck'"),
        (["--vary", "slow_bars"], "--vary 'slow_bars'"),
        (["--input", "/absent/file"], "/absent/file does not exist"),
        (["--set", "risk"], "write SERVICE.SETTING=VALUE"),
    ],
)
def test_bad_options_are_refused_by_name(arguments: list[str], message: str, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(app, ["sweep", *MARKET, "--span", "1m", "--output", str(tmp_path), *arguments])
    assert isinstance(outcome.exception, BadInput), outcome.output
    assert message in str(outcome.exception)
