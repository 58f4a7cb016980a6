"""A log of its own for each test, on each of the three buses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from libs.bus.api import Consumer, Record
from tests.kit.buses import World, make_world, read_records


@pytest.fixture(params=["memory", "sqlite", "kafka"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = make_world(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def read() -> Callable[[Consumer, int], Sequence[Record]]:
    return read_records
