"""A live market is followed from its first frame on, through restarts and faults, against the simulated exchange."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest

from libs.domain.bars import Bar
from libs.domain.events import DeadInput
from libs.domain.instruments import find_instrument
from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    LateTrade,
    MarketEvent,
    MarkPrice,
    OpenInterest,
    Trade,
)
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.venues.binance import BinanceMarketData
from libs.venues.binance_frames import BinanceDecoder
from libs.venues.registry import is_answering
from libs.venues.rest import RestClient
from services.bars.core import BarsCore
from services.ingestion.live import LiveSource
from tests.kit.builders import BTC
from tests.kit.waiting import eventually
from tests.unit.exchange.served import Served, Through, an_exchange

Output = MarketEvent | DeadInput
MakeLive = Callable[..., LiveSource]


@pytest.fixture
def exchange() -> Iterator[Served]:
    with an_exchange(speed=15, is_running=True) as served:
        yield served


@pytest.fixture
def make_live() -> Iterator[MakeLive]:
    with ExitStack() as made:

        def make(url: str, transport: Through | None = None) -> LiveSource:
            source = LiveSource(
                BinanceMarketData(RestClient(url, transport=transport), BTC, url.replace("http", "ws")),
                BinanceDecoder(),
                instrument=BTC,
                history_bars=20,
                # On a slow machine nothing is silent, and no trade late, only because it was a while in coming.
                stale_after_s=60.0,
                wait_for_trades_s=600.0,
                open_interest_every_s=0.3,
                start_timeout_s=0.0,
            )
            made.callback(source.close)
            return source

        yield make


def _read_until(source: LiveSource, is_enough: Callable[[list[Output]], object]) -> list[Output]:
    out: list[Output] = []
    eventually(lambda: is_enough(out), within_s=120, step=lambda: out.extend(source.read(1000, 100)))
    return out


def _trade_ids(events: list[Output]) -> list[int]:
    return [event.venue_trade_id for event in events if isinstance(event, Trade)]


def _seconds(events: list[Output]) -> int:
    return sum(isinstance(event, ClockTick) for event in events)


def _deltas_follow_on(events: list[Output]) -> bool:
    """Whether each delta continues the one before it or follows a snapshot, which a slow reader takes again."""
    last: int | None = None
    for event in events:
        if isinstance(event, DepthSnapshot):
            last = None
        elif isinstance(event, DepthDelta):
            if last not in (None, event.previous_final_update_id):
                return False
            last = event.final_update_id
    return last is not None


@pytest.mark.slow
def test_live_market_has_history_join_minute_book_and_every_trade(exchange: Served, make_live: MakeLive) -> None:
    source = make_live(exchange.url)
    source.open(None)
    events = _read_until(source, lambda out: _seconds(out) > 200)
    kinds = {type(event) for event in events}
    assert kinds >= {Trade, BestQuote, DepthDelta, DepthSnapshot, MarkPrice, OpenInterest, ExchangeBar, ClockTick}
    ids = _trade_ids(events)
    assert ids == list(range(ids[0], ids[-1] + 1))
    assert _deltas_follow_on(events)
    bars = [event for event in events if isinstance(event, ExchangeBar)]
    assert len({right.open_time - left.open_time for left, right in pairwise(bars)}) == 1
    # At 15 times real speed a slow machine lets one connection fall behind the other by more than bars wait usually.
    core = BarsCore(grace_ms=59_999)
    ones = [
        bar
        for event in events
        if not isinstance(event, DeadInput)
        for bar in core.handle(event)
        if isinstance(bar, Bar) and bar.timeframe == "1m"
    ]
    assert {right.open_time - left.open_time for left, right in pairwise(ones)} == {60 * NANOSECONDS}
    assert not ones[-1].is_history
    assert core.counters(BTC)["late_trades"] == 0


@pytest.mark.slow
def test_restart_fetches_the_trades_missed_meanwhile(exchange: Served, make_live: MakeLive) -> None:
    first = make_live(exchange.url)
    first.open(None)
    before = _read_until(first, lambda out: len(_trade_ids(out)) > 20)
    cursor = first.cursor()
    first.close()
    second = make_live(exchange.url)
    second.open(cursor)
    begin = _trade_ids(before)[0]

    # Where a gap takes longer to fill than the stream is held back for, its trades come late, behind newer ones.
    def numbers(out: list[Output]) -> list[int]:
        late = [event.venue_trade_id for event in out if isinstance(event, LateTrade)]
        return sorted(_trade_ids(before) + _trade_ids(out) + late)

    after = _read_until(second, lambda out: len(_trade_ids(out)) > 50 and numbers(out)[-1] - begin < len(numbers(out)))
    ids = _trade_ids(before) + _trade_ids(after)
    assert ids == sorted(ids)
    assert numbers(after) == list(range(begin, ids[-1] + 1))
    assert second.gaps >= 1


def test_a_quiet_market_is_ready_once_its_stream_is_connected(make_live: MakeLive) -> None:
    with an_exchange() as served:
        source = make_live(served.url)
        source.open(None)
        with pytest.raises(DependencyUnavailable, match="has not been connected"):
            source.check_venue()
        events: list[Output] = []
        eventually(lambda: is_ready(source), step=lambda: events.extend(source.read(1000, 20)), within_s=60)
        assert not _trade_ids(events)


def is_ready(source: LiveSource) -> bool:
    try:
        source.check_venue()
    except DependencyUnavailable:
        return False
    return True


@pytest.mark.slow
def test_lost_connection_is_made_again_and_nothing_is_missing(make_live: MakeLive) -> None:
    with an_exchange(speed=15, is_running=True) as served:
        source = make_live(served.url)
        source.open(None)
        events = _read_until(source, lambda out: len(_trade_ids(out)) > 20)
        source.check_venue()
        port = int(served.address.rsplit(":", 1)[1])

    def read_on() -> None:
        events.extend(source.read(1000, 50))
        source.check_venue()

    with pytest.raises(DependencyUnavailable, match="has not been connected"):
        eventually(lambda: False, step=read_on, within_s=60)
    with an_exchange(speed=15, is_running=True, port=port):
        last = _trade_ids(events)[-1]
        events += _read_until(source, lambda out: [number for number in _trade_ids(out) if number > last + 20])
        source.check_venue()
    ids = _trade_ids(events)
    assert ids == list(range(ids[0], ids[-1] + 1))
    assert source.gaps >= 1


def test_venue_that_does_not_answer_is_named(make_live: MakeLive) -> None:
    transport = Through()
    transport.failures = 10**6
    with pytest.raises(DependencyUnavailable, match="choose another market"):
        make_live("http://127.0.0.1:9", transport).open(None)


def test_market_whose_trading_rules_are_not_those_declared_is_refused(
    exchange: Served, make_live: MakeLive, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = replace(find_instrument(BTC), tick_size=Decimal("0.01"))
    monkeypatch.setattr("libs.venues.rules.find_instrument", lambda _name: declared)
    with pytest.raises(BadInput, match=r"tick size is 0\.1 at the venue, declared is 0\.01"):
        make_live(exchange.url).open(None)


def test_cursor_of_another_market_is_refused(exchange: Served, make_live: MakeLive) -> None:
    with pytest.raises(BadInput, match="start a new session"):
        make_live(exchange.url).open(b'{"origin":"simulated:7"}')


def test_probe_tells_whether_the_venue_answers(exchange: Served) -> None:
    assert is_answering(BTC, 2.0, exchange.url)
    assert not is_answering(BTC, 0.5, "http://127.0.0.1:9")
