"""Machine code that is kept on disk: it is as new as every file that went into it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from libs import kernels
from libs.kernels import sources_of

_ROOT = Path(kernels.__file__).parent.parent


def test_sources_are_what_a_file_imports_and_what_that_imports() -> None:
    found = {path.relative_to(_ROOT).as_posix() for path in sources_of(_ROOT / "services/bars/core/book.py")}
    assert {"services/bars/core/book.py", "libs/domain/rows.py", "libs/kernels.py"} <= found
    # By way of the steps of a bar.
    assert _ROOT / "libs/domain/rows.py" in sources_of(_ROOT / "services/bars/core/steps.py")


def test_modules_named_in_every_way_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_ROOT", tmp_path)
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / f"{name}.py").write_text("ONE = 1\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").touch()
    (tmp_path / "package/part.py").touch()
    entry = tmp_path / "entry.py"
    entry.write_text(
        "import a, math\nfrom b import (\n    ONE,\n    ONE as again,\n)\nfrom package import part as p\n"
        "from os import path\n"
        "def f():\n    from c import ONE\n    import d as dd\n"
    )
    expected = {"a.py", "b.py", "c.py", "d.py", "entry.py", "package/__init__.py", "package/part.py"}
    assert {path.relative_to(tmp_path).as_posix() for path in sources_of(entry)} == expected


def test_change_of_a_file_that_is_compiled_in_is_noticed(tmp_path: Path) -> None:
    libs = tmp_path / "libs"
    libs.mkdir()
    (libs / "__init__.py").touch()
    shutil.copy(str(kernels.__file__), libs)
    (libs / "constants.py").write_text("STEP = 1\n")
    (libs / "called.py").write_text(
        "from libs.constants import STEP\nfrom libs.kernels import njit\n\n\n"
        "@njit(cache=True)\ndef step(x):\n    return x + STEP\n"
    )
    (libs / "entry.py").write_text(
        "from libs.called import step\nfrom libs.kernels import njit\n\n\n"
        "@njit(cache=True)\ndef entry(x):\n    return step(x)\n\n\n"
        "answer = entry(0)\nprint(answer, sum(entry.stats.cache_hits.values()))\n"
    )

    def answer_and_hits() -> list[str]:
        """Ask a process of its own, as a user's is after an update."""
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
        command = [sys.executable, "-c", "import libs.entry"]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout.split()

    assert answer_and_hits() == ["1", "0"]
    assert answer_and_hits() == ["1", "1"]
    (libs / "constants.py").write_text("STEP = 2\n")
    assert answer_and_hits() == ["2", "0"]
