"""The recorder as a process: what it refuses before it reads anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_an_address_of_clickhouse_that_cannot_be_used_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PERPFLOW_BUS": f"sqlite:{tmp_path / 'bus.db'}",
        "PERPFLOW_RUN_DIR": str(tmp_path / "run"),
        "PERPFLOW_CLICKHOUSE": "http://user:word@127.0.0.1:9",
    }
    done = subprocess.run(
        [sys.executable, "-m", "services.recorder.main"],
        env=environment,
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).splitlines()
    assert "PERPFLOW_CLICKHOUSE cannot be used" in line
    assert "word@" not in line
