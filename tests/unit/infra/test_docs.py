"""The READMEs of infra speak of files, commands, options and settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from libs.wire.topics import TOPICS
from services.console.main import app
from services.monitoring.core import AlertLimits
from services.monitoring.settings import MonitoringSettings
from tests.unit.infra.files import INFRA, ROOT, unknown_variables

PAGES = sorted(INFRA.glob("*/README.md"))


def commands() -> dict[str, set[str]]:
    """Return every command with its options; a group's commands as GROUP COMMAND."""
    found: dict[str, set[str]] = {}
    root = typer.main.get_command(app)

    def walk(command: object, name: str) -> None:
        found[name] = {option for each in getattr(command, "params", []) for option in each.opts}
        for word, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {word}".strip())

    walk(root, "")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_pages_of_the_site_link_to_pages_of_the_site() -> None:
    docs = ROOT / "docs"
    for page in docs.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not target.startswith("http"):
                linked = (page.parent / target).resolve()
                assert linked.is_relative_to(docs) and linked.exists(), f"{page.relative_to(docs)}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    known = commands()
    for line in re.findall(r"(?:^|(?<!-n)[`\s])perpflow ((?:[a-z-]+)[^`\n#]*)", page.read_text()):
        words = line.split()
        two = " ".join(words[:2])
        if words[0] not in known:
            assert not re.match(r"^[a-z-]+$", words[0]) or words[0] in ("is", "and"), line
            continue
        name = two if two in known else words[0]
        for option in re.findall(r"(?<=[\s\[])--[a-z-]+", line):
            assert option in known[name] | {"--help"}, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_and_topics_exist(page: Path) -> None:
    text = page.read_text()
    names = set(re.findall(r"\bPERPFLOW_[A-Z_]*[A-Z]\b(?!\*|_\*)", text))
    assert unknown_variables(names) == set()
    assert set(re.findall(r"\b[a-z]+\.[a-z.]+\.v1\b", text)) <= TOPICS.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"`((?:libs|services|infra|tests|examples|docs|proto)/[\w./-]+)`", page.read_text()):
        # Words in capitals stand for something: services/X/core, infra/locks/SERVICE.txt.
        if not re.search(r"(?<![A-Z])(?!README)[A-Z]+", name):
            assert (ROOT / name).exists(), name


def test_the_limits_of_the_settings_are_those_of_the_rules() -> None:
    limits, settings = AlertLimits(), MonitoringSettings()
    for name in limits.__dataclass_fields__:
        assert getattr(limits, name) == getattr(settings, name), name
