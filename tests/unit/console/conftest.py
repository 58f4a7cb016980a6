"""The command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from services.console import main as console

Perpflow = Callable[..., tuple[int, str]]


@pytest.fixture
def perpflow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Perpflow:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["perpflow", *words])
        with pytest.raises(SystemExit) as ended:
            console.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    return call
