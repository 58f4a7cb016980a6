"""The embedded bus: topics, groups and transactions in one SQLite file that several processes share.

A transaction is collected in memory and written as one SQLite transaction at `commit`, so the writer lock is held for
microseconds and a process killed at any moment leaves either all of it or none. It does not reach across machines.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

from libs.bus.api import (
    NO_FOOTPRINT,
    Consumer,
    Footprint,
    NewRecord,
    Partitioner,
    ProducerFenced,
    Start,
    TopicPartition,
    TopicSpec,
    Waiting,
    hash_partition,
)
from libs.bus.checks import TransactionGuard, check_same_partitions, check_spec, foreign_consumer
from libs.bus.clients import OpenClients
from libs.bus.errors import past_the_end
from libs.bus.headers import encode_headers
from libs.bus.names import Names
from libs.bus.packing import RecordPacker
from libs.bus.sqlite_consumer import SqliteConsumer
from libs.bus.sqlite_log import SqliteLog
from libs.bus.wakeups import Notifier
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy

_CHUNK_ROWS = 5_000


class SqliteBus:
    """A bus in one file. `prefix` goes before every topic, group and transactional id; `max_bytes` bounds the file.

    Raises `BusError` for another kind of file, `BusUnavailable` where it cannot be opened, `BusFull` past the bound.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        prefix: str = "",
        max_bytes: int | None = None,
        waiting: Waiting = nullcontext,
        partitioner: Partitioner = hash_partition,
        clock: Clock = SYSTEM_CLOCK,
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._names = Names(prefix)
        self._partitioner = partitioner
        self._log = SqliteLog(
            Path(path), self._names, max_bytes=max_bytes, waiting=waiting, clock=clock, entropy=entropy
        )
        self._notifier = Notifier(self._log.wakeups, clock)
        self._open = OpenClients()
        self._is_closed = False

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        self._log.forget_topics()
        with self._log.writing() as database:
            for spec in specs:
                check_spec(spec)
                name = self._names.stored(spec.name)
                row = database.execute("SELECT partitions FROM topics WHERE name = ?", (name,)).fetchone()
                if row is None:
                    self._create(database, name, spec)
                else:
                    check_same_partitions(spec, row[0])

    def _create(self, database: sqlite3.Connection, name: str, spec: TopicSpec) -> None:
        topic_id = database.execute(
            # The two zeros were a policy once; the format of the file keeps their columns.
            "INSERT INTO topics (name, partitions, retention_ms, is_compacted) VALUES (?, ?, 0, 0)",
            (name, spec.partitions),
        ).lastrowid
        for number in range(spec.partitions):
            partition_id = database.execute(
                "INSERT INTO partitions (topic_id, number) VALUES (?, ?)", (topic_id, number)
            ).lastrowid
            database.execute(
                f"CREATE TABLE log_{partition_id} (offset INTEGER PRIMARY KEY, append_time_ms INTEGER NOT NULL, "
                "key BLOB NOT NULL, headers BLOB NOT NULL, value BLOB NOT NULL)"
            )

    def delete_topics(self, names: Iterable[str]) -> None:
        self._log.forget_topics()
        with self._log.writing() as database:
            for name in names:
                row = database.execute("SELECT id FROM topics WHERE name = ?", (self._names.stored(name),)).fetchone()
                if row is None:
                    continue
                for (partition_id,) in database.execute("SELECT id FROM partitions WHERE topic_id = ?", row).fetchall():
                    database.execute(f"DROP TABLE log_{partition_id}")
                    database.execute("DELETE FROM offsets WHERE partition_id = ?", (partition_id,))
                database.execute("DELETE FROM partitions WHERE topic_id = ?", row)
                database.execute("DELETE FROM topics WHERE id = ?", row)

    def topics(self) -> Mapping[str, int]:
        with self._log.errors():
            rows = self._log.connection.execute("SELECT name, partitions FROM topics ORDER BY name").fetchall()
        return {self._names.plain(name): partitions for name, partitions in rows if self._names.has(name)}

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None = None,
        member_id: str | None = None,
        start: Start = "earliest",
        subscribes: bool = True,
    ) -> SqliteConsumer:
        opened = SqliteConsumer(
            self._log,
            self._notifier,
            topics,
            group=group,
            member_id=member_id,
            start=start,
            subscribes=subscribes,
        )
        return self._open.add(opened)

    def producer(self, transactional_id: str, _footprint: Footprint = NO_FOOTPRINT, /) -> SqliteProducer:
        opened = SqliteProducer(self._log, self._notifier, transactional_id, self._partitioner)
        return self._open.add(opened)

    def beginning_offsets(self, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        with self._log.reading():
            return {each: self._log.head(self._log.partition_id(each)) for each in topic_partitions}

    def size_bytes(self) -> int:
        """Return how much of the file is in use; what was removed makes room for what comes."""
        with self._log.reading() as database:
            pages, unused, page_bytes = (
                database.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - unused) * page_bytes)

    def end_offsets(
        self,
        topic_partitions: Iterable[TopicPartition],
        *,
        with_uncommitted: bool = False,  # noqa: ARG002
    ) -> Mapping[TopicPartition, int]:
        # An open transaction is not in the file: both ends are the same.
        with self._log.reading():
            return {each: self._log.tail(self._log.partition_id(each))[0] for each in topic_partitions}

    def offsets_for_times(self, times_ms: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        with self._log.reading():
            return {
                each: self._log.first_since(self._log.partition_id(each), time_ms) for each, time_ms in times_ms.items()
            }

    def committed(self, group: str, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int | None]:
        with self._log.reading() as database:
            query = (
                "SELECT next_offset FROM offsets JOIN groups ON groups.id = group_id "
                "WHERE groups.name = ? AND partition_id = ?"
            )
            found: dict[TopicPartition, int | None] = {}
            for each in topic_partitions:
                row = database.execute(query, (self._names.stored(group), self._log.partition_id(each))).fetchone()
                found[each] = None if row is None else row[0]
            return found

    def ping(self) -> None:
        self._log.check_files()

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        for place, offset in offsets.items():
            self._delete_before(place, offset)

    def _delete_before(self, place: TopicPartition, offset: int) -> None:
        partition_id = self._log.partition_id(place)
        with self._log.reading():
            at, end = self._log.head(partition_id), self._log.tail(partition_id)[0]
        if offset > end:
            raise past_the_end(place, offset, end)
        # In pieces, so that no writer waits long for its turn.
        while at < offset:
            at = min(at + _CHUNK_ROWS, offset)
            with self._log.writing() as database:
                database.execute("UPDATE partitions SET begin_offset = ? WHERE id = ?", (at, partition_id))
                database.execute(f"DELETE FROM log_{partition_id} WHERE offset < ?", (at,))

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._open.close()
        self._notifier.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SqliteProducer:
    """Collects a transaction and writes it at `commit`. A commit that raises leaves it open: commit again or abort."""

    def __init__(self, log: SqliteLog, notifier: Notifier, transactional_id: str, partitioner: Partitioner) -> None:
        self._partitioner = partitioner
        self._log = log
        self._notifier = notifier
        self._name = transactional_id
        self._stored_name = log.names.stored(transactional_id)
        self._transaction = TransactionGuard(transactional_id)
        self._rows: defaultdict[int, list[tuple[bytes, int, bytes]]] = defaultdict(list)
        self._topic_ids: set[int] = set()
        self._offsets: list[tuple[SqliteConsumer, dict[int, int]]] = []
        with log.writing() as database:
            self._epoch: int = database.execute(
                "INSERT INTO producers VALUES (?, 1) "
                "ON CONFLICT (transactional_id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (self._stored_name,),
            ).fetchone()[0]

    @property
    def is_closed(self) -> bool:
        return self._transaction.is_closed

    def begin(self) -> None:
        self._transaction.begin()

    def send(self, records: Iterable[NewRecord]) -> None:
        self._transaction.require("send")
        topic_of, rows, pack = self._log.topic, self._rows, self._log.packer.pack
        for record in records:
            topic = topic_of(record.topic)
            ids = topic.partition_ids
            if record.partition is None:
                partition_id = ids[self._partitioner(record.topic, record.key, len(ids))]
            else:
                partition_id = self._log.partition_id(TopicPartition(record.topic, record.partition))
            self._topic_ids.add(topic.topic_id)
            headers = encode_headers(record.headers) if record.headers else b""
            # A number where headers would be says that all is in the value, and by which dictionary it is packed.
            rows[partition_id].append((b"", RecordPacker.NUMBER, pack(record.key, headers, record.value)))

    def send_offsets(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        self._transaction.require("send_offsets")
        if not isinstance(consumer, SqliteConsumer):
            raise foreign_consumer(self._name)
        self._offsets.append((consumer, consumer.offset_rows(offsets)))

    def commit(self) -> None:
        self._transaction.require("commit")
        with self._log.writing() as database:
            row = database.execute(
                "SELECT epoch FROM producers WHERE transactional_id = ?", (self._stored_name,)
            ).fetchone()
            if row is None or row[0] != self._epoch:
                raise ProducerFenced(
                    f"producer {self._name} was taken over by a newer one with the same id: stop this process"
                )
            for consumer, rows in self._offsets:
                consumer.write_offsets(database, rows)
            now_ms = self._log.clock.now_ns() // 1_000_000
            for partition_id, pending in self._rows.items():
                at, last_ms = self._log.tail(partition_id)
                stamp = max(now_ms, last_ms)
                database.executemany(
                    f"INSERT INTO log_{partition_id} VALUES (?, ?, ?, ?, ?)",
                    [(offset, stamp, *row) for offset, row in enumerate(pending, at)],
                )
        if self._topic_ids:
            self._notifier.notify(self._topic_ids)
        self._clear()

    def abort(self) -> None:
        self._transaction.require("abort")
        self._clear()

    def close(self) -> None:
        self._transaction.is_closed = True
        self._clear()

    def _clear(self) -> None:
        self._transaction.end()
        self._rows.clear()
        self._topic_ids.clear()
        self._offsets.clear()
