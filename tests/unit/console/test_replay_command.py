"""What `perpflow replay --verify` says of a session that this build replays differently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libs.version import build_id
from services.console import replay
from services.console.replay import ServiceReplay
from services.console.session import SessionDescription
from tests.unit.console.conftest import Perpflow

DIFFERENCE = {
    "topic": "risk.verdicts.v1",
    "index": 0,
    "recorded_offset": 0,
    "recorded": "a",
    "replayed": "b",
    "cause": "input 1",
}


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionDescription:
    (tmp_path / "bus.db").touch()
    found = ServiceReplay("risk", 1, 1, {}, DIFFERENCE, None)
    monkeypatch.setattr(replay, "verify_session", lambda _: [found])
    folder = tmp_path / "sessions" / "one"
    bus = f"sqlite:{tmp_path / 'bus.db'}"
    return SessionDescription("one", folder, "simulated", "paper", 7, 60.0, "BTCUSDT.BINANCE", bus, "", "", "perpflow")


@pytest.mark.parametrize("recorded_by", ["", "0.0.9+0123456789ab"])
def test_a_difference_from_another_build_names_both(
    session: SessionDescription, perpflow: Perpflow, recorded_by: str
) -> None:
    replace(session, build=recorded_by).save()
    code, said = perpflow("replay", "--verify")
    assert code == 1
    assert (recorded_by or "a build that it does not name") in said and build_id() in said
    assert "perpflow rehearse one" in said


def test_a_difference_from_this_build_blames_no_other(session: SessionDescription, perpflow: Perpflow) -> None:
    replace(session, build=build_id()).save()
    code, said = perpflow("replay", "--verify")
    assert code == 1 and "differs after input 1" in said and "rehearse" not in said
