"""Settings of ingestion refuse what cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

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
