"""The outbox: carries committed commands to a real venue and records its answers. Never resends, never guesses.

::

    command read --> first after a start? --> ask by client order id (a dead predecessor may have sent it)
         |                                        |-> found: record it      '-> not found: UNKNOWN, see below
         '-> send --> answered: record  |  refused: REJECTED  |  timeout, 5xx: UNKNOWN
    UNKNOWN --> asked at every reconciliation --> found: record it
                                              '-> still absent after `absent_after_ns`: REJECTED, it never arrived

The answer and the command's offset commit in one transaction. At start and every `reconcile_interval_ns` open orders,
fills and positions are compared with the venue's; a difference that lasts for two rounds raises an alert and halts.
Until a first comparison succeeded only reductions are sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog

from libs.bus.api import Bus, Consumer, Producer, Record, TopicPartition
from libs.domain.control import ALL_ACCOUNTS, Alert, ControlCommand, ControlState, Severity
from libs.domain.events import Event
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CancelOrder, OrderStatus, PlaceOrder, ReportKind, VenueReport
from libs.runtime.records import commit_records, read_topic, stamped_record
from libs.wire import decode, encode
from libs.wire.topics import COMMANDS, CONTROL_COMMANDS, CONTROL_STATES, REPORTS
from services.execution.core.gate import TradingGate
from services.execution.core.order_states import ManagedOrder
from services.execution.order_tracking import TrackedOrders, make_cancel_rejection, make_report, reports_of
from services.execution.venue_port import VenuePort, VenueRefused, VenueUncertain

NAME = "execution-outbox"
ALERT = "venue_differs_from_records"


@dataclass(frozen=True, slots=True)
class OutboxTerms:
    """Times in ns of wall time. `absent_after_ns` must exceed the venue's receive window (Binance: 5 s by default)."""

    reconcile_interval_ns: int = 10 * NANOSECONDS
    absent_after_ns: int = 30 * NANOSECONDS
    max_command_age_ns: int = 30 * NANOSECONDS


