"""Starts, stops and kills a local ClickHouse server, a process of its own as in production."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.client import Client

from libs.store import Store
from tests.kit.waiting import eventually

ROOT = Path(__file__).parents[3]


PASSWORD = "a-password-of-these-tests"
HEADERS = {"X-ClickHouse-User": "perpflow", "X-ClickHouse-Key": PASSWORD}
VARIABLES = {"PERPFLOW_CLICKHOUSE_USER": "perpflow", "PERPFLOW_CLICKHOUSE_PASSWORD": PASSWORD}


class LocalServer:
    """One server process on a folder; `start` may be called again after `kill`."""

    def __init__(self, folder: Path, password: str = PASSWORD) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.password = password
        self.path = folder / "data"
        self._port_file = folder / "port"
        self._log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, port: int = 0) -> LocalServer:
        self._port_file.unlink(missing_ok=True)
        self.process = spawn(self.path, port, self._port_file, self._log, self.password)
        eventually(lambda: self._port_file.exists() or self.process.poll() is not None, within_s=120.0)
        assert self._port_file.exists(), self._log.read_text()
        self.port = int(self._port_file.read_text())
        return self

    def client(self, **options: object) -> Client:
        credential = {"username": "perpflow", "password": self.password}
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, **{**credential, **options})

    def store(self, database: str = "perpflow") -> Store:
        return Store(self.url, database, user="perpflow", password=self.password)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


def spawn(path: Path, port: int, port_file: Path, log: Path, password: str = PASSWORD) -> subprocess.Popen[bytes]:
    """Start the server's command line with its output in `log`."""
    command = [sys.executable, "-m", "infra.local.clickhouse", "--path", str(path), "--port", str(port)]
    password_file = log.with_name("password")
    password_file.touch(0o600)
    password_file.write_text(password)
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--port-file", str(port_file), "--password-file", str(password_file)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
