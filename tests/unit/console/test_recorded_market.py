"""A session's market from its topic: the same run as over what the topic was recorded from."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from itertools import islice

import pytest

from libs.bus.api import NewRecord, TopicSpec
from libs.bus.memory import MemoryBus
from libs.domain.events import DeadInput, Event
from libs.runtime.errors import BadInput
from libs.wire import encode
from libs.wire.topics import MARKET_EVENTS
from services.backtest.inputs import open_simulation
from services.backtest.options import BacktestOptions
from services.backtest.run import run_backtest
from services.console.recorded_market import open_bus_market
from services.exchange.core import generate_events
from tests.unit.backtest.builders import MINUTE, START

BTC, ETH = "BTCUSDT.BINANCE", "ETHUSDT.BINANCE"
ORIGIN = "session 7"


def a_bus(events: Iterable[Event], partitions: int = 1, garbage: bytes | None = None) -> MemoryBus:
    bus = MemoryBus(secrets.token_hex(4))
    bus.create_topics([TopicSpec(MARKET_EVENTS, partitions)])
    producer = bus.producer("test")
    producer.begin()
    encoded = map(encode, events)
    producer.send(NewRecord(one.topic, one.key, one.payload, partition=partitions - 1) for one in encoded)
    if garbage is not None:
        producer.send([NewRecord(MARKET_EVENTS, BTC.encode(), garbage)])
    producer.commit()
    return bus


def market_events(minutes: int, history_bars: int = 0) -> Iterator[Event]:
    for event in open_simulation(7, minutes=minutes, history_bars=history_bars).events:
        assert not isinstance(event, DeadInput)
        yield event


@pytest.mark.slow
def test_run_over_a_topic_has_the_digests_of_the_run_over_its_source() -> None:
    options = BacktestOptions(
        BTC, champion="starter", trade_from=START + MINUTE // 2, until=START + 2 * MINUTE, digests=True
    )
    bus = a_bus(market_events(3, history_bars=30))
    recorded = run_backtest(open_bus_market(bus, BTC, origin=ORIGIN), options)
    made = run_backtest(open_simulation(7, minutes=3, history_bars=30), options)
    assert recorded.digests == made.digests
    assert recorded.record.equity == made.record.equity
    assert recorded.description == {"source": "bus", "name": ORIGIN, "instrument": BTC}


def test_instrument_is_found_in_its_partition() -> None:
    bus = a_bus(islice(generate_events(7, minutes=1), 50), partitions=3)
    assert len(list(open_bus_market(bus, BTC, origin=ORIGIN).events)) == 50
    assert len(list(open_bus_market(bus, BTC, origin=ORIGIN, partition=2).events)) == 50
    with pytest.raises(BadInput, match="session 7 holds no market events of ETHUSDT"):
        open_bus_market(bus, ETH, origin=ORIGIN)


def test_record_that_cannot_be_read_is_a_dead_input() -> None:
    bus = a_bus(islice(generate_events(7, minutes=1), 3), garbage=b"\xff")
    *_, last = open_bus_market(bus, BTC, origin=ORIGIN).events
    assert isinstance(last, DeadInput)
    assert (last.source, last.position, last.payload) == ("market.events.v1/0", 3, b"\xff")


def test_bus_without_a_market_is_refused() -> None:
    with pytest.raises(BadInput, match=r"has no topic market.events.v1; check the address and --session"):
        open_bus_market(MemoryBus(secrets.token_hex(4)), BTC, origin=ORIGIN)
