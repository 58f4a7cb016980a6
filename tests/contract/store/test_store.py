"""The store on a server: every event in and out, written twice, counted once, expired, migrated."""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest

from libs.bus.api import Record
from libs.domain.accounts import AccountState
from libs.domain.features import FeatureVector
from libs.domain.numbers import from_e8
from libs.domain.orders import CancelOrder, OrderApproved, OrderRefused, PlaceOrder
from libs.store import AccessRefused, MigrationMismatch, Store, StoredRow, StoreError, StoreUnavailable, Undecodable
from libs.store.batches import build_batch
from libs.store.migrations import load_migrations
from libs.store.tables import EVENT_TABLES, TABLES, table_of
from libs.wire import encode
from libs.wire.records import DeadLetter, InputRun, JournalEntry
from libs.wire.topics import TOPICS
from tests.contract.store.events import ACCOUNT, AT, BAR, FULL_EVENTS, without_optionals
from tests.contract.store.local_server import LocalServer

NOW_MS = time.time_ns() // 1_000_000
TOPIC = "market.events.v1"
DERIVED = {
    *("final_bars", "final_bars_made", "final_bars_revised", "bars_1m", "bars_1h", "daily_statistics"),
    *("feature_sets", "features", "gap_states"),
}


def a_row(event: Any, offset: int = 0, partition: int = 0, append_time_ms: int = NOW_MS) -> StoredRow:
    return StoredRow(partition, offset, b"key", append_time_ms, event)


def read_back(store: Store, table: str) -> list[dict[str, Any]]:
    """Read whole rows with times in ns."""
    kinds = store.query(
        "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {table:String}",
        {"table": table},
    )
    selected = ", ".join(
        f"toUnixTimestamp64Nano({kind['name']}) AS {kind['name']}" if "DateTime64(9" in kind["type"] else kind["name"]
        for kind in kinds
    )
    return [dict(row) for row in store.query(f"SELECT {selected} FROM {table} FINAL ORDER BY offset")]


def as_stored(value: Any) -> Any:
    """What a domain value looks like in ClickHouse."""
    if isinstance(value, IntEnum):
        return value.name.lower()
    if isinstance(value, tuple):
        return [as_stored(member) for member in value]
    return value


