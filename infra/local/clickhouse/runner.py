"""Runs one request's statement on the engine: database, settings, parameters, session, external tables, format."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

from infra.local.clickhouse.access import HOME_DATABASE
from infra.local.clickhouse.engine import Connection, Engine, StatementResult
from infra.local.clickhouse.errors import BAD_ARGUMENTS, READONLY, EngineError, refuse
from infra.local.clickhouse.policy import StatementPolicy, forbid_values_expressions
from infra.local.clickhouse.sessions import BorrowedSettings, ClickHouseSession, ClickHouseSessions, apply_settings
from infra.local.clickhouse.statements import Statement, parse_statement
from infra.local.clickhouse.text import quote_name

# Formats whose blocks may simply be sent one after the other; all others are made whole first.
_STREAMABLE = frozenset({"Native", "TabSeparated", "TSV", "CSV", "RowBinary", "JSONEachRow"})
_DEFAULT_FORMAT = "TabSeparated"


@dataclass(frozen=True, slots=True)
class ExternalTable:
    """A temporary table sent with a query; `structure` is what stands between the brackets of CREATE TABLE."""

    name: str
    structure: str
    input_format: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """What a request asks for, free of HTTP. With `is_read_only` (HTTP GET) nothing may be changed."""

    text: bytes
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    default_format: str = _DEFAULT_FORMAT
    external_tables: Sequence[ExternalTable] = ()
    is_read_only: bool = False
    wants_stream: bool = False
    session_id: str = ""
    session_timeout: str | None = None
    must_find_session: bool = False


@dataclass(slots=True)
class Answer:
    """What a statement returned: whole in `outcome`, or `blocks` to be sent as they come (close it to cancel).

    `output_format` is None for statements without a result.
    """

    output_format: str | None
    outcome: StatementResult
    blocks: Generator[bytes, None, None] | None = None


class Runner:
    """Runs queries on an engine; safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._policy = StatementPolicy(engine.connect)
        self._sessions = ClickHouseSessions()

    def run(self, query: Query, report_progress: Callable[[Any], None] | None = None) -> Answer:
        """Run a statement. Raises `EngineError`; an error behind the first block is raised by `Answer.blocks`."""
        statement = parse_statement(query.text)
        self._check(query, statement)
        with ExitStack() as stack:
            session = None
            if query.session_id:
                session = self._sessions.acquire(query.session_id, query.session_timeout, query.must_find_session)
                stack.callback(self._sessions.release, session)
            if session is not None and session.connection is not None:
                return self._run_in_session(query, statement, session, session.connection)
            connection = self._engine.connect()
            stack.callback(connection.close)
            keeps_state = session is not None and connection.classify(statement.head or query.text) == "CONTROL"
            if session is not None and keeps_state:
                answer = self._run_in_session(query, statement, session, connection)
                session.connection = connection
                stack.pop_all()
                self._sessions.release(session)
                return answer
            _use_database(connection, query.database)
            apply_settings(connection, query.settings)
            if report_progress is not None:
                connection.watch_progress(report_progress)
            _create_external_tables(connection, query.external_tables)
            output_format = _output_format(query, statement)
            if query.wants_stream and statement.is_select and output_format in _STREAMABLE:
                blocks = _blocks_of(connection, query, statement, output_format)
                stack.callback(blocks.close)
                first = next(blocks, b"")
                resumed = _resume(first, blocks, stack.pop_all())
                next(resumed)
                return Answer(output_format, StatementResult(b""), resumed)
            return Answer(output_format, _execute(connection, query, statement, output_format))

    def close(self) -> None:
        """Drop all sessions."""
        self._sessions.close()

    def _check(self, query: Query, statement: Statement) -> None:
        self._policy.check_settings(query.settings)
        text = statement.text if statement.input_format is None else statement.head_with_format
        verdict = self._policy.check(text.decode(errors="surrogateescape"))
        for table in query.external_tables:
            self._policy.check(_create_table(table))
        if query.is_read_only and not verdict.is_reading:
            raise refuse(
                READONLY,
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. "
                "You should use method POST for modifying queries",
            )

    def _run_in_session(
        self, query: Query, statement: Statement, session: ClickHouseSession, connection: Connection
    ) -> Answer:
        database = query.database or session.database or HOME_DATABASE
        _use_database(connection, database)
        # A SET must last, so nothing is put back behind it.
        settings = {} if statement.keyword == "SET" else query.settings
        output_format = _output_format(query, statement)
        try:
            with BorrowedSettings(connection, settings):
                _create_external_tables(connection, query.external_tables)
                outcome = _execute(connection, query, statement, output_format)
        except EngineError:
            connection.recover()
            raise
        finally:
            for table in query.external_tables:
                connection.query(f"DROP TEMPORARY TABLE IF EXISTS {quote_name(table.name)}".encode(), _DEFAULT_FORMAT)
        if statement.keyword == "USE":
            session.database = connection.query(b"SELECT currentDatabase()", "TabSeparatedRaw").body.decode().strip()
        return Answer(output_format, outcome)


