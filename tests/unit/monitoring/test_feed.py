"""Reading the bus into the dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import structlog

from libs.bus.api import NewRecord, TopicPartition
from libs.bus.memory import MemoryBus
from libs.clock import SystemClock
from libs.domain.control import TradingState
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.records import DeadLetter, encode_dead_letter
from libs.wire.topics import ALERTS, BARS_CLOSED, MARKET_EVENTS
from services.monitoring.core import AlertLimits, AlertRules
from services.monitoring.dashboard import Dashboard
from services.monitoring.feed import BusFeed
from services.monitoring.settings import MonitoringSettings
from tests.kit.waiting import eventually
from tests.unit.monitoring import builders as make
from tests.unit.monitoring.builders import ACCOUNT, BTC, SECOND, START


class Clock(SystemClock):
    """The machine's, whose wall time stands still until a test sets it."""

    def __init__(self) -> None:
        self.wall_ns = SECOND

    def now_ns(self) -> int:
        return self.wall_ns


@contextmanager
def a_feed(
    bus: MemoryBus,
    clock: Clock | None = None,
    *,
    dashboard: Dashboard | None = None,
    alerts: AlertRules | None = None,
    positions: dict[TopicPartition, int] | None = None,
    **settings: Any,
) -> Iterator[tuple[BusFeed, Dashboard]]:
    dashboard = dashboard or Dashboard()
    alerts = alerts or AlertRules(AlertLimits(), started_ns=0)
    feed = BusFeed(
        bus,
        dashboard,
        alerts,
        Lock(),
        MonitoringSettings(push_interval_ms=50, **settings),
        ServiceMetrics("monitoring"),
        structlog.get_logger(),
        clock=clock or Clock(),
        watch_every_s=0.0,
        positions=positions,
    )
    try:
        yield feed, dashboard
    finally:
        feed.close()


def raw(bus: MemoryBus, topic: str, value: bytes) -> None:
    producer = bus.producer("raw")
    producer.begin()
    producer.send([NewRecord(topic, b"key", value)])
    producer.commit()


def test_topics_that_appear_later_are_taken_up() -> None:
    bus = MemoryBus()
    with a_feed(bus) as (feed, dashboard):
        feed.step(0)
        assert not feed.has_topics
        make.create_topics(bus)
        make.publish(bus, [make.a_bar(0), make.a_control_state()])
        eventually(lambda: dashboard.state()["bars"], step=lambda: feed.step(10))
        assert dashboard.state()["control"][ACCOUNT]["state"] == "ACTIVE"


def test_whole_session_is_shown() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    make.publish(bus, make.a_session(30))
    with a_feed(bus) as (feed, dashboard):
        eventually(lambda: dashboard.state()["market"].get(BTC, {}).get("mark"), step=lambda: feed.step(10))
        state = dashboard.state()
        assert len(state["bars"][BTC]["points"]) == 30
        assert state["fills"]
        assert state["topics"][BARS_CLOSED]["count"] == 30


def test_only_the_newest_market_events_are_read() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    trades = (
        make.a_trade(event_time=START + number, price_e8=make.e8(100.0 + number), venue_trade_id=number)
        for number in range(1000)
    )
    make.publish(bus, trades)
    with a_feed(bus, market_sample_records=20) as (feed, dashboard):
        eventually(lambda: BTC in dashboard.state()["market"], step=lambda: feed.step(10))
        market = dashboard.state()["market"][BTC]
        assert market["last"] == 1099.0
        assert market["forming"][3] == 1080.0


def test_unreadable_record_is_counted_and_the_rest_is_shown() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    raw(bus, BARS_CLOSED, b"\xff\xff")
    make.publish(bus, [make.a_bar(0)])
    with a_feed(bus) as (feed, dashboard):
        eventually(lambda: dashboard.state()["bars"], step=lambda: feed.step(10))


