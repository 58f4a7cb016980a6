"""The file under `SqliteBus`: its schema, its one writer lock, its checkpoints and its errors.

It knows no consumer or producer. One table per partition, so that an append touches the last page only. Writers queue
on a lock file (`flock`, which wakes the next at once) instead of SQLite's busy handler, which sleeps; the kernel frees
the lock when its holder is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.bus.api import BusError, BusFull, BusInvalid, BusLost, BusUnavailable, TopicPartition, UnknownTopic, Waiting
from libs.bus.checks import check_partition
from libs.bus.names import Names
from libs.bus.packing import RecordPacker
from libs.bus.wakeups import LONGEST_DIRECTORY
from libs.clock import Clock, Entropy

# 2: records are packed. One of format 1 is read as it is, and what is added to it is packed.
_FORMAT = 2
_READ_FORMATS = (1, 2)
_PAGE_BYTES = 4096
_BUSY_TIMEOUT_S = 15.0
_CHECKPOINT_INTERVAL_S = 1.0
# Past this many pages of write-ahead log a checkpoint holds writers back for a moment, so that the log starts again.
_LONG_WAL_PAGES = 8_192
_NEARLY_FULL_BYTES = 1 << 20

# `members.bell` is the name of a member's wakeup socket; a column keeps its name within a format.
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE topics (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
  partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL, is_compacted INTEGER NOT NULL);
CREATE TABLE partitions (
  id INTEGER PRIMARY KEY AUTOINCREMENT, topic_id INTEGER NOT NULL, number INTEGER NOT NULL,
  begin_offset INTEGER NOT NULL DEFAULT 0, UNIQUE (topic_id, number));
CREATE TABLE producers (transactional_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE groups (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, generation INTEGER NOT NULL DEFAULT 0);
CREATE TABLE members (
  group_id INTEGER NOT NULL, member TEXT NOT NULL, bell TEXT NOT NULL, topics TEXT NOT NULL,
  is_static INTEGER NOT NULL, gone_since_ms INTEGER, PRIMARY KEY (group_id, member)) WITHOUT ROWID;
CREATE TABLE offsets (
  group_id INTEGER NOT NULL, partition_id INTEGER NOT NULL, next_offset INTEGER NOT NULL,
  PRIMARY KEY (group_id, partition_id)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class SqliteTopic:
    """A topic's row: `partition_ids[n]` names the table of partition n."""

    topic_id: int
    partition_ids: tuple[int, ...]


