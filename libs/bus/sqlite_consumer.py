"""Reads the embedded bus: positions, the wakeup socket, and membership of a group.

Members of a group keep a row each; all of them compute the same shares from those rows, and every change raises the
group's generation. Offsets are stored only by a member of the current generation, so two owners of a partition never
both commit. A member lives as long as its wakeup socket is bound. A dead member leaves at once, a static one after a
grace period in which its next incarnation takes its row over without a new generation.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from libs.bus.api import BusError, BusLost, BusUnavailable, GroupMoved, Record, Start, TopicPartition
from libs.bus.checks import check_assigned, check_group, check_member, check_open
from libs.bus.errors import offset_gone
from libs.bus.groups import STATIC_MEMBER_GRACE_MS, share_partitions
from libs.bus.headers import PackedHeaders
from libs.bus.sqlite_log import SqliteLog
from libs.bus.wakeups import Notifier, WakeupSocket
from libs.clock import Deadline

# How long a reader sleeps when nothing wakes it: bounds the delay of a lost wakeup and the cost of idling.
_FALLBACK_MS = 400
_MEMBER_CHECK_S = 1.0
_NO_HEADERS: Mapping[str, bytes] = MappingProxyType({})


class SqliteConsumer:
    """A reader of the embedded bus."""

    def __init__(
        self,
        log: SqliteLog,
        notifier: Notifier,
        topics: Sequence[str],
        *,
        group: str | None,
        member_id: str | None,
        start: Start,
        subscribes: bool,
    ) -> None:
        check_member(group, member_id)
        self._log = log
        self._notifier = notifier
        self._topics = tuple(topics)
        self._group = group
        self._member = member_id if member_id is not None else f"dynamic-{log.entropy.token_hex(8)}"
        self._is_static = member_id is not None
        self._start: Start = start
        self._group_id = 0
        self._generation = -1
        self._shares = group is not None and subscribes
        self.is_closed = False
        self._positions: dict[TopicPartition, int] = {}
        self._order: list[TopicPartition] = []
        self._queries: dict[TopicPartition, str] = {}
        self._turn = 0
        self._next_check = 0.0
        self._next_file_check = 0.0
        for topic in self._topics:
            log.topic(topic)
        try:
            self._wakeup = WakeupSocket(log.wakeups, log.entropy)
        except OSError as error:
            raise BusUnavailable(
                f"cannot make a wakeup socket in {log.wakeups} ({error}): check that the folder can be written"
            ) from error
        if group is not None:
            self._join(group)

    # reading

    def poll(self, max_records: int, timeout_ms: int) -> Sequence[Record]:
        self._require_open()
        deadline = Deadline(timeout_ms / 1000, self._log.clock)
        while True:
            self._check_files()
            self._wakeup.clear()
            if self._shares:
                self._follow_group()
            records = self._read(max_records)
            if records:
                return records
            if deadline.is_over:
                return records
            if not self._wakeup.wait(min(_FALLBACK_MS, deadline.left_ms)):
                self._repair_wakeups()

    def _check_files(self) -> None:
        now = self._log.clock.monotonic_s()
        if now >= self._next_file_check:
            self._next_file_check = now + _FALLBACK_MS / 1000
            self._log.check_files()

    def _read(self, max_records: int) -> list[Record]:
        records: list[Record] = []
        order, unpack = self._order, self._log.packer.unpack
        if not order:
            return records
        with self._log.reading() as database:
            count = len(order)
            for _ in range(count):
                room = max_records - len(records)
                if room <= 0:
                    break
                self._turn = (self._turn + 1) % count
                place = order[self._turn]
                at = self._positions[place]
                rows = database.execute(self._queries[place], (at, room)).fetchall()
                if not rows:
                    continue
                if rows[0][0] != at:
                    self._require_kept(place, at)
                topic, partition = place.topic, place.partition
                for offset, ms, key, headers, value in rows:
                    if type(headers) is int:
                        try:
                            key, headers, value = unpack(value)
                        except ValueError as error:
                            raise self._log.damaged(place, offset, error) from error
                    kept = PackedHeaders(headers) if headers else _NO_HEADERS
                    records.append(Record(topic, partition, offset, key, value, kept, ms))
                self._positions[place] = rows[-1][0] + 1
            if not records:
                # A partition that was emptied shows no record that lies too far on.
                for place, at in self._positions.items():
                    self._require_kept(place, at)
        return records

    def _require_kept(self, place: TopicPartition, position: int) -> None:
        # The first record kept is not it: compaction by an earlier version leaves gaps too, and those are no loss.
        begin = self._log.begin(self._log.partition_id(place))
        if position < begin:
            raise offset_gone(place, position, begin)

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        if self._shares:
            self._leave()
            self._shares = False
        self._take(dict(positions))

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        self._require_assigned(topic_partition)
        self._positions[topic_partition] = offset

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    @property
    def has_share(self) -> bool:
        return self._shares

    def position(self, topic_partition: TopicPartition) -> int:
        self._require_assigned(topic_partition)
        return self._positions[topic_partition]

    def _require_assigned(self, topic_partition: TopicPartition) -> None:
        check_assigned(topic_partition, self._positions)

    def _require_open(self) -> None:
        check_open(self._group, is_closed=self.is_closed)

    def _take(self, positions: dict[TopicPartition, int]) -> None:
        queries: dict[TopicPartition, str] = {}
        topic_ids: set[int] = set()
        for place in positions:
            partition_id = self._log.partition_id(place)
            topic_ids.add(self._log.topic(place.topic).topic_id)
            queries[place] = (
                f"SELECT offset, append_time_ms, key, headers, value FROM log_{partition_id} "
                "WHERE offset >= ? ORDER BY offset LIMIT ?"
            )
        self._positions, self._queries = positions, queries
        self._order = sorted(positions, key=lambda place: (place.topic, place.partition))
        self._wakeup.listen(topic_ids)

    def _repair_wakeups(self) -> None:
        old_name = self._wakeup.name
        if self._wakeup.repair() and self._shares:
            with self._log.writing() as database:
                database.execute(
                    "UPDATE members SET bell = ? WHERE group_id = ? AND member = ? AND bell = ?",
                    (self._wakeup.name, self._group_id, self._member, old_name),
                )

    # offsets

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        rows = self.offset_rows(offsets)
        with self._log.writing() as database:
            self.write_offsets(database, rows)

    def offset_rows(self, offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
        """Translate offsets to partition ids, for a producer of the same bus."""
        check_group(self._group)
        return {self._log.partition_id(place): offset for place, offset in offsets.items()}

    def write_offsets(self, database: sqlite3.Connection, rows: Mapping[int, int]) -> None:
        """Store offsets within an open write transaction. Raises `GroupMoved` where the group went on."""
        self._require_open()
        if self._shares:
            row = self._membership(database)
            if row is None or row[0] != self._generation or row[1] != self._wakeup.name:
                raise GroupMoved(
                    f"group {self._group} went on without member {self._member}: nothing was committed; "
                    "abort, then poll for the new assignment or stop this process"
                )
        database.executemany(
            "INSERT INTO offsets VALUES (?, ?, ?) "
            "ON CONFLICT (group_id, partition_id) DO UPDATE SET next_offset = excluded.next_offset",
            [(self._group_id, partition_id, offset) for partition_id, offset in rows.items()],
        )

    # membership

    def _join(self, group: str) -> None:
        with self._log.writing() as database:
            stored = (self._log.names.stored(group),)
            database.execute("INSERT OR IGNORE INTO groups (name) VALUES (?)", stored)
            self._group_id = database.execute("SELECT id FROM groups WHERE name = ?", stored).fetchone()[0]
            if self._shares:
                self._enter(database)
                self._expel_dead(database)
        if self._shares:
            self._adopt_shares()

    def _enter(self, database: sqlite3.Connection) -> None:
        topics = json.dumps(sorted(self._topics))
        key = (self._group_id, self._member)
        row = database.execute("SELECT topics FROM members WHERE group_id = ? AND member = ?", key).fetchone()
        database.execute(
            "INSERT INTO members VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (group_id, member) DO UPDATE "
            "SET bell = excluded.bell, topics = excluded.topics, gone_since_ms = NULL",
            (*key, self._wakeup.name, topics, int(self._is_static)),
        )
        if row is None or row[0] != topics:
            self._raise_generation(database)

    def _raise_generation(self, database: sqlite3.Connection) -> None:
        database.execute("UPDATE groups SET generation = generation + 1 WHERE id = ?", (self._group_id,))

    def _membership(self, database: sqlite3.Connection) -> tuple[int, str | None] | None:
        found: tuple[int, str | None] | None = database.execute(
            "SELECT generation, bell FROM groups LEFT JOIN members ON group_id = id AND member = ? WHERE id = ?",
            (self._member, self._group_id),
        ).fetchone()
        return found

    def _follow_group(self) -> None:
        with self._log.errors():
            row = self._membership(self._log.connection)
        if row is None or row[1] is None:
            with self._log.writing() as database:
                self._enter(database)
            self._generation = -1
        elif row[1] != self._wakeup.name:
            raise BusError(
                f"another process took over as member {self._member} of group {self._group}: stop this process"
            )
        if row is None or row[0] != self._generation:
            self._adopt_shares()
        now = self._log.clock.monotonic_s()
        if now >= self._next_check:
            self._next_check = now + _MEMBER_CHECK_S
            self._check_members()

    def _adopt_shares(self) -> None:
        with self._log.reading() as database:
            row = self._membership(database)
            generation = row[0] if row is not None else -1
            members = {
                member: json.loads(topics)
                for member, topics in database.execute(
                    "SELECT member, topics FROM members WHERE group_id = ?", (self._group_id,)
                )
            }
            subscribed = {topic for topics in members.values() for topic in topics}
            counts = {
                topic: partitions
                for topic in sorted(subscribed)
                for (partitions,) in database.execute(
                    "SELECT partitions FROM topics WHERE name = ?", (self._log.names.stored(topic),)
                )
            }
            mine = share_partitions(members, counts).get(self._member, frozenset())
            positions = {
                place: self._positions[place] if place in self._positions else self._first_position(database, place)
                for place in mine
            }
        self._take(positions)
        is_first = self._generation < 0
        self._generation = generation
        if is_first:
            self._notify_members()

    def _first_position(self, database: sqlite3.Connection, place: TopicPartition) -> int:
        partition_id = self._log.partition_id(place)
        row = database.execute(
            "SELECT next_offset FROM offsets WHERE group_id = ? AND partition_id = ?", (self._group_id, partition_id)
        ).fetchone()
        if row is not None:
            return int(row[0])
        return self._log.head(partition_id) if self._start == "earliest" else self._log.tail(partition_id)[0]

    def _others(self, database: sqlite3.Connection) -> list[tuple[str, str, int, int | None]]:
        return database.execute(
            "SELECT member, bell, is_static, gone_since_ms FROM members WHERE group_id = ? AND member <> ?",
            (self._group_id, self._member),
        ).fetchall()

    def _check_members(self) -> None:
        with self._log.errors():
            others = self._others(self._log.connection)
        now_ms = self._log.clock.now_ns() // 1_000_000
        if any(self._needs_change(other, now_ms) for other in others):
            with self._log.writing() as database:
                self._expel_dead(database)
            self._notify_members()

    def _needs_change(self, other: tuple[str, str, int, int | None], now_ms: int) -> bool:
        _, socket_name, is_static, gone_since_ms = other
        if gone_since_ms is None:
            return not self._notifier.is_alive(socket_name)
        return not is_static or now_ms - gone_since_ms >= STATIC_MEMBER_GRACE_MS

    def _expel_dead(self, database: sqlite3.Connection) -> None:
        now_ms = self._log.clock.now_ns() // 1_000_000
        for other in self._others(database):
            if not self._needs_change(other, now_ms):
                continue
            member, _, is_static, gone_since_ms = other
            key = (self._group_id, member)
            if is_static and gone_since_ms is None:
                database.execute(
                    "UPDATE members SET gone_since_ms = ? WHERE group_id = ? AND member = ?", (now_ms, *key)
                )
            else:
                database.execute("DELETE FROM members WHERE group_id = ? AND member = ?", key)
                self._raise_generation(database)

    def _notify_members(self) -> None:
        with self._log.errors():
            others = self._others(self._log.connection)
        for _, socket_name, _, gone_since_ms in others:
            if gone_since_ms is None:
                self._notifier.wake(socket_name)

    def _leave(self) -> None:
        with self._log.writing() as database:
            row = self._membership(database)
            if row is None or row[1] != self._wakeup.name:
                return
            key = (self._group_id, self._member)
            if self._is_static:
                now_ms = self._log.clock.now_ns() // 1_000_000
                database.execute(
                    "UPDATE members SET gone_since_ms = ? WHERE group_id = ? AND member = ?", (now_ms, *key)
                )
            else:
                database.execute("DELETE FROM members WHERE group_id = ? AND member = ?", key)
                self._raise_generation(database)
        self._notify_members()

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        try:
            if self._shares:
                # Where the files are lost there is no group to leave.
                with contextlib.suppress(BusLost):
                    self._leave()
        finally:
            self._wakeup.close()
