"""Where the optional recorded test data is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_market() -> Path:
    """Return the folder of recorded market data, or skip the test that needs it."""
    root = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[4] / "shared"))
    folder = root / "data" / "market"
    if not folder.is_dir():
        pytest.skip(f"no recorded market data at {folder}; set PERPFLOW_SHARED to a folder that has it")
    return folder
