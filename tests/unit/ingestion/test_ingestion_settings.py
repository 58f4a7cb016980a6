"""Settings of ingestion refuse what cannot be meant."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from libs.runtime.errors import BadInput
from services.ingestion.building import build_source
from services.ingestion.live import LiveSource
from services.ingestion.recorded import RecordedSource
from services.ingestion.settings import IngestionSettings
from services.ingestion.simulated import SimulatedSource
from tests.unit.ingestion.builders import trade_line, write_capture


@pytest.mark.parametrize(
    "change",
    [{"market": "paper"}, {"market": "recorded:"}, {"speed": -1}, {"instrument": "BTCUSDT"}, {"span_s": "nan"}],
)
def test_senseless_setting_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        IngestionSettings.model_validate(change)


def test_each_market_has_its_source(tmp_path: Path) -> None:
    capture = write_capture(tmp_path / "one.jsonl", [trade_line(1, 0)])
    kinds = {"live": LiveSource, "simulated": SimulatedSource, f"recorded:{capture}": RecordedSource}
    for market, kind in kinds.items():
        assert isinstance(build_source(IngestionSettings(market=market), tmp_path), kind)


def test_a_recorded_market_where_arrow_is_not_installed_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("recorded", "recordings", "tables"):
        monkeypatch.delitem(sys.modules, f"services.ingestion.{name}")
    with pytest.raises(BadInput, match="needs pyarrow, which is not installed here"):
        build_source(IngestionSettings(market=f"recorded:{tmp_path}"), tmp_path)
    assert isinstance(build_source(IngestionSettings(market="simulated"), tmp_path), SimulatedSource)