def _execute(connection: Connection, query: Query, statement: Statement, output_format: str | None) -> StatementResult:
    if statement.input_format is not None:
        if query.parameters:
            # The engine's streaming insert takes no parameters; SET gives them to the statement all the same.
            apply_settings(connection, {f"param_{name}": value for name, value in query.parameters.items()})
        forbid_values_expressions(connection)
        return connection.insert(statement.head, statement.input_format, statement.data)
    outcome = connection.query(query.text, output_format or _DEFAULT_FORMAT, query.parameters)
    if output_format == "Native" and not outcome.body:
        return StatementResult(_empty_native_block(connection, query, statement), read_rows=outcome.read_rows)
    return outcome


def _blocks_of(
    connection: Connection, query: Query, statement: Statement, output_format: str
) -> Generator[bytes, None, None]:
    is_empty = True
    with closing(connection.stream(query.text, output_format, query.parameters)) as blocks:
        for block in blocks:
            is_empty = is_empty and not block
            yield block
    if is_empty and output_format == "Native":
        yield _empty_native_block(connection, query, statement)


def _resume(first: bytes, blocks: Generator[bytes, None, None], resources: ExitStack) -> Generator[bytes, None, None]:
    # The query must be cancelled before its connection is closed: the other way round chDB crashes.
    with resources:
        # The caller takes this one at once: a generator that never began would not free anything when closed.
        yield b""
        yield first
        yield from blocks


def _empty_native_block(connection: Connection, query: Query, statement: Statement) -> bytes:
    """chDB sends nothing for a Native result without rows; a server sends the columns' names and types."""
    if not statement.is_select:
        return b""
    columns = connection.read_names_and_types(statement.without_format, query.parameters)
    parts = [_variable_length(len(columns)), _variable_length(0)]
    for name, type_name in columns:
        for text in (name.encode(), type_name.encode()):
            parts += (_variable_length(len(text)), text)
    return b"".join(parts)


def _variable_length(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _output_format(query: Query, statement: Statement) -> str | None:
    return (statement.output_format or query.default_format) if statement.has_result else None


def _use_database(connection: Connection, database: str) -> None:
    if database:
        connection.query(f"USE {quote_name(database)}".encode(), _DEFAULT_FORMAT)


def _create_external_tables(connection: Connection, tables: Sequence[ExternalTable]) -> None:
    for table in tables:
        connection.query(_create_table(table).encode(), _DEFAULT_FORMAT)
        connection.insert(f"INSERT INTO {quote_name(table.name)}".encode(), table.input_format, table.data)


def _create_table(table: ExternalTable) -> str:
    if not table.structure:
        raise refuse(BAD_ARGUMENTS, f"External table {table.name} has neither structure nor types")
    return f"CREATE TEMPORARY TABLE {quote_name(table.name)} ({table.structure})"
