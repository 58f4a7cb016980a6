"""What a session remembers of how it was started, and what it must not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.console.up import UpOptions, prepare_session

OPTIONS = UpOptions("simulated", "paper", "BTCUSDT.BINANCE", 7, 20.0, None, None, None, None, None, None, False)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    return tmp_path


def test_limits_of_the_person_are_remembered_and_keys_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERPFLOW_RISK_MAX_LEVERAGE", "2")
    monkeypatch.setenv("PERPFLOW_EXECUTION_ACCOUNT", "mine")
    for name in ("EXECUTION_API_KEY", "EXECUTION_API_SECRET", "MONITORING_TOKEN"):
        monkeypatch.setenv(f"PERPFLOW_{name}", "of-the-person")
    session = prepare_session(replace(OPTIONS, market="live", mode="testnet", speed=1.0))
    assert session.environment["PERPFLOW_RISK_MAX_LEVERAGE"] == "2"
    assert session.environment["PERPFLOW_EXECUTION_MODE"] == "testnet"
    assert {session.environment[f"PERPFLOW_{name}_ACCOUNT"] for name in ("STRATEGY", "RISK")} == {"testnet"}
    assert session.environment["PERPFLOW_EXECUTION_ACCOUNT"] == "mine"
    session.save()
    assert b"of-the-person" not in (session.folder / "session.json").read_bytes()


def test_simulated_venue_gets_a_key_of_this_session_alone() -> None:
    first, second = (prepare_session(replace(OPTIONS, mode="testnet")).environment for _ in range(2))
    for side in ("EXCHANGE", "EXECUTION"):
        assert first[f"PERPFLOW_{side}_API_SECRET"] != second[f"PERPFLOW_{side}_API_SECRET"]
    assert first["PERPFLOW_EXCHANGE_API_SECRET"] == first["PERPFLOW_EXECUTION_API_SECRET"]
    assert first["PERPFLOW_EXECUTION_VENUE_SPEED"] == "20"
    assert first["PERPFLOW_INGESTION_FOLLOW_EXCHANGE_CLOCK"] == "true"


def test_paper_session_knows_no_key() -> None:
    assert not any("API_" in name for name in prepare_session(OPTIONS).environment)
