"""Opens the bus that an address names. Each implementation's own library is loaded only when it is the one named."""

from __future__ import annotations

from libs.bus.api import Bus, BusError

_FORMS = "use sqlite:PATH, kafka:HOST:PORT or memory:NAME"


def open_bus(url: str, *, prefix: str = "") -> Bus:
    """Open `sqlite:PATH`, `kafka:HOST:PORT[,HOST:PORT...]` or `memory:NAME`; `prefix` goes before every name on it.

    Raises `BusError` for any other address, and `BusUnavailable` where the file or the broker cannot be reached.
    """
    kind, separator, rest = url.partition(":")
    if not separator or not rest:
        raise BusError(f"bus address {url!r} names no bus: {_FORMS}")
    if kind == "sqlite":
        from libs.bus.sqlite import SqliteBus

        return SqliteBus(rest, prefix=prefix)
    if kind == "memory":
        from libs.bus.memory import MemoryBus

        return MemoryBus(rest, prefix=prefix)
    if kind == "kafka":
        for server in rest.split(","):
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise BusError(f"bus address {url!r}: {server!r} is not HOST:PORT; {_FORMS}")
        from libs.bus.kafka import KafkaBus

        return KafkaBus(rest, prefix=prefix)
    raise BusError(f"bus address {url!r} starts with an unknown kind {kind!r}: {_FORMS}")
