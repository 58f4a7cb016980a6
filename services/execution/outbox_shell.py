"""The outbox's effects: makes the calls that its core has decided on, and records each answer before it is handled.

::

    a step of the core, committed
        --> a call: made, its answer recorded; a PLACE only once control was read anew and its time checked
        '-> none: a tick recorded where something is due or the venue has pushed an update

A call is made once, by the process whose transaction committed it. A PLACE before which control has come, or that
waited for too long, is not made: it goes back to the core as NOT_SENT, behind the control. A process that may have been
replaced meanwhile cannot record its answer and ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from logging import ERROR, INFO

import structlog

from libs.bus.api import Bus, Footprint, NewRecord, Producer, TopicPartition, Waiting
from libs.clock import Clock
from libs.domain.orders import PlaceOrder
from libs.domain.venues import CallOutcome, VenueAnswer, VenueCall, VenueCallKind, VenueTick
from libs.runtime.errors import BadInput
from libs.runtime.handler import Decode, Input
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.opened import opened
from libs.runtime.records import commit_records, stamped_record
from libs.runtime.shell import CoreShell
from libs.venues.api import TradingVenue
from libs.venues.errors import VenueRefused, VenueUnavailable
from libs.wire import EncodeError, decode_any, encode
from libs.wire.topics import COMMANDS, CONTROL_COMMANDS, CONTROL_STATES, OUTBOX, OUTBOX_INPUTS, VENUE_CALLS
from services.execution.core.outbox import OutboxCore

INPUTS = (Input(COMMANDS), Input(OUTBOX_INPUTS), Input(CONTROL_COMMANDS), Input(CONTROL_STATES))
# Who writes answers and ticks; apart from the core, whose outputs are replayed.
ANSWERS = f"{OUTBOX}-answers"
POLL_MS = 50


@dataclass(frozen=True, slots=True)
class OutboxAccess:
    """What the core leaves to the shell: instruments and leverage, and how long a PLACE may wait once it is committed.

    `hold_limit_ns` (of the venue's clock) with the venue's receive window must stay below the time after which another
    process takes an order for absent.
    """

    instruments: Sequence[str]
    leverage: int
    hold_limit_ns: int


class OutboxShell:
    """Runs the core of the outbox beside a venue. `find_health_errors` says which services are not well.

    Calls to the venue are made inside `waiting`; `on_progress` is called at every record.
    """

    def __init__(
        self,
        core: OutboxCore,
        access: OutboxAccess,
        venue: TradingVenue,
        bus: Bus,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock,
        find_health_errors: Callable[[], Sequence[str]] = tuple,
        waiting: Waiting = nullcontext,
        on_progress: Callable[[], None] = lambda: None,
        snapshot_every_records: int = 20_000,
        decode: Decode = decode_any,
    ) -> None:
        self._core = core
        self._access = access
        self._venue = venue
        self._bus = bus
        self._logger = logger
        self._clock = clock
        self._waiting = waiting
        self._find_health_errors = find_health_errors
        self._shell = CoreShell(
            OUTBOX,
            core,
            INPUTS,
            bus,
            metrics,
            logger,
            clock=clock,
            snapshot_every_records=snapshot_every_records,
            check_outputs=self._note_calls,
            # It reads control after each transaction, before it sends anything.
            acting_topics=frozenset(),
            on_progress=on_progress,
            decode=decode,
        )
        self._producer: Producer | None = None
        self._headers: Mapping[str, bytes] = {}
        self._made_id = ""
        self._tick_count = 0
        self._tick_prefix = ""
        self._was_halted = False
        self._venue_error = ""

    @property
    def is_finished(self) -> bool:
        """There is always more to do."""
        return False

    @property
    def is_halted(self) -> bool:
        """Whether the core stopped sending by itself."""
        return self._core.is_halted

    def check_venue(self) -> None:
        """Raise `VenueUnavailable` where the last call had no answer."""
        if self._venue_error:
            raise VenueUnavailable(self._venue_error)

    def open(self) -> None:
        """Fence an older outbox, recover the core, and have it handle everything up to this start."""
        inputs = [TopicPartition(OUTBOX_INPUTS, number) for number in range(self._bus.topics().get(OUTBOX_INPUTS, 0))]
        self._producer = self._bus.producer(ANSWERS, Footprint(tuple(inputs)))
        self._shell.open()
        ends = self._bus.end_offsets(inputs)
        self._tick_prefix = f"tick/{self._core.account}/{sum(ends.values())}"
        interrupted = self._core.pending_call
        start = self._make_tick(is_start=True, interrupted_call_id=interrupted.event_id if interrupted else "")
        self._record(start)
        while self._core.start_id != start.event_id:
            self._shell.step(POLL_MS)
        self._log_halt()

    def step(self, timeout_ms: int) -> int:
        """Let the core handle what has come, then make the call it waits for; return how much was done."""
        taken_at = self._venue.now()
        handled = self._shell.step(min(timeout_ms, POLL_MS))
        self._log_halt()
        call = self._core.pending_call
        if call is not None:
            if call.event_id == self._made_id:
                # Its answer is on the topic and comes with a later batch.
                return handled
            self._made_id = call.event_id
            self._record_answer(self._make(call, taken_at))
            return handled + 1
        with self._waiting():
            has_update = self._venue.has_account_update()
        now = self._venue.now()
        if not has_update and not self._core.is_due(now):
            return handled
        errors = tuple(self._find_health_errors()) if self._core.is_health_due(now) else None
        self._record(self._make_tick(has_account_update=has_update, health_errors=errors))
        return handled + 1

    def close(self) -> None:
        """Let go; every answer is recorded."""
        if self._producer is not None:
            self._producer.close()
        self._shell.close()

    def release(self) -> None:
        """Let go without writing anything, after an error."""
        if self._producer is not None:
            self._producer.close()
        self._shell.release()

    # Calls.

    def _make(self, call: VenueCall, taken_at: int) -> VenueAnswer:
        reason = self._hold_back(call, taken_at) if call.kind is VenueCallKind.PLACE else ""
        answer = VenueAnswer(f"answer/{call.event_id}", 1, call.account, call.event_id, CallOutcome.DONE)
        if reason:
            return replace(answer, event_time=self._venue.now(), outcome=CallOutcome.NOT_SENT, reason=reason)
        before = self._venue.now()
        try:
            with self._waiting():
                answer = self._ask(call, answer)
            self._venue_error = ""
        except VenueUnavailable as error:
            self._venue_error = str(error)
            answer = replace(answer, outcome=CallOutcome.UNAVAILABLE, reason=str(error))
            self._logger.warning("no answer", call=call.kind.name, call_id=call.event_id, reason=answer.reason)
        except VenueRefused as error:
            if call.kind is VenueCallKind.PREPARE:
                raise BadInput(f"the venue does not take this account: {error}") from error
            answer = replace(answer, outcome=CallOutcome.REFUSED, reason=str(error))
        now = self._venue.now()
        corrects_clock = call.kind in (VenueCallKind.PREPARE, VenueCallKind.READ_CLOCK)
        return replace(answer, event_time=now, clock_correction=now - before if corrects_clock else 0)

    def _hold_back(self, call: VenueCall, taken_at: int) -> str:
        if self._shell.has_waiting_control():
            return "control came first"
        now = self._venue.now()
        if now > call.expires_at:
            return "the command is too old"
        if now - taken_at > self._access.hold_limit_ns:
            # Another process may have found by now that it never arrived.
            return "it was held up after it was decided on"
        return ""

    def _ask(self, call: VenueCall, answer: VenueAnswer) -> VenueAnswer:
        venue, order = self._venue, call.order
        match call.kind:
            case VenueCallKind.PREPARE:
                venue.prepare(self._access.instruments, self._access.leverage)
            case VenueCallKind.READ_CLOCK:
                venue.synchronise()
            case VenueCallKind.PLACE:
                return replace(answer, order=venue.place(_demand(order)))
            case VenueCallKind.CANCEL:
                venue.cancel(_demand(order))
            case VenueCallKind.QUERY:
                return replace(answer, order=venue.query(_demand(order), call.booked_quantity))
            case VenueCallKind.LIST_OPEN_ORDERS:
                return replace(answer, open_order_ids=tuple(venue.open_order_ids()))
            case VenueCallKind.READ_ACCOUNT:
                return replace(answer, snapshot=venue.account())
            case VenueCallKind.SET_COUNTDOWN:
                for instrument in self._access.instruments:
                    venue.set_cancel_countdown(instrument, call.countdown_ms)
        return answer

    # Records.

    def _note_calls(self, outputs: Sequence[NewRecord]) -> None:
        for output in outputs:
            if output.topic == VENUE_CALLS:
                self._headers = output.headers

    def _make_tick(
        self,
        *,
        is_start: bool = False,
        interrupted_call_id: str = "",
        has_account_update: bool = False,
        health_errors: tuple[str, ...] | None = None,
    ) -> VenueTick:
        self._tick_count += 1
        return VenueTick(
            f"{self._tick_prefix}/{self._tick_count}",
            self._venue.now(),
            self._core.account,
            is_start,
            interrupted_call_id,
            has_account_update,
            health_errors,
        )

    def _record_answer(self, answer: VenueAnswer) -> None:
        try:
            self._record(answer, self._headers)
        except EncodeError as error:
            # A number that no venue of ours documents: what the answer means nobody knows.
            self._record(
                VenueAnswer(
                    answer.event_id,
                    answer.event_time,
                    answer.account,
                    answer.call_id,
                    CallOutcome.UNAVAILABLE,
                    f"the answer cannot be recorded: {error}",
                )
            )

    def _record(self, event: VenueAnswer | VenueTick, cause: Mapping[str, bytes] | None = None) -> None:
        commit_records(opened(self._producer), [stamped_record(encode(event), ANSWERS, self._clock.now_ns(), cause)])

    def _log_halt(self) -> None:
        if self._core.is_halted != self._was_halted:
            self._was_halted = self._core.is_halted
            what = "sending halted; the alert says why" if self._was_halted else "sending resumed"
            self._logger.log(ERROR if self._was_halted else INFO, what)


def _demand(order: PlaceOrder | None) -> PlaceOrder:
    assert order is not None, "a call on an order carries it"
    return order
