"""What a session remembers of how it was started, and what it must not."""

from __future__ import annotations

import io
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from libs.access.users import Role
from libs.runtime.errors import BadInput
from libs.runtime.settings import SERVICE_NAMES
from libs.wire.topics import OUTBOX
from services.console.plan import plan_processes, process_environment
from services.console.registry import read_checked, secret_variables, settings_models
from services.console.session import SessionDescription, load_session, locked_session
from services.console.store_access import make_password, read_password
from services.console.up import UpOptions, prepare_session, print_banner, run_up
from tests.kit.users import write_users

OPTIONS = UpOptions("simulated", "paper", "BTCUSDT.BINANCE", 7, 20.0, None, None, None, None, None, None, False)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    return tmp_path


def environments(session: SessionDescription, secrets: dict[str, str]) -> dict[str, dict[str, str]]:
    return {service: process_environment(session, service, secrets) for service in SERVICE_NAMES}


def marked_secrets() -> dict[str, str]:
    return {name: f"marked-{name.lower()}" for name in secret_variables(settings_models())}


def test_limits_of_the_person_are_remembered_and_keys_are_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERPFLOW_RISK_MAX_LEVERAGE", "2")
    monkeypatch.setenv("PERPFLOW_EXECUTION_ACCOUNT", "mine")
    for name in secret_variables(settings_models()):
        monkeypatch.setenv(name, "of-the-person")
    session = prepare_session(replace(OPTIONS, market="live", mode="testnet", speed=1.0), read_checked())
    assert session.environment["PERPFLOW_RISK_MAX_LEVERAGE"] == "2"
    assert session.environment["PERPFLOW_EXECUTION_MODE"] == "testnet"
    assert {session.environment[f"PERPFLOW_{name}_ACCOUNT"] for name in ("STRATEGY", "RISK")} == {"testnet"}
    assert session.environment["PERPFLOW_EXECUTION_ACCOUNT"] == "mine"
    session.save()
    assert b"of-the-person" not in (session.folder / "session.json").read_bytes()


def test_a_session_folder_is_its_users_alone() -> None:
    session = prepare_session(OPTIONS, read_checked())
    password = make_password(session)
    session.save()
    assert stat.S_IMODE(session.folder.stat().st_mode) == 0o700
    for name in ("session.json", "clickhouse.password"):
        assert stat.S_IMODE((session.folder / name).stat().st_mode) == 0o600
    assert password not in (session.folder / "session.json").read_text()
    assert read_password(session, read_checked()) == password


def test_each_process_is_started_with_its_own_secrets_alone() -> None:
    secrets = marked_secrets()
    assert {"PERPFLOW_EXECUTION_API_SECRET", "PERPFLOW_INGESTION_GLASSNODE_KEY"} <= secrets.keys()
    for service, environment in environments(prepare_session(OPTIONS, read_checked()), secrets).items():
        held = {name for name, value in environment.items() if value in secrets.values()}
        # All of them meet on Kafka.
        allowed = {name for name in secrets if name.startswith(("PERPFLOW_KAFKA_", f"PERPFLOW_{service.upper()}_"))}
        if service == "execution":
            allowed = {name for name in allowed if name.startswith("PERPFLOW_KAFKA_")}
        if service == "recorder":
            allowed.add("PERPFLOW_CLICKHOUSE_PASSWORD")
        assert held == allowed, service


def test_the_outbox_alone_gets_the_venues_key_and_runs_where_there_is_a_venue() -> None:
    secrets = marked_secrets()
    paper = prepare_session(OPTIONS, read_checked())
    processes = {
        mode: {
            spec.name: spec
            for spec in plan_processes(replace(paper, mode=mode), secrets, has_exchange=True, is_bounded=False)
        }
        for mode in ("paper", "testnet", "live")
    }
    assert [OUTBOX in started for started in processes.values()] == [False, True, True]
    key = secrets["PERPFLOW_EXECUTION_API_SECRET"]
    for started in processes.values():
        assert {name for name, spec in started.items() if key in spec.environment.values()} == {OUTBOX} & started.keys()
    assert processes["live"][OUTBOX].command[-1] == "services.execution.outbox"


def test_the_environment_of_whoever_starts_a_session_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-person")
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:of-the-person@proxy:3128")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    for service, environment in environments(prepare_session(OPTIONS, read_checked()), {}).items():
        assert "AWS_SECRET_ACCESS_KEY" not in environment
        assert ("HTTPS_PROXY" in environment) == (service in ("ingestion", "features"))
        assert environment["LC_ALL"] == "C.UTF-8"
        assert environment["PATH"]


def test_a_service_gets_its_own_settings_and_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_RISK_MAX_LEVERAGE", "2")
    monkeypatch.setenv("PERPFLOW_LOG_LEVEL", "debug")
    started = environments(prepare_session(OPTIONS, read_checked()), {})
    assert [name for name in started if "PERPFLOW_RISK_MAX_LEVERAGE" in started[name]] == ["risk", "chain"]
    assert [name for name in started if "PERPFLOW_CLICKHOUSE" in started[name]] == ["recorder"]
    assert {environment["PERPFLOW_LOG_LEVEL"] for environment in started.values()} == {"debug"}


