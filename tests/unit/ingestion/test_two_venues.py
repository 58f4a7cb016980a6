"""Several instruments of two venues in one ingestion, each whole; `make two-venues` is the long form."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from libs.clock import SYSTEM_CLOCK
from libs.domain.bars import Bar, BarRevision
from libs.domain.events import DeadInput
from libs.domain.market import DepthDelta, DepthSnapshot, Gap, MarketEvent, Trade
from libs.domain.numbers import parse_e8
from libs.runtime.errors import BadInput
from libs.runtime.source import EventSource
from libs.venues.registry import find_venue_of
from libs.venues.rest import RestClient
from services.bars.core import BarsCore
from services.ingestion.building import build_source
from services.ingestion.live import LiveSource
from services.ingestion.merged import MergedSource
from services.ingestion.settings import IngestionSettings
from tests.kit.fake_venues import FakeVenues, serve_venues
from tests.kit.played_market import MINUTE_MS, Book, PlayedMarket, find_wrong_bars, simulated_market
from tests.kit.waiting import eventually

START_MS = 1_767_225_600_000
# NKNUSDT is declared nowhere here: any symbol of a venue can be followed.
INSTRUMENTS = ("BTCUSDT.BINANCE", "NKNUSDT.BINANCE", "BTCUSDT.BYBIT", "XRPUSDT.BYBIT")


class VenuesClock:
    """Wall time is the venues'; the rest is the machine's."""

    def __init__(self, venues: FakeVenues) -> None:
        self._venues = venues

    def now_ns(self) -> int:
        return (self._venues.now_ms + 5) * 1_000_000

    def monotonic_s(self) -> float:
        return SYSTEM_CLOCK.monotonic_s()

    def sleep(self, seconds: float) -> None:
        SYSTEM_CLOCK.sleep(seconds)


def make_source(venues: FakeVenues, **settings: Any) -> MergedSource:
    sources: dict[str, EventSource] = {}
    for market in venues.markets.values():
        venue = find_venue_of(market.instrument)
        sources[market.instrument] = LiveSource(
            venue.open_market(RestClient(venues.rest_url), market.instrument, venues.stream_url),
            venue.make_decoder(),
            instrument=market.instrument,
            history_bars=0,
            logger=structlog.get_logger(),
            clock=VenuesClock(venues),
            **{"stale_after_s": 60.0, "wait_for_trades_s": 60.0, **settings},
        )
    return MergedSource(sources)


class Follower:
    """Reads a source until there is no more."""

    def __init__(self, source: EventSource, venues: FakeVenues) -> None:
        self.source, self.venues = source, venues
        self.out: list[MarketEvent] = []
        self._quiet = 0

    def read(self) -> None:
        events = self.source.read(5000, 30)
        self._quiet = 0 if events or not self.venues.has_sent_all else self._quiet + 1
        assert not [event for event in events if isinstance(event, DeadInput)]
        self.out.extend(event for event in events if not isinstance(event, DeadInput))

    def read_all(self) -> None:
        self._quiet = 0
        eventually(lambda: self._quiet >= 3, step=self.read, within_s=60)


@pytest.mark.slow
def test_markets_of_two_venues_are_followed_at_once_and_their_bars_are_those_of_their_trades() -> None:
    recording = simulated_market(seed=7, minutes=2)
    markets = [PlayedMarket(name, recording, START_MS, number) for number, name in enumerate(INSTRUMENTS)]
    with serve_venues(markets) as venues:
        source = make_source(venues)
        follower = Follower(source, venues)
        # Metrics take these before anything is connected.
        assert {count for feed in source.feed_health() for count in feed.reconnects.values()} == {0}
        try:
            source.open(None)
            # Binance has two connections for each, Bybit one.
            eventually(lambda: venues.connections == 6, step=follower.read, within_s=60)
            # Each begins on the minute, whichever of its connections is read first.
            venues.publish(START_MS + 1)
            begun = set(INSTRUMENTS)
            eventually(lambda: {event.instrument for event in follower.out} == begun, step=follower.read, within_s=60)
            for minute in range(1, 4):
                # Market time runs faster than the streams: none may be a minute ahead of another.
                venues.publish(START_MS + minute * MINUTE_MS)
                follower.read_all()
            venues.publish(START_MS + 3 * MINUTE_MS + 1000)
            follower.read_all()
        finally:
            source.close()
    core = BarsCore()
    bars: dict[str, list[Bar | BarRevision]] = {name: [] for name in INSTRUMENTS}
    for event in follower.out:
        for bar in core.handle(event):
            bars[bar.instrument].append(bar)
    for market in markets:
        assert len([bar for bar in bars[market.instrument] if bar.timeframe == "1m"]) == 3
        assert not find_wrong_bars(market, bars[market.instrument])
    assert not [event for event in follower.out if isinstance(event, Gap)]


@pytest.mark.slow
def test_connections_of_both_venues_are_renewed_and_nobody_notices() -> None:
    recording = simulated_market(seed=7, minutes=2)
    markets = [PlayedMarket(name, recording, START_MS) for name in ("BTCUSDT.BINANCE", "BTCUSDT.BYBIT")]
    with serve_venues(markets) as venues:
        source = make_source(venues, renew_after_s=0.2)
        follower = Follower(source, venues)
        try:
            source.open(None)
            eventually(lambda: venues.connections == 3, step=follower.read, within_s=60)

            def play() -> None:
                if venues.now_ms < START_MS + 100_000:
                    venues.publish(venues.now_ms + 100)
                follower.read()

            def renewals() -> list[int]:
                return [count for feed in source.feed_health() for count in feed.reconnects.values()]

            eventually(lambda: min(renewals()) >= 2, step=play, within_s=120)
            follower.read_all()
        finally:
            source.close()
    assert not [event for event in follower.out if isinstance(event, Gap)]
    for market in markets:
        own = [event for event in follower.out if event.instrument == market.instrument]
        trades = [event.event_id for event in own if isinstance(event, Trade)]
        assert len(trades) == len(set(trades)) == sum(minute.count for minute in market.minutes.values())
        book = Book({}, {})
        for event in own:
            if isinstance(event, DepthSnapshot):
                book = Book({}, {})
            if isinstance(event, DepthSnapshot | DepthDelta):
                book.apply({"b": levels_of(event, "bid"), "a": levels_of(event, "ask")})
        assert book == numeric(market.book)


def levels_of(event: DepthSnapshot | DepthDelta, side: str) -> list[tuple[str, str]]:
    prices, quantities = getattr(event, f"{side}_prices_e8"), getattr(event, f"{side}_quantities_e8")
    return [(str(price), str(quantity)) for price, quantity in zip(prices, quantities, strict=True)]


def numeric(book: Book) -> Book:
    return Book(*({str(parse_e8(p)): str(parse_e8(q)) for p, q in side.items()} for side in (book.bids, book.asks)))


def test_one_address_for_two_venues_is_refused() -> None:
    settings = IngestionSettings(market="live", instruments=INSTRUMENTS, rest_url="http://127.0.0.1:1")
    with pytest.raises(BadInput, match="are addresses of one venue, the instruments are of BINANCE, BYBIT"):
        build_source(settings, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        ({"rest_urls": {"OKX": "http://127.0.0.1:1"}}, "unknown venue 'OKX'"),
        ({"stream_urls": {"BYBIT": "http://127.0.0.1:1"}}, "give one that begins with ws://"),
    ],
)
def test_an_address_of_no_venue_or_of_another_kind_is_refused(urls: dict[str, dict[str, str]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        IngestionSettings(**urls)  # type: ignore[arg-type]
