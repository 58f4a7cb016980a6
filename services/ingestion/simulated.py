"""Plays the simulated exchange's market: a pure function of its seed, whatever is stopped or restarted meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Generator

from libs.clock import SYSTEM_CLOCK
from libs.domain.instruments import split_instrument_id
from libs.runtime.errors import BadInput
from libs.venues.errors import VenueUnavailable
from libs.venues.frames import FrameError
from libs.venues.registry import SIMULATED, find_venue
from libs.venues.simulated import SimulatedFrame, SimulatedMarketClient
from services.ingestion.core.stream import Stream
from services.ingestion.feed import Feed, FeedSource, Pacer, decode_cursor
from services.ingestion.items import Item
from services.ingestion.patience import AnswerT, ask_for

_PAGE = 2000
_PAUSE_S = 0.1


class SimulatedSource(FeedSource):
    """An `EventSource` over the simulated exchange. While the exchange is down it waits; it never skips a frame.

    With `is_renamed` its market goes under the instrument's symbol, whichever one it lists: a market like its own, of
    another seed. With `follows_clock` frames come when the exchange's own clock reaches them, as they must where it
    takes orders.
    """

    def __init__(
        self,
        client: SimulatedMarketClient,
        *,
        instrument: str,
        pacer: Pacer,
        span_ns: int = 0,
        history_bars: int = 1500,
        follows_clock: bool = False,
        is_renamed: bool = False,
        start_timeout_s: float = 150.0,
        monotonic: Callable[[], float] = SYSTEM_CLOCK.monotonic_s,
        sleep: Callable[[float], None] = SYSTEM_CLOCK.sleep,
    ) -> None:
        self._client = client
        self._decoder = find_venue(SIMULATED).make_decoder()
        self._instrument = instrument
        self._symbol, _ = split_instrument_id(instrument)
        self._pacer = pacer
        self._span_ns = span_ns
        self._history_bars = history_bars
        self._follows_clock = follows_clock
        self._is_renamed = is_renamed
        self._listed = self._symbol
        self._start_timeout_s = start_timeout_s
        self._monotonic = monotonic
        self._sleep = sleep
        super().__init__()

    def open(self, cursor: bytes | None) -> None:
        """Start or resume. Raises `DependencyUnavailable` where no exchange answers, `BadInput` where it is another."""
        seed, symbol = self._wait_for(self._client.identify)
        self._listed = symbol
        if symbol != self._symbol and not self._is_renamed:
            raise BadInput(f"unknown symbol {self._symbol}: the simulated exchange lists {symbol}")
        self._origin = f"simulated:{seed}"
        if self._follows_clock:
            self._pacer.anchor(self._wait_for(self._client.now_ms) * 1_000_000)
        stream = Stream(self._instrument, span_ns=self._span_ns)
        history = self._wait_for(lambda: self._client.history(symbol, self._instrument, self._history_bars))
        if cursor is None:
            self._feed = Feed(stream, history, self._read_items(0, 0), self._pacer)
            return
        kept = decode_cursor(cursor)
        if kept.origin != self._origin:
            raise BadInput(
                f"this session was reading {kept.origin}, not {self._origin}; start a new session for another seed"
            )
        self._feed = Feed(stream, history, self._read_items(kept.line, kept.clock), self._pacer)
        self._feed.resume(kept)

    def close(self) -> None:
        """Stop reading and close the connections."""
        super().close()
        self._client.close()

    def _wait_for(self, ask: Callable[[], AnswerT]) -> AnswerT:
        return ask_for(
            ask,
            self._start_timeout_s,
            pause_s=_PAUSE_S,
            monotonic=self._monotonic,
            sleep=self._sleep,
            where_unavailable="start the simulated exchange or correct PERPFLOW_INGESTION_EXCHANGE_URL",
            where_refused="PERPFLOW_INGESTION_EXCHANGE_URL must be a simulated exchange",
        )

    def _read_items(self, after: int, clock: int) -> Generator[Item | None]:
        while True:
            try:
                frames = self._client.frames(after, _PAGE)
            except VenueUnavailable as error:
                # It is being restarted; what it will answer is known to be the same.
                self._venue_error = str(error)
                self._sleep(_PAUSE_S)
                yield None
                continue
            self._venue_error = ""
            for frame in frames:
                after = frame.sequence
                item = self._decode(frame, clock)
                if item is not None:
                    clock = item.clock
                    yield item

    def _decode(self, frame: SimulatedFrame, clock: int) -> Item | None:
        item = Item(
            received_time=frame.received_time,
            source=self._origin,
            line=frame.sequence,
            payload=frame.payload,
            clock=clock,
        )
        payload = frame.payload
        if self._is_renamed:
            # Under its own symbol, so that ids differ between instruments that share a partition.
            for listed, own in ((self._listed, self._symbol), (self._listed.lower(), self._symbol.lower())):
                payload = payload.replace(listed.encode(), own.encode())
        try:
            frame_opened = self._decoder.open(payload)
            if frame_opened is not None:
                item.events = self._decoder.decode(
                    frame_opened,
                    received_time=frame.received_time,
                    fallback_time=clock or frame.received_time,
                    symbol=self._symbol,
                )
        except FrameError as error:
            item.error = str(error)
            return item
        if not item.events:
            return None
        item.clock = max(clock, *(event.event_time for event in item.events))
        return item
