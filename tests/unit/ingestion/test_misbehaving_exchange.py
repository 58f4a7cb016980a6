"""Whatever an exchange does, each trade is there once or reported missing, and bars are right or marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import httpx
import orjson
import pytest
import structlog

from libs.clock import SYSTEM_CLOCK
from libs.domain.bars import Bar, BarRevision
from libs.domain.events import DeadInput
from libs.domain.market import DepthDelta, DepthSnapshot, Gap, GapKind, GapState, LateTrade, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS
from libs.runtime.source import FeedHealth
from libs.venues.binance import BinanceMarketData
from libs.venues.binance_frames import BinanceDecoder
from libs.venues.rest import RequestBudget, RestClient
from services.bars.core import BarsCore
from services.ingestion.core.stream import Stream
from services.ingestion.live import LiveSource
from tests.kit.builders import BTC
from tests.kit.fake_exchange import (
    Asking,
    Close,
    ExchangeClock,
    FakeExchange,
    MarketFrame,
    Mishap,
    Sending,
    a_fake_exchange,
    encode_frame,
    pause,
    recorded_frames,
)
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow
Output = MarketEvent | DeadInput
MINUTE = 60 * NANOSECONDS
CHUNK = 60
# The frame at which things go wrong, in the first minute of two.


def from_ms() -> int:
    """Return when a misbehaviour begins: the recording is made when a test asks, not when tests are listed."""
    return recorded_frames()[1][0].at_ms + 30_000


def is_due(frame: MarketFrame, kind: str) -> bool:
    return frame.kind == kind and frame.at_ms >= from_ms()


class Closes(Mishap):
    """A connection ends in the middle."""

    def __init__(self, category: str, code: int = 0) -> None:
        self.category, self.code = category, code

    def send(self, sending: Sending) -> Iterable[bytes]:
        if sending.frame.category == self.category and sending.connection == 0 and sending.frame.at_ms >= from_ms():
            raise Close(self.code)
        return (sending.frame.payload,)


class Drops(Mishap):
    """Frames of a kind are not sent."""

    def __init__(self, kind: str, count: int) -> None:
        self.kind, self.count = kind, count

    def send(self, sending: Sending) -> Iterable[bytes]:
        if is_due(sending.frame, self.kind) and sending.exchange.memory.get("dropped", 0) < self.count:
            sending.exchange.once("dropped")
            return ()
        return (sending.frame.payload,)


class Sends(Mishap):
    """Something is sent that no frame of this market is, or in place of one."""

    def __init__(self, kind: str, payload: bytes | None = None, **changed: Any) -> None:
        self.kind, self.payload, self.changed = kind, payload, changed

    def send(self, sending: Sending) -> Iterable[bytes]:
        if not is_due(sending.frame, self.kind) or not sending.exchange.once("sent"):
            return (sending.frame.payload,)
        if self.payload is not None:
            return (self.payload, sending.frame.payload)
        return (sending.frame.changed(**self.changed),)


class PartialBook(Mishap):
    """The top of the book comes in the place of its changes."""

    def send(self, sending: Sending) -> Iterable[bytes]:
        if is_due(sending.frame, "depthUpdate") and sending.exchange.once("sent"):
            return (encode_frame("btcusdt@depth5@100ms", sending.frame.data), sending.frame.payload)
        return (sending.frame.payload,)


class Repeats(Mishap):
    """Every frame comes twice."""

    def send(self, sending: Sending) -> Iterable[bytes]:
        return (sending.frame.payload, sending.frame.payload)


class Swaps(Mishap):
    """Two trades come in the wrong order."""

    def __init__(self) -> None:
        self.held: MarketFrame | None = None

    def send(self, sending: Sending) -> Iterable[bytes]:
        if is_due(sending.frame, "aggTrade"):
            if self.held is not None:
                held, self.held = self.held, None
                return (sending.frame.payload, held.payload)
            if sending.exchange.once("held"):
                self.held = sending.frame
                return ()
        return (sending.frame.payload,)


class ClockIsOff(Mishap):
    """The venue's clock is minutes ahead of ours."""

    def send(self, sending: Sending) -> Iterable[bytes]:
        data = sending.frame.data
        late = {name: data[name] + 120_000 for name in ("E", "T") if name in data}
        return (sending.frame.changed(**late),)


