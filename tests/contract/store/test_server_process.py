"""The server as a process: what it keeps when killed, what it refuses to start on, how it stops."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from tests.contract.store.local_server import LocalServer, spawn


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[LocalServer]:
    local = LocalServer(tmp_path)
    yield local
    local.close()


def test_kill_9_in_mid_insert_loses_no_acknowledged_row(own_server: LocalServer) -> None:
    own_server.start()
    with own_server.client() as client:
        client.command("CREATE TABLE t (writer Int32, n Int64) ENGINE = MergeTree ORDER BY (writer, n)")
    acknowledged: dict[int, int] = {0: 0, 1: 0, 2: 0}
    enough = threading.Event()

    def write(writer: int) -> None:
        with own_server.client() as client:
            while True:
                first = acknowledged[writer]
                try:
                    client.insert("t", [[writer, first + at] for at in range(50)], column_names=["writer", "n"])
                except (ClickHouseError, HTTPError, OSError):
                    return
                acknowledged[writer] = first + 50
                if all(count >= 500 for count in acknowledged.values()):
                    enough.set()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in acknowledged]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    own_server.kill()
    for thread in threads:
        thread.join(30)
    own_server.start()
    with own_server.client() as client:
        for writer, count in acknowledged.items():
            found = client.query(f"SELECT uniqExact(n) FROM t WHERE writer = {writer} AND n < {count}").first_row
            assert found == (count,)


def test_second_server_on_a_path_is_refused_with_exit_3(own_server: LocalServer, tmp_path: Path) -> None:
    own_server.start()
    log = tmp_path / "second.log"
    second = spawn(own_server.path, 0, tmp_path / "second-port", log)
    assert second.wait(30) == 3
    assert own_server.process is not None
    assert f"is served by another process (pid {own_server.process.pid})" in log.read_text()


def test_busy_port_is_refused_with_exit_3_and_its_number(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = spawn(tmp_path / "data", port, tmp_path / "port", tmp_path / "log")
        assert process.wait(30) == 3
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in (tmp_path / "log").read_text()
    assert not (tmp_path / "port").exists()


def test_path_that_cannot_be_made_is_refused_with_exit_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    process = spawn(tmp_path / "file", 0, tmp_path / "port", tmp_path / "log")
    assert process.wait(30) == 3
    assert "cannot open" in (tmp_path / "log").read_text()


def test_sigterm_finishes_the_running_query_and_keeps_the_rows(own_server: LocalServer) -> None:
    own_server.start()
    results: list[object] = []
    with own_server.client() as client:
        client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
        client.insert("t", [[1], [2]], column_names=["a"])
        assert own_server.process is not None
        with own_server.client() as other:
            begun = threading.Event()

            def ask() -> None:
                begun.set()
                results.append(other.query("SELECT sleepEachRow(0.5), 7 FROM numbers(3)").result_rows)

            thread = threading.Thread(target=ask)
            thread.start()
            assert begun.wait(10)
            # The query is on its way once the server reports it.
            while client.query("SELECT count() FROM system.processes").first_row == (1,):
                assert thread.is_alive()
            own_server.process.send_signal(signal.SIGTERM)
            thread.join(30)
    assert own_server.process.wait(30) == 0
    assert results == [[(0, 7)] * 3]
    own_server.start()
    with own_server.client() as client:
        assert client.query("SELECT sum(a) FROM t").first_row == (3,)
    assert own_server.stop() == 0


def test_crashed_engine_ends_the_process_and_keeps_the_rows(own_server: LocalServer) -> None:
    own_server.start()
    with own_server.client() as client:
        client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
        client.insert("t", [[1], [2]], column_names=["a"])
        assert own_server.process is not None
        own_server.process.send_signal(signal.SIGSEGV)
        # The engine's handler answers 236 until the process is gone, then nothing answers.
        with pytest.raises((ClickHouseError, HTTPError, OSError)):
            while True:
                client.query("SELECT 1")
    assert own_server.process.wait(60) != 0
    own_server.start()
    with own_server.client() as client:
        assert client.query("SELECT sum(a) FROM t").first_row == (3,)


def test_missing_arguments_are_bad_usage_with_exit_2(tmp_path: Path) -> None:
    import sys

    from tests.contract.store.local_server import ROOT

    done = subprocess.run(
        [sys.executable, "-m", "infra.local.clickhouse"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "--path" in done.stderr
