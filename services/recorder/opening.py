"""Opens the store that the settings name; what they get wrong is bad input."""

from __future__ import annotations

from libs.runtime.errors import BadInput
from libs.runtime.settings import StoreSettings, load_settings
from libs.store import Store
from libs.store.errors import StoreError


def open_store() -> Store:
    """Open it; nothing is connected to yet. Raises `BadInput` for an address that cannot be used."""
    where = load_settings(StoreSettings)
    password = where.clickhouse_password.get_secret_value()
    try:
        return Store(
            where.clickhouse,
            where.clickhouse_database,
            user=where.clickhouse_user,
            password=password,
            ca_file=where.clickhouse_ca_file,
        )
    except StoreError as error:
        raise BadInput(f"PERPFLOW_CLICKHOUSE cannot be used: {error}") from None