class FallsSilent(Mishap):
    """A connection lives and brings no more of some kinds: half open where it is all of them."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    def send(self, sending: Sending) -> Iterable[bytes]:
        if sending.frame.kind in self.kinds and sending.connection == 0 and sending.frame.at_ms >= from_ms():
            return ()
        return (sending.frame.payload,)


class AnswersBadly(Drops):
    """Trades are missed, and the first questions for them fail."""

    def __init__(self, *answers: httpx.Response | Exception, slow_s: float = 0.0) -> None:
        super().__init__("aggTrade", 5)
        self.answers = list(answers)
        self.slow_s = slow_s

    def answer(self, asking: Asking) -> httpx.Response:
        if asking.path != "aggTrades":
            return asking.usual
        if self.slow_s and asking.exchange.once("slow"):
            pause(self.slow_s)
        if not self.answers:
            return asking.usual
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class BadBooks(Closes):
    """The first snapshots after a loss are of no use."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__("public")
        self.answers = list(answers)

    def answer(self, asking: Asking) -> httpx.Response:
        if asking.path == "depth" and asking.exchange.connections["public"] > 1 and self.answers:
            return httpx.Response(200, content=self.answers.pop(0))
        return asking.usual


class OldBook(Closes):
    """A snapshot is older than the changes that came before it."""

    def answer(self, asking: Asking) -> httpx.Response:
        if asking.path == "depth" and asking.exchange.connections["public"] > 1 and asking.exchange.once("old"):
            return httpx.Response(200, content=orjson.dumps(asking.exchange.book(100)))
        return asking.usual


class Followed:
    """What came of following an exchange."""

    def __init__(self, exchange: FakeExchange) -> None:
        self.exchange = exchange
        self.out: list[Output] = []
        self.health = FeedHealth(BTC, {}, {}, None, None)
        self.ended_s = 0.0

    def take(self, read: Iterable[Output]) -> None:
        """Add what was read, and note when a gap ended last."""
        for event in read:
            self.out.append(event)
            if isinstance(event, Gap) and event.state is not GapState.OPEN:
                self.ended_s = SYSTEM_CLOCK.monotonic_s()

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.out if isinstance(event, Gap)]

    @property
    def dead(self) -> list[str]:
        return [event.reason for event in self.out if isinstance(event, DeadInput)]

    def missing(self) -> list[int]:
        """The trades that are neither there nor reported missing."""
        there = {event.venue_trade_id for event in self.out if isinstance(event, Trade | LateTrade)}
        lost = [gap for gap in self.gaps if gap.kind is GapKind.TRADES and gap.state is GapState.LOST]
        published = [trade["a"] for trade in self.exchange.trades]
        return [
            number
            for number in published
            if number not in there and not any(gap.first_number <= number <= gap.last_number for gap in lost)
        ]

    def check(self) -> None:
        """Every trade once and in order; bars as from all frames, but for those that a gap marks."""
        ids = [event.venue_trade_id for event in self.out if isinstance(event, Trade)]
        assert ids == sorted(set(ids))
        late = [event.venue_trade_id for event in self.out if isinstance(event, LateTrade)]
        assert not set(ids) & set(late)
        assert len(late) == len(set(late))
        expected = expected_bars()
        bars = self.bars()
        assert bars
        last = {bar.open_time: bar for bar in bars}
        for bar in bars:
            # Right, or marked and revised: then the revision is right.
            if not bar.is_incomplete and (isinstance(bar, BarRevision) or bar == last[bar.open_time]):
                assert prices_of(bar) == prices_of(expected[bar.open_time])
        if GapState.LOST not in {gap.state for gap in self.gaps}:
            assert not any(bar.is_incomplete for bar in last.values())

    def bars(self) -> list[Bar | BarRevision]:
        return bars_of([event for event in self.out if not isinstance(event, DeadInput)])


def prices_of(bar: Bar | BarRevision) -> tuple[Any, ...]:
    return (bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8, bar.volume_e8, bar.taker_buy_volume_e8, bar.trade_count)


