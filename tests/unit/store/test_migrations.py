"""The order, the checks and the refusals of migrations, on a ledger in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from libs.store.errors import MigrationMismatch
from libs.store.migrations import (
    Applied,
    Migration,
    apply_migrations,
    load_migrations,
    read_migrations,
    split_statements,
)

FILES = [("0001_first.sql", "CREATE a;\nCREATE b;\n"), ("0002_second.sql", "-- why\nCREATE c;\n")]


class Ledger:
    """A database that only remembers."""

    def __init__(self, breaks_on: str = "") -> None:
        self.statements: list[str] = []
        self.applied: list[Applied] = []
        self.breaks_on = breaks_on

    def execute(self, statement: str) -> None:
        if statement == self.breaks_on:
            raise ConnectionError("gone")
        self.statements.append(statement)

    def read_applied(self) -> Sequence[Applied]:
        return list(self.applied)

    def write_applied(self, migration: Migration) -> None:
        self.applied.append(Applied(migration.version, migration.name, migration.checksum))


def test_statements_are_applied_in_order_and_noted() -> None:
    ledger = Ledger()
    assert apply_migrations(ledger, read_migrations(reversed(FILES))) == (1, 2)
    assert ledger.statements[1:] == ["CREATE a", "CREATE b", "CREATE c"]
    assert [done.name for done in ledger.applied] == ["first", "second"]


def test_applied_migrations_are_not_applied_again() -> None:
    ledger = Ledger()
    migrations = read_migrations(FILES)
    apply_migrations(ledger, migrations[:1])
    assert apply_migrations(ledger, migrations) == (2,)
    assert apply_migrations(ledger, migrations) == ()
    assert ledger.statements.count("CREATE a") == 1


def test_migration_that_broke_is_not_noted_and_applied_again() -> None:
    ledger = Ledger(breaks_on="CREATE b")
    with pytest.raises(ConnectionError):
        apply_migrations(ledger, read_migrations(FILES))
    assert ledger.applied == []
    ledger.breaks_on = ""
    assert apply_migrations(ledger, read_migrations(FILES)) == (1, 2)


def test_edited_file_is_refused_before_anything_changes() -> None:
    ledger = Ledger()
    first, second = read_migrations(FILES)
    apply_migrations(ledger, [first])
    with pytest.raises(MigrationMismatch, match="put the change into a new one"):
        apply_migrations(ledger, [replace(first, checksum="other"), second])
    assert "CREATE c" not in ledger.statements


def test_renamed_file_is_refused() -> None:
    ledger = Ledger()
    first, second = read_migrations(FILES)
    apply_migrations(ledger, [first])
    with pytest.raises(MigrationMismatch, match="0001_first applied where this version has 0001_other"):
        apply_migrations(ledger, [replace(first, name="other"), second])


def test_newer_database_is_refused() -> None:
    ledger = Ledger()
    migrations = read_migrations(FILES)
    apply_migrations(ledger, migrations)
    with pytest.raises(MigrationMismatch, match="newer than this version: it has 0002_second"):
        apply_migrations(ledger, migrations[:1])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0001_a.sql", "0003_c.sql"], "should have number 0002"),
        (["0001_a.sql", "0001_b.sql"], "should have number 0002"),
        (["first.sql"], "is not named like 0001_market.sql"),
    ],
)
def test_bad_file_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(MigrationMismatch, match=message):
        read_migrations((name, "CREATE a;") for name in names)


def test_semicolon_inside_a_line_does_not_end_a_statement() -> None:
    assert split_statements("SELECT ';' AS a\n  , 2; \n-- only; this;\nSELECT 3") == (
        "SELECT ';' AS a\n  , 2",
        "SELECT 3",
    )


def test_own_migrations_are_repeatable_statements() -> None:
    migrations = load_migrations()
    assert [migration.version for migration in migrations] == list(range(1, len(migrations) + 1))
    statements = [statement for migration in migrations for statement in migration.statements]
    assert statements
    assert all("IF NOT EXISTS" in statement.splitlines()[0] for statement in statements)
