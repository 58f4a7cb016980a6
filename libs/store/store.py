"""The store: writes records into ClickHouse and answers what pages, backfills and traces ask. clickhouse-connect only.

A record is identified by (topic, partition, offset), so that writing it again changes nothing; all reads use FINAL.
Opening a store connects to nothing: the first call does, and every call may raise `StoreUnavailable`. Threads may
share a store.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from urllib3.exceptions import HTTPError

from libs.domain.bars import Bar
from libs.domain.market import MarketEvent
from libs.store import derived, market, queries
from libs.store.errors import AccessRefused, StoreError, StoreUnavailable
from libs.store.migrations import Applied, Migration, apply_migrations, load_migrations
from libs.store.tables import TABLES, StoredRow, Table, complete_statements, market_view, table_of

if TYPE_CHECKING:
    from libs.store.batches import Batch

_DATABASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Timeouts, too many queries, network, memory, disk full, too many parts, read-only disk: they pass or are fixed.
# Unknown user, wrong password, authentication failed.
_ACCESS_CODES = frozenset({192, 193, 194, 516})
_PASSING_CODES = frozenset({159, 202, 209, 210, 241, 243, 252})

# Tables of a batch that are written side by side: a write waits for its server most of the time.
_WRITERS = 3


class Store:
    """A database on a ClickHouse server. `url` is ``http[s]://host[:port]``; user and password are apart from it.

    `ca_file` is the PEM of the authority that signed the server's certificate, the system's where it is None.
    """

    def __init__(
        self,
        url: str,
        database: str = "perpflow",
        *,
        user: str = "default",
        password: str = "",
        connect_timeout_s: int = 5,
        timeout_s: int = 60,
        ca_file: Path | None = None,
    ) -> None:
        parts = _split_address(url)
        if ca_file is not None and parts.scheme != "https":
            raise StoreError(f"{ca_file} is of no use with {url}; give the address as https://HOST:PORT")
        if _DATABASE_NAME.fullmatch(database) is None:
            raise StoreError(f"database name {database!r} must be letters, digits and underscores")
        self.database = database
        self.address = f"{parts.scheme}://{parts.hostname}:{parts.port or (8443 if parts.scheme == 'https' else 8123)}"
        self._options: dict[str, Any] = {
            "interface": parts.scheme,
            "host": parts.hostname,
            "port": parts.port or 0,
            "username": user,
            "password": password,
            "connect_timeout": connect_timeout_s,
            "send_receive_timeout": timeout_s,
            # The system's authorities are believed, or the one of this file and no other.
            "ca_cert": None if ca_file is None else str(ca_file),
            # On one machine compression costs more than it saves.
            "compress": parts.hostname not in ("127.0.0.1", "localhost", "::1"),
            # Sessions would allow one query at a time; the store keeps none.
            "autogenerate_session_id": False,
        }
        self._client: Client | None = None
        self._writers: ThreadPoolExecutor | None = None
        self._connecting = threading.Lock()
        # The driver also logs what it raises; every error reaches the caller translated.
        logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

    def migrate(self) -> tuple[int, ...]:
        """Create the database and bring its tables to this version; returns the migrations applied now.

        Numbered files come first; then tables and columns of messages declared since are added.
        Raises `MigrationMismatch` where the database was made by something else.
        """
        with self._translated() as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{self.database}`", use_database=False)
            client.database = self.database
            applied = apply_migrations(_Target(client), load_migrations())
            made = self._made_columns(client)
            has_event_id = [table.name for table in TABLES.values() if table.has_event_id]
            statements = [
                *complete_statements(made),
                *derived.index_statements(has_event_id, self._indexed(client)),
                market_view(),
                *derived.table_statements(made),
                *derived.view_statements(),
            ]
            for statement in statements:
                client.command(statement)
            names = ["schema_hash", "feature_set", "names"]
            client.insert(derived.FEATURE_SETS, derived.feature_set_rows(), column_names=names)
            return applied

    def _indexed(self, client: Client) -> set[str]:
        text = "SELECT table FROM system.data_skipping_indices WHERE database = {database:String}"
        return {table for (table,) in client.query(text, parameters={"database": self.database}).result_rows}

    def _made_columns(self, client: Client) -> dict[str, dict[str, str]]:
        made: dict[str, dict[str, str]] = {}
        text = "SELECT table, name, type FROM system.columns WHERE database = {database:String}"
        for table, name, kind in client.query(text, parameters={"database": self.database}).result_rows:
            made.setdefault(table, {})[name] = kind
        return made

    def insert(self, topic: str, rows: Sequence[StoredRow]) -> int:
        """Write records of one topic, one batch per table; returns how many. Writing them again changes nothing."""
        by_table: dict[str, tuple[Table, list[StoredRow]]] = {}
        for row in rows:
            table = table_of(topic, row.event)
            by_table.setdefault(table.name, (table, []))[1].append(row)
        for table, members in by_table.values():
            self._insert(table.name, table.arrow(topic, members))
        return len(rows)

    def insert_batch(self, batch: Batch) -> int:
        """Write a batch, its tables side by side; returns how many rows, all of them acknowledged.

        Writing it again changes nothing, so what a table took before another's failed is no harm.
        """
        if len(batch.tables) == 1:
            self._insert(*batch.tables[0])
            return batch.row_count
        if self._writers is None:
            self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="store")
        writes = [self._writers.submit(self._insert, table, arrow) for table, arrow in batch.tables]
        wait(writes)
        for write in writes:
            write.result()
        return batch.row_count

    def _insert(self, table: str, arrow: Any) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, arrow.schema) as writer:
            writer.write_table(arrow)
        with self._translated() as client:
            client.raw_insert(
                f"`{self.database}`.`{table}`", arrow.schema.names, sink.getvalue().to_pybytes(), fmt="ArrowStream"
            )

    def count_rows(self, begins: Mapping[str, int] | None = None) -> dict[str, int]:
        """Count the distinct records of every topic that has any, whatever table keeps them.

        With `begins`, by TOPIC/PARTITION, only those from these offsets on: what the topics still hold.
        """
        return self._count(tuple(TABLES), begins or {})

    def _count(self, tables: Sequence[str], begins: Mapping[str, int]) -> dict[str, int]:
        with self._translated() as client:
            parameters = {"places": list(begins), "begins": list(begins.values())}
            result = client.query(queries.count_rows(self.database, tables), parameters=parameters)
        return dict(result.result_rows)

    def count_undecodable(self) -> dict[str, int]:
        """Count the records per topic that could not be decoded; `count_rows` includes them."""
        return self._count(("undecodable",), {})

    def bars(
        self,
        instrument: str,
        timeframe: str,
        *,
        begin: int | None = None,
        end: int | None = None,
        limit: int | None = None,
    ) -> tuple[Bar, ...]:
        """Return bars with open times in [begin, end) ns, oldest first; with `limit` the latest so many."""
        parameters = {"instrument": instrument, "timeframe": timeframe, "begin": begin, "end": end, "limit": limit}
        with self._translated() as client:
            return queries.read_bars(client, self.database, parameters)

    def market(self, instrument: str, *, page_rows: int = 50_000) -> Iterator[MarketEvent]:
        """Yield an instrument's market events as they were recorded, in the order of their topic.

        Read in pages of so many rows of each kind, so that memory stays flat however long the market is.
        """
        return market.read_market(self.query, instrument, page_rows)

    def latest_equity(self, account: str, limit: int = 500) -> tuple[queries.EquityPoint, ...]:
        """Return the last states of an account, oldest first."""
        with self._translated() as client:
            return queries.read_equity(client, self.database, account, limit)

    def find(self, table: str, **conditions: str) -> tuple[Mapping[str, Any], ...]:
        """Return the rows of a table whose columns equal the values given, in order of their append.

        This is how a trace walks from a fill back to its causes, by `event_id`, `intent_id`, `client_order_id`.
        """
        if table not in TABLES:
            raise StoreError(f"unknown table {table!r}; known: {', '.join(TABLES)}")
        with self._translated() as client:
            return queries.find_rows(client, self.database, table, conditions)

    def query(self, text: str, parameters: Mapping[str, Any] | None = None) -> tuple[Mapping[str, Any], ...]:
        """Run a SELECT in the store's database with server-side ``{name:Type}`` parameters; rows by column name."""
        with self._translated() as client:
            client.database = self.database
            return tuple(client.query(text, parameters=dict(parameters or {})).named_results())

    def export(self, text: str, output_format: str) -> Iterator[bytes]:
        """Run a SELECT in the store's database and yield its answer in a format of ClickHouse, as it comes."""
        with self._translated() as client:
            client.database = self.database
            with client.raw_stream(text, fmt=output_format) as answer:
                while piece := answer.read(1 << 20):
                    yield piece

    def is_reachable(self) -> bool:
        """Whether the server answers."""
        try:
            with self._translated() as client:
                return bool(client.ping())
        except StoreError:
            return False

    def close(self) -> None:
        """Let go of the connections."""
        if self._writers is not None:
            self._writers.shutdown()
            self._writers = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _translated(self) -> Iterator[Client]:
        """Lend the client, connecting first where need be, and turn the driver's errors into the store's."""
        try:
            with self._connecting:
                if self._client is None:
                    self._client = clickhouse_connect.get_client(**self._options)
                client = self._client
            yield client
        except (ClickHouseError, HTTPError, ConnectionError) as error:
            code = getattr(error, "code", None)
            if code in _ACCESS_CODES:
                raise AccessRefused(
                    f"ClickHouse at {self.address} refuses user {self._options['username']}: no such user or a wrong "
                    "password; correct PERPFLOW_CLICKHOUSE_USER and PERPFLOW_CLICKHOUSE_PASSWORD"
                ) from error
            if code in _PASSING_CODES:
                raise StoreUnavailable(f"ClickHouse at {self.address} cannot at the moment: {error}") from error
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise StoreError(
                    f"ClickHouse at {self.address} shows a certificate that is not to be trusted; name the file of the "
                    "authority that signed it in PERPFLOW_CLICKHOUSE_CA_FILE"
                ) from error
            if code is None and isinstance(error, OperationalError | HTTPError | ConnectionError):
                raise StoreUnavailable(
                    f"ClickHouse at {self.address} does not answer; start it or correct its address"
                ) from error
            raise StoreError(f"ClickHouse at {self.address} refused: {error}") from error


def _split_address(url: str) -> SplitResult:
    if "@" in url:
        raise StoreError(
            "the ClickHouse address holds a user or a password; give them as PERPFLOW_CLICKHOUSE_USER and "
            "PERPFLOW_CLICKHOUSE_PASSWORD, and the address as http://HOST:PORT"
        )
    try:
        parts = urlsplit(url)
        has_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_address = False
    if not has_address or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise StoreError(f"ClickHouse address {url!r} is not of the form http://HOST:PORT")
    return parts


class _Target:
    def __init__(self, client: Client) -> None:
        self._client = client

    def execute(self, statement: str) -> None:
        self._client.command(statement)

    def read_applied(self) -> Sequence[Applied]:
        rows = self._client.query("SELECT version, name, checksum FROM schema_migrations FINAL ORDER BY version")
        return [Applied(*row) for row in rows.result_rows]

    def write_applied(self, migration: Migration) -> None:
        self._client.insert(
            "schema_migrations",
            [[migration.version, migration.name, migration.checksum]],
            column_names=["version", "name", "checksum"],
        )
