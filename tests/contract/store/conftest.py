"""One server for all tests of the folder; databases are each test's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from libs.store import Store
from tests.contract.store.local_server import LocalServer

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    local = LocalServer(tmp_path_factory.mktemp("clickhouse")).start()
    yield local
    local.close()


@pytest.fixture
def database(server: LocalServer) -> Iterator[str]:
    name = f"test_{next(_NUMBERS)}"
    with server.client() as client:
        client.command(f"CREATE DATABASE {name}")
        yield name
        client.command(f"DROP DATABASE IF EXISTS {name}")


@pytest.fixture
def client(server: LocalServer, database: str) -> Iterator[Client]:
    with server.client(database=database) as connected:
        yield connected


@pytest.fixture
def fresh_store(server: LocalServer, database: str) -> Iterator[Store]:
    """A migrated database of the test's own, to be spoilt."""
    with server.store(database) as opened:
        opened.migrate()
        yield opened


@pytest.fixture(scope="session")
def shared_database(server: LocalServer) -> str:
    with server.store("shared") as opened:
        opened.migrate()
    return "shared"


@pytest.fixture
def store(server: LocalServer, shared_database: str) -> Iterator[Store]:
    """A migrated database, emptied: making one takes half a second."""
    with server.client(database=shared_database) as client:
        used = "SELECT DISTINCT table FROM system.parts WHERE active AND database = currentDatabase()"
        for (table,) in client.query(used).result_rows:
            if table not in ("schema_migrations", "feature_sets"):
                client.command(f"TRUNCATE TABLE {table}")
    with server.store(shared_database) as opened:
        yield opened
