"""Makes one clean stream of one instrument's market events: no duplicates, a clock, a book that can be followed.

Drops what was seen already (trade ids, depth and quote update ids, mark times), holds depth deltas back until the book
snapshot they build on has come, adds a clock tick per second of market time, and a settlement when funding is due.
It never invents a price and never reorders trades. Pure: the same events in give the same events out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    Liquidation,
    MarketEvent,
    MarkPrice,
    OpenInterest,
    Trade,
)
from libs.domain.numbers import NANOSECONDS

HELD_NS = 5 * NANOSECONDS
"""How long (market time) depth deltas wait for the snapshot they build on before they go out without it."""
HELD_DELTAS = 256
RECENT_NS = NANOSECONDS
"""How far behind the latest a trade without a number may come; a repeated one is known by its id for so long."""


def make_tick(instrument: str, second: int, received_time: int) -> ClockTick:
    """Return the tick of a second of market time (since the epoch) that began at a time of receipt (ns)."""
    return ClockTick(instrument, f"{instrument}/tick/{second}", second * NANOSECONDS, received_time)


@dataclass(slots=True)
class NormaliserState:
    """What is kept: the last of everything seen, counters, and the depth deltas held back."""

    max_event_time: int = 0
    last_second: int = 0
    trade_kind: str = ""
    last_trade_id: int = -1
    last_trade_time: int = 0
    recent_trades: list[str] = field(default_factory=list)
    last_final_update_id: int = -1
    last_snapshot_id: int = -1
    last_quote_id: int = -1
    last_mark_time: int = -1
    last_interest_time: int = -1
    last_liquidation_id: str = ""
    last_liquidation_time: int = 0
    last_bar_open: int = -1
    next_funding_time: int = 0
    funding_rate_e8: int = 0
    is_holding: bool = True
    duplicates: int = 0
    depth_gaps: int = 0
    trade_gaps: int = 0
    held: list[DepthDelta] = field(default_factory=list)


@dataclass(slots=True)
class Normaliser:
    """Cleans the events of one instrument in the order in which they were received.

    `accept` returns what goes out for one event: nothing for a duplicate, the event behind its clock tick otherwise.
    Several instruments need one normaliser each. `duplicates`, `depth_gaps` and `trade_gaps` count what was seen.
    """

    instrument: str
    held_ns: int = HELD_NS
    held_deltas: int = HELD_DELTAS
    state: NormaliserState = field(default_factory=NormaliserState)

    @property
    def max_event_time(self) -> int:
        """The latest venue time seen, ns; 0 before the first event."""
        return self.state.max_event_time

    @property
    def duplicates(self) -> int:
        """Events dropped because they, or later ones of their kind, had been seen."""
        return self.state.duplicates

    @property
    def depth_gaps(self) -> int:
        """Depth deltas that did not continue the one before: the book is unknown until the next snapshot."""
        return self.state.depth_gaps

    @property
    def trade_gaps(self) -> int:
        """Trades whose id was not the one after the last."""
        return self.state.trade_gaps

    @property
    def last_trade_id(self) -> int:
        """The id of the last trade that went out; -1 before the first."""
        return self.state.last_trade_id

    @property
    def last_trade_time(self) -> int:
        """The time of the latest trade that went out, ns; 0 before the first."""
        return self.state.last_trade_time

    @property
    def last_final_update_id(self) -> int:
        """The update id of the last depth delta that came; -1 before the first."""
        return self.state.last_final_update_id

    @property
    def is_holding(self) -> bool:
        """Whether depth deltas wait for a snapshot."""
        return self.state.is_holding

    def is_bridged_by(self, snapshot: DepthSnapshot) -> bool:
        """Tell whether the held deltas go on from a snapshot: the first that is not older must span its update id."""
        for delta in self.state.held:
            if delta.final_update_id >= snapshot.last_update_id:
                follows = delta.previous_final_update_id == snapshot.last_update_id
                return follows or delta.first_update_id <= snapshot.last_update_id + 1
        return True

    def is_continued_by(self, delta: DepthDelta) -> bool:
        """Tell whether a delta goes on from the last delta or snapshot: it names it in pu, or spans what follows it."""
        last = self.state.last_final_update_id
        return last < 0 or delta.previous_final_update_id == last or delta.first_update_id <= last + 1

    def forget_trades(self) -> None:
        """Start over with trade ids: so many were missed that klines stand for them."""
        self.state.last_trade_id = -1
        self.state.last_trade_time = 0
        self.state.recent_trades = []

    def accept(self, event: MarketEvent) -> list[MarketEvent]:
        """Return the events that go out for one that came in, in order."""
        if not self._is_new(event):
            self.state.duplicates += 1
            return []
        out: list[MarketEvent] = []
        if isinstance(event, ExchangeBar) and event.is_history:
            return [event]
        self._advance(event.event_time, event.received_time, out)
        if isinstance(event, DepthSnapshot):
            self._release_onto(event, out)
            return out
        if isinstance(event, DepthDelta) and self.state.is_holding:
            self._hold(event, out)
            return out
        if isinstance(event, MarkPrice):
            self._settle_funding(event, out)
        out.append(event)
        return out

    def tick(self, event_time: int, received_time: int) -> list[MarketEvent]:
        """Advance the clock without a market event, as live ingestion does while the market is silent."""
        out: list[MarketEvent] = []
        self._advance(event_time, received_time, out)
        return out

    def hold_depth(self) -> None:
        """Hold deltas from now on until the next snapshot: the connection was lost and the book with it."""
        self.state.is_holding = True

    def _is_new(self, event: MarketEvent) -> bool:
        state = self.state
        if isinstance(event, BestQuote):
            if event.update_id <= state.last_quote_id:
                return False
            state.last_quote_id = event.update_id
        elif isinstance(event, Trade):
            return self._is_new_trade(event)
        elif isinstance(event, DepthDelta):
            if event.final_update_id <= state.last_final_update_id:
                return False
            if not self.is_continued_by(event):
                state.depth_gaps += 1
            state.last_final_update_id = event.final_update_id
        elif isinstance(event, DepthSnapshot):
            # A connection that takes another's place begins with a book that later changes have passed.
            is_passed = not state.is_holding and event.last_update_id < state.last_final_update_id
            if event.last_update_id <= state.last_snapshot_id or is_passed:
                return False
            state.last_snapshot_id = event.last_update_id
            state.last_final_update_id = max(state.last_final_update_id, event.last_update_id)
        elif isinstance(event, MarkPrice):
            if event.event_time <= state.last_mark_time:
                return False
            state.last_mark_time = event.event_time
        elif isinstance(event, OpenInterest):
            if event.event_time <= state.last_interest_time:
                return False
            state.last_interest_time = event.event_time
        elif isinstance(event, Liquidation):
            if event.event_id == state.last_liquidation_id or event.event_time < state.last_liquidation_time:
                return False
            state.last_liquidation_id, state.last_liquidation_time = event.event_id, event.event_time
        elif isinstance(event, ExchangeBar):
            if event.open_time <= state.last_bar_open:
                return False
            state.last_bar_open = event.open_time
        return True

    def _is_new_trade(self, event: Trade) -> bool:
        # A capture may hold both the trade and the aggTrade stream; counting both would double the volume.
        state = self.state
        kind = event.event_id.split("/", 2)[1]
        if not state.trade_kind:
            state.trade_kind = kind
        if kind != state.trade_kind:
            return False
        if not event.venue_trade_id:
            return self._is_new_unnumbered_trade(event)
        if event.venue_trade_id <= state.last_trade_id:
            return False
        state.last_trade_time = max(state.last_trade_time, event.event_time)
        if state.last_trade_id >= 0 and event.venue_trade_id != state.last_trade_id + 1:
            state.trade_gaps += 1
        state.last_trade_id = event.venue_trade_id
        return True

    def _is_new_unnumbered_trade(self, event: Trade) -> bool:
        # Without numbers only the id tells a trade from another; those of the last second are kept.
        state = self.state
        if event.event_time < state.last_trade_time - RECENT_NS:
            return False
        known = f"{event.event_time} {event.event_id}"
        if known in state.recent_trades:
            return False
        state.last_trade_time = max(state.last_trade_time, event.event_time)
        oldest = state.last_trade_time - RECENT_NS
        while state.recent_trades and int(state.recent_trades[0].split(" ", 1)[0]) < oldest:
            del state.recent_trades[0]
        state.recent_trades.append(known)
        return True

    def _advance(self, event_time: int, received_time: int, out: list[MarketEvent]) -> None:
        state = self.state
        if event_time <= state.max_event_time:
            return
        second = event_time // NANOSECONDS
        # The first event starts the clock; a tick says that a second began while we were looking.
        if state.max_event_time and second > state.last_second:
            out.append(make_tick(self.instrument, second, received_time))
        state.last_second = second
        state.max_event_time = event_time

    def _hold(self, delta: DepthDelta, out: list[MarketEvent]) -> None:
        self.state.held.append(delta)
        is_overdue = self.state.max_event_time - self.state.held[0].event_time > self.held_ns
        if is_overdue or len(self.state.held) > self.held_deltas:
            out.extend(self.state.held)
            self.state.held = []
            self.state.is_holding = False

    def _release_onto(self, snapshot: DepthSnapshot, out: list[MarketEvent]) -> None:
        # Deltas often reach a recorder before the snapshot they must be applied to.
        out.append(snapshot)
        out.extend(delta for delta in self.state.held if delta.final_update_id >= snapshot.last_update_id)
        self.state.duplicates += sum(delta.final_update_id < snapshot.last_update_id for delta in self.state.held)
        self.state.held = []
        self.state.is_holding = False

    def _settle_funding(self, mark: MarkPrice, out: list[MarketEvent]) -> None:
        state = self.state
        due = state.next_funding_time
        if due and mark.next_funding_time > due and mark.event_time >= due:
            out.append(
                FundingSettled(
                    instrument=self.instrument,
                    event_id=f"{self.instrument}/funding/{due}",
                    event_time=due,
                    received_time=mark.received_time,
                    funding_rate_e8=state.funding_rate_e8,
                    mark_price_e8=mark.mark_price_e8,
                )
            )
        state.next_funding_time = mark.next_funding_time
        state.funding_rate_e8 = mark.funding_rate_e8
