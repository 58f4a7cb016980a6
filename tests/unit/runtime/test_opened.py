"""What is used before it is open says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from libs.runtime.opened import opened
from services.ingestion.feed import Pacer
from services.ingestion.recorded import RecordedSource


def test_what_is_open_is_returned_even_where_it_is_empty() -> None:
    nothing: list[int] = []
    assert opened(nothing) is nothing


@pytest.mark.parametrize("use", [lambda source: source.read(1, 0), lambda source: source.cursor()])
def test_a_source_that_was_not_opened_says_what_comes_first(
    tmp_path: Path, use: Callable[[RecordedSource], object]
) -> None:
    (tmp_path / "capture.ns-jsonl").write_text("")
    source = RecordedSource(tmp_path, instrument="BTCUSDT.BINANCE", pacer=Pacer(0))
    with pytest.raises(RuntimeError, match=r"open\(\) comes first"):
        use(source)
