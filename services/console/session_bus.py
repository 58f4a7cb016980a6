"""Opens the bus of a session with the caller's credentials: a session stores none."""

from __future__ import annotations

from pathlib import Path

from libs.bus.api import Bus, BusLost
from libs.bus.open import open_bus
from libs.runtime.platform_bus import kafka_replication, kafka_security
from libs.runtime.settings import PlatformSettings, load_settings
from services.console.placing import placement_of
from services.console.session import SessionDescription


def open_session_bus(session: SessionDescription, *, is_new: bool = False) -> Bus:
    """Open it; as `open_bus`, but only `is_new` makes a file that is not there.

    Raises `BadInput` for credentials that cannot be used, `BusLost` where the session's file is gone.
    """
    kind, _, path = session.bus.partition(":")
    if kind == "sqlite" and not is_new and not Path(path).is_file():
        raise BusLost(f"session {session.name} has no log any more: {path} is not there; restore it")
    platform = load_settings(PlatformSettings)
    return open_bus(
        session.bus,
        prefix=session.topic_prefix,
        security=kafka_security(platform),
        replication=kafka_replication(platform),
        partitioner=placement_of(session).choose,
    )
