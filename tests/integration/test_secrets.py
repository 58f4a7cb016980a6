"""A run in which every secret setting is marked: the marks are where they are used, and in nothing that it wrote."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from libs.bus.open import open_bus
from libs.runtime.records import read_topic
from services.console.plan import RUNNABLE_SERVICES
from services.console.registry import secret_variables, settings_models
from services.console.session import load_session
from tests.contract.store.local_server import LocalServer
from tests.kit.platform import Platform
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(900)
MARK = "mArKeD"
PAGE_PATHS = ("", "live", "ready", "api/state", "metrics")


def marked_secrets() -> dict[str, str]:
    """One value of its own for each, with what breaks addresses, shells and JSON."""
    return {
        name: f"{MARK}-{number}/#?@:%&\"'x" + "y" * 16
        for number, name in enumerate(sorted(secret_variables(settings_models())))
    }


def own_secrets(service: str, secrets: dict[str, str]) -> set[str]:
    """Return what a process may hold; the venue's key is the outbox's alone, which paper trading does not start."""
    own = () if service == "execution" else (f"PERPFLOW_{service.upper()}_",)
    mine = {name for name in secrets if name.startswith(("PERPFLOW_KAFKA_", *own))}
    return mine | ({"PERPFLOW_CLICKHOUSE_PASSWORD"} if service == "recorder" else set())


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bytes(answer.read())
    except OSError as error:
        return str(error).encode() + (error.read() if hasattr(error, "read") else b"")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_marked_secret_is_in_anything_that_a_run_wrote(tmp_path: Path) -> None:
    secrets = marked_secrets()
    server = LocalServer(tmp_path / "server", secrets["PERPFLOW_CLICKHOUSE_PASSWORD"])
    server.start()
    try:
        said, pages = run_marked(tmp_path, server, secrets)
        tables = dump_tables(server)
    finally:
        server.close()
    assert MARK not in said
    for name, page in pages.items():
        assert MARK.encode() not in page, name
    assert len(tables) > 10_000
    assert MARK.encode() not in tables
    files = [path for path in (tmp_path / "platform").rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.name == "session.json" for path in files)
    for path in files:
        assert MARK.encode() not in path.read_bytes(), path
    for path in (tmp_path / "platform" / "var" / "sessions").rglob("*"):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def run_marked(tmp_path: Path, server: LocalServer, secrets: dict[str, str]) -> tuple[str, dict[str, bytes]]:
    """Start a platform with every secret set, look into each process, stop it; return what was said and shown."""
    (tmp_path / "platform").mkdir()
    platform = Platform(
        tmp_path / "platform",
        **secrets,
        PERPFLOW_CLICKHOUSE=server.url,
        PERPFLOW_CLICKHOUSE_USER="perpflow",
        PERPFLOW_KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        PERPFLOW_KAFKA_USERNAME="nobody",
        XDG_STATE_HOME=str(tmp_path / "state"),
        SOMEBODYS_TOKEN=f"{MARK}-of-somebody-else",
    )
    command = [sys.executable, "-m", "services.console", "up", "--market", "simulated", "--seed", "3"]
    command += ["--layout", "spread"]
    process = subprocess.Popen(
        [*command, "--speed", "2", "--span", "6h", "--port", "0", "-v"],
        cwd=platform.folder,
        env=platform.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
    reader.start()
    pages: dict[str, bytes] = {}
    try:

        def all_run() -> bool:
            assert process.poll() is None, "".join(said)
            states = platform.status()
            return set(RUNNABLE_SERVICES) <= states.keys() and all(
                entry["state"] == "running" for entry in states.values()
            )

        eventually(all_run, within_s=240)
        for service in RUNNABLE_SERVICES:
            held = environment_of(platform.status()[service]["pid"])
            found = {name for name, value in secrets.items() if value.encode() in held}
            assert found == own_secrets(service, secrets), service
            assert b"SOMEBODYS_TOKEN" not in held
        pages = read_pages(platform, "".join(said))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(240)
        reader.join(30)
        assert process.stdout is not None
        process.stdout.close()
    assert process.returncode == 0, "".join(said)
    pages["topics"] = dump_topics(platform)
    return "".join(said), pages


def read_pages(platform: Platform, said: str) -> dict[str, bytes]:
    address = next(line.split()[1] for line in said.splitlines() if line.strip().startswith("page "))
    pages = {f"page {path}": fetch(f"{address}{path}") for path in PAGE_PATHS}
    rows: list[dict[str, Any]] = json.loads(platform.call("status", "--json").stdout)["services"]
    for row in rows:
        if row.get("metrics_port"):
            for path in ("health", "metrics"):
                pages[f"{row['service']} {path}"] = fetch(f"http://127.0.0.1:{row['metrics_port']}/{path}")
    for words in (("status", "--json"), ("config", "show", "--json"), ("config", "check")):
        done = platform.call(*words)
        pages[" ".join(words)] = (done.stdout + done.stderr).encode()
    return pages


def dump_topics(platform: Platform) -> bytes:
    before = os.environ.get("PERPFLOW_VAR")
    os.environ["PERPFLOW_VAR"] = platform.environment["PERPFLOW_VAR"]
    try:
        session = load_session()
    finally:
        if before is None:
            del os.environ["PERPFLOW_VAR"]
        else:
            os.environ["PERPFLOW_VAR"] = before
    parts: list[bytes] = []
    with open_bus(session.bus, prefix=session.topic_prefix) as bus:
        for topic in bus.topics():
            for record in read_topic(bus, topic):
                parts += [record.key or b"", record.value or b"", repr(record.headers).encode()]
    return b"\n".join(parts)


def dump_tables(server: LocalServer) -> bytes:
    with server.client() as client:
        names = client.query(
            "SELECT database, name FROM system.tables WHERE database LIKE 'perpflow%' AND engine LIKE '%MergeTree'"
        ).result_rows
        return b"".join(
            bytes(client.raw_query(f"SELECT * FROM `{database}`.`{name}`", fmt="TabSeparated"))
            for database, name in names
        )
