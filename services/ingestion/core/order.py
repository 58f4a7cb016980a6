"""Puts a recording's trades in the order of their numbers and reports what of them is not there.

A live market is asked for what is missing; a recording is all there is. Trades behind a jump of numbers wait for those
before them as long as a closed bar does, then the gap is lost and they go on. Pure.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Any

from libs.domain.market import GapKind, GapState, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS
from services.ingestion.core.gaps import GapLog, OpenGap, as_late

HELD_NS = NANOSECONDS // 4
"""How long (market time) trades wait for those before them: no longer than bars do for trades of a closed minute."""
KEPT_GAPS = 100
"""How many lost gaps are remembered for trades that come late."""


@dataclass(slots=True)
class LostGap:
    """A gap that was reported as lost and the numbers of its trades that have come since."""

    gap: OpenGap
    arrived: list[int] = field(default_factory=list)


@dataclass(slots=True)
class OrderState:
    """What is kept: the last trade that went on, those that wait, ascending by number, where their wait began, and the
    gaps that were lost.
    """

    kind: str = ""
    last_number: int = 0
    last_time: int = 0
    waits_for: int = 0
    held: list[Trade] = field(default_factory=list)
    lost: list[LostGap] = field(default_factory=list)


def add_order(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a kept cursor of version 4 up: trades went on as they came."""
    return {**values, "order": {}}


class TradeOrder:
    """One instrument's; `state` is all that it keeps."""

    def __init__(self, instrument: str) -> None:
        self._log = GapLog(instrument)
        self.state = OrderState()

    def take(self, event: MarketEvent) -> list[MarketEvent]:
        """Return what goes on for an event that came, in order."""
        state = self.state
        out: list[MarketEvent] = []
        while state.held and event.event_time > state.held[0].event_time + HELD_NS:
            self._lose(event, out)
        if not isinstance(event, Trade) or event.venue_trade_id <= 0:
            out.append(event)
            return out
        # A capture may hold both the trade and the aggTrade stream; one of them is dropped behind this.
        number, kind = event.venue_trade_id, event.event_id.split("/", 2)[1]
        state.kind = state.kind or kind
        if kind != state.kind:
            out.append(event)
        elif state.last_number and number > state.last_number + 1:
            self._hold(event)
        elif number > state.last_number:
            out.append(event)
            self._pass(event)
            self._release(event, out)
        elif (lost := self._lost(number)) is not None:
            self._take_late(event, lost, out)
        else:
            # A repeated one: it is counted where it is dropped.
            out.append(event)
        return out

    def flush(self) -> list[MarketEvent]:
        """Return what still waits at the end of a recording."""
        out: list[MarketEvent] = []
        while self.state.held:
            self._lose(self.state.held[-1], out)
        return out

    def _pass(self, trade: Trade) -> None:
        self.state.last_number, self.state.last_time = trade.venue_trade_id, trade.event_time

    def _hold(self, trade: Trade) -> None:
        held = self.state.held
        if not held:
            self.state.waits_for = self.state.last_number + 1
        insort(held, trade, key=lambda each: each.venue_trade_id)

    def _release(self, cause: Trade, out: list[MarketEvent]) -> None:
        """Let those go on that nothing is missing before any more."""
        held = self.state.held
        if held and held[0].venue_trade_id == self.state.last_number + 1:
            gap = self._open(self.state.waits_for, held[0], "trades in another order than their numbers")
            out.append(self._log.report(gap, GapState.FILLED, cause.event_time, cause.received_time))
            self._pass_held(out)

    def _pass_held(self, out: list[MarketEvent]) -> None:
        held = self.state.held
        # A repeated one goes on with the first: it is counted where it is dropped.
        while held and held[0].venue_trade_id <= self.state.last_number + 1:
            out.append(held[0])
            self._pass(held.pop(0))
        self.state.waits_for = self.state.last_number + 1

    def _lose(self, cause: MarketEvent, out: list[MarketEvent]) -> None:
        """Give up what is missing before the first that waits."""
        state = self.state
        gap = self._open(state.last_number + 1, state.held[0], "trades missing in the recording")
        state.lost = [*state.lost[1 - KEPT_GAPS :], LostGap(gap)]
        out.append(self._log.report(gap, GapState.LOST, cause.event_time, cause.received_time))
        state.last_number = gap.last_number
        self._pass_held(out)

    def _open(self, first: int, behind: Trade, reason: str) -> OpenGap:
        return self._log.open(
            GapKind.TRADES,
            reason,
            from_time=self.state.last_time,
            to_time=behind.event_time,
            first_number=first,
            last_number=behind.venue_trade_id - 1,
        )

    def _lost(self, number: int) -> LostGap | None:
        return next((each for each in self.state.lost if _is_missing(number, each)), None)

    def _take_late(self, trade: Trade, lost: LostGap, out: list[MarketEvent]) -> None:
        out.append(as_late(trade, lost.gap))
        lost.arrived.append(trade.venue_trade_id)
        if len(lost.arrived) == lost.gap.last_number - lost.gap.first_number + 1:
            self.state.lost.remove(lost)
            out.append(self._log.report(lost.gap, GapState.LATE, trade.event_time, trade.received_time))


def _is_missing(number: int, lost: LostGap) -> bool:
    return lost.gap.first_number <= number <= lost.gap.last_number and number not in lost.arrived
