"""Comparing orders, fills and positions with the venue's: when, what was found, and what a difference comes to. Pure.

::

    reconciliation   prepare > clock > every open order > list of open orders > account
    account          same positions and wallet: done
                     otherwise every open order again: has one filled meanwhile? read the account again, three times
                     at most; if none has, the account is recorded or its difference noted
    check            every open order alone, as soon as something is in doubt or the venue has pushed an update

    UNKNOWN order    asked for at every check --> found: recorded
                                              '-> absent for `absent_after_ns`: REJECTED, it never arrived

A difference that two reconciliations in a row have found lasts. Where an answer does not come the
current reconciliation or check ends without a finding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from libs.domain.accounts import VenueAccount
from libs.domain.numbers import NANOSECONDS, format_decimal
from libs.domain.orders import OrderStatus, ReportKind, VenueReport
from libs.domain.venues import VenueAccountSnapshot, VenueOrderState
from services.execution.core.order_states import ManagedOrder
from services.execution.core.tracked_orders import TrackedOrders
from services.execution.core.venue_reports import make_report, make_venue_account, reports_of

ACCOUNT_READINGS = 3
STALE_INTERVALS = 3


@dataclass(frozen=True, slots=True)
class OutboxTerms:
    """Times in ns of the venue's clock. `absent_after_ns` must exceed its receive window (10 s) at least twice.

    `check_gap_ns` bounds how often the venue's updates have open orders checked.
    """

    reconcile_interval_ns: int = 10 * NANOSECONDS
    absent_after_ns: int = 30 * NANOSECONDS
    max_command_age_ns: int = 30 * NANOSECONDS
    check_gap_ns: int = NANOSECONDS // 2
    countdown_ns: int = 60 * NANOSECONDS


@dataclass(slots=True)
class Reconciliation:
    """The state of comparing. Times are ns of the venue's clock; `orders` are read and never written here.

    `unknown_since` are the open orders that the venue may not have, `missing` those that it turned out not to know;
    `awaited` since when an order of that many recorded fills has had more counted. `differences` are those of the last
    reconciliation, `found` those of the current one. `takeover_cause` is the RESUME that asks for the venue's account
    to be taken over.
    """

    next_reconciliation: int = 0
    next_check: int = 0
    checked_at: int = 0
    reconciled_at: int = 0
    unknown_since: dict[str, int] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)
    awaited: list[tuple[str, Decimal, int]] = field(default_factory=list)
    differences: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    takeover_cause: str = ""
    snapshot: VenueAccountSnapshot | None = None
    differing: dict[str, str] = field(default_factory=dict)
    counted_before: dict[str, Decimal] = field(default_factory=dict)
    readings: int = 0

    # When.

    def is_reconciliation_due(self, now: int, terms: OutboxTerms) -> bool:
        """Whether it is time, also where the clock was put back."""
        return not 0 < self.next_reconciliation - now <= terms.reconcile_interval_ns

    def is_check_due(self, now: int) -> bool:
        """Whether open orders must be asked for."""
        return now >= self.next_check

    def begin(self, now: int, terms: OutboxTerms) -> None:
        """Begin a reconciliation."""
        self.next_reconciliation = now + terms.reconcile_interval_ns
        self.begin_check(now)
        self.found = {}
        self.readings = 0

    def begin_check(self, now: int) -> None:
        """Begin to ask for open orders."""
        self.checked_at = now
        self.next_check = self.next_reconciliation

    def hasten_check(self, terms: OutboxTerms) -> None:
        """Have open orders checked soon, for the venue has pushed an update."""
        self.next_check = min(self.next_check, self.checked_at + terms.check_gap_ns)

    def begin_anew(self, now: int) -> None:
        """Begin in a new process: its clock may be off, so no doubt is older than it."""
        self.reconciled_at = 0
        self.unknown_since = dict.fromkeys(self.unknown_since, now)
        self.awaited = [(name, quantity, now) for name, quantity, _ in self.awaited]

    def correct_clock(self, correction_ns: int) -> None:
        """Let no doubt grow older because the clock was wrong."""
        self.unknown_since = {name: since + correction_ns for name, since in self.unknown_since.items()}

    def take_over(self, cause_id: str) -> None:
        """Have the venue's account taken over, whatever differs."""
        self.takeover_cause = cause_id
        self.differences = {}
        self.next_reconciliation = 0

    def errors(self, now: int, terms: OutboxTerms) -> Sequence[str]:
        """Return what keeps the venue's countdown from being set again, a phrase each."""
        found = sorted(self.differences.values())
        if not self.reconciled_at or now - self.reconciled_at > STALE_INTERVALS * terms.reconcile_interval_ns:
            found.append("orders and positions could not be compared with the venue's lately")
        return found

    # Orders.

    def doubt(self, client_order_id: str, now: int) -> None:
        """Note that the venue may not have an order, and have it asked for at once."""
        self.unknown_since[client_order_id] = now
        self.next_check = 0

    def check_order(
        self, orders: TrackedOrders, order: ManagedOrder, state: VenueOrderState | None, now: int, terms: OutboxTerms
    ) -> Sequence[VenueReport]:
        """Return the reports that the venue's answer on an order makes; `state` is None where it knows none."""
        name = order.command.client_order_id
        if state is not None:
            self.unknown_since.pop(name, None)
            self.missing.pop(name, None)
            return reports_of(order, state)
        if name in orders.cancelled:
            # Venues forget orders that closed without a fill.
            self.unknown_since.setdefault(name, now)
        since = self.unknown_since.get(name)
        if since is None:
            return self._miss(order, now)
        if now - since < terms.absent_after_ns:
            if order.status is not OrderStatus.SUBMITTING:
                return ()
            reason = "a process ended while it may have sent this order"
            return [make_report(order.command, ReportKind.UNKNOWN, now, reason)]
        del self.unknown_since[name]
        if name in orders.cancelled:
            reason = "the venue cancelled it and does not know it any more"
            return [make_report(order.command, ReportKind.CANCELLED, now, reason)]
        reason = "the venue never got this order; it was not sent again"
        return [make_report(order.command, ReportKind.REJECTED, now, reason)]

    def _miss(self, order: ManagedOrder, now: int) -> Sequence[VenueReport]:
        name = order.command.client_order_id
        if self.takeover_cause and name in self.missing:
            del self.missing[name]
            reason = "the venue does not know this order; closed when its account was taken over"
            return [make_report(order.command, ReportKind.CANCELLED, now, reason)]
        self.missing[name] = None
        self.found[name] = f"the venue does not know order {name}, which it had accepted"
        return ()

    def compare_open_orders(self, orders: TrackedOrders, open_ids: Sequence[str], now: int, terms: OutboxTerms) -> None:
        """Note open orders that should not be there, and fills that are counted and not listed for too long."""
        for name in open_ids:
            if not orders.is_known(name):
                self.found[name] = f"the venue has an open order {name} that was never commanded"
            elif name not in orders.open:
                self.found[name] = f"the venue has an open order {name} that is closed by the records"
        before = {(name, quantity): since for name, quantity, since in self.awaited}
        listed = [(name, orders.open[name].filled_quantity) for name in orders.unlisted()]
        self.awaited = [(*each, before.get(each, now)) for each in listed]
        for name, quantity, since in self.awaited:
            if now - since >= terms.reconcile_interval_ns:
                self.found[f"{name} fills"] = (
                    f"the venue counts more of order {name} as filled than the {format_decimal(quantity)} it lists"
                )

    # The account.

    def compare_account(self, orders: TrackedOrders, snapshot: VenueAccountSnapshot) -> bool:
        """Compare positions and wallet; return whether orders must be asked for again before anything follows of it."""
        self.readings += 1
        self.differing = dict(orders.differing_positions(snapshot))
        is_new = snapshot.wallet_balance != orders.wallet or bool(self.takeover_cause)
        if not self.differing and not is_new:
            return False
        # Only a snapshot that holds just the fills that are recorded can be compared, and be gone on from.
        self.snapshot = snapshot
        self.counted_before = dict(orders.counted)
        return True

    def has_moved(self, state: VenueOrderState) -> bool:
        """Whether an order has filled since the account was read."""
        return state.filled_quantity != self.counted_before.get(state.client_order_id, Decimal(0))

    def judge_account(self, orders: TrackedOrders, account: str, now: int) -> Sequence[VenueAccount]:
        """Return the record of an account that no order has moved since, or note how it differs."""
        snapshot, self.snapshot = self.snapshot, None
        assert snapshot is not None
        is_takeover = orders.wallet is None or bool(self.takeover_cause)
        if not orders.unlisted() and (is_takeover or not self.differing):
            cause_id, self.takeover_cause = self.takeover_cause, ""
            return [make_venue_account(account, snapshot, now, cause_id)]
        if not is_takeover:
            self.found.update(self.differing)
        return ()

    def conclude(self, now: int, terms: OutboxTerms) -> Sequence[str]:
        """End a reconciliation and return the differences that last, a sentence each."""
        if self.next_reconciliation:
            self.next_reconciliation = now + terms.reconcile_interval_ns
        self.reconciled_at = now
        lasting = sorted(text for what, text in self.found.items() if what in self.differences)
        self.differences = self.found
        return lasting
