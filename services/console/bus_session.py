"""The session that settings name by its bus, where this machine keeps no session folder: in a container, or beside a
cluster. Nothing is known of its processes but what the topics tell.
"""

from __future__ import annotations

from pathlib import Path

from libs.domain.instruments import DEFAULT_INSTRUMENT
from libs.runtime.configuration import Configuration, read_configuration
from libs.runtime.errors import DependencyUnavailable
from libs.runtime.settings import PlatformSettings, StoreSettings, load_settings, variables_of
from libs.wire.topics import CONTROL_COMMANDS
from services.console.registry import read_checked, recorded_variables, settings_models
from services.console.session import DESCRIPTION, SessionDescription, demand_bus, load_session, sessions_root
from services.console.session_bus import open_session_bus

_BUS_VARIABLE = variables_of(PlatformSettings)["bus"]


def find_session(name: str | None) -> SessionDescription:
    """Return a session by name or the latest one; where this machine has none, the one whose bus settings name.

    Raises `BadInput` where there is none at all, `DependencyUnavailable` where that bus carries no session.
    """
    if name is not None or (sessions_root() / "latest").exists():
        return load_session(name)
    return find_bus_session() or load_session(name)


def find_bus_session() -> SessionDescription | None:
    """Return the session on the bus that ``PERPFLOW_BUS`` names, None where it is not set.

    Its market, mode and accounts are what the services' settings say, which must be those that the services have.
    Raises `BadInput` for settings that are wrong, `DependencyUnavailable` where the bus carries no session.
    """
    if not read_configuration().variables.get(_BUS_VARIABLE):
        return None
    configuration = read_checked()
    session = _describe(configuration)
    demand_bus(session)
    with open_session_bus(session) as bus:
        if CONTROL_COMMANDS not in bus.topics():
            raise DependencyUnavailable(
                f"{session.bus} has no topic {session.topic_prefix}{CONTROL_COMMANDS}; start the services first, "
                f"or set {variables_of(PlatformSettings)['topic_prefix']} to the session's"
            )
    return session


def _describe(configuration: Configuration) -> SessionDescription:
    models = settings_models()
    platform = load_settings(PlatformSettings, configuration)
    store = load_settings(StoreSettings, configuration)
    services = {name: load_settings(models[name], configuration).model_dump() for name in ("ingestion", "execution")}
    accounts = {
        f"PERPFLOW_{service.upper()}_ACCOUNT": str(
            load_settings(models[service], configuration).model_dump()["account"]
        )
        for service in ("strategy", "risk", "execution")
    }
    # By the prefix, which sets a session apart from others on its bus.
    name = platform.topic_prefix.rstrip(".") or "bus"
    return SessionDescription(
        name=name,
        folder=sessions_root() / name,
        market=str(services["ingestion"]["market"]),
        mode=str(services["execution"]["mode"]),
        seed=None,
        speed=float(services["ingestion"]["speed"]),
        instrument=str(services["ingestion"].get("instrument", DEFAULT_INSTRUMENT)),
        bus=platform.bus,
        topic_prefix=platform.topic_prefix,
        clickhouse=store.clickhouse,
        clickhouse_database=store.clickhouse_database,
        clickhouse_user=store.clickhouse_user,
        environment={**recorded_variables(configuration, models), **accounts},
    )


def has_folder(session: SessionDescription) -> bool:
    """Whether a session has a folder on this machine."""
    return Path(session.folder / DESCRIPTION).is_file()
