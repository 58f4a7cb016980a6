"""Nothing in libs and services reads time or chance but the one clock and the one source of entropy in `libs.clock`.

Whoever needs them takes them as a parameter. The system's own stand for them where a parameter has a default, and in
the modules by which a process begins; nowhere else, so that everything can be run on another clock.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
_MODULES = {"time", "secrets", "uuid"}
_NOW = {"now", "utcnow", "today"}
_SYSTEM = {"SYSTEM_CLOCK", "SYSTEM_ENTROPY", "SystemClock", "SystemEntropy"}
_CHANCE_OF_THE_SYSTEM = {"urandom", "getrandom"}
# With an argument these repeat with it.
_SEEDED = {"Random", "default_rng"}
_OUTSIDE = (
    "libs/clock/",
    # It stops the clocks and chance of the strategies that it tries out.
    "services/backtest/check_strategy.py",
)
# Where a process begins: what runs a service, and the commands of the console.
_BEGINNINGS = ("libs/runtime/service.py", "services/execution/outbox.py")


def _begins_a_process(name: str) -> bool:
    is_command = name.startswith("services/console/") and name.endswith("_commands.py")
    return is_command or name.endswith("/main.py") or name in _BEGINNINGS


def find_readers(source: str, name: str) -> list[str]:
    """Return a line for each place of a module that reads time or chance by itself."""
    tree = ast.parse(source)
    defaults = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.arguments)
        for default in (*node.defaults, *node.kw_defaults)
        if default is not None
        for part in ast.walk(default)
    }
    found = [(node, what) for node in ast.walk(tree) for what in _read(node)]
    if not _begins_a_process(name):
        found += [
            (node, f"{node.id} outside a default")
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and node.id in _SYSTEM and id(node) not in defaults
        ]
    return [f"{name}:{getattr(node, 'lineno', 0)}: {what}" for node, what in found]


def _read(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (f"import {each.name}" for each in names if each.name.partition(".")[0] in _MODULES)
        case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in {*_MODULES, "random"}:
            yield f"from {module} import"
        case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=attribute) if attribute in _NOW:
            yield f"datetime.{attribute}"
        case ast.Attribute(value=ast.Name(id="os"), attr=attribute) if attribute in _CHANCE_OF_THE_SYSTEM:
            yield f"os.{attribute}"
        case ast.Attribute(value=ast.Name(id="random") | ast.Attribute(attr="random"), attr=attribute):
            if attribute not in {*_SEEDED, "Generator"}:
                yield f"random.{attribute}"
        case ast.Call(func=ast.Attribute(attr=attribute), args=[], keywords=[]) if attribute in _SEEDED:
            yield f"{attribute} without a seed"
        case _:
            return


def test_nothing_reads_time_or_chance_by_itself() -> None:
    found = []
    for room in ("libs", "services"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(_OUTSIDE):
                found += find_readers(path.read_text(encoding="utf-8"), name)
    assert found == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import time", "import time"),
        ("from time import monotonic", "from time import"),
        ("import secrets", "import secrets"),
        ("import uuid", "import uuid"),
        ("from random import random", "from random import"),
        ("import random\nrandom.shuffle(a)", "random.shuffle"),
        ("import random\nrandom.Random()", "Random without a seed"),
        ("datetime.now(UTC)", "datetime.now"),
        ("import os\nos.urandom(4)", "os.urandom"),
        ("np.random.normal()", "random.normal"),
        ("np.random.default_rng()", "default_rng without a seed"),
        ("def wait():\n    SYSTEM_CLOCK.sleep(1)", "SYSTEM_CLOCK outside a default"),
        ("started = SystemClock()", "SystemClock outside a default"),
    ],
)
def test_a_reader_of_time_or_chance_is_found(source: str, what: str) -> None:
    assert [each.partition(": ")[2] for each in find_readers(source, "libs/bus/kafka.py")] == [what]


@pytest.mark.parametrize(
    "source",
    [
        "def wait(clock: Clock = SYSTEM_CLOCK): clock.sleep(1)",
        "def wait(*, monotonic = SYSTEM_CLOCK.monotonic_s): pass",
        "import random\nrandom.Random(7)",
        "np.random.default_rng(seed)",
        "datetime.fromtimestamp(at, UTC)",
    ],
)
def test_what_is_handed_in_may_be_used(source: str) -> None:
    assert find_readers(source, "libs/bus/kafka.py") == []