def bars_of(events: Iterable[MarketEvent]) -> list[Bar | BarRevision]:
    core = BarsCore()
    return [bar for event in events for bar in core.handle(event) if bar.timeframe == "1m"]


def raw_events() -> list[MarketEvent]:
    stream, decoder = Stream(BTC), BinanceDecoder()
    events: list[MarketEvent] = []
    for frame in recorded_frames()[1]:
        opened = decoder.open(frame.payload)
        assert opened is not None
        for event in decoder.decode(opened, received_time=frame.at_ms * 1_000_000, fallback_time=1):
            events += stream.accept(event)
    # Silence closes the last bar.
    last = stream.normaliser.max_event_time
    return events + stream.tick(last - last % MINUTE + MINUTE + NANOSECONDS, last)


@cache
def expected_bars() -> dict[int, Bar | BarRevision]:
    return {bar.open_time: bar for bar in bars_of(raw_events())}


def make_source(exchange: FakeExchange, **settings: Any) -> LiveSource:
    clock = ExchangeClock(exchange)
    rest = RestClient(
        "http://exchange.test", transport=httpx.MockTransport(exchange.respond), budget=RequestBudget(2400, clock=clock)
    )
    terms = {"stale_after_s": 60.0, "wait_for_trades_s": 60.0, "start_timeout_s": 60.0, "history_bars": 0, **settings}
    return LiveSource(
        BinanceMarketData(rest, BTC, exchange.url),
        BinanceDecoder(),
        instrument=BTC,
        logger=structlog.get_logger(),
        clock=clock,
        **terms,
    )


def follow(mishap: Mishap, *, restarts: bool = False, **settings: Any) -> Followed:
    """Follow an exchange through all its frames, until nothing is missing that can be had."""
    with a_fake_exchange(mishap) as exchange:
        followed = Followed(exchange)
        source = make_source(exchange, **settings)
        try:
            source.open(None)
            eventually(
                lambda: all(exchange.connections.values()),
                step=lambda: followed.take(source.read(5000, 10)),
                within_s=30,
            )
            # The first frame begins the minute, so that its bar is built from trades.
            exchange.publish(1)
            eventually(lambda: followed.out, step=lambda: followed.take(source.read(5000, 10)), within_s=30)
            minute, restarted = exchange.next_ms // 60_000, False
            while exchange.published < len(exchange.frames):
                if exchange.next_ms // 60_000 > minute:
                    # Market time runs a hundred times faster than the streams: neither may be a minute ahead.
                    minute += 1
                    read_all_sent(followed, source)
                to_boundary = sum(
                    frame.at_ms < (minute + 1) * 60_000 for frame in exchange.frames[exchange.published :]
                )
                exchange.publish(min(CHUNK, max(1, to_boundary)))
                followed.take(source.read(5000, 20))
                if restarts and not restarted and GapState.OPEN in states(followed, GapKind.TRADES):
                    restarted = True
                    cursor = source.cursor()
                    source.close()
                    source = make_source(exchange, **settings)
                    exchange.publish(CHUNK)
                    source.open(cursor)
            eventually(lambda: not followed.missing(), step=lambda: followed.take(source.read(5000, 20)), within_s=60)
            followed.health = source.feed_health()[0]
        finally:
            source.close()
    return followed


def read_all_sent(followed: Followed, source: LiveSource) -> None:
    """Read until what the open connections were sent has been taken."""
    quiet = [0]

    def read() -> None:
        read = source.read(5000, 30)
        followed.take(read)
        quiet[0] = 0 if read or not followed.exchange.has_sent_all else quiet[0] + 1

    eventually(lambda: quiet[0] >= 3, step=read, within_s=60)


def states(followed: Followed, kind: GapKind) -> set[GapState]:
    return {gap.state for gap in followed.gaps if gap.kind is kind}


TOO_MANY = httpx.Response(429, headers={"Retry-After": "1"}, json={"code": -1003, "msg": "Too many requests"})
BANNED = httpx.Response(418, headers={"Retry-After": "1"}, json={"code": -1003, "msg": "IP banned"})

