"""The store on the server of docker-compose.yml, in a container: what the embedded server cannot show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from libs.bus.api import Record
from libs.store import AccessRefused, Store
from libs.store.batches import build_batch
from libs.store.tables import EVENT_TABLES
from libs.wire import encode
from tests.contract.store.events import FULL_EVENTS, without_optionals
from tests.contract.store.test_store import NOW_MS, TOPIC, a_row, expected_columns, read_back
from tests.kit.clickhouse import ClickHouseContainer, NoClickHouse, a_clickhouse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server() -> Iterator[ClickHouseContainer]:
    try:
        with a_clickhouse() as running:
            print(f"tests use ClickHouse at {running.url} (testcontainers, {running.image})")
            yield running
    except NoClickHouse as reason:
        pytest.skip(str(reason))


def test_every_event_is_kept_exactly_once_and_read_back(server: ClickHouseContainer) -> None:
    with server.store("perpflow") as store:
        assert store.migrate()
        assert store.migrate() == ()
        written = [each for event in FULL_EVENTS for each in (event, without_optionals(event))]
        rows = [a_row(event, offset) for offset, event in enumerate(written)]
        for _ in range(2):
            store.insert(TOPIC, rows)
        assert store.count_rows() == {TOPIC: len(rows)}
        by_table: dict[str, list[tuple[int, object]]] = {}
        for offset, event in enumerate(written):
            by_table.setdefault(EVENT_TABLES[type(event)].name, []).append((offset, event))
        for table, members in by_table.items():
            kept = read_back(store, table)
            assert [row["offset"] for row in kept] == [offset for offset, _ in members], table
            for row, (_, event) in zip(kept, members, strict=True):
                for name, value in expected_columns(event):
                    assert row[name] == value, (table, name)


def test_what_the_recorder_builds_of_records_is_taken(server: ClickHouseContainer) -> None:
    with server.store("batches") as store:
        store.migrate()
        topics, undecodable = Counter[str](), Counter[str]()
        for event in FULL_EVENTS:
            encoded = encode(event)
            record = Record(encoded.topic, 0, topics[encoded.topic], encoded.key, encoded.payload, {}, NOW_MS)
            topics[encoded.topic] += 1
            batch = build_batch(encoded.topic, [record])
            assert store.insert_batch(batch) == 1
            # Some of the examples are no values of a market.
            undecodable[encoded.topic] += len(batch.undecodable)
        assert store.count_rows() == dict(topics)
        assert store.count_undecodable() == +undecodable
        assert undecodable.total() < len(FULL_EVENTS) // 2


def test_another_password_is_refused(server: ClickHouseContainer) -> None:
    with Store(server.url, user=server.user, password="not-it") as store, pytest.raises(AccessRefused):
        store.migrate()