def test_dead_letter_is_shown_with_its_reason() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    letter = DeadLetter("bars", "price must be above 0", MARKET_EVENTS, 0, 17, b"", b"")
    raw(bus, f"dead.{MARKET_EVENTS}", encode_dead_letter(letter))
    with a_feed(bus) as (feed, dashboard):
        eventually(lambda: dashboard.state()["dead_letters"], step=lambda: feed.step(10))
        (row,) = dashboard.state()["dead_letters"]
        assert (row["service"], row["reason"], row["source_offset"]) == ("bars", "price must be above 0", 17)


def test_alert_goes_to_the_bus_and_comes_back_to_the_page() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    make.publish(bus, [make.a_control_state(TradingState.HALTED, reason="drawdown")])
    with a_feed(bus) as (feed, dashboard):
        eventually(lambda: dashboard.state()["alerts"], step=lambda: feed.step(10))
        assert dashboard.state()["alerts"][0]["name"] == f"trading_halted/{ACCOUNT}"


def test_restart_does_not_raise_what_stands_already() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    make.publish(bus, [make.a_control_state(TradingState.HALTED)])
    for _ in range(2):
        with a_feed(bus) as (feed, dashboard):
            eventually(lambda shown=dashboard: shown.state()["alerts"], step=lambda reader=feed: reader.step(10))
            for _ in range(3):
                feed.step(10)
    assert [decode(ALERTS, record.value).is_raised for record in read_topic(bus, ALERTS)] == [True]


def test_silent_market_raises_an_alert_and_new_data_clears_it() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    clock = Clock()
    with a_feed(bus, clock) as (feed, dashboard):
        make.publish(bus, [make.a_tick(START)])
        eventually(lambda: dashboard.state()["clock"]["market_time_ms"], step=lambda: feed.step(10))
        clock.wall_ns = 60 * SECOND
        eventually(lambda: dashboard.state()["alerts"], step=lambda: feed.step(10))
        make.publish(bus, [make.a_tick(START + SECOND)])
        eventually(lambda: not dashboard.state()["alerts"], step=lambda: feed.step(10))


def test_alerts_that_could_not_be_recorded_are_recorded_once_the_bus_is_back() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    alerts = AlertRules(AlertLimits(down_for_ms=0), started_ns=0)
    alerts.saw_bus("Kafka is away", SECOND)
    alerts.evaluate_bus(SECOND)
    alerts.saw_bus("", SECOND)
    with a_feed(bus, alerts=alerts) as (feed, _):
        eventually(lambda: not alerts.unrecorded, step=lambda: feed.step(10))
        for _ in range(3):
            feed.step(10)
    recorded = [decode(ALERTS, record.value) for record in read_topic(bus, ALERTS)]
    assert [(alert.name, alert.is_raised) for alert in recorded] == [("bus_down", True), ("bus_down", False)]


def test_reader_of_the_next_connection_goes_on_where_the_last_one_came_to() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    letter = encode_dead_letter(DeadLetter("bars", "price must be above 0", MARKET_EVENTS, 0, 17, b"", b""))
    shown, positions = Dashboard(), dict[TopicPartition, int]()
    for minute in range(2):
        raw(bus, f"dead.{MARKET_EVENTS}", letter)
        make.publish(bus, [make.a_trade(event_time=START + minute, venue_trade_id=minute + 1)])
        with a_feed(bus, dashboard=shown, positions=positions) as (feed, _):
            for _ in range(5):
                feed.step(10)
    state = shown.state()
    assert len(state["dead_letters"]) == 2
    assert state["market"][BTC]["forming"][5] == 2 * make.a_trade().quantity_e8 / 10**8


def test_feed_commits_nothing_and_joins_no_group() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    make.publish(bus, [make.a_bar(0)])
    with a_feed(bus) as (feed, dashboard):
        eventually(lambda: dashboard.state()["bars"], step=lambda: feed.step(10))
    at = TopicPartition(BARS_CLOSED, 0)
    assert bus.committed("monitoring", [at]) == {at: None}
