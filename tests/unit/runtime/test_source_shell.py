"""What a source brings is published with its cursor; gaps and what cannot be read are counted."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from libs.bus.api import TopicSpec
from libs.bus.memory import MemoryBus
from libs.clock import SimulatedClock
from libs.domain.events import DeadInput
from libs.domain.market import Gap, GapKind, GapState, MarketEvent
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.source import FeedHealth, SourceShell
from libs.wire import topics
from tests.kit.builders import BTC, START, a_trade


class OneBatch:
    """A source of one batch."""

    def __init__(self, events: Sequence[MarketEvent | DeadInput]) -> None:
        self._events = list(events)
        self.feeds: Sequence[FeedHealth] = ()

    def open(self, cursor: bytes | None) -> None:
        assert cursor is None

    def read(self, max_events: int, timeout_ms: int) -> Sequence[MarketEvent | DeadInput]:
        assert max_events
        assert timeout_ms >= 0
        events, self._events = self._events, []
        return events

    def cursor(self) -> bytes:
        return b"behind"

    def check_venue(self) -> None:
        return

    def feed_health(self) -> Sequence[FeedHealth]:
        return self.feeds

    @property
    def is_finished(self) -> bool:
        return not self._events

    def close(self) -> None:
        return


def test_gaps_and_dead_letters_are_counted() -> None:
    gap = Gap(BTC, "g/late", START, START, "g", GapKind.TRADES, GapState.LATE, START, START, 1, 2, "lost")
    dead = DeadInput(reason="no JSON", source="market", position=1, payload=b"{")
    source, metrics = OneBatch([a_trade(1), gap, dead]), ServiceMetrics("ingestion")
    with MemoryBus() as bus:
        bus.create_topics(TopicSpec(name, 1) for name in topics.TOPICS)
        shell = SourceShell("ingestion", source, bus, metrics, structlog.get_logger(), clock=SimulatedClock(START))
        shell.open()
        assert shell.step(0) == 3
        shell.close()
    labels = {"service": "ingestion", "kind": "trades", "state": "late"}
    assert metrics.registry.get_sample_value("perpflow_gaps_total", labels) == 1
    labels = {"service": "ingestion", "topic": topics.MARKET_EVENTS}
    assert metrics.registry.get_sample_value("perpflow_dead_letters_total", labels) == 1


def test_how_the_feeds_are_is_told_once_a_second() -> None:
    source, metrics, clock = OneBatch([]), ServiceMetrics("ingestion"), SimulatedClock(START)
    with MemoryBus() as bus:
        bus.create_topics(TopicSpec(name, 1) for name in topics.TOPICS)
        shell = SourceShell("ingestion", source, bus, metrics, structlog.get_logger(), clock=clock)
        shell.open()
        for reconnects, levels in ((1, (1000, 900)), (3, (0, 0))):
            clock.advance(2.0)
            source.feeds = [FeedHealth(BTC, {"trade": 2.5}, {"market": reconnects}, -0.25, levels)]
            shell.step(0)
        source.feeds = [FeedHealth(BTC, {"trade": 9.0}, {"market": 9}, None, None)]
        shell.step(0)
        shell.close()
    feed = {"service": "ingestion", "instrument": BTC}
    read = metrics.registry.get_sample_value
    assert read("perpflow_message_age_seconds", {**feed, "kind": "trade"}) == 2.5
    assert read("perpflow_stream_reconnects_total", {**feed, "stream": "market"}) == 3
    assert read("perpflow_clock_offset_seconds", feed) == -0.25
    assert read("perpflow_book_levels", {**feed, "side": "asks"}) == 0