def test_a_misspelt_setting_keeps_a_session_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_RIKS_MAX_LEVERAGE", "2")
    with pytest.raises(BadInput, match="PERPFLOW_RIKS_MAX_LEVERAGE; did you mean PERPFLOW_RISK_MAX_LEVERAGE"):
        read_checked()


def test_paper_session_knows_no_key() -> None:
    assert not any("API_" in name for name in prepare_session(OPTIONS, read_checked()).environment)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "a\n", "x" * 101])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be a session's name"):
        prepare_session(replace(OPTIONS, session=name), read_checked())
    with pytest.raises(BadInput, match="cannot be a session's name"):
        load_session(name)


def test_a_second_session_in_the_same_folder_is_refused_before_it_writes_anything(tmp_path: Path) -> None:
    live = replace(OPTIONS, market="live", speed=1.0)
    first = prepare_session(live, read_checked())
    with locked_session(first):
        first.save()
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(BadInput, match=rf"session paper-live runs already \(process {os.getpid()}\)"):
            run_up(replace(live, instrument="ETHUSDT.BINANCE"), Console(quiet=True))
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with locked_session(prepare_session(live, read_checked())):
        pass


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PERPFLOW_CLICKHOUSE", "http://someone:of-the-person@host:8123", "PERPFLOW_CLICKHOUSE_PASSWORD"),
        ("PERPFLOW_CLICKHOUSE", "http://someone:of-the-person#x@host", "PERPFLOW_CLICKHOUSE_PASSWORD"),
        ("PERPFLOW_CLICKHOUSE", "host:8123", "is not of the form http://HOST:PORT"),
        ("PERPFLOW_CLICKHOUSE", "http://host:port", "is not of the form http://HOST:PORT"),
        ("PERPFLOW_BUS", "nonsense", "sqlite:PATH or kafka:HOST:PORT"),
        ("PERPFLOW_BUS", "memory:x", "sqlite:PATH or kafka:HOST:PORT"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=message) as caught:
        run_up(OPTIONS, Console(quiet=True))
    assert "of-the-person" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_told_the_users_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = "PERPFLOW_MONITORING_USERS_FILE"
    for service, environment in environments(prepare_session(OPTIONS, read_checked()), {}).items():
        expected = str((tmp_path / "users.json").resolve()) if service == "monitoring" else None
        assert environment.get(told) == expected, service
    monkeypatch.setenv(told, str(tmp_path / "elsewhere.json"))
    session = prepare_session(OPTIONS, read_checked())
    assert process_environment(session, "monitoring")[told] == str((tmp_path / "elsewhere.json").resolve())


def test_users_file_that_others_may_read_keeps_a_session_from_starting(tmp_path: Path) -> None:
    path = write_users(tmp_path / "users.json", {"ada": Role.OPERATOR})
    path.chmod(0o644)
    with pytest.raises(BadInput, match=r"users\.json"):
        run_up(OPTIONS, Console(quiet=True))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("mode", "roles", "said"),
    [
        ("testnet", {}, "users.json has no users; add one: perpflow users add NAME --role operator"),
        ("testnet", {"ada": Role.OPERATOR, "bob": Role.VIEWER}, "one of 2 users of "),
        ("paper", {}, None),
    ],
)
def test_banner_says_who_may_sign_in_and_how_to_add_a_user(
    tmp_path: Path, mode: str, roles: dict[str, Role], said: str | None
) -> None:
    if roles:
        write_users(tmp_path / "users.json", roles)
    written = io.StringIO()
    session = prepare_session(replace(OPTIONS, mode=mode), read_checked())
    print_banner(replace(OPTIONS, mode=mode), session, "http://127.0.0.1:1/", Console(file=written, width=300))
    assert (said in written.getvalue()) if said else ("sign in" not in written.getvalue())


def test_paper_is_fused_unless_replicas_are_asked_for_and_a_session_that_goes_on_keeps_its_layout() -> None:
    auto = replace(OPTIONS, layout="auto")
    assert prepare_session(auto, read_checked()).layout == "fused"
    assert prepare_session(replace(auto, mode="testnet"), read_checked()).layout == "spread"
    assert prepare_session(replace(auto, scale={"bars": 2}), read_checked()).layout == "spread"
    assert prepare_session(replace(auto, scale={"recorder": 2}), read_checked()).layout == "fused"
    live = replace(auto, market="live", speed=1.0)
    prepare_session(replace(live, layout="spread"), read_checked()).save()
    assert prepare_session(live, read_checked()).layout == "spread"
    assert prepare_session(replace(live, layout="fused"), read_checked()).layout == "fused"
