"""Who the local ClickHouse server lets in."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest

from infra.local.clickhouse.admission import HASH_VARIABLE, Credential, find_foreign_origin
from infra.local.clickhouse.errors import EngineError
from tests.unit.infra.files import ROOT

PASSWORD = "a-password-of-these-tests"
HASH = hashlib.sha256(PASSWORD.encode()).hexdigest()


def _headers(**given: str) -> Message:
    message = Message()
    for name, value in given.items():
        message[name.replace("_", "-")] = value
    return message


def _basic(user: str, password: str) -> Message:
    return _headers(Authorization="Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def test_a_password_is_known_by_its_hash_as_the_real_server_knows_it() -> None:
    credential = Credential(HASH)
    credential.check(_basic("perpflow", PASSWORD))
    credential.check(_headers(X_ClickHouse_User="perpflow", X_ClickHouse_Key=PASSWORD))
    for wrong in (_basic("perpflow", "another"), _basic("default", PASSWORD), _basic("perpflow", HASH), _headers()):
        with pytest.raises(EngineError, match="password is incorrect"):
            credential.check(wrong)


@pytest.mark.parametrize("given", ["", "a" * 63, "g" * 64])
def test_what_is_no_hash_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        Credential(given)


def test_a_server_of_its_own_machine_knows_its_names_and_one_of_a_container_does_not() -> None:
    container = _headers(Host="clickhouse:8123")
    assert "is not this server" in find_foreign_origin(container)
    assert find_foreign_origin(container, is_local=False) == ""
    assert find_foreign_origin(_headers(Host="127.0.0.1:8123")) == ""


@pytest.mark.parametrize("is_local", [True, False])
def test_a_web_page_is_refused_wherever_the_server_listens(is_local: bool) -> None:
    page = _headers(Host="localhost:8123", Origin="http://example.org")
    assert find_foreign_origin(page, is_local=is_local) == "requests of web pages are refused"


def test_a_server_without_a_password_does_not_start(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != HASH_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-m", "infra.local.clickhouse", "--path", str(tmp_path / "data"), "--port", "0"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert f"cannot take the password from {HASH_VARIABLE}" in done.stderr