class Outbox:
    """Runs beside the core in external mode, with a bus of its own. `clock` returns wall time in ns since epoch.

    It keeps no snapshot: at start it reads the account's commands and reports from their beginning.
    """

    def __init__(
        self,
        account: str,
        venue: VenuePort,
        bus: Bus,
        clock: Callable[[], int],
        logger: structlog.stdlib.BoundLogger,
        terms: OutboxTerms | None = None,
    ) -> None:
        self._account = account
        self._venue = venue
        self._bus = bus
        self._clock = clock
        self._logger = logger
        self._terms = terms or OutboxTerms()
        self._gate = TradingGate()
        self._orders = TrackedOrders()
        self._unknown_since: dict[str, int] = {}
        self._cancels: dict[str, CancelOrder] = {}
        self._differences: frozenset[str] = frozenset()
        self._has_reconciled = False
        self._alert_count = 0
        self._suspects: dict[TopicPartition, int] = {}
        self._next_reconcile = 0
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None

    @property
    def is_finished(self) -> bool:
        """An outbox never ends by itself."""
        return False

    @property
    def is_halted(self) -> bool:
        """Whether it stopped sending by itself."""
        return self._gate.is_self_halted

    def open(self) -> None:
        """Fence an older outbox, learn from the topics what was done, and reconcile with the venue."""
        self._producer = self._bus.producer(NAME)
        at = [TopicPartition(COMMANDS, number) for number in range(self._bus.topics().get(COMMANDS, 0))]
        committed = self._bus.committed(NAME, at)
        beginnings = self._bus.beginning_offsets(at)
        ends = self._bus.end_offsets(at)
        done = {where: beginnings[where] if offset is None else offset for where, offset in committed.items()}
        # Only the first command that is not on record can have been sent by a process that died.
        self._suspects = {where: ends[where] for where, offset in done.items() if offset < ends[where]}
        for record in read_topic(self._bus, COMMANDS):
            where = TopicPartition(record.topic, record.partition)
            event = decode(record.topic, record.value)
            if record.offset < done[where] and isinstance(event, PlaceOrder) and self._is_ours(event.account):
                self._orders.add(event)
        for record in read_topic(self._bus, REPORTS):
            event = decode(record.topic, record.value)
            if isinstance(event, VenueReport) and self._is_ours(event.account):
                self._orders.book([event])
        now = self._clock()
        self._unknown_since = {
            name: now for name, order in self._orders.open.items() if order.status is OrderStatus.UNKNOWN
        }
        for topic in (CONTROL_STATES, CONTROL_COMMANDS):
            for record in read_topic(self._bus, topic):
                self._take_control(decode(record.topic, record.value))
        self._consumer = self._bus.consumer(
            [COMMANDS, CONTROL_COMMANDS, CONTROL_STATES], group=NAME, member_id=f"{NAME}-0"
        )
        self._reconcile(now)
        self._reconcile(now)

    def step(self, timeout_ms: int) -> int:
        """Carry out what has been committed; reconcile when it is time. Return how many records there were."""
        assert self._consumer is not None, "open() comes first"
        records = self._consumer.poll(100, timeout_ms)
        for record in records:
            self._carry_out(record)
        now = self._clock()
        if now >= self._next_reconcile:
            self._reconcile(now)
        return len(records)

    def close(self) -> None:
        """Let go; everything done is recorded."""
        self.release()

    def release(self) -> None:
        """Let go without writing anything."""
        if self._producer is not None:
            self._producer.close()
        if self._consumer is not None:
            self._consumer.close()

    # Commands.

    def _carry_out(self, record: Record) -> None:
        event = decode(record.topic, record.value)
        where = TopicPartition(record.topic, record.partition)
        outputs: Sequence[Event] = ()
        if isinstance(event, PlaceOrder) and self._is_ours(event.account):
            outputs = self._place(event, may_have_been_sent=record.offset < self._suspects.get(where, 0))
        elif isinstance(event, CancelOrder) and self._is_ours(event.account):
            outputs = self._cancel(event)
        else:
            self._take_control(event)
        self._record(outputs, record, {where: record.offset + 1})
        self._suspects.pop(where, None)

    def _place(self, command: PlaceOrder, *, may_have_been_sent: bool) -> Sequence[VenueReport]:
        if self._orders.is_known(command.client_order_id):
            return ()
        now = self._clock()
        order = self._orders.add(command)
        if may_have_been_sent:
            return self._ask_first(order, now)
        refusal = self._gate.refuse(is_reducing=command.reduce_only)
        if not refusal and not self._has_reconciled and not command.reduce_only:
            refusal = "not sent: positions and orders could not be compared with the venue's yet"
        age = now - command.event_time
        if not refusal and age > self._terms.max_command_age_ns:
            refusal = f"not sent: the command is {age // NANOSECONDS} s old"
        if refusal:
            return [make_report(command, ReportKind.REJECTED, now, refusal)]
        try:
            return reports_of(order, self._venue.place(command))
        except VenueRefused as error:
            return [make_report(command, ReportKind.REJECTED, now, str(error))]
        except VenueUncertain as error:
            return [self._doubt(command, now, str(error))]

    def _ask_first(self, order: ManagedOrder, now: int) -> Sequence[VenueReport]:
        command = order.command
        try:
            state = self._venue.query(command.instrument, command.client_order_id)
        except VenueUncertain as error:
            return [self._doubt(command, now, str(error))]
        if state is None:
            return [self._doubt(command, now, "a process ended while it may have sent this order")]
        return reports_of(order, state)

    def _doubt(self, command: PlaceOrder, now: int, reason: str) -> VenueReport:
        self._unknown_since[command.client_order_id] = now
        self._next_reconcile = now
        return make_report(command, ReportKind.UNKNOWN, now, reason)

    def _cancel(self, command: CancelOrder) -> Sequence[VenueReport]:
        order = self._orders.open.get(command.client_order_id)
        now = self._clock()
        if order is None:
            return [make_cancel_rejection(command, now, "the order is closed")]
        # Cancelling twice does no harm, so a cancel in doubt is simply tried again at the next reconciliation.
        self._cancels[command.client_order_id] = command
        self._next_reconcile = now
        return self._try_cancel(order, command, now)

    def _try_cancel(self, order: ManagedOrder, command: CancelOrder, now: int) -> list[VenueReport]:
        try:
            self._venue.cancel(command)
        except VenueUncertain as error:
            self._logger.warning("cancel in doubt", client_order_id=command.client_order_id, reason=str(error))
            return []
        except VenueRefused as error:
            del self._cancels[command.client_order_id]
            try:
                state = self._venue.query(command.instrument, command.client_order_id)
            except VenueUncertain:
                state = None
            known = reports_of(order, state) if state is not None else []
            is_over = state is not None and not state.status.is_open
            return known if is_over else [*known, make_cancel_rejection(command, now, str(error))]
        del self._cancels[command.client_order_id]
        return []

    # Reconciliation.

    def _reconcile(self, now: int) -> None:
        self._next_reconcile = now + self._terms.reconcile_interval_ns
        differences: set[str] = set()
        try:
            for order in list(self._orders.open.values()):
                differences.update(self._reconcile_order(order, now))
            differences.update(self._compare())
        except VenueUncertain as error:
            self._logger.warning("reconciliation put off", reason=str(error))
            return
        self._has_reconciled = True
        lasting = self._differences & differences
        self._differences = frozenset(differences)
        if lasting and not self._gate.is_self_halted:
            self._gate.is_self_halted = True
            self._raise_alert(now, f"sending halted: {'; '.join(sorted(lasting))}")

    def _reconcile_order(self, order: ManagedOrder, now: int) -> Iterable[str]:
        command = order.command
        name = command.client_order_id
        if name in self._cancels:
            self._record(self._try_cancel(order, self._cancels[name], now), None, {})
        if name not in self._orders.open:
            return
        state = self._venue.query(command.instrument, name)
        if state is not None:
            self._unknown_since.pop(name, None)
            self._record(reports_of(order, state), None, {})
            return
        since = self._unknown_since.get(name)
        if since is None:
            yield f"the venue does not know order {name}, which it had accepted"
        elif now - since >= self._terms.absent_after_ns:
            del self._unknown_since[name]
            reason = "the venue never got this order; it was not sent again"
            self._record([make_report(command, ReportKind.REJECTED, now, reason)], None, {})

    def _compare(self) -> Iterable[str]:
        for name in self._venue.open_order_ids():
            if not self._orders.is_known(name):
                yield f"the venue has an open order {name} that was never commanded"
        held = self._venue.positions()
        for instrument in sorted({*held, *self._orders.positions}):
            ours, theirs = self._orders.positions.get(instrument, 0), held.get(instrument, 0)
            if ours != theirs:
                yield f"position in {instrument} is {theirs} at the venue and {ours} by recorded fills"

    def _raise_alert(self, now: int, message: str) -> None:
        self._alert_count += 1
        alert = Alert(
            event_id=f"alert/{NAME}/{self._account}/{now}/{self._alert_count}",
            event_time=now,
            service="execution",
            name=ALERT,
            severity=Severity.CRITICAL,
            is_raised=True,
            message=message,
        )
        self._logger.error("halted", reason=message)
        self._record([alert], None, {})

    # Control and records.

    def _is_ours(self, account: str) -> bool:
        return account == self._account

    def _take_control(self, event: Event) -> None:
        if isinstance(event, ControlCommand) and event.account in (self._account, ALL_ACCOUNTS):
            if self._gate.command(event.action):
                self._differences = frozenset()
        elif isinstance(event, ControlState) and event.account in (self._account, ALL_ACCOUNTS):
            self._gate.published = event.state

    def _record(self, outputs: Sequence[Event], cause: Record | None, offsets: dict[TopicPartition, int]) -> None:
        if not outputs and not offsets:
            return
        assert self._producer is not None
        headers = cause.headers if cause else None
        records = [stamped_record(encode(output), NAME, self._clock(), headers) for output in outputs]
        commit_records(self._producer, records, self._consumer, offsets)
        self._orders.book(output for output in outputs if isinstance(output, VenueReport))
