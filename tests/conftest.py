"""What holds for every test: hypothesis measures nothing but truth, for the machines that run this are shared."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("perpflow", deadline=None)
settings.load_profile("perpflow")

# A test that halts every session of this machine must reach those of its own run alone.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="perpflow-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Give every test the default loggers that a fresh process has."""
    yield
    structlog.reset_defaults()
