"""The simulated market comes through whole, whatever is down meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from libs.domain.events import DeadInput
from libs.domain.market import ClockTick, ExchangeBar, MarketEvent
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.venues.rest import RestClient
from libs.venues.simulated import SimulatedMarketClient
from services.exchange.core import generate_events, generate_history
from services.ingestion.core import Normaliser
from services.ingestion.feed import Pacer
from services.ingestion.merged import MergedSource
from services.ingestion.simulated import SimulatedSource
from tests.kit.builders import BTC, START
from tests.kit.waiting import eventually
from tests.unit.exchange.served import Through, an_exchange
from tests.unit.ingestion.builders import read_all

ETH = "ETHUSDT.BINANCE"


class _Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


MakeSource = Callable[..., SimulatedSource]


@pytest.fixture
def make_source() -> Iterator[MakeSource]:
    with ExitStack() as made:

        def make(
            url: str,
            instrument: str = BTC,
            transport: Through | None = None,
            pacer: Pacer | None = None,
            is_renamed: bool = False,
        ) -> SimulatedSource:
            time = _Time()
            source = SimulatedSource(
                SimulatedMarketClient(RestClient(url, transport=transport)),
                instrument=instrument,
                pacer=pacer or Pacer(0),
                follows_clock=pacer is not None,
                span_ns=180 * NANOSECONDS,
                history_bars=1600,
                is_renamed=is_renamed,
                monotonic=lambda: time.seconds,
                sleep=time.sleep,
            )
            made.callback(source.close)
            return source

        yield make


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with an_exchange() as served:
        yield served.url


@pytest.mark.slow
def test_history_then_stream_until_the_span_ends(url: str, make_source: MakeSource) -> None:
    source = make_source(url)
    source.open(None)
    events = read_all(source)
    assert events[:1600] == list(generate_history(7, minutes=1600))
    normaliser = Normaliser(BTC)
    expected = [item for event in generate_events(7, minutes=4) for item in normaliser.accept(event)]
    assert events[1600:] == expected[: len(events) - 1600]
    last = events[-1]
    assert isinstance(last, ClockTick)
    assert last.event_time == START + 181 * NANOSECONDS


@pytest.mark.slow
def test_several_instruments_are_markets_under_their_own_names_in_one_source(url: str, make_source: MakeSource) -> None:
    alone = make_source(url)
    alone.open(None)
    expected = read_all(alone)
    merged = MergedSource({BTC: make_source(url), ETH: make_source(url, ETH, is_renamed=True)})
    merged.open(None)
    events = [event for event in read_all(merged) if not isinstance(event, DeadInput)]
    assert [event for event in events if event.instrument == BTC] == expected
    renamed = [event for event in events if event.instrument == ETH]
    assert [event.event_id.replace("ETHUSDT", "BTCUSDT") for event in renamed] == [
        event.event_id for event in expected if not isinstance(event, DeadInput)
    ]
    assert len({event.event_id for event in events}) == len(events)


@pytest.mark.slow
def test_outages_and_restarts_change_nothing(url: str, make_source: MakeSource) -> None:
    undisturbed = make_source(url)
    undisturbed.open(None)
    whole = read_all(undisturbed)
    cursor: bytes | None = None
    out: list[MarketEvent | DeadInput] = []
    for _ in range(100):
        transport = Through()
        transport.failures = 3
        source = make_source(url, transport=transport)
        source.open(cursor)
        transport.failures = 2
        for _ in range(5):
            out += source.read(113, 100)
        cursor = source.cursor()
        source.close()
        if source.is_finished:
            break
    assert out == whole


def test_exchange_that_is_away_makes_the_source_unready_until_it_is_back(url: str, make_source: MakeSource) -> None:
    transport = Through()
    source = make_source(url, transport=transport)
    source.open(None)
    source.check_venue()
    while len(source.read(1000, 10)) == 1000:
        pass
    transport.failures = 10**6
    eventually(lambda: not source.read(1000, 10) and source._venue_error)
    with pytest.raises(DependencyUnavailable):
        source.check_venue()
    transport.failures = 0
    eventually(lambda: source.read(1000, 10))
    source.check_venue()


def test_exchange_that_stays_away_is_named(url: str, make_source: MakeSource) -> None:
    transport = Through()
    transport.failures = 10**6
    with pytest.raises(DependencyUnavailable, match="start the simulated exchange"):
        make_source(url, transport=transport).open(None)


@pytest.mark.slow
def test_cursor_of_another_seed_is_refused(url: str, make_source: MakeSource) -> None:
    source = make_source(url)
    source.open(None)
    source.read(10, 10)
    with an_exchange(seed=8) as other, pytest.raises(BadInput, match="another seed"):
        make_source(other.url).open(source.cursor())


def test_unknown_symbol_is_refused(url: str, make_source: MakeSource) -> None:
    with pytest.raises(BadInput, match="lists BTCUSDT"):
        make_source(url, "ETHUSDT.BINANCE").open(None)


def test_history_is_marked_as_such(url: str, make_source: MakeSource) -> None:
    source = make_source(url)
    source.open(None)
    assert all(isinstance(bar, ExchangeBar) and bar.is_history for bar in source.read(50, 10))


@pytest.mark.slow
def test_frames_come_when_the_exchanges_own_clock_reaches_them(url: str, make_source: MakeSource) -> None:
    time = _Time()
    source = make_source(url, pacer=Pacer(1.0, monotonic=lambda: time.seconds, sleep=time.sleep))
    with RestClient(url) as rest:
        exchange_ns = SimulatedMarketClient(rest).now_ms() * 1_000_000
    source.open(None)
    stream = [event for event in read_all(source) if not isinstance(event, ExchangeBar)]
    waited_ns = time.seconds * NANOSECONDS
    assert waited_ns > 0
    assert stream[-1].event_time - exchange_ns == pytest.approx(waited_ns, abs=2 * NANOSECONDS)
