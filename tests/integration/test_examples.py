"""The examples run as they stand, and the documents name commands, options and files that exist."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from libs.runtime.configuration import PROCESS_VARIABLES
from libs.runtime.settings import SERVICE_NAMES, service_prefix, variables_of
from services.console.main import app
from services.console.registry import settings_models

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.md")])
COMMAND = typer.main.get_command(app)
MAX_PAGE_LINES = 200

pytestmark = pytest.mark.timeout(900)


def run_python(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), "PERPFLOW_VAR": str(folder / "var"), **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def run_example(name: str, folder: Path) -> str:
    done = run_python(str(ROOT / "examples" / name), folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_klines_are_collected_and_gone_on_with(tmp_path: Path) -> None:
    printed = run_example("01_data_collection.py", tmp_path)
    assert re.search(r"first call:  1,4\d\d bars, 0 gaps", printed)
    assert re.search(r"second call: \d+ new bars, 1,4\d\d in all, 0 gaps", printed)


def test_features_of_stream_and_batch_are_equal(tmp_path: Path) -> None:
    printed = run_example("02_feature_engineering.py", tmp_path)
    assert "stream and batch are equal to the bit" in printed
    assert "rsi_14" in printed


@pytest.mark.skipif(importlib.util.find_spec("skl2onnx") is None, reason="skl2onnx (extra training) is not installed")
def test_a_model_is_trained_scored_and_loaded(tmp_path: Path) -> None:
    printed = run_example("03_model_training.py", tmp_path)
    assert re.search(r"logistic +AUC \d\.\d+ \(\d\.\d+ to \d\.\d+\)", printed)
    assert "inference loads it" in printed


def test_training_without_its_libraries_names_the_extra(tmp_path: Path) -> None:
    # Python runs this module first, and it hides skl2onnx from the example.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['skl2onnx'] = None\n")
    done = run_python(
        str(ROOT / "examples" / "03_model_training.py"), folder=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}"
    )
    assert done.returncode == 3, done.stderr
    assert 'pip install -e ".[training]"' in done.stderr


def test_strategies_are_compared_over_one_market(tmp_path: Path) -> None:
    printed = run_example("04_backtesting.py", tmp_path)
    assert printed.count("orders' digest") == 2
    assert len(set(re.findall(r"digest ([0-9a-f]{16})", printed))) == 2


def test_risk_is_asked_and_refuses(tmp_path: Path) -> None:
    printed = run_example("05_risk_management.py", tmp_path)
    assert "BUY 0.01 BTC: OrderApproved" in printed
    assert "order_notional_usdt: 12000, the limit is <= 2000" in printed


def test_the_strategies_of_the_guide_trade_and_pass_their_own_test(tmp_path: Path) -> None:
    strategy, compiled, test = re.findall(r"```python\n(.*?)```", read("docs/writing-a-strategy.md"), re.DOTALL)
    (tmp_path / "my_strategies.py").write_text(strategy)
    (tmp_path / "compiled_ones.py").write_text(compiled)
    (tmp_path / "test_guide.py").write_text(
        test + "\n\nif __name__ == '__main__':\n    test_a_close_above_the_range_goes_long_once()\n"
    )
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    done = run_python("test_guide.py", folder=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    for chosen in ('my_strategies:Breakout={"bars": 10}', "compiled_ones:Rises"):
        words = ("-m", "services.console", "backtest", "--seed", "7", "--span", "40m", "--strategy", chosen, "--json")
        done = run_python(*words, folder=tmp_path, PYTHONPATH=path)
        assert done.returncode == 0, done.stderr
        assert re.search(r'"intents": [1-9]', done.stdout), chosen


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks_of(text: str) -> Iterator[str]:
    """Yield the text of fenced console and sh blocks and of indented ones."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for language, body in fenced.findall(text):
        if language in ("console", "sh", "bash"):
            yield body
    yield from re.findall(r"^    .*$", fenced.sub("", text), re.MULTILINE)


def calls_of(text: str) -> Iterator[list[str]]:
    """Yield the words of each shown call of perpflow, without `perpflow` itself and settings before it."""
    for block in blocks_of(text):
        for line in block.replace("\\\n", " ").splitlines():
            call = re.fullmatch(r"\s*(?:\$ )?(?:[A-Z_][A-Z0-9_]*=\S+ )*perpflow(| .*)", line)
            if call is not None:
                yield shlex.split(call[1], comments=True)


def errors_of(words: list[str]) -> list[str]:
    """Return what a shown call names that does not exist; ``a | b`` lists commands, ``[...]`` may be left out."""
    errors: list[str] = []
    if "|" in words and all(word == "|" or not word.startswith("-") for word in words):
        for is_bar, call in groupby(words, key=lambda word: word == "|"):
            errors += [] if is_bar else errors_of(list(call))
        return errors
    command = COMMAND
    options: set[str] = set()
    for word in (word.strip("[]") for word in words):
        if word.startswith("-"):
            options.add(word.partition("=")[0])
        elif isinstance(command, TyperGroup):
            found = command.commands.get(word)
            if found is None:
                return [f"no command {word!r} in {command.name}"]
            command = found
    known = {"--help", "-h", *(name for parameter in command.params for name in parameter.opts)}
    return errors + [f"{command.name} has no option {option}" for option in sorted(options - known)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_shown_exist_with_their_options(page: Path) -> None:
    wrong = {shlex.join(words): errors_of(words) for words in calls_of(page.read_text(encoding="utf-8"))}
    assert {call: errors for call, errors in wrong.items() if errors} == {}


def test_the_reader_of_shown_commands_finds_them_and_their_faults() -> None:
    shown = [words for page in PAGES for words in calls_of(page.read_text(encoding="utf-8"))]
    assert len(shown) > 20
    assert errors_of(["up", "--markt", "live"]) == ["up has no option --markt"]
    assert errors_of(["features", "lst"]) == ["no command 'lst' in features"]
    assert errors_of(["halt", "|", "rezume"]) == ["no command 'rezume' in perpflow"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []
    # The reference of settings is as long as there are settings.
    assert text.count("\n") <= MAX_PAGE_LINES or page.name == "settings.md"


def test_the_settings_shown_exist() -> None:
    known = {variable for kind in settings_models().values() for variable in variables_of(kind).values()}
    prefixes = {service_prefix(service) for service in (*SERVICE_NAMES, "service")} | {"PERPFLOW_SERVICE_FIELD"}
    shown = {name for page in PAGES for name in re.findall(r"PERPFLOW_[A-Z_]+", page.read_text(encoding="utf-8"))}
    assert shown - known - prefixes - PROCESS_VARIABLES == set()


def test_the_reference_of_settings_is_that_of_the_models() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "settings.py"))["render"]()
    assert read("docs/settings.md") == page, "run python docs/settings.py"


def test_no_page_and_no_message_installs_a_package_of_the_registry() -> None:
    """perpflow is not on a package registry, so that whoever took the name there could run code here."""
    places = [
        path for folder in ("docs", "examples", "libs", "services", "infra") for path in (ROOT / folder).rglob("*")
    ]
    for path in (ROOT / "README.md", ROOT / "Makefile", *places):
        if path.suffix in (".py", ".md", ".yaml", ".yml", "") and path.is_file():
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"pip install [^\n]*[\"' ]perpflow(\[|\s|[\"']|$)", text), path


def test_the_picture_of_topics_is_that_of_the_registry() -> None:
    topics = runpy.run_path(str(ROOT / "docs" / "topics.py"))
    page = read("docs/architecture.md")
    assert topics["insert"](page, topics["render"]()) == page, "run python docs/topics.py"