FILLED = {
    "abrupt close of trades": Closes("market"),
    "close with 1001": Closes("market", 1001),
    "trades dropped": Drops("aggTrade", 5),
    "trades in the wrong order": Swaps(),
    "poison id": Sends("aggTrade", a=2**60),
    "poison price": Sends("aggTrade", p="0.10"),
    "poison size": Sends("aggTrade", q="90000000000"),
    "poison time": Sends("aggTrade", T=4_102_444_800_000),
    "a number too large for 64 bits": Sends("aggTrade", p="99999999999999999999"),
    "429": AnswersBadly(TOO_MANY),
    "418": AnswersBadly(BANNED),
    "an answer of 500": AnswersBadly(httpx.Response(500)),
    "an answer that is no JSON": AnswersBadly(httpx.Response(200, content=b"<html>")),
    "a name that is not found": AnswersBadly(httpx.ConnectError("Name or service not known")),
}


@pytest.mark.parametrize("name", FILLED)
def test_missed_trades_are_filled_in_their_order(name: str) -> None:
    followed = follow(FILLED[name])
    followed.check()
    assert states(followed, GapKind.TRADES) == {GapState.FILLED}
    assert not [event for event in followed.out if isinstance(event, LateTrade)]
    assert bool(followed.dead) == name.startswith(("poison", "a number"))


QUARANTINED = {
    "garbage": (Sends("aggTrade", b"\xff{{"), "not JSON"),
    "an error": (Sends("aggTrade", b'{"code":-1121,"msg":"Invalid symbol."}'), "Invalid symbol"),
    "another symbol": (Sends("bookTicker", s="ETHUSDT"), "a frame of ETHUSDT among those of BTCUSDT"),
    "a crossed quote": (Sends("bookTicker", b="99999.90"), "crossed"),
    "the top of a book": (PartialBook(), "the top 5 levels of the book"),
}


@pytest.mark.parametrize("name", QUARANTINED)
def test_what_is_no_frame_of_this_market_is_quarantined_and_the_feed_goes_on(name: str) -> None:
    mishap, reason = QUARANTINED[name]
    followed = follow(mishap)
    followed.check()
    (dead,) = followed.dead
    assert reason in dead
    assert not followed.gaps


@pytest.mark.parametrize("mishap", [Mishap(), Repeats(), ClockIsOff()], ids=["nothing", "repeated", "clock is off"])
def test_what_does_no_harm_leaves_no_gap(mishap: Mishap) -> None:
    followed = follow(mishap)
    if not isinstance(mishap, ClockIsOff):
        followed.check()
    assert not followed.gaps
    assert not followed.dead


BOOKS = {
    "abrupt close of books": Closes("public"),
    "a change is missing": Drops("depthUpdate", 1),
    "an old snapshot": OldBook("public"),
    "a crossed snapshot": BadBooks(
        orjson.dumps({"lastUpdateId": 9 * 10**12, "bids": [["90000.0", "1"]], "asks": [["80000.0", "1"]]})
    ),
    "a snapshot that is no JSON": BadBooks(b"<html>"),
}


def follow_book(mishap: Mishap) -> Followed:
    """Follow an exchange that loses the book, while the market goes on, until it is known again."""
    with a_fake_exchange(mishap) as exchange:
        followed = Followed(exchange)
        source = make_source(exchange)
        try:
            source.open(None)

            def read() -> None:
                followed.take(source.read(5000, 10))

            eventually(lambda: all(exchange.connections.values()), step=read, within_s=30)

            def goes_on_until(is_enough: Callable[[], object]) -> None:
                # The market goes on while the book is asked for.
                def go_on() -> None:
                    exchange.publish(2)
                    read()

                eventually(is_enough, step=go_on, within_s=60)

            goes_on_until(lambda: [event for event in followed.out if isinstance(event, DepthDelta)])
            exchange.publish(sum(frame.at_ms < from_ms() + 1000 for frame in exchange.frames[exchange.published :]))

            def is_known_again() -> bool:
                # A snapshot that the next change does not follow is another gap.
                book = [gap.state for gap in followed.gaps if gap.kind is GapKind.BOOK]
                return bool(book) and book[-1] is GapState.FILLED

            goes_on_until(is_known_again)
        finally:
            source.close()
    return followed


