"""The gaps of one instrument that are not filled, and the events that report them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from libs.domain.market import Gap, GapKind, GapState, LateTrade, Trade


@dataclass(slots=True)
class OpenGap:
    """A gap that is not filled. `is_reported` says whether an event was published for it; `to_time` 0: end unknown."""

    gap_id: str
    kind: GapKind
    from_time: int
    to_time: int
    first_number: int
    last_number: int
    reason: str
    is_reported: bool = False

    def holds(self, trade: Trade, *, with_edges: bool) -> bool:
        """Tell whether a trade lies within. Without numbers, those at the very edges may be ones that are known."""
        if self.first_number and trade.venue_trade_id:
            is_before_end = not self.last_number or trade.venue_trade_id <= self.last_number
            return self.first_number <= trade.venue_trade_id and is_before_end
        if with_edges:
            return self.from_time <= trade.event_time
        return self.from_time < trade.event_time and (not self.to_time or trade.event_time < self.to_time)


class GapLog:
    """Opens gaps, ends them, and makes the event of each state."""

    def __init__(self, instrument: str) -> None:
        self._instrument = instrument
        self.gaps: list[OpenGap] = []

    def open(
        self,
        kind: GapKind,
        reason: str,
        *,
        from_time: int,
        to_time: int = 0,
        first_number: int = 0,
        last_number: int = 0,
    ) -> OpenGap:
        """Add a gap, or return the one that begins there already."""
        gap_id = f"{self._instrument}/gap/{kind.name.lower()}/{first_number or from_time}"
        for gap in self.gaps:
            if gap.gap_id == gap_id:
                return gap
        gap = OpenGap(gap_id, kind, from_time, to_time, first_number, last_number, reason)
        self.gaps.append(gap)
        return gap

    def of(self, kind: GapKind) -> Iterator[OpenGap]:
        """Yield the open gaps of a kind."""
        return (gap for gap in self.gaps if gap.kind is kind)

    def report(self, gap: OpenGap, state: GapState, event_time: int, received_time: int) -> Gap:
        """Return the event of a gap's state; every state but OPEN ends it."""
        event_id = f"{gap.gap_id}/{state.name.lower()}"
        if state is GapState.OPEN:
            # It may be reported before it is known how far it reaches, and then again.
            event_id += f"/{gap.to_time}" if gap.is_reported else ""
            gap.is_reported = True
        else:
            self.drop(gap)
        return Gap(
            self._instrument,
            event_id,
            event_time,
            received_time,
            gap.gap_id,
            gap.kind,
            state,
            gap.from_time,
            gap.to_time,
            gap.first_number,
            gap.last_number,
            gap.reason,
        )

    def drop(self, gap: OpenGap) -> None:
        """Forget a gap that was none, or has ended."""
        self.gaps = [each for each in self.gaps if each.gap_id != gap.gap_id]


def as_late(trade: Trade, gap: OpenGap) -> LateTrade:
    """Return a trade that came after what lies behind its gap."""
    return LateTrade(
        trade.instrument,
        trade.event_id,
        trade.event_time,
        trade.received_time,
        trade.price_e8,
        trade.quantity_e8,
        trade.is_buyer_maker,
        trade.venue_trade_id,
        gap.gap_id,
    )
