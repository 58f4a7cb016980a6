"""The outbox: carries committed commands to a real venue and records its answers. Never resends, never guesses.

::

    command read --> claimed: its offset commits, which a newer process's fence forbids --> sent
         answered: record  |  refused: REJECTED  |  timeout, 5xx: UNKNOWN  |  process dies: asked for at the next start
    UNKNOWN --> asked at every look --> found: record it
                                    '-> still absent after `absent_after_ns`: REJECTED, it never arrived

Control is read anew before every order that is sent. The venue's news make it look at open orders at once; every
`reconcile_interval_ns` it compares orders, fills and positions with the venue's; a difference that lasts for two rounds
raises an alert and halts. A RESUME after that takes the venue's books over and closes the orders it does not know.
Until a first comparison succeeded only reductions are sent. A cancel in doubt is tried again, by the next process too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from logging import ERROR, INFO

import structlog

from libs.bus.api import Bus, Consumer, Producer, Record, TopicPartition
from libs.domain.accounts import VenueAccount
from libs.domain.control import (
    ALL_ACCOUNTS,
    Alert,
    ControlCommand,
    ControlState,
    Severity,
    TradingState,
)
from libs.domain.events import Event
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CancelOrder, OrderStatus, PlaceOrder, ReportKind, VenueReport
from libs.domain.venues import VenueOrderState
from libs.runtime.control_lane import CONTROL_TOPICS, ControlLane
from libs.runtime.records import commit_records, read_topic, stamped_record
from libs.venues.api import TradingVenue
from libs.venues.errors import VenueError, VenueRefused, VenueUnavailable
from libs.wire import DecodeError, decode, encode
from libs.wire.topics import COMMANDS, REPORTS
from services.execution.core.gate import TradingGate
from services.execution.core.order_states import ManagedOrder
from services.execution.dead_man import DeadManSwitch
from services.execution.order_tracking import (
    TrackedOrders,
    make_cancel_rejection,
    make_report,
    make_venue_account,
    reports_of,
)

NAME = "execution-outbox"
DIFFERENCE_ALERT = "venue_differs_from_records"
DEAD_MAN_ALERT = "dead_man_switch_ran_out"
STALE_ROUNDS = 3
BOOK_READINGS = 3
POLL_MS = 50


@dataclass(frozen=True, slots=True)
class OutboxTerms:
    """Times in ns of the venue's clock. `absent_after_ns` must exceed its receive window (10 s) at least twice.

    `look_gap_ns` bounds how often news make it look at open orders.
    """

    reconcile_interval_ns: int = 10 * NANOSECONDS
    absent_after_ns: int = 30 * NANOSECONDS
    max_command_age_ns: int = 30 * NANOSECONDS
    look_gap_ns: int = NANOSECONDS // 2
    countdown_ns: int = 60 * NANOSECONDS


class Outbox:
    """Runs beside the core in external mode, with a bus of its own. `find_faults` says which services are not well.

    It keeps no snapshot: at start it reads the account's commands and reports from their beginning.
    """

    def __init__(
        self,
        account: str,
        instruments: Sequence[str],
        leverage: int,
        venue: TradingVenue,
        bus: Bus,
        logger: structlog.stdlib.BoundLogger,
        terms: OutboxTerms | None = None,
        find_faults: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._account = account
        self._instruments = instruments
        self._leverage = leverage
        self._venue = venue
        self._bus = bus
        self._logger = logger
        self._terms = terms or OutboxTerms()
        self._find_service_faults = find_faults
        self._dead_man = DeadManSwitch(venue, instruments, self._terms.countdown_ns, self._find_faults, logger)
        self._has_told_run_out = False
        self._gate = TradingGate(account, NAME)
        self._orders = TrackedOrders()
        self._unknown_since: dict[str, int] = {}
        self._missing: set[str] = set()
        self._awaited: dict[tuple[str, Decimal], int] = {}
        self._differences: dict[str, str] = {}
        self._halt_reason = ""
        self._takeover_cause = ""
        self._is_prepared = False
        self._reconciled_at = 0
        self._alert_count = 0
        self._next_reconcile = 0
        self._next_look = 0
        self._looked_at = 0
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._lane: ControlLane | None = None

    @property
    def is_halted(self) -> bool:
        """Whether it stopped sending by itself."""
        return self._gate.is_self_halted

    def open(self) -> None:
        """Fence an older outbox, learn from the topics what was done, and reconcile with the venue.

        Raises `VenueRefused` where the account is not one that execution can keep the books of.
        """
        self._producer = self._bus.producer(NAME)
        self._read_records()
        self._consumer = self._bus.consumer([COMMANDS], group=NAME, member_id=f"{NAME}-0")
        now = self._venue.now()
        for order in list(self._orders.open.values()):
            if order.status is OrderStatus.SUBMITTING:
                # Claimed by a process that recorded no answer: it may have sent it.
                self._record(self._ask_first(order, now), None)
        self._reconcile(now)
        self._reconcile(now)

    def step(self, timeout_ms: int) -> int:
        """Carry out what has been committed; look at the venue when it is time. Return how many records there were."""
        assert self._consumer is not None, "open() comes first"
        records = self._consumer.poll(100, min(timeout_ms, POLL_MS))
        for record in records:
            self._carry_out(record)
        self._read_control()
        if self._venue.has_account_update():
            self._next_look = min(self._next_look, self._looked_at + self._terms.look_gap_ns)
        now = self._venue.now()
        if not 0 < self._next_reconcile - now <= self._terms.reconcile_interval_ns:
            # It is due, or the clock was put back.
            self._reconcile(now)
        elif now >= self._next_look:
            self._look_at_orders(now)
        if self._is_prepared:
            # Before that the venue's clock is not known.
            self._dead_man.step(self._venue.now())
            self._tell_dead_man(self._venue.now())
        return len(records)

    def close(self) -> None:
        """Let go without writing anything; everything done is recorded."""
        for each in (self._producer, self._consumer):
            if each is not None:
                each.close()

    # What the topics say.

    def _read_records(self) -> None:
        at = [TopicPartition(COMMANDS, number) for number in range(self._bus.topics().get(COMMANDS, 0))]
        claimed = self._bus.committed(NAME, at)
        for record in read_topic(self._bus, COMMANDS):
            event = decode(record.topic, record.value)
            if record.offset >= (claimed[TopicPartition(record.topic, record.partition)] or 0):
                continue
            if isinstance(event, PlaceOrder) and self._is_ours(event.account):
                self._orders.add(event)
            elif isinstance(event, CancelOrder) and self._is_ours(event.account):
                self._orders.add_cancel(event)
        for record in read_topic(self._bus, REPORTS):
            event = decode(record.topic, record.value)
            if isinstance(event, VenueReport | VenueAccount) and self._is_ours(event.account):
                self._orders.book([event])
        now = self._venue.now()
        self._unknown_since = {
            name: now for name, order in self._orders.open.items() if order.status is OrderStatus.UNKNOWN
        }
        self._lane = ControlLane(self._bus, CONTROL_TOPICS, {})
        # Nobody is told again of what was halted and resumed before.
        was_halted = self._gate.is_self_halted
        for record in self._lane.look():
            self._take_control(record)
        self._tell_halt(was_halted, now)

    def _read_control(self) -> None:
        assert self._lane is not None, "open() comes first"
        for record in self._lane.look():
            was_halted = self._gate.is_self_halted
            self._take_control(record)
            self._tell_halt(was_halted, self._venue.now())

    def _take_control(self, record: Record) -> None:
        try:
            event = decode(record.topic, record.value)
        except DecodeError as error:
            # Whoever wrote it wanted something done about trading; what, nobody knows.
            self._gate.is_self_halted = True
            self._halt_reason = f"sending halted: a control record cannot be read ({error})"
            return
        if isinstance(event, ControlCommand):
            was_halted = self._gate.is_self_halted
            self._gate.take_command(event)
            if self._gate.is_self_halted and not was_halted:
                self._halt_reason = f"sending halted: {event.reason}"
            if not was_halted or self._gate.is_self_halted:
                return
            self._halt_reason = f"resumed by {event.issued_by}: {event.reason}"
            if event.event_id not in self._orders.takeovers:
                self._takeover_cause = event.event_id
                self._differences = {}
                self._next_reconcile = 0
        elif isinstance(event, ControlState) and event.account in (self._account, ALL_ACCOUNTS):
            self._gate.published = event.state

    # Commands.

    def _carry_out(self, record: Record) -> None:
        event = decode(record.topic, record.value)
        if isinstance(event, PlaceOrder) and self._is_ours(event.account):
            self._place(event, record)
        elif isinstance(event, CancelOrder) and self._is_ours(event.account):
            self._record(self._cancel(event), record, claims=True)
        else:
            self._record((), record, claims=True)

    def _place(self, command: PlaceOrder, record: Record) -> None:
        if self._orders.is_known(command.client_order_id):
            self._record((), record, claims=True)
            return
        order = self._orders.add(command)
        taken_at = self._venue.now()
        self._record((), record, claims=True)
        # After the claim, so that nothing that takes time lies between the last look at control and the sending.
        self._read_control()
        refusal = self._refuse(command, taken_at)
        if refusal:
            self._record([make_report(command, ReportKind.REJECTED, self._venue.now(), refusal)], record)
            return
        self._record(self._send(order), record)

    def _refuse(self, command: PlaceOrder, taken_at: int) -> str:
        refusal = self._gate.refuse(is_reducing=command.reduce_only)
        if not refusal and not self._reconciled_at and not command.reduce_only:
            refusal = "not sent: positions and orders could not be compared with the venue's yet"
        now = self._venue.now()
        age = now - command.event_time
        if not refusal and age > self._terms.max_command_age_ns:
            refusal = f"not sent: the command is {age // NANOSECONDS} s old"
        held_up = now - taken_at
        if not refusal and held_up > self._terms.absent_after_ns // 2:
            # Another process may have found by now that it never arrived.
            refusal = f"not sent: it was taken in hand {held_up // NANOSECONDS} s ago"
        return refusal

    def _send(self, order: ManagedOrder) -> Sequence[VenueReport]:
        command = order.command
        try:
            state = self._venue.place(command)
        except VenueRefused as error:
            return [make_report(command, ReportKind.REJECTED, self._venue.now(), str(error))]
        except VenueUnavailable as error:
            return [self._doubt(command, self._venue.now(), str(error))]
        self._orders.counted[command.client_order_id] = state.filled_quantity
        if sum(fill.quantity for fill in state.fills) != state.filled_quantity:
            self._next_look = 0
        return reports_of(order, state)

    def _query(self, order: ManagedOrder) -> VenueOrderState | None:
        state = self._venue.query(order.command, order.filled_quantity)
        if state is not None:
            self._orders.counted[order.command.client_order_id] = state.filled_quantity
        return state

    def _ask_first(self, order: ManagedOrder, now: int) -> Sequence[VenueReport]:
        command = order.command
        try:
            state = self._query(order)
        except VenueError as error:
            return [self._doubt(command, now, str(error))]
        if state is None:
            return [self._doubt(command, now, "a process ended while it may have sent this order")]
        return reports_of(order, state)

    def _doubt(self, command: PlaceOrder, now: int, reason: str) -> VenueReport:
        self._unknown_since[command.client_order_id] = now
        self._next_look = 0
        return make_report(command, ReportKind.UNKNOWN, now, reason)

    def _cancel(self, command: CancelOrder) -> Sequence[VenueReport]:
        order = self._orders.open.get(command.client_order_id)
        now = self._venue.now()
        if order is None:
            return [make_cancel_rejection(command, now, "the order is closed")]
        # Cancelling twice does no harm, so a cancel in doubt is simply tried again at the next look.
        self._orders.add_cancel(command)
        self._next_look = 0
        return self._try_cancel(order, command, now)

    def _try_cancel(self, order: ManagedOrder, command: CancelOrder, now: int) -> list[VenueReport]:
        name = command.client_order_id
        try:
            self._venue.cancel(order.command)
        except VenueUnavailable as error:
            self._logger.warning("cancel in doubt", client_order_id=name, reason=str(error))
            return []
        except VenueRefused as error:
            return self._explain_refused_cancel(order, command, now, str(error))
        self._orders.cancelled.add(name)
        return []

    def _explain_refused_cancel(
        self, order: ManagedOrder, command: CancelOrder, now: int, refusal: str
    ) -> list[VenueReport]:
        try:
            state = self._query(order)
        except VenueError:
            state = None
        known = reports_of(order, state) if state is not None else []
        is_over = state is not None and not state.status.is_open
        # The order of an unknown fate may be under way still: it is cancelled when it has come.
        is_kept = is_over or command.client_order_id in self._unknown_since
        return known if is_kept else [*known, make_cancel_rejection(command, now, refusal)]

    # Reconciliation.

    def _look_at_orders(self, now: int) -> None:
        self._looked_at = now
        self._next_look = self._next_reconcile
        try:
            for order in list(self._orders.open.values()):
                # What the venue does not know is a difference, which the next reconciliation finds as well.
                tuple(self._reconcile_order(order, now))
        except VenueError as error:
            self._logger.warning("looking at open orders put off", reason=str(error))

    def _reconcile(self, now: int) -> None:
        self._next_reconcile = now + self._terms.reconcile_interval_ns
        self._next_look = self._next_reconcile
        self._looked_at = now
        try:
            self._correct_clock(self._prepare)
        except VenueUnavailable as error:
            self._logger.warning("reconciliation put off", reason=str(error))
            return
        differences: dict[str, str] = {}
        try:
            self._correct_clock(self._venue.synchronise)
            now = self._venue.now()
            for order in list(self._orders.open.values()):
                differences.update(self._reconcile_order(order, now))
            differences.update(self._compare(now))
        except VenueError as error:
            self._logger.warning("reconciliation put off", reason=str(error))
            return
        self._next_reconcile = now + self._terms.reconcile_interval_ns
        self._reconciled_at = now
        lasting = sorted(text for what, text in differences.items() if what in self._differences)
        self._differences = differences
        if lasting and not self._gate.is_self_halted:
            reason = "; ".join(lasting)
            self._halt_reason = f"sending halted: {reason}"
            # On the control topic it outlives this process, and a difference that is gone by the next start.
            self._record([self._gate.halt_itself(f"{DIFFERENCE_ALERT}/{now}", now, reason)], None)
            self._tell_halt(False, now)

    def _prepare(self) -> None:
        if not self._is_prepared:
            self._venue.prepare(self._instruments, self._leverage)
            self._is_prepared = True

    def _correct_clock(self, ask: Callable[[], None]) -> None:
        before = self._venue.now()
        try:
            ask()
        finally:
            # No doubt grows older because the clock was wrong.
            correction = self._venue.now() - before
            self._unknown_since = {name: since + correction for name, since in self._unknown_since.items()}

    def _reconcile_order(self, order: ManagedOrder, now: int) -> Iterable[tuple[str, str]]:
        """Record what the venue says of an order; yield what it says otherwise than the records, by a name for it."""
        name = order.command.client_order_id
        cancel = self._orders.cancels.get(name)
        if cancel is not None and name not in self._orders.cancelled:
            self._record(self._try_cancel(order, cancel, now), None)
        if name not in self._orders.open:
            return
        state = self._query(order)
        if state is not None:
            self._unknown_since.pop(name, None)
            self._missing.discard(name)
            self._record(reports_of(order, state), None)
            return
        if name in self._orders.cancelled:
            # Venues forget orders that closed without a fill.
            self._unknown_since.setdefault(name, now)
        since = self._unknown_since.get(name)
        if since is None:
            yield from self._miss(order, now)
        elif now - since >= self._terms.absent_after_ns:
            del self._unknown_since[name]
            kind, reason = ReportKind.REJECTED, "the venue never got this order; it was not sent again"
            if name in self._orders.cancelled:
                kind, reason = ReportKind.CANCELLED, "the venue cancelled it and does not know it any more"
            self._record([make_report(order.command, kind, now, reason)], None)

    def _miss(self, order: ManagedOrder, now: int) -> Iterable[tuple[str, str]]:
        name = order.command.client_order_id
        if self._takeover_cause and name in self._missing:
            reason = "the venue does not know this order; closed when its books were taken over"
            self._record([make_report(order.command, ReportKind.CANCELLED, now, reason)], None)
            return
        self._missing.add(name)
        yield name, f"the venue does not know order {name}, which it had accepted"

    def _compare(self, now: int) -> Iterable[tuple[str, str]]:
        for name in self._venue.open_order_ids():
            if not self._orders.is_known(name):
                yield name, f"the venue has an open order {name} that was never commanded"
            elif name not in self._orders.open:
                yield name, f"the venue has an open order {name} that is closed by the records"
        listed = {name: self._orders.open[name].filled_quantity for name in self._orders.unlisted()}
        self._awaited = {each: self._awaited.get(each, now) for each in listed.items()}
        for (name, quantity), since in self._awaited.items():
            if now - since >= self._terms.reconcile_interval_ns:
                yield f"{name} fills", f"the venue counts more of order {name} as filled than the {quantity} it lists"
        for _ in range(BOOK_READINGS):
            books = self._venue.account()
            differing = list(self._orders.differing_positions(books))
            is_new = books.wallet_balance != self._orders.wallet or self._takeover_cause
            if not differing and not is_new:
                return
            # Only books that hold just the fills that are recorded can be compared, and be gone on from.
            if not self._have_orders_moved():
                break
        else:
            raise VenueUnavailable("orders fill faster than the books can be read")
        is_takeover = self._orders.wallet is None or self._takeover_cause
        if not self._orders.unlisted() and (is_takeover or not differing):
            self._record([make_venue_account(self._account, books, now, self._takeover_cause)], None)
            self._takeover_cause = ""
        elif not is_takeover:
            yield from differing

    def _have_orders_moved(self) -> bool:
        before = dict(self._orders.counted)
        has_moved = False
        for order in list(self._orders.open.values()):
            state = self._query(order)
            if state is not None:
                has_moved |= state.filled_quantity != before.get(order.command.client_order_id, 0)
                self._record(reports_of(order, state), None)
        return has_moved

    # Halting, the dead-man switch and alerts.

    def _tell_halt(self, was_halted: bool, now: int) -> None:
        is_halted = self._gate.is_self_halted
        if is_halted == was_halted:
            return
        self._logger.log(ERROR if is_halted else INFO, self._halt_reason)
        self._tell(DIFFERENCE_ALERT, now, self._halt_reason, is_raised=is_halted)

    def _find_faults(self) -> Sequence[str]:
        faults = [*self._find_service_faults(), *sorted(self._differences.values())]
        if self._gate.state is TradingState.HALTED:
            faults.append("trading is halted")
        age = self._venue.now() - self._reconciled_at
        if not self._reconciled_at or age > STALE_ROUNDS * self._terms.reconcile_interval_ns:
            faults.append("orders and positions could not be compared with the venue's lately")
        return faults

    def _tell_dead_man(self, now: int) -> None:
        has_run_out = self._dead_man.has_run_out(now)
        if has_run_out == self._has_told_run_out:
            return
        self._has_told_run_out = has_run_out
        message = "wound again"
        if has_run_out:
            message = f"the venue has been left to cancel all open orders: {'; '.join(self._dead_man.faults)}"
        self._tell(DEAD_MAN_ALERT, now, message, is_raised=has_run_out)

    def _tell(self, name: str, now: int, message: str, *, is_raised: bool) -> None:
        self._alert_count += 1
        alert = Alert(
            event_id=f"alert/{NAME}/{self._account}/{now}/{self._alert_count}",
            event_time=now,
            service="execution",
            name=name,
            severity=Severity.CRITICAL,
            is_raised=is_raised,
            message=message,
        )
        self._record([alert], None)

    # Records.

    def _is_ours(self, account: str) -> bool:
        return account == self._account

    def _record(self, outputs: Sequence[Event], cause: Record | None, *, claims: bool = False) -> None:
        """Commit outputs; with `claims` also that the command `cause` was taken in hand, once and for all."""
        if not outputs and not claims:
            return
        assert self._producer is not None
        headers = cause.headers if cause else None
        offsets = {}
        if claims and cause is not None:
            offsets = {TopicPartition(cause.topic, cause.partition): cause.offset + 1}
        made_at = time.time_ns()
        records = [stamped_record(encode(output), NAME, made_at, headers) for output in outputs]
        commit_records(self._producer, records, self._consumer, offsets)
        self._orders.book(output for output in outputs if isinstance(output, VenueReport | VenueAccount))
