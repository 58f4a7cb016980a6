"""`perpflow status` prints what is known of a session, and says in one line what of it cannot be read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.bus.api import BusInvalid, BusLost, BusUnavailable, TopicSpec
from libs.bus.sqlite import SqliteBus
from libs.runtime.errors import BadInput
from libs.wire.topics import TOPICS
from services.console import main as console
from services.console.running import register_session, registry, running_folders
from services.console.session import SessionDescription
from services.console.status import describe_sessions
from tests.kit.waiting import eventually


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def a_session(name: str = "one", root: Path | None = None) -> SessionDescription:
    folder = (root or Path()) / "sessions" / name
    session = SessionDescription(
        name=name,
        folder=folder,
        market="simulated",
        mode="paper",
        seed=3,
        speed=1.0,
        instrument="BTCUSDT.BINANCE",
        bus=f"sqlite:{folder / 'bus.db'}",
        topic_prefix="",
        clickhouse="http://127.0.0.1:9",
        clickhouse_database="perpflow",
        environment={"PERPFLOW_RISK_ACCOUNT": "paper"},
    )
    session.save()
    session.run_dir.mkdir()
    status = {"pid": 0, "services": {"bars": {"pid": None, "state": "stopped", "restarts": 2}}}
    (session.run_dir / "supervisor.json").write_text(json.dumps(status))
    with SqliteBus(folder / "bus.db") as bus:
        bus.create_topics(TopicSpec(topic) for topic in TOPICS)
    return session


def overwrite(session: SessionDescription) -> None:
    (session.folder / "bus.db").write_bytes(b"no database, whatever its name says" * 500)


def damage(session: SessionDescription) -> None:
    path = session.folder / "bus.db"
    header = path.read_bytes()[:4096]
    path.write_bytes(header + b"Z" * (path.stat().st_size - len(header)))


def remove(session: SessionDescription) -> None:
    (session.folder / "bus.db").unlink()


def damage_description(session: SessionDescription) -> None:
    (session.folder / "session.json").write_text('{"name": ')


def test_a_session_that_can_be_read_is_described_without_an_error(root: Path) -> None:
    (facts,), problem = describe_sessions([a_session(root=root).folder])
    assert problem is None
    assert facts["bus"] == "ok"
    assert [row.account for row in facts["accounts"]] == ["paper"]
    assert facts["services"][0]["restarts"] == 2


@pytest.mark.parametrize(
    ("spoil", "kind", "exit_code", "text"),
    [
        (overwrite, BusInvalid, 2, "bus.db is not a bus file"),
        (damage, BusUnavailable, 3, "bus.db is damaged"),
        (remove, BusLost, 3, "has no log any more"),
        (damage_description, BadInput, 2, "session.json is damaged"),
    ],
    ids=["overwritten", "damaged", "removed", "description"],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_cannot_be_read_is_one_line_and_an_exit_code_after_what_is_known(
    spoil: Callable[[SessionDescription], None],
    kind: type[Exception],
    exit_code: int,
    text: str,
    form: list[str],
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = a_session(root=root)
    spoil(session)
    described, problem = describe_sessions([session.folder])
    assert isinstance(problem, kind) and text in str(problem)
    monkeypatch.setattr("sys.argv", ["perpflow", "status", *form])
    with pytest.raises(SystemExit) as ending:
        console.main()
    told = capsys.readouterr()
    assert ending.value.code == exit_code
    assert len(told.err.splitlines()) == 1 and text in told.err
    assert ("bars" in told.out) == bool(described)


def test_a_session_that_cannot_be_read_hides_no_other(root: Path) -> None:
    broken, whole = a_session("broken", root), a_session("whole", root)
    damage_description(broken)
    described, problem = describe_sessions([broken.folder, whole.folder])
    assert [facts["session"] for facts in described] == ["whole"]
    assert "broken" in str(problem)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"[1]", b'{"pid": 0, "services": [1]}', b'{"pid": true, "services": {"bars": 3}}', b'{"pid": -1}'],
)
def test_a_damaged_announcement_of_the_supervisor_shows_no_process(content: bytes, root: Path) -> None:
    session = a_session(root=root)
    (session.run_dir / "supervisor.json").write_bytes(content)
    (facts,), problem = describe_sessions([session.folder])
    assert (facts["services"], facts["is_running"], problem) == ([], False, None)


def test_a_damaged_entry_of_the_registry_hides_no_session(root: Path) -> None:
    session = a_session(root=root)
    assert register_session(session) == ""
    (registry() / "damaged").write_bytes(b"\xff\x00")
    with subprocess.Popen([sys.executable, "-c", "input()", "services.bars"], stdin=subprocess.PIPE) as process:
        (session.run_dir / "supervisor.json").write_text(json.dumps({"pid": process.pid}))
        eventually(lambda: running_folders() == [session.folder.resolve()])
        process.communicate(b"\n")
    assert not (registry() / "damaged").exists()