@pytest.mark.parametrize("name", BOOKS)
def test_a_lost_book_is_told_of_and_known_again_after_a_snapshot(name: str) -> None:
    followed = follow_book(BOOKS[name])
    book = [event for event in followed.out if isinstance(event, DepthSnapshot | Gap)]
    kinds = [event.state.name if isinstance(event, Gap) else "snapshot" for event in book]
    assert kinds[0] == "snapshot"
    assert kinds[1] == "OPEN"
    assert kinds[-2:] == ["snapshot", "FILLED"]


@pytest.mark.parametrize(
    "mishap",
    [FallsSilent("aggTrade"), FallsSilent("aggTrade", "markPriceUpdate"), FallsSilent("aggTrade", "bookTicker")],
    ids=["one subscription", "half open", "two connections"],
)
def test_silence_ends_with_another_connection_and_nothing_missing(mishap: Mishap) -> None:
    followed = follow(mishap, stale_after_s=0.7)
    followed.check()
    assert followed.exchange.connections["market"] > 1


def test_bars_that_close_in_a_silence_that_nothing_tells_of_are_marked_and_revised() -> None:
    followed = follow(FallsSilent("aggTrade"), stale_after_s=0.7, wait_for_trades_s=0.05)
    followed.check()
    reported = [gap for gap in followed.gaps if gap.kind is GapKind.TRADES]
    assert len({gap.event_id for gap in reported}) == len(reported)
    assert (reported[0].state, reported[0].to_time) == (GapState.OPEN, 0)
    incomplete = [bar.open_time for bar in followed.bars() if bar.is_incomplete]
    assert incomplete
    assert {bar.open_time for bar in followed.bars() if isinstance(bar, BarRevision)} >= set(incomplete)


def test_connections_that_are_renewed_lose_nothing() -> None:
    followed = follow(Mishap(), renew_after_s=0.2)
    followed.check()
    assert followed.exchange.connections["market"] > 1
    assert not followed.gaps
    assert followed.health.reconnects.keys() == {"market", "public"}
    assert set(followed.health.message_ages_s) == {"trade", "depth_delta", "best_quote", "mark_price"}
    assert followed.health.clock_offset_s is not None
    assert min(followed.health.book_levels or (0,)) >= 1


def test_trades_that_are_given_too_late_are_on_record_and_mark_their_bar() -> None:
    followed = follow(AnswersBadly(slow_s=1.5), wait_for_trades_s=0.3)
    followed.check()
    late = [event for event in followed.out if isinstance(event, LateTrade)]
    assert len(late) == 5
    reported = [gap for gap in followed.gaps if gap.kind is GapKind.TRADES]
    assert [gap.state for gap in reported] == [GapState.OPEN, GapState.LATE]
    assert {event.gap_id for event in late} == {gap.gap_id for gap in reported}
    assert [type(bar) for bar in followed.bars() if bar.is_incomplete] == [Bar]
    assert (reported[0].first_number, reported[0].last_number) == (late[0].venue_trade_id, late[-1].venue_trade_id)


def test_quotes_do_not_wait_for_a_slow_answer() -> None:
    followed = follow(AnswersBadly(slow_s=1.0))
    first_late = next(index for index, event in enumerate(followed.out) if isinstance(event, Gap))
    before = [event for event in followed.out[:first_late] if not isinstance(event, Trade | DeadInput)]
    assert max(event.event_time for event in before) > (from_ms() + 10_000) * 1_000_000
    followed.check()


def test_a_gap_is_kept_over_a_restart_and_filled_then() -> None:
    failing = [httpx.Response(500)] * 2
    followed = follow(AnswersBadly(*failing), restarts=True, wait_for_trades_s=0.1)
    followed.check()
    reported = [gap for gap in followed.gaps if gap.kind is GapKind.TRADES]
    assert [gap.state for gap in reported if gap.gap_id == reported[0].gap_id] == [GapState.OPEN, GapState.LATE]
