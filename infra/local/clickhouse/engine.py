"""One chDB engine on one path: opens it, guards the path against a second process, and hands out connections.

A connection is cheap (0.1 ms), so a request gets a fresh one: settings, database and temporary tables of one request
never reach another. chDB also leaves the output of a failed query in its connection's buffer, where the next query
would return it; `Connection.recover` clears that for connections that must live on.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from chdb.state.sqlitelike import Connection as _ChdbConnection

from infra.local.clickhouse.access import HOME_DATABASE, write_access_rules
from infra.local.clickhouse.errors import ACCESS_DENIED, EngineError, read_engine_error

_LOCK_FILE = "perpflow-server.lock"


class PathLocked(Exception):
    """Another process serves this path."""


@dataclass(frozen=True, slots=True)
class StatementResult:
    """A finished statement: its result in the format asked for and the engine's counts."""

    body: bytes
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0


class Connection:
    """A chDB connection that speaks bytes and raises `EngineError`. Used by one thread at a time."""

    def __init__(self, connection_string: str) -> None:
        try:
            self._chdb = _ChdbConnection(connection_string)
        except RuntimeError as error:
            raise read_engine_error(str(error)) from None

    def query(self, text: bytes, output_format: str, parameters: Mapping[str, str] | None = None) -> StatementResult:
        """Run a statement to its end; a FORMAT in the text wins over `output_format`."""
        try:
            # Text that is not UTF-8 (binary bound parameters) is passed as it is.
            result = self._chdb.query(_as_text(text), output_format, params=dict(parameters or {}))
        except RuntimeError as error:
            raise read_engine_error(str(error)) from None
        return StatementResult(
            body=result.bytes() or b"",
            read_rows=result.storage_rows_read(),
            read_bytes=result.storage_bytes_read(),
            written_rows=result.rows_written(),
            written_bytes=result.bytes_written(),
            result_rows=result.rows_read(),
        )

    def stream(
        self, text: bytes, output_format: str, parameters: Mapping[str, str] | None = None
    ) -> Generator[bytes, None, None]:
        """Run a SELECT and yield its blocks as they come. Closing the generator cancels the query; it must be closed
        before the connection is."""
        try:
            blocks = self._chdb.send_query(_as_text(text), output_format, params=dict(parameters or {}))
        except RuntimeError as error:
            raise read_engine_error(str(error)) from None
        try:
            for block in blocks:
                yield block.bytes()
        except RuntimeError as error:
            raise read_engine_error(str(error)) from None
        finally:
            blocks.close()

    def insert(self, head: bytes, input_format: str, data: bytes) -> StatementResult:
        """Run an INSERT (`head` is the text before FORMAT) over data in an input format."""
        try:
            with self._chdb.send_insert(_as_text(head), input_format) as inserter:
                if data:
                    inserter.append(data)
                result = inserter.finish()
        except RuntimeError as error:
            raise read_engine_error(str(error)) from None
        return StatementResult(b"", written_rows=result.rows_written, written_bytes=result.bytes_written)

    def read_names_and_types(
        self, text: bytes, parameters: Mapping[str, str] | None = None
    ) -> tuple[tuple[str, str], ...]:
        """Return the columns a SELECT would answer with, without running it."""
        described = json.loads(self.query(b"DESCRIBE (" + text + b"\n)", "JSONCompact", parameters).body)
        return tuple((row[0], row[1]) for row in described["data"])

    def classify(self, text: bytes) -> str:
        """Name what a statement does: READ_ONLY, MUTATING, CONTROL (session state) or what else the engine says."""
        reported = self._chdb._conn.classify_query(_as_text(text))
        return str(reported["query_class"].name)

    def watch_progress(self, report: Callable[[Any], None] | None) -> None:
        """Call `report` with the engine's progress while a statement runs."""
        self._chdb.set_progress_callback(report)

    def recover(self) -> None:
        """Clear what a failed query left in the output buffer, so that the connection can be used again."""
        for _ in range(3):
            if self.query(b"SELECT 1", "TabSeparated").body == b"1\n":
                return
        raise EngineError(1002, "Code: 1002. DB::Exception: The connection did not recover. (UNKNOWN_EXCEPTION)")

    def close(self) -> None:
        """Free the connection with its temporary tables and settings."""
        self._chdb.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Engine:
    """The engine behind a path. `version` and `timezone` are what the server reports of itself."""

    def __init__(self, path: Path) -> None:
        """Open or create the path. Raises `PathLocked` where another process serves it, `OSError` where it cannot be
        written and `EngineError` where chDB cannot open it."""
        path.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock_path(path)
        folder = path.resolve()
        self._connection_string = f"{folder}?config-file={write_access_rules(folder)}"
        try:
            # This one stays open: chDB closes the engine with its last connection.
            self._anchor = Connection(self._connection_string)
            self._demand_access_rules()
            self._anchor.query(f"CREATE DATABASE IF NOT EXISTS {HOME_DATABASE}".encode(), "TabSeparated")
            version, timezone = (
                self._anchor.query(b"SELECT version(), timezone()", "TabSeparated").body.decode().split()
            )
        except EngineError:
            os.close(self._lock)
            raise
        self.version = version
        self.timezone = timezone

    def connect(self) -> Connection:
        """Open a connection in the home database with default settings."""
        connection = Connection(self._connection_string)
        connection.query(f"USE {HOME_DATABASE}".encode(), "TabSeparated")
        return connection

    def close(self) -> None:
        """Close the engine and let go of the path. Other connections must be closed before."""
        self._anchor.close()
        os.close(self._lock)

    def _demand_access_rules(self) -> None:
        # chDB grants everything where it does not find its rules.
        grants = self._anchor.query(b"SHOW GRANTS", "TabSeparatedRaw").body.decode()
        if "SOURCES" in grants or "TABLE ENGINE ON *" in grants:
            raise EngineError(ACCESS_DENIED, "the engine did not take the access rules; reinstall chdb 4.4")

    @staticmethod
    def _lock_path(path: Path) -> int:
        lock_file = path / _LOCK_FILE
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip() or "unknown"
            os.close(descriptor)
            raise PathLocked(
                f"{path} is served by another process (pid {holder}); stop it or choose another --path"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor


def _as_text(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text
