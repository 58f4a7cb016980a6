"""Opens the bus that an address names. Each implementation's own library is loaded only when it is the one named."""

from __future__ import annotations

from contextlib import nullcontext

from libs.bus.api import Bus, BusInvalid, Partitioner, Waiting, hash_partition
from libs.bus.replication import Replication
from libs.bus.security import KafkaSecurity
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy

_FORMS = "use sqlite:PATH, kafka:HOST:PORT or memory:NAME"


_NO_SECURITY = KafkaSecurity()
_CLUSTERS_OWN = Replication()


def open_bus(
    url: str,
    *,
    prefix: str = "",
    security: KafkaSecurity = _NO_SECURITY,
    replication: Replication = _CLUSTERS_OWN,
    waiting: Waiting = nullcontext,
    partitioner: Partitioner = hash_partition,
    clock: Clock = SYSTEM_CLOCK,
    entropy: Entropy = SYSTEM_ENTROPY,
) -> Bus:
    """Open `sqlite:PATH`, `kafka:HOST:PORT[,HOST:PORT...]` or `memory:NAME`; `prefix` goes before every name on it.

    `partitioner` chooses the partition of a record that names none, `replication` is of topics made on Kafka. `waiting`
    is entered around whatever may wait long for a broker or for another process. Raises `BusInvalid` for any other
    address, `BusUnavailable` where the file or the broker cannot be reached, `BusDenied` where broker and `security`
    do not go together.
    """
    kind, separator, rest = url.partition(":")
    if not separator or not rest:
        raise BusInvalid(f"bus address {url!r} names no bus: {_FORMS}")
    if kind == "sqlite":
        from libs.bus.sqlite import SqliteBus

        return SqliteBus(rest, prefix=prefix, waiting=waiting, clock=clock, entropy=entropy, partitioner=partitioner)
    if kind == "memory":
        from libs.bus.memory import MemoryBus

        return MemoryBus(rest, prefix=prefix, clock=clock, entropy=entropy, partitioner=partitioner)
    if kind == "kafka":
        for server in rest.split(","):
            host, _, port = server.rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise BusInvalid(f"bus address {url!r}: {server!r} is not HOST:PORT; {_FORMS}")
        from libs.bus.kafka import KafkaBus

        return KafkaBus(
            rest,
            prefix=prefix,
            security=security,
            replication=replication,
            waiting=waiting,
            clock=clock,
            entropy=entropy,
            partitioner=partitioner,
        )
    raise BusInvalid(f"bus address {url!r} starts with an unknown kind {kind!r}: {_FORMS}")
