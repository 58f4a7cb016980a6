"""ClickHouse: tables of every topic, migrations, a writer that repeats without harm, and the queries that are asked."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from libs.store.errors import AccessRefused, MigrationMismatch, StoreError, StoreUnavailable

if TYPE_CHECKING:
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
_MODULES = {"EquityPoint": "queries", "Store": "store", "StoredRow": "tables", "Undecodable": "tables"}


def __getattr__(name: str) -> Any:
    # Commands that name the errors and open no store need not wait for the client's and the columns' libraries.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
