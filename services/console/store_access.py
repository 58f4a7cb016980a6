"""Opening ClickHouse from the command line: the embedded one of a session, or the one that settings name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from libs.clock import SYSTEM_ENTROPY, Entropy
from libs.runtime.configuration import Configuration
from libs.runtime.errors import BadInput
from libs.runtime.masking import SECRETS
from libs.runtime.settings import StoreSettings, load_settings
from libs.store.errors import StoreError
from services.console.session import SessionDescription, make_private_folder

if TYPE_CHECKING:
    from libs.store.store import Store

# The one user that infra/local/clickhouse knows.
EMBEDDED_USER = "perpflow"


def make_password(session: SessionDescription, entropy: Entropy = SYSTEM_ENTROPY) -> str:
    """Make the password of a session's embedded ClickHouse and write it to a file of this user's alone."""
    password = entropy.token_urlsafe(32)
    SECRETS.add(password)
    make_private_folder(session.folder)
    session.password_file.unlink(missing_ok=True)
    descriptor = os.open(session.password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(password + "\n")
    return password


def check_address(configuration: Configuration) -> None:
    """Raise `BadInput` where the address of ClickHouse is none, or holds a password; nothing is connected to."""
    open_configured(configuration).close()


def read_password(session: SessionDescription, configuration: Configuration) -> str:
    """Return the password of a session's ClickHouse: the embedded one's from its file, any other's from settings."""
    if session.clickhouse_user == EMBEDDED_USER and session.password_file.is_file():
        password = session.password_file.read_text().strip()
        SECRETS.add(password)
        return password
    return load_settings(StoreSettings, configuration).clickhouse_password.get_secret_value()


def open_store(session: SessionDescription, password: str, address: str | None = None) -> Store:
    """Open a session's tables. Raises `BadInput` for an address that is none."""
    where = session.clickhouse if address is None else address
    # Whom to believe is a matter of this machine; the embedded one speaks no TLS.
    ca_file = load_settings(StoreSettings).clickhouse_ca_file if where.startswith("https:") else None
    return _open(where, session.clickhouse_database, session.clickhouse_user, password, ca_file)


def open_configured(configuration: Configuration, address: str | None = None) -> Store:
    """Open the store that settings name, at another address where one is given. Raises `BadInput`."""
    where = load_settings(StoreSettings, configuration)
    password = where.clickhouse_password.get_secret_value()
    found = address or where.clickhouse
    return _open(found, where.clickhouse_database, where.clickhouse_user, password, where.clickhouse_ca_file)


def _open(address: str, database: str, user: str, password: str, ca_file: Path | None) -> Store:
    # Its clients take half a second to import, and most commands open no store.
    from libs.store.store import Store

    try:
        return Store(address, database, user=user, password=password, ca_file=ca_file)
    except StoreError as error:
        raise BadInput(str(error)) from None
