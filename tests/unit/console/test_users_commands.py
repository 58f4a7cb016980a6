"""`perpflow users`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.access.users import has_password, load_users
from libs.runtime.errors import BadInput
from services.console.main import app

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    monkeypatch.delenv("PERPFLOW_MONITORING_USERS_FILE", raising=False)
    return tmp_path / "users.json"


def call(*words: str, typed: str = "") -> str:
    done = CliRunner().invoke(app, ["users", *words], input=typed, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_user_is_added_listed_and_removed(path: Path) -> None:
    call("add", "ada", "--role", "operator", typed=PASSWORD + "\n")
    token = call("add", "grafana", "--role", "viewer", "--token").strip()
    assert has_password(load_users(path)["ada"], PASSWORD)
    listed = json.loads(call("list", "--json"))
    assert listed == {
        "file": str(path),
        "users": [
            {"name": "ada", "role": "operator", "credential": "password"},
            {"name": "grafana", "role": "viewer", "credential": "token"},
        ],
    }
    assert len(token) >= 43 and token not in path.read_text()
    call("remove", "ada")
    assert list(load_users(path)) == ["grafana"]


def test_settings_of_the_page_name_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERPFLOW_MONITORING_USERS_FILE", str(tmp_path / "elsewhere.json"))
    call("add", "ada", "--role", "viewer", "--token")
    assert list(load_users(tmp_path / "elsewhere.json")) == ["ada"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "ada", "--role", "king", "--token"), "unknown role 'king'"),
        (("add", "a b", "--role", "viewer", "--token"), "name 'a b'"),
        (("add", "ada", "--role", "viewer"), "the password has 5 characters"),
        (("remove", "ada"), "no user 'ada'"),
    ],
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        CliRunner().invoke(app, ["users", *words], input="short\n", catch_exceptions=False)
