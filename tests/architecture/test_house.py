"""The repository keeps its own rules: the registry, the extras, the READMEs and the folders agree."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from libs.runtime.snapshots import group_topics
from libs.venues.registry import find_venue, venue_names
from libs.wire import topics
from services.console.drain import GROUPS
from services.console.plan import ONLINE_SERVICES, RUNNABLE_SERVICES

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if path.is_dir() and path.name != "__pycache__")
LIBS = sorted(path.name for path in (ROOT / "libs").iterdir() if path.is_dir() and path.name != "__pycache__")


def test_every_service_has_an_extra_of_its_name() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(SERVICES) <= set(extras)


def test_torch_sits_in_training_alone() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name for name, needs in extras.items() if any("torch" in need for need in needs)] == ["training"]
    assert "torch==2.13.0" in extras["training"]


@pytest.mark.parametrize("folder", [f"libs/{name}" for name in LIBS] + [f"services/{name}" for name in SERVICES])
def test_every_room_has_a_short_readme(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.is_file(), f"{folder} has no README.md"
    assert len(readme.read_text().splitlines()) <= 20


@pytest.mark.parametrize("service", topics.CORE_SERVICES)
def test_a_core_service_reads_what_the_registry_says(service: str) -> None:
    declared = importlib.import_module(f"services.{service}.main").SERVICE
    assert declared.name == service
    assert {each.topic for each in declared.inputs} == set(group_topics(service))


def test_the_outbox_reads_what_the_registry_says() -> None:
    declared = importlib.import_module("services.execution.outbox").SERVICE
    assert declared.name == topics.OUTBOX
    assert {each.topic for each in declared.inputs} == set(group_topics(topics.OUTBOX))


@pytest.mark.parametrize("service", RUNNABLE_SERVICES)
def test_a_runnable_service_has_a_short_main(service: str) -> None:
    main = ROOT / "services" / service / "main.py"
    assert main.is_file()
    assert len(main.read_text().splitlines()) <= 60


def test_the_registry_names_services_that_exist() -> None:
    named = {name for topic in topics.TOPICS.values() for name in (*topic.producers, *topic.consumers)}
    assert named <= {*SERVICES, topics.OUTBOX}
    assert set(GROUPS) <= named
    assert set(ONLINE_SERVICES) <= set(SERVICES)


def test_every_data_topic_has_a_message_in_proto() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "proto").rglob("*.proto"))
    for topic in topics.TOPICS.values():
        assert re.search(rf"^message {topic.message.rpartition('.')[2]} ", text, re.MULTILINE), topic.message


def test_the_readme_shows_every_service_of_the_registry() -> None:
    picture = (ROOT / "README.md").read_text()
    for topic in (topics.MARKET_EVENTS, topics.BARS_CLOSED, topics.FEATURE_VECTORS, topics.FORECASTS, topics.VERDICTS):
        assert topic.removesuffix(".v1") in picture
    for service in ONLINE_SERVICES:
        assert service in picture


def test_no_tracked_text_names_this_machine() -> None:
    suspects = re.compile(r"(?<![\w.])/(?:root|home|Users)/\w")
    for folder in ("libs", "services", "infra", "proto", "docs", "examples", "tests"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".yaml", ".yml", ".toml", ".proto", ".txt", ".sql") and path.is_file():
                if path == Path(__file__).resolve():
                    continue
                assert not suspects.search(path.read_text()), path


def test_the_console_imports_settings_by_name_and_nothing_else() -> None:
    found = {
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "services" / "console").glob("*.py")
        for line in path.read_text().splitlines()
        if "import_module(" in line or "__import__(" in line
    }
    assert found == {'registry.py: module = importlib.import_module(f"services.{service}.settings")'}


VENUE_WORDS = re.compile(r"binance|bybit", re.IGNORECASE)


@pytest.mark.parametrize("service", ["ingestion", "execution"])
def test_a_service_at_the_market_names_no_exchange(service: str) -> None:
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sorted((ROOT / "services" / service).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if VENUE_WORDS.search(line)
    ]
    assert not named


@pytest.mark.parametrize("name", venue_names())
def test_a_venue_is_declared_in_the_module_of_its_name(name: str) -> None:
    venue = find_venue(name)
    assert venue.name == name
    assert isinstance(venue.make_decoder().keeps_state, bool)
    assert set(venue.trading_addresses) <= {"testnet", "live"}
    assert bool(venue.trading_addresses) == (venue.open_trading is not None)