class SqliteLog:
    """One connection to the file. Raises the errors of `libs.bus.api` only."""

    def __init__(
        self,
        path: Path,
        names: Names,
        *,
        max_bytes: int | None,
        waiting: Waiting,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.clock = clock
        self.entropy = entropy
        self.path = path.expanduser().resolve()
        self.names = names
        self._wal_path = f"{self.path}-wal"
        self._waiting = waiting
        self.packer = RecordPacker()
        self._topics: dict[str, SqliteTopic] = {}
        self._lock_fd = -1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(f"{self.path}-writer", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            with self._writer_lock():
                self.connection = self._connect(max_bytes)
                self.wakeups = self._open_format()
            self._identity = _identity_of(self.path), _identity_of(self._wal_path)
        except OSError as error:
            self._close_lock()
            raise self.explain(error) from error
        except BusError:
            self._close_lock()
            raise
        self._checkpointer = _Checkpointer(self.path)

    def _connect(self, max_bytes: int | None) -> sqlite3.Connection:
        with self.errors():
            connection = sqlite3.connect(
                self.path,
                isolation_level=None,
                check_same_thread=False,
                timeout=_BUSY_TIMEOUT_S,
                cached_statements=1024,
            )
        with self.errors(), _closed_on_error(connection):
            connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("PRAGMA cache_size=-8192")
            if max_bytes is not None:
                connection.execute(f"PRAGMA max_page_count={max(1, max_bytes // _PAGE_BYTES)}")
        return connection

    def _open_format(self) -> Path:
        database = self.connection
        with self.errors(), _closed_on_error(database):
            version = database.execute("PRAGMA user_version").fetchone()[0]
            tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if version == 0 and tables == 0:
                database.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA.split(";")[:-1]:
                    database.execute(statement)
                database.execute("INSERT INTO settings VALUES ('temporary_folder', ?)", (tempfile.gettempdir(),))
                database.execute(f"PRAGMA user_version={_FORMAT}")
                database.execute("COMMIT")
            elif version in _READ_FORMATS:
                if version != _FORMAT:
                    # An earlier version must not take packed records for plain ones.
                    database.execute(f"PRAGMA user_version={_FORMAT}")
            else:
                raise BusInvalid(
                    f"{self.path} is not a bus file of format {_FORMAT} (it says {version}): name another path, "
                    "or move the file away to start an empty bus"
                )
            row = database.execute("SELECT value FROM settings WHERE name = 'temporary_folder'").fetchone()
        return self._wakeups_folder(Path(row[0]))

    def _wakeups_folder(self, temporary_folder: Path) -> Path:
        # Every process must find the same place, whatever its TMPDIR: the file remembers its maker's.
        beside = Path(f"{self.path}-wakeups")
        if len(os.fsencode(beside)) <= LONGEST_DIRECTORY:
            return beside
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return temporary_folder / f"perpflow-wakeups-{os.getuid()}-{digest}"

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn SQLite's errors into the bus's."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.explain(error) from error

    def explain(self, error: sqlite3.Error | OSError) -> BusError:
        """Name the error, the file and the fix."""
        text = str(error)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == 28 or self._is_nearly_full(code):
            return BusFull(
                f"the bus at {self.path} has no room left ({text}); nothing of the transaction was committed: "
                "free space on that device or shorten the topics' retention, then start again"
            )
        if text.startswith("no such table: log_"):
            self.forget_topics()
            return UnknownTopic(f"a topic in use was deleted from the bus at {self.path}: create it and start again")
        if code == sqlite3.SQLITE_NOTADB:
            return BusInvalid(f"{self.path} is not a bus file ({text}): name another path, or restore it")
        if code == sqlite3.SQLITE_CORRUPT:
            return BusUnavailable(f"the bus file {self.path} is damaged ({text}): restore it or start an empty bus")
        if code == sqlite3.SQLITE_BUSY:
            return BusUnavailable(
                f"the bus at {self.path} was locked for {_BUSY_TIMEOUT_S:.0f} s: end the program that holds it open"
            )
        return BusUnavailable(f"the bus at {self.path} cannot be used ({text}): check that path and its permissions")

    def _is_nearly_full(self, code: int) -> bool:
        if code not in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            return False
        try:
            return shutil.disk_usage(self.path.parent).free < _NEARLY_FULL_BYTES
        except OSError:
            return False

    def check_files(self) -> None:
        """Raise `BusLost` where the files that were opened are no longer those at the path; from any thread.

        Everything would seem to go on otherwise: this process would read and write what nobody else sees.
        """
        found = _identity_of(self.path), _identity_of(self._wal_path)
        if found == self._identity:
            return
        gone = [str(path) for path, each in zip((self.path, self._wal_path), found, strict=True) if each is None]
        what = f"{' and '.join(gone)} was removed" if gone else f"{self.path} was replaced by another file"
        raise BusLost(
            f"the bus is lost: {what} while in use; stop the session, put the file back if you have it, "
            "or start a new session"
        )

    @contextlib.contextmanager
    def _writer_lock(self) -> Iterator[None]:
        self._lock_writer()
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _lock_writer(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with self._waiting():
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the one write transaction; it commits when the block ends and rolls back when it raises."""
        database = self.connection
        self.check_files()
        failed = self._checkpointer.failed
        if failed is not None:
            self._checkpointer.failed = None
            self._checkpointer.wrote()
            raise self.explain(failed) from failed
        self._lock_writer()
        try:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
        except BaseException as error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self.explain(error) from error
            raise
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
        self._checkpointer.wrote()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold one consistent view of what is committed."""
        database = self.connection
        try:
            database.execute("BEGIN")
            yield database
        except sqlite3.Error as error:
            raise self.explain(error) from error
        finally:
            if database.in_transaction:
                database.execute("COMMIT")

    def topic(self, name: str) -> SqliteTopic:
        """Return a topic by its plain name. Raises `UnknownTopic`."""
        known = self._topics.get(name)
        if known is not None:
            return known
        with self.errors():
            stored = self.names.stored(name)
            row = self.connection.execute("SELECT id FROM topics WHERE name = ?", (stored,)).fetchone()
            if row is None:
                raise UnknownTopic(f"topic {stored} does not exist on the bus at {self.path}: create it first")
            ids = self.connection.execute("SELECT id FROM partitions WHERE topic_id = ? ORDER BY number", (row[0],))
            found = SqliteTopic(row[0], tuple(each[0] for each in ids))
        self._topics[name] = found
        return found

    def forget_topics(self) -> None:
        """Read topics from the file again when next named."""
        self._topics.clear()

    def partition_id(self, topic_partition: TopicPartition) -> int:
        """Return the id of a partition's table. Raises `UnknownTopic`, or `BusError` for a number out of range."""
        ids = self.topic(topic_partition.topic).partition_ids
        check_partition(topic_partition, len(ids))
        return ids[topic_partition.partition]

    def damaged(self, place: TopicPartition, offset: int, error: ValueError) -> BusUnavailable:
        """Name a record that cannot be read."""
        return BusUnavailable(
            f"record {offset} of {place.topic}/{place.partition} on the bus at {self.path} is damaged: {error}; "
            "restore the file or start an empty bus"
        )

    def tail(self, partition_id: int) -> tuple[int, int]:
        """Return the next offset of a partition and the append time of its last record, 0 where none is kept."""
        row = self.connection.execute(
            f"SELECT offset, append_time_ms FROM log_{partition_id} ORDER BY offset DESC LIMIT 1"
        ).fetchone()
        if row is not None:
            return row[0] + 1, row[1]
        return self.begin(partition_id), 0

    def begin(self, partition_id: int) -> int:
        """Return the offset before which everything was removed."""
        row = self.connection.execute("SELECT begin_offset FROM partitions WHERE id = ?", (partition_id,)).fetchone()
        if row is None:
            raise sqlite3.OperationalError(f"no such table: log_{partition_id}")
        return int(row[0])

    def head(self, partition_id: int) -> int:
        """Return the oldest offset kept, the next offset where none is."""
        row = self.connection.execute(f"SELECT offset FROM log_{partition_id} ORDER BY offset LIMIT 1").fetchone()
        return int(row[0]) if row is not None else self.tail(partition_id)[0]

    def first_since(self, partition_id: int, time_ms: int) -> int:
        """Return the first offset appended at or after a time, the next offset where none was (binary search)."""
        low, high = self.head(partition_id), self.tail(partition_id)[0]
        query = f"SELECT offset, append_time_ms FROM log_{partition_id} WHERE offset >= ? ORDER BY offset LIMIT 1"
        while low < high:
            middle = (low + high) // 2
            row = self.connection.execute(query, (middle,)).fetchone()
            if row is None or row[1] >= time_ms:
                high = middle
            else:
                low = row[0] + 1
        row = self.connection.execute(query, (low,)).fetchone()
        return int(row[0]) if row is not None else self.tail(partition_id)[0]

    def close(self) -> None:
        """Stop checkpoints and let the file go."""
        self._checkpointer.close()
        self.connection.close()
        self._close_lock()

    def _close_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


class _Checkpointer:
    """Moves the write-ahead log into the file from a thread of its own, so that no commit waits for the device.

    It works only while there are writes. What fails in it is raised by the next write, before anything is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failed: sqlite3.Error | OSError | None = None

    def wrote(self) -> None:
        """Note that there is something to move."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bus-checkpoint", daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if self._stop.wait(_CHECKPOINT_INTERVAL_S):
                return
            self._wake.clear()
            try:
                self._checkpoint()
            except (sqlite3.Error, OSError) as error:
                self.failed = error

    def _checkpoint(self) -> None:
        # mode=rw: a file that is gone must not come back empty.
        with contextlib.closing(
            sqlite3.connect(f"{self._path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        ) as database:
            database.execute("PRAGMA wal_autocheckpoint=0")
            pages = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
            if pages < _LONG_WAL_PAGES:
                return
            # Under steady writing the log is never quite moved and so never starts again: hold writers for the rest.
            lock_fd = os.open(f"{self._path}-writer", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX)
                database.execute("PRAGMA wal_checkpoint(PASSIVE)")
            finally:
                os.close(lock_fd)


def _identity_of(path: Path | str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - on every commit: a Path costs more than the call
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
