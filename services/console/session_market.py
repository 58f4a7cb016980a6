"""Opens the market of a recorded session for a backtest: from its own log, another address, or ClickHouse."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from libs.bus.open import open_bus
from libs.runtime.configuration import read_configuration
from libs.runtime.errors import BadInput
from libs.runtime.platform_bus import kafka_security
from libs.runtime.settings import PlatformSettings, StoreSettings, load_settings
from libs.store.errors import StoreError
from libs.store.store import Store
from services.backtest.inputs import MarketInput
from services.console.placing import placement_of
from services.console.recorded_market import open_bus_market, open_store_market
from services.console.session import (
    DESCRIPTION,
    SessionDescription,
    check_session_name,
    database_of,
    demand_bus,
    load_session,
    sessions_root,
    topic_prefix_of,
)
from services.console.session_bus import open_session_bus
from services.console.store_access import open_configured, open_store, read_password


def open_topic_market(opened: ExitStack, address: str | None, name: str | None, instrument: str) -> MarketInput:
    """Open a session's market topic, on the bus at an address or the session's own; `opened` closes it.

    A session that is not known here is one whose topics on Kafka begin with its name. Raises `BadInput`, `BusError`.
    """
    if address is None:
        session = load_session(name)
        demand_bus(session)
        bus = opened.enter_context(open_session_bus(session))
        partition = placement_of(session).instrument_partition(instrument)
        return open_bus_market(bus, instrument, origin=session.name, partition=partition)
    kind, _, path = address.partition(":")
    if kind == "sqlite" and not Path(path).is_file():
        raise BadInput(f"--from-bus {address}: there is no file {path}")
    platform = load_settings(PlatformSettings)
    prefix = platform.topic_prefix if name is None else _prefix_of(name, kind)
    bus = opened.enter_context(open_bus(address, prefix=prefix, security=kafka_security(platform)))
    return open_bus_market(bus, instrument, origin=address if name is None else f"session {name} on {address}")


def session_settings(name: str | None) -> dict[str, str]:
    """Return the settings that a session known here was started with, for a run over its market on paper."""
    session = None if name is None else _find_session(name)
    return {} if session is None else paper_settings(session)


def paper_settings(session: SessionDescription) -> dict[str, str]:
    """Return the settings of a session with a paper venue in place of any other."""
    market = {"PERPFLOW_INFERENCE_MARKET": "simulated"} if session.market == "simulated" else {}
    return {**market, **session.environment, "PERPFLOW_EXECUTION_MODE": "paper"}


def open_clickhouse_market(opened: ExitStack, address: str, name: str | None, instrument: str) -> MarketInput:
    """Open a session's tables in ClickHouse at an address; `opened` closes it.

    Without a session the database is the one that settings name. Raises `BadInput`, `DependencyUnavailable`.
    """
    configuration = read_configuration()
    session = None if name is None else _find_session(name)
    store: Store
    if name is None:
        store = open_configured(configuration, address)
    elif session is not None:
        store = open_store(session, read_password(session, configuration), address)
    else:
        where = load_settings(StoreSettings, configuration)
        database = database_of(check_session_name(name))
        try:
            store = Store(
                address,
                database,
                user=where.clickhouse_user,
                password=where.clickhouse_password.get_secret_value(),
            )
        except StoreError as error:
            raise BadInput(str(error)) from None
    opened.enter_context(closing(store))
    return open_store_market(store, instrument, origin=f"database {store.database} at {store.address}")


def _prefix_of(name: str, kind: str) -> str:
    session = _find_session(name)
    if session is not None and session.bus.startswith(f"{kind}:"):
        return session.topic_prefix
    return topic_prefix_of(check_session_name(name)) if kind == "kafka" else ""


def _find_session(name: str) -> SessionDescription | None:
    if (sessions_root() / check_session_name(name) / DESCRIPTION).is_file():
        return load_session(name)
    return None
