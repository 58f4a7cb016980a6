"""HTTP sessions: what SET, USE and CREATE TEMPORARY TABLE leave behind for later requests with the same session_id.

A session owns a connection only from its first statement that leaves something behind; until then its requests run on
fresh ones like any other. One request at a time may use a session, as on a real server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from time import monotonic

from infra.local.clickhouse.engine import Connection
from infra.local.clickhouse.errors import INVALID_SESSION_TIMEOUT, SESSION_IS_LOCKED, SESSION_NOT_FOUND, refuse
from infra.local.clickhouse.text import quote, quote_name

DEFAULT_TIMEOUT_S = 60
MAX_TIMEOUT_S = 3600


class ClickHouseSession:
    """One session; `connection` and `database` are None while it has no state."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.connection: Connection | None = None
        self.database: str | None = None
        self.timeout_s = DEFAULT_TIMEOUT_S
        self.last_used = monotonic()
        self.is_busy = False

    def close(self) -> None:
        """Drop what the session holds."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class ClickHouseSessions:
    """The open sessions by id; expired ones are dropped whenever the table is used."""

    def __init__(self) -> None:
        self._sessions: dict[str, ClickHouseSession] = {}
        self._lock = threading.Lock()

    def acquire(self, session_id: str, timeout: str | None, must_exist: bool) -> ClickHouseSession:
        """Take a session for one request. Raises `EngineError` 372, 373 or 374 as a ClickHouse server does."""
        timeout_s = _read_timeout(timeout)
        with self._lock:
            self._drop_expired()
            session = self._sessions.get(session_id)
            if session is None:
                if must_exist:
                    raise refuse(SESSION_NOT_FOUND, f"Session {session_id} not found")
                session = self._sessions[session_id] = ClickHouseSession(session_id)
            if session.is_busy:
                raise refuse(SESSION_IS_LOCKED, f"Session {session_id} is locked by a concurrent client")
            session.is_busy = True
            session.timeout_s = timeout_s
            return session

    def release(self, session: ClickHouseSession) -> None:
        """Give a session back."""
        with self._lock:
            session.is_busy = False
            session.last_used = monotonic()

    def close(self) -> None:
        """Drop all sessions that no request holds."""
        with self._lock:
            for session in self._sessions.values():
                if not session.is_busy:
                    session.close()
            self._sessions.clear()

    def _drop_expired(self) -> None:
        now = monotonic()
        for session_id, session in list(self._sessions.items()):
            if not session.is_busy and now - session.last_used > session.timeout_s:
                session.close()
                del self._sessions[session_id]


class BorrowedSettings:
    """Settings of one request on a connection that outlives it: applied on entry, put back on exit."""

    def __init__(self, connection: Connection, settings: Mapping[str, str]) -> None:
        self._connection = connection
        self._settings = settings
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        if not self._settings:
            return
        names = ", ".join(quote(name) for name in self._settings)
        text = f"SELECT name, value FROM system.settings WHERE changed AND name IN ({names})"
        answer = json.loads(self._connection.query(text.encode(), "JSONCompact").body)
        changed = dict(answer["data"])
        self._before = {name: changed.get(name) for name in self._settings}
        apply_settings(self._connection, self._settings)

    def __exit__(self, *_: object) -> None:
        if self._before:
            assignments = (
                f"{quote_name(name)} = {'DEFAULT' if value is None else quote(value)}"
                for name, value in self._before.items()
            )
            self._connection.query(f"SET {', '.join(assignments)}".encode(), "TabSeparated")


def apply_settings(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set settings on a connection. Raises `EngineError` for an unknown name or a bad value."""
    if settings:
        assignments = ", ".join(f"{quote_name(name)} = {quote(value)}" for name, value in settings.items())
        connection.query(f"SET {assignments}".encode(), "TabSeparated")


def _read_timeout(text: str | None) -> int:
    if text is None:
        return DEFAULT_TIMEOUT_S
    if not text.isdigit():
        raise refuse(INVALID_SESSION_TIMEOUT, f"Invalid session timeout: '{text}'")
    if int(text) > MAX_TIMEOUT_S:
        raise refuse(
            INVALID_SESSION_TIMEOUT, f"Session timeout '{text}' is larger than max_session_timeout: {MAX_TIMEOUT_S}"
        )
    return int(text)
