"""Brings a database to this version's tables: numbered SQL files, applied in order, each once, checked by checksum.

A released file is never edited; a change is a new file. A database with other files than these is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

from libs.store.errors import MigrationMismatch

LEDGER = """CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32,
    name String,
    checksum String,
    applied_time DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY version"""

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, statements in order and the sha256 of its text."""

    version: int
    name: str
    statements: tuple[str, ...]
    checksum: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One migration that a database has had."""

    version: int
    name: str
    checksum: str


class MigrationTarget(Protocol):
    """What a migration needs of a database."""

    def execute(self, statement: str) -> None:
        """Run a statement without a result."""
        ...

    def read_applied(self) -> Sequence[Applied]:
        """Return the ledger in order of version."""
        ...

    def write_applied(self, migration: Migration) -> None:
        """Note a migration in the ledger."""
        ...


def load_migrations() -> tuple[Migration, ...]:
    """Read this version's files, in order."""
    folder = resources.files("libs.store").joinpath("migrations")
    files = (
        (entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    )
    return read_migrations(files)


def read_migrations(files: Iterable[tuple[str, str]]) -> tuple[Migration, ...]:
    """Read (file name, text) pairs. Raises `MigrationMismatch` for a bad name or a hole in the numbers."""
    migrations = []
    for expected, (file_name, text) in enumerate(sorted(files), start=1):
        matched = _FILE_NAME.fullmatch(file_name)
        if matched is None:
            raise MigrationMismatch(f"{file_name} is not named like 0001_market.sql")
        if int(matched[1]) != expected:
            raise MigrationMismatch(
                f"{file_name} should have number {expected:04d}: numbers run from 0001 without holes"
            )
        checksum = hashlib.sha256(text.encode()).hexdigest()
        migrations.append(Migration(expected, matched[2], split_statements(text), checksum))
    return tuple(migrations)


def split_statements(text: str) -> tuple[str, ...]:
    """Split SQL at semicolons that end a line, dropping comment lines."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    statements = re.split(r";[ \t]*(?:\n|$)", "\n".join(lines))
    return tuple(statement.strip() for statement in statements if statement.strip())


def apply_migrations(target: MigrationTarget, migrations: Sequence[Migration]) -> tuple[int, ...]:
    """Apply what is missing and return the versions applied. Raises `MigrationMismatch` before changing anything
    where the ledger disagrees with the files.

    Statements must be repeatable (``IF NOT EXISTS``): a crash in the middle of a file applies it again.
    """
    target.execute(LEDGER)
    applied = target.read_applied()
    check_applied(applied, migrations)
    missing = migrations[len(applied) :]
    for migration in missing:
        for statement in migration.statements:
            target.execute(statement)
        target.write_applied(migration)
    return tuple(migration.version for migration in missing)


def check_applied(applied: Sequence[Applied], migrations: Sequence[Migration]) -> None:
    """Compare the ledger with the files. Raises `MigrationMismatch`."""
    for done, migration in zip(applied, migrations, strict=False):
        if (done.version, done.name) != (migration.version, migration.name):
            raise MigrationMismatch(
                f"the database had {done.version:04d}_{done.name} applied where this version has "
                f"{migration.version:04d}_{migration.name}; use another database or the version that made this one"
            )
        if done.checksum != migration.checksum:
            raise MigrationMismatch(
                f"{migration.version:04d}_{migration.name}.sql was changed after it was applied; "
                "restore the file and put the change into a new one"
            )
    if len(applied) > len(migrations):
        newest = applied[-1]
        raise MigrationMismatch(
            f"the database is newer than this version: it has {newest.version:04d}_{newest.name}; upgrade perpflow "
            "or use another database"
        )
