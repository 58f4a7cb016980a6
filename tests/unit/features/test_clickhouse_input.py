"""`engineer-features` from bars that a session recorded: the same bits as from a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from libs.indicators.feature_sets import load_feature_set
from libs.runtime.errors import BadInput
from libs.store.tables import StoredRow
from libs.wire.topics import BARS_CLOSED
from services.console.features_commands import engineer_features
from tests.contract.store.local_server import VARIABLES, LocalServer
from tests.unit.indicators.recorded import compute, made_rows, same_bits, stream_of

CORE = load_feature_set()
BTC = "BTCUSDT.BINANCE"
COUNT = 1500


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    local = LocalServer(tmp_path_factory.mktemp("clickhouse")).start()
    yield local
    local.close()


@pytest.fixture(scope="module")
def address(server: LocalServer) -> str:
    times, rows = made_rows(COUNT)
    bars = stream_of(BTC, times, rows, ("5m", "1h"))
    with server.store() as store:
        store.migrate()
        store.insert(BARS_CLOSED, [StoredRow(0, offset, BTC.encode(), 0, bar) for offset, bar in enumerate(bars)])
    return server.url


@pytest.fixture(autouse=True)
def credential(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def _engineer(address: str, source: str, output: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    engineer_features(input_=source, output=output, feature_set="core_v1", clickhouse=address, json=True)
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_recorded_bars_give_the_bits_of_the_batch(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = _engineer(address, f"clickhouse:{BTC}/1m", tmp_path / "out.parquet", capsys)
    times, rows = made_rows(COUNT)
    table = pq.read_table(tmp_path / "out.parquet")
    out = np.column_stack([table[name].to_numpy() for name in CORE.names])
    assert same_bits(out, compute(CORE, times, rows)).all()
    assert said["rows"] == COUNT
    assert said["missing_inputs"] == {}


@pytest.mark.slow
def test_an_instrument_without_bars_is_refused(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match="the store has no such bars"):
        _engineer(address, "clickhouse:ETHUSDT.BINANCE/1m", tmp_path / "out.parquet", capsys)
