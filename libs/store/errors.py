"""What the store refuses, and what it cannot reach.

::

    StoreError               ClickHouse or the store refused; the text says what is wrong and how to fix it
    |- AccessRefused         ClickHouse does not know this user and password
    |- StoreUnavailable      ClickHouse does not answer; trying again may help
    `- MigrationMismatch     the database was migrated by something else than these files
"""

from __future__ import annotations


class StoreError(Exception):
    """ClickHouse or the store refused what was asked."""


class AccessRefused(StoreError):
    """ClickHouse does not know this user and password."""


class StoreUnavailable(StoreError):
    """ClickHouse cannot be reached or does not answer."""


class MigrationMismatch(StoreError):
    """The database's migrations are not those of this version."""
