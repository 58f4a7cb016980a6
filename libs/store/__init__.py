"""ClickHouse: tables of every topic, migrations, a writer that repeats without harm, and the queries that are asked."""

from libs.store.errors import AccessRefused, MigrationMismatch, StoreError, StoreUnavailable
from libs.store.queries import EquityPoint
from libs.store.store import Store
from libs.store.tables import StoredRow, Undecodable

__all__ = [
    "AccessRefused",
    "EquityPoint",
    "MigrationMismatch",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "StoredRow",
    "Undecodable",
]
