"""What a session remembers of how it was started, and what it must not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from libs.runtime.errors import BadInput
from services.console.session import load_session, locked_session
from services.console.up import UpOptions, prepare_session, run_up

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


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "a\n", "x" * 101])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a session's name"):
        prepare_session(replace(OPTIONS, session=name))
    with pytest.raises(BadInput, match="cannot be a session's name"):
        load_session(name)


def test_a_second_session_in_the_same_folder_is_refused_before_it_writes_anything(tmp_path: Path) -> None:
    live = replace(OPTIONS, market="live", speed=1.0)
    first = prepare_session(live)
    with locked_session(first):
        first.save()
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(BadInput, match=rf"session paper-live runs already \(process {os.getpid()}\)"):
            run_up(replace(live, instrument="ETHUSDT.BINANCE"), Console(quiet=True))
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with locked_session(prepare_session(live)):
        pass