def expected_columns(event: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name.endswith("_e8"):
            scaled = (
                [from_e8(v) for v in value] if isinstance(value, tuple) else None if value is None else from_e8(value)
            )
            yield field.name.removesuffix("_e8"), scaled
        elif field.name == "packed":
            yield "feature_values", FeatureVector.values.fget(event).tolist()  # type: ignore[attr-defined]
        elif field.name == "checks":
            yield "check_names", [check.name for check in value]
            yield "check_passed", [check.has_passed for check in value]
            yield "check_values", [check.value for check in value]
            yield "check_limits", [check.limit for check in value]
        elif field.name == "positions":
            for part in fields(value[0]) if value else ():
                yield f"position_{part.name}", [getattr(position, part.name) for position in value]
        elif field.name == "intent":
            for part in fields(value):
                if not hasattr(event, part.name):
                    yield part.name, as_stored(getattr(value, part.name))
        elif value is None and field.name == "liquidity":
            yield field.name, ""
        else:
            yield field.name, as_stored(value)


@pytest.mark.parametrize("event", FULL_EVENTS, ids=lambda event: type(event).__name__)
def test_event_of_every_kind_is_read_back_exactly(store: Store, event: Any) -> None:
    bare = without_optionals(event)
    store.insert(TOPIC, [a_row(event, 0), a_row(bare, 1)])
    rows = read_back(store, EVENT_TABLES[type(event)].name)
    assert len(rows) == 2
    for row, written in zip(rows, (event, bare), strict=True):
        for name, value in expected_columns(written):
            assert row[name] == value, name


def test_every_kind_of_event_was_tried() -> None:
    assert {type(event) for event in FULL_EVENTS} == set(EVENT_TABLES) - {JournalEntry, DeadLetter}


def test_verdicts_and_commands_of_both_kinds_share_a_batch(store: Store) -> None:
    members = [event for event in FULL_EVENTS if isinstance(event, OrderApproved | OrderRefused)]
    commands = [event for event in FULL_EVENTS if isinstance(event, PlaceOrder | CancelOrder)]
    store.insert("risk.verdicts.v1", [a_row(event, offset) for offset, event in enumerate(members)])
    store.insert("execution.commands.v1", [a_row(event, offset) for offset, event in enumerate(commands)])
    verdicts, sent = read_back(store, "verdicts"), read_back(store, "order_commands")
    assert [(row["verdict"], row["origin"], row["reasons"]) for row in verdicts] == [
        ("approved", "risk", []),
        ("refused", "", ["too big", "too late"]),
    ]
    assert [(row["command"], row["quantity"], row["side"]) for row in sent] == [
        ("place", Decimal("0.1"), "sell"),
        ("cancel", None, ""),
    ]


def test_missing_features_stay_nan(store: Store) -> None:
    vector = next(event for event in FULL_EVENTS if isinstance(event, FeatureVector))
    store.insert("features.vectors.v1", [a_row(replace(vector, packed=struct.pack("<2d", math.nan, 1.0)))])
    values = read_back(store, "feature_vectors")[0]["feature_values"]
    assert math.isnan(values[0])
    assert values[1] == 1.0


def test_shells_own_messages_are_kept(store: Store) -> None:
    entry = JournalEntry("risk", (InputRun("a.v1", 0, 5, 9), InputRun("b.v1", 1, 0, 2)))
    letter = DeadLetter("bars", "no such field", TOPIC, 0, 77, b"k\xff", b"\x00\xffpayload")
    store.insert("journal.risk.v1", [a_row(entry)])
    store.insert(f"dead.{TOPIC}", [a_row(letter)])
    assert read_back(store, "journal_entries")[0]["run_next_offset"] == [9, 2]
    dead = store.query("SELECT reason, hex(payload) AS payload, source_offset FROM dead_letters FINAL")[0]
    assert dead == {"reason": "no such field", "payload": b"\x00\xffpayload".hex().upper(), "source_offset": 77}
    # A chain could not handle what it was about to append.
    store.insert(f"dead.{TOPIC}", [a_row(replace(letter, source_offset=-1), offset=1)])
    assert store.query("SELECT source_offset FROM dead_letters FINAL WHERE offset = 1")[0] == {"source_offset": 0}
    assert store.count_rows() == {"journal.risk.v1": 1, f"dead.{TOPIC}": 2}


def test_undecodable_payloads_are_kept_raw_and_counted(store: Store) -> None:
    store.insert(TOPIC, [a_row(Undecodable(b"\xff\x00", "not a MarketEvent"), 0), a_row(FULL_EVENTS[0], 1)])
    assert store.count_undecodable() == {TOPIC: 1}
    assert store.count_rows() == {TOPIC: 2}


def test_redelivered_batch_changes_nothing(store: Store) -> None:
    market = [event for event in FULL_EVENTS if type(event).__module__ == "libs.domain.market"]
    rows = [a_row(event, offset) for offset, event in enumerate(market)]
    for _ in range(3):
        store.insert(TOPIC, rows)
    store.insert(TOPIC, rows[3:7])
    assert store.count_rows() == {TOPIC: len(rows)}
    assert store.query("SELECT count() AS n FROM market_events")[0] == {"n": len(rows)}
    for row in rows:
        table = table_of(TOPIC, row.event).name
        assert len(store.find(table, event_id=row.event.event_id)) == 1


def test_a_batch_of_payloads_comes_into_the_tables_of_its_kinds(store: Store) -> None:
    market = [event for event in FULL_EVENTS if type(event).__module__ == "libs.domain.market"]
    payloads = [*(encode(event).payload for event in market), b"\xff"]
    batch = build_batch(
        TOPIC, [Record(TOPIC, 0, offset, b"key", payload, {}, NOW_MS) for offset, payload in enumerate(payloads)]
    )
    for _ in range(2):
        assert store.insert_batch(batch) == len(payloads)
    assert store.count_rows() == {TOPIC: len(payloads)}
    # Some of the examples are no values of a market.
    assert store.count_undecodable() == {TOPIC: len(batch.undecodable)}
    assert batch.undecodable[-1][1] == len(market)
    assert len(batch.tables) > 3
    (counted,) = store.query("SELECT count() AS n FROM market_events")
    assert counted == {"n": len(payloads) - len(batch.undecodable)}
    refused = replace(batch, tables=(*batch.tables[:1], ("no_such_table", batch.tables[1][1])))
    with pytest.raises(StoreError, match="no_such_table"):
        store.insert_batch(refused)


def test_equal_events_at_different_offsets_are_different_records(store: Store) -> None:
    trade = FULL_EVENTS[0]
    store.insert(TOPIC, [a_row(trade, 0, 0), a_row(trade, 1, 0), a_row(trade, 0, 1)])
    assert store.count_rows() == {TOPIC: 3}


def test_records_are_counted_from_the_offsets_that_a_topic_still_holds(store: Store) -> None:
    trade = FULL_EVENTS[0]
    store.insert(TOPIC, [a_row(trade, offset, partition) for partition in (0, 1) for offset in range(10)])
    store.insert("journal.risk.v1", [a_row(JournalEntry("risk", (InputRun("a", 0, 1, 2),)), 4)])
    assert store.count_rows({f"{TOPIC}/0": 7, f"{TOPIC}/1": 10}) == {TOPIC: 3, "journal.risk.v1": 1}
    assert store.count_rows({"journal.risk.v1/0": 5}) == {TOPIC: 20}


def test_old_market_recorded_today_does_not_expire_but_old_records_do(server: LocalServer, store: Store) -> None:
    year_ms = 365 * 86_400_000
    recorded_today = replace(FULL_EVENTS[0], event_time=0)
    store.insert(TOPIC, [a_row(recorded_today, 0), a_row(FULL_EVENTS[0], 1, append_time_ms=NOW_MS - 2 * year_ms)])
    with server.client(database=store.database) as client:
        # Expiry is the work of merges, which come when they come.
        client.command("OPTIMIZE TABLE trades FINAL")
    with_ttl = store.query(
        "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine_full LIKE '%TTL%'"
    )
    assert {"trades", "depth_deltas", "feature_vectors"} <= {row["name"] for row in with_ttl}
    assert {"order_events", "account_states", "verdicts"}.isdisjoint({row["name"] for row in with_ttl})
    assert [row["offset"] for row in read_back(store, "trades")] == [0]


def test_tables_have_the_columns_that_the_writer_fills(store: Store) -> None:
    made: dict[str, set[str]] = {}
    for row in store.query("SELECT table, name FROM system.columns WHERE database = currentDatabase()"):
        made.setdefault(row["table"], set()).add(row["name"])
    for table in TABLES.values():
        filled = {"topic", "partition", "offset", "key", "append_time", *(column.name for column in table.columns)}
        assert made[table.name] == filled
    # Snapshots were recorded once; their table stays in databases that have it.
    assert set(TABLES) == set(made) - {"schema_migrations", "market_events", "fills", "core_snapshots"} - DERIVED


def test_columns_and_tables_declared_later_are_added_to_a_database_that_lacks_them(
    server: LocalServer, fresh_store: Store
) -> None:
    with server.client(database=fresh_store.database) as client:
        client.command("ALTER TABLE alerts DROP COLUMN message")
        client.command("DROP TABLE trades")
    assert fresh_store.migrate() == ()
    alert = next(event for event in FULL_EVENTS if type(event).__name__ == "Alert")
    fresh_store.insert("ops.alerts.v1", [a_row(alert)])
    fresh_store.insert(TOPIC, [a_row(FULL_EVENTS[0])])
    assert read_back(fresh_store, "alerts")[0]["message"] == alert.message
    assert fresh_store.query("SELECT count() AS n FROM market_events")[0] == {"n": 1}


def test_a_column_of_another_type_is_refused(server: LocalServer, fresh_store: Store) -> None:
    with server.client(database=fresh_store.database) as client:
        client.command("ALTER TABLE alerts MODIFY COLUMN message Int64")
    with pytest.raises(MigrationMismatch, match="column message of alerts is Int64 where this version writes String"):
        fresh_store.migrate()


def test_bars_come_back_oldest_first_once_each_and_within_bounds(store: Store) -> None:
    minute = 60_000_000_000
    bars = [
        replace(BAR, event_id=f"b/{n}", open_time=n * minute, close_time=(n + 1) * minute, event_time=(n + 1) * minute)
        for n in range(10)
    ]
    rows = [a_row(bar, offset) for offset, bar in enumerate(bars)]
    store.insert("bars.closed.v1", [*rows, a_row(bars[3], 99), a_row(replace(BAR, timeframe="5m"), 100)])
    assert store.bars(BAR.instrument, "1m") == tuple(bars)
    assert store.bars(BAR.instrument, "1m", begin=2 * minute, end=5 * minute) == tuple(bars[2:5])
    assert store.bars(BAR.instrument, "1m", limit=3) == tuple(bars[-3:])
    assert store.bars("ETHUSDT.BINANCE", "1m") == ()


def test_latest_equity_is_in_order_of_sequence(store: Store) -> None:
    states: list[AccountState] = [replace(ACCOUNT, sequence=n, equity=Decimal(n)) for n in range(1, 6)]
    store.insert("execution.accounts.v1", [a_row(state, offset) for offset, state in enumerate(states)])
    points = store.latest_equity("main", limit=3)
    assert [(point.sequence, point.equity, point.event_time) for point in points] == [
        (3, Decimal(3), AT),
        (4, Decimal(4), AT),
        (5, Decimal(5), AT),
    ]


def test_fills_view_shows_fills_only(store: Store) -> None:
    filled = next(event for event in FULL_EVENTS if type(event).__name__ == "OrderEvent")
    store.insert("execution.orders.v1", [a_row(filled, 0), a_row(without_optionals(filled), 1)])
    assert [row["quantity"] for row in store.query("SELECT quantity FROM fills")] == [Decimal("0.1")]


def test_find_refuses_unknown_tables_and_empty_conditions(store: Store) -> None:
    with pytest.raises(StoreError, match="unknown table 'users'"):
        store.find("users", event_id="x")
    with pytest.raises(StoreError, match="at least one condition"):
        store.find("trades")


def test_migrating_again_does_nothing(store: Store) -> None:
    assert store.migrate() == ()
    applied = store.query("SELECT version, checksum FROM schema_migrations FINAL ORDER BY version")
    assert [(row["version"], row["checksum"]) for row in applied] == [
        (migration.version, migration.checksum) for migration in load_migrations()
    ]


def test_changed_migration_is_refused(server: LocalServer, fresh_store: Store) -> None:
    with server.client(database=fresh_store.database) as client:
        client.command("INSERT INTO schema_migrations (version, name, checksum) VALUES (2, 'signals', 'other')")
    with pytest.raises(MigrationMismatch, match=r"0002_signals\.sql was changed after it was applied"):
        fresh_store.migrate()


def test_newer_database_is_refused(server: LocalServer, fresh_store: Store) -> None:
    with server.client(database=fresh_store.database) as client:
        client.command("INSERT INTO schema_migrations (version, name, checksum) VALUES (99, 'future', 'x')")
    with pytest.raises(MigrationMismatch, match="newer than this version: it has 0099_future"):
        fresh_store.migrate()


def test_interrupted_migration_is_taken_up_again(server: LocalServer, fresh_store: Store) -> None:
    with server.client(database=fresh_store.database) as client:
        client.command("DELETE FROM schema_migrations WHERE version > 3")
        client.command("DROP TABLE core_snapshots")
    later = tuple(migration.version for migration in load_migrations() if migration.version > 3)
    assert fresh_store.migrate() == later
    assert read_back(fresh_store, "core_snapshots") == []


def test_missing_database_is_named(server: LocalServer) -> None:
    with server.store("never_made") as store, pytest.raises(StoreError, match="never_made"):
        store.count_rows()


def test_dead_server_is_unavailable_and_a_later_one_is_used(server: LocalServer, database: str) -> None:
    with Store("http://127.0.0.1:1", database, connect_timeout_s=1) as store:
        assert not store.is_reachable()
        with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:1 does not answer"):
            store.migrate()
    with server.store(database) as store:
        assert store.is_reachable()


@pytest.mark.parametrize("url", ["127.0.0.1:8123", "tcp://x:1", "http://"])
def test_bad_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(StoreError, match="is not of the form http://HOST:PORT"):
        Store(url)


def test_bad_database_name_is_refused() -> None:
    with pytest.raises(StoreError, match="letters, digits and underscores"):
        Store("http://127.0.0.1:1", "drop table;")


@dataclass(frozen=True)
class Stranger:
    event_id: str = "x"


def test_event_that_no_table_keeps_is_refused_by_name(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no table keeps Stranger of topic 'market\.events\.v1'"):
        store.insert(TOPIC, [a_row(Stranger())])


@pytest.mark.parametrize("password", ["hunter2", "hunter2/x", "hunter2#x", "p@hunter2", "hunter2?a=1"])
def test_user_and_password_in_the_address_are_refused_without_being_shown(password: str) -> None:
    with pytest.raises(StoreError, match="PERPFLOW_CLICKHOUSE_PASSWORD") as caught:
        Store(f"http://someone:{password}@127.0.0.1:1")
    assert "hunter2" not in str(caught.value)
    with Store("http://127.0.0.1:1", user="someone", password=password, connect_timeout_s=1) as store:
        with pytest.raises(StoreUnavailable) as unreachable:
            store.count_rows()
        assert "hunter2" not in str(unreachable.value)


@pytest.mark.parametrize("password", ["wrong", "a/b#c?d@e:f%67 \"'\\"])
def test_wrong_password_is_refused_by_the_name_of_its_setting(server: LocalServer, password: str) -> None:
    refusal = "correct PERPFLOW_CLICKHOUSE_USER and PERPFLOW_CLICKHOUSE_PASSWORD"
    with Store(server.url, user="perpflow", password=password) as store, pytest.raises(AccessRefused, match=refusal):
        store.count_rows()


def test_query_takes_server_side_parameters(store: Store) -> None:
    row: Mapping[str, Any] = store.query("SELECT {a:String} AS a", {"a": "it's"})[0]
    assert row == {"a": "it's"}


@pytest.mark.parametrize("page_rows", [1, 1000])
def test_market_is_read_back_as_it_was_recorded(store: Store, page_rows: int) -> None:
    kinds = {each.type for each in TOPICS[TOPIC].carries}
    whole = [event for event in FULL_EVENTS if type(event) in kinds]
    instrument = whole[0].instrument
    events = [replace(event, instrument=instrument) for event in (*whole, *map(without_optionals, reversed(whole)))]
    store.insert(TOPIC, [a_row(event, 2 * offset) for offset, event in enumerate(events)])
    store.insert(TOPIC, [a_row(event, 2 * offset) for offset, event in enumerate(events)])
    store.insert(TOPIC, [a_row(replace(whole[0], instrument="OTHER.VENUE"), 1)])
    assert list(store.market(instrument, page_rows=page_rows)) == events
    assert list(store.market("ABSENT.VENUE")) == []
