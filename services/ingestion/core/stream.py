"""A session's stream: history, then the normalised market with the minute where they join made whole, up to its span.

The join minute is the one in which the stream began: its trades were only partly seen, so its kline takes the bar's
place once the minute is over. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.domain.market import ClockTick, ExchangeBar, MarketEvent
from libs.domain.numbers import NANOSECONDS
from services.ingestion.core.normaliser import Normaliser, NormaliserState
from services.ingestion.core.plausibility import Known, judge


@dataclass(frozen=True, slots=True)
class StreamState:
    """What is kept of a stream."""

    first_event_time: int
    join_minute: int
    is_over: bool
    normaliser: NormaliserState
    known: Known


def add_trade_times(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a kept cursor of version 1 up: it knew trades by number alone."""
    kept = values["stream"]["normaliser"]
    kept["last_trade_time"] = kept["max_event_time"] if kept["last_trade_id"] >= 0 else 0
    kept["recent_trades"] = []
    return values


def add_known(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a kept cursor of version 2 up: it knew nothing to judge by."""
    values["stream"]["known"] = {}
    return values


def add_gaps(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a kept live cursor of version 2 up: it kept no gaps either."""
    return {**add_known(values), "gaps": []}


def rename_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Bring a kept cursor of version 3 up: the join minute and what was reported of a gap had other names."""
    for holder in (values, values["stream"]):
        if "seam_open" in holder:
            holder["join_minute"] = holder.pop("seam_open")
    for gap in values.get("gaps", ()):
        gap["is_reported"] = gap.pop("is_told")
    return values


@dataclass(slots=True)
class Stream:
    """What goes out for each event that comes in, and whether the span is over.

    `klines` are the bars around the start, ascending, for the join minute; `span_ns` bounds market time
    from the first event, 0 for no bound. The last thing out is the clock tick of the second after the span, so that
    bars which end with the span are closed.
    """

    instrument: str
    span_ns: int = 0
    klines: Sequence[ExchangeBar] = ()
    normaliser: Normaliser = field(init=False)
    known: Known = field(default_factory=Known)
    first_event_time: int = 0
    is_over: bool = False
    _join_minute: int = 0

    def __post_init__(self) -> None:
        self.normaliser = Normaliser(self.instrument)

    def judge(self, event: MarketEvent) -> str:
        """Return what is implausible about an event, which must not be accepted then; empty where nothing is."""
        return judge(event, self.known)

    def accept(self, event: MarketEvent) -> list[MarketEvent]:
        """Return the events that go out for one that came in; none once the span is over."""
        if self.is_over:
            return []
        if not self.first_event_time and not (isinstance(event, ExchangeBar) and event.is_history):
            self.first_event_time = event.event_time
            self._join_minute = _join_minute_of(event)
        out = self.normaliser.accept(event)
        self._close_join_minute(out)
        self._end_span(out)
        return out

    def tick(self, event_time: int, received_time: int) -> list[MarketEvent]:
        """Advance the clock of a silent market."""
        out = [] if self.is_over else self.normaliser.tick(event_time, received_time)
        self._end_span(out)
        return out

    def state(self) -> StreamState:
        """Return what is kept; settings and klines are not part of it."""
        return StreamState(self.first_event_time, self._join_minute, self.is_over, self.normaliser.state, self.known)

    def restore(self, state: StreamState) -> None:
        """Take over what was kept."""
        self.first_event_time, self._join_minute = state.first_event_time, state.join_minute
        self.is_over, self.normaliser.state, self.known = state.is_over, state.normaliser, state.known

    def _close_join_minute(self, out: list[MarketEvent]) -> None:
        if not self._join_minute:
            return
        close_time = self._join_minute + 60 * NANOSECONDS
        if self.normaliser.max_event_time < close_time:
            return
        for kline in self.klines:
            if kline.open_time == self._join_minute:
                out.insert(0, kline)
        self._join_minute = 0

    def _end_span(self, out: list[MarketEvent]) -> None:
        if not self.span_ns:
            return
        end_time = self.first_event_time + self.span_ns + NANOSECONDS
        for position, event in enumerate(out):
            if isinstance(event, ClockTick) and event.event_time >= end_time:
                del out[position + 1 :]
                self.is_over = True
                return


def _join_minute_of(event: MarketEvent) -> int:
    # A stream that begins on the minute, and one of klines, has no partial minute.
    if isinstance(event, ExchangeBar) or not event.event_time % (60 * NANOSECONDS):
        return 0
    return event.event_time - event.event_time % (60 * NANOSECONDS)


def select_history(klines: Sequence[ExchangeBar], *, first_event_time: int, count: int) -> list[ExchangeBar]:
    """Return the last `count` klines that close at or before the stream's first event, ascending."""
    before = [kline for kline in klines if kline.close_time <= first_event_time]
    return before[-count:] if count else []
