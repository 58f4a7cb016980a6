"""A recorded session's market: its topic on a bus, or its tables in ClickHouse. Streamed in the order of the topic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from libs.bus.api import Bus, TopicPartition
from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.runtime.records import read_range
from libs.store.errors import StoreError, StoreUnavailable
from libs.store.store import Store
from libs.wire import DecodeError, decode
from libs.wire.topics import MARKET_EVENTS
from services.backtest.inputs import MarketInput, describe_market


def open_bus_market(bus: Bus, instrument: str, *, origin: str, partition: int | None = None) -> MarketInput:
    """Open an instrument's market on a bus; `origin` names the session, `partition` says where it is if that is known.

    Raises `BadInput` where the bus holds no market of it.
    """
    count = bus.topics().get(MARKET_EVENTS, 0)
    if not count:
        raise BadInput(f"{origin} has no topic {MARKET_EVENTS}; check the address and --session")
    numbers = range(count) if partition is None else (partition,)
    return describe_market(
        _read_bus(bus, instrument, [TopicPartition(MARKET_EVENTS, number) for number in numbers]),
        {"source": "bus", "name": origin, "instrument": instrument},
    )


def open_store_market(store: Store, instrument: str, *, origin: str) -> MarketInput:
    """Open an instrument's market in ClickHouse. Raises `BadInput` where it holds none, `DependencyUnavailable`."""
    return describe_market(
        _read_store(store, instrument), {"source": "clickhouse", "name": origin, "instrument": instrument}
    )


def _read_store(store: Store, instrument: str) -> Iterator[MarketEvent | DeadInput]:
    try:
        yield from store.market(instrument)
    except StoreUnavailable as error:
        raise DependencyUnavailable(str(error)) from error
    except StoreError as error:
        raise BadInput(str(error)) from error


def _read_bus(bus: Bus, instrument: str, places: list[TopicPartition]) -> Iterator[MarketEvent | DeadInput]:
    key = instrument.encode()
    ends, begins = bus.end_offsets(places), bus.beginning_offsets(places)
    for at in places:
        found = False
        for record in read_range(bus, at.topic, at.partition, begins[at], ends[at]):
            if record.key != key:
                continue
            found = True
            try:
                yield cast(MarketEvent, decode(at.topic, record.value))
            except DecodeError as error:
                yield DeadInput(str(error), f"{at.topic}/{at.partition}", record.offset, record.value)
        if found:
            # An instrument is in one partition.
            return
