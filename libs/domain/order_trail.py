"""What the messages of a session say about its orders, and which of the trading invariants they break.

It judges by what was published alone, in any order of topics so long as commands come before the reports on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.control import ControlCommand, ControlState
from libs.domain.events import Event
from libs.domain.orders import (
    CancelOrder,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    Origin,
    PlaceOrder,
    ReportKind,
    VenueReport,
)

_ZERO = Decimal(0)
PositionKey: TypeAlias = tuple[str, str]
"""An account and an instrument."""


@dataclass(slots=True)
class OrderTrail:
    """Counts by id: intents, verdicts, approvals and commands by intent id, the rest by client order id.

    `filled` is what the fills add up to by account and instrument, signed; `accounts` the last state of each account.
    """

    intents: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    approved: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    controls: set[str] = field(default_factory=set)
    placed: dict[str, PlaceOrder] = field(default_factory=dict)
    placed_count: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    venue_order_ids: dict[str, set[str]] = field(default_factory=dict)
    locally_rejected: set[str] = field(default_factory=set)
    fills: Counter[str] = field(default_factory=Counter)
    filled: dict[PositionKey, Decimal] = field(default_factory=dict)
    accounts: dict[str, AccountState] = field(default_factory=dict)
    taken_over: set[str] = field(default_factory=set)

    def take(self, event: Event) -> None:
        """Count a message; one that says nothing about orders changes nothing."""
        match event:
            case OrderIntent():
                self.intents[event.event_id] += 1
            case OrderApproved():
                self.approved[event.intent_id] += 1
                if event.origin is Origin.STRATEGY:
                    self.verdicts[event.intent_id] += 1
            case OrderRefused():
                self.verdicts[event.intent_id] += 1
            case PlaceOrder():
                self.commands[event.intent_id] += 1
                self.placed[event.client_order_id] = event
                self.placed_count[event.client_order_id] += 1
            case CancelOrder():
                self.commands[event.intent_id] += 1
            case ControlCommand() | ControlState():
                self.controls.add(event.event_id)
            case VenueReport():
                self._take_report(event)
            case VenueAccount():
                self._take_venue_account(event)
            case OrderEvent():
                if event.status is OrderStatus.REJECTED and not event.report_id:
                    self.locally_rejected.add(event.intent_id)
            case AccountState():
                self.accounts[event.account] = event
            case _:
                return

    def _take_report(self, report: VenueReport) -> None:
        order_id = report.client_order_id
        if report.kind is ReportKind.ACCEPTED:
            self.accepted[order_id] += 1
        if report.venue_order_id and report.kind is not ReportKind.CANCEL_REJECTED:
            self.venue_order_ids.setdefault(order_id, set()).add(report.venue_order_id)
        if report.kind is ReportKind.FILL:
            assert report.last_quantity is not None, "the wire refuses a fill without a quantity"
            self.fills[order_id] += 1
            sign = self.placed[order_id].side.sign if order_id in self.placed else 0
            where = (report.account, report.instrument)
            self.filled[where] = self.filled.get(where, _ZERO) + sign * report.last_quantity

    def _take_venue_account(self, snapshot: VenueAccount) -> None:
        # Fills add to what was taken over, at first and after a resume; all other snapshots only confirm them.
        if snapshot.account in self.taken_over and not snapshot.cause_id:
            return
        self.taken_over.add(snapshot.account)
        for where in [where for where in self.filled if where[0] == snapshot.account]:
            del self.filled[where]
        for held in snapshot.positions:
            self.filled[snapshot.account, held.instrument] = held.quantity

    def unmatched_intents(self) -> dict[str, tuple[int, int]]:
        """Return the intents without exactly one verdict: how often each stands, and how many verdicts it has."""
        return _unmatched(self.intents, self.verdicts)

    def unmatched_approvals(self) -> dict[str, tuple[int, int]]:
        """Return the approvals without exactly one command, and commands without an approval, likewise.

        A halt cancels what rests in the book: those commands answer to it, commanded or published
        by risk. One that overtakes an approval on its way has execution reject the order itself and send nothing.
        """
        sent = {
            name: count
            for name, count in self.approved.items()
            if name in self.commands or name not in self.locally_rejected
        }
        return _unmatched(sent, {name: count for name, count in self.commands.items() if name not in self.controls})

    def repeated_orders(self) -> list[str]:
        """Return a line for each order that was placed or accepted twice, or is two orders at the venue."""
        return [
            *(f"order {name} was placed {count} times" for name, count in self.placed_count.items() if count > 1),
            *(f"order {name} was accepted {count} times" for name, count in self.accepted.items() if count > 1),
            *(
                f"order {name} is {len(ids)} orders at the venue"
                for name, ids in self.venue_order_ids.items()
                if len(ids) > 1
            ),
        ]

    def unequal_positions(self) -> dict[PositionKey, tuple[Decimal, Decimal]]:
        """Return the positions that are not the sum of their fills: what the account says, and the sum."""
        held = {
            (account, position.instrument): position.quantity
            for account, state in self.accounts.items()
            for position in state.positions
        }
        pairs = {where: (held.get(where, _ZERO), self.filled.get(where, _ZERO)) for where in {*held, *self.filled}}
        return {where: pair for where, pair in sorted(pairs.items()) if pair[0] != pair[1]}

    def fills_without_order(self) -> list[str]:
        """Return the client order ids that have fills and no command."""
        return [order_id for order_id in self.fills if order_id not in self.placed]


def _unmatched(asked: Mapping[str, int], answered: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    pairs = {name: (asked.get(name, 0), answered.get(name, 0)) for name in sorted({*asked, *answered})}
    return {name: pair for name, pair in pairs.items() if pair != (1, 1)}
