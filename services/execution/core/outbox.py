"""The outbox: decides what is asked of a real venue and what its answers mean. Never sends twice, never guesses.

::

    command --> refused by the send gate: REJECTED
            '-> PLACE call, written, then made by the shell
                  answered: recorded  |  refused: REJECTED  |  no answer: UNKNOWN, asked for
                  not sent, because control came first or it took too long: decided anew
                  the process ended meanwhile: asked for once the clock is right, and UNKNOWN unless found

One call at a time: the next one is decided when the answer to the last was handled, and commands wait while a
reconciliation runs (see `reconciliation`). A lasting difference halts sending until the account is resumed, also
across restarts; RESUME takes the venue's account over and closes the orders it does not know. Until a first
reconciliation succeeded only reductions are sent. A cancel in doubt is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from libs.domain.control import ALL_ACCOUNTS, ControlCommand, ControlState
from libs.domain.events import Event
from libs.domain.orders import CancelOrder, PlaceOrder
from libs.domain.state import StateMismatch
from libs.domain.venues import CallOutcome, VenueAnswer, VenueCall, VenueCallKind, VenueTick
from services.execution.core import comparing_steps, order_steps
from services.execution.core.outbox_state import (
    COMPARING,
    ON_ONE_ORDER,
    STATE,
    OutboxState,
    Step,
    StepKind,
)
from services.execution.core.outbox_work import DIFFERENCE_ALERT, NAME, OutboxWork
from services.execution.core.reconciliation import OutboxTerms
from services.execution.core.send_gate import SendGate

NOTHING: tuple[Event, ...] = ()
_ON_ANSWER: dict[StepKind, Callable[[OutboxWork, Step, VenueAnswer], None]] = {
    StepKind.PLACE: order_steps.on_placed,
    StepKind.CANCEL: order_steps.on_cancelled,
    StepKind.RETRY_CANCEL: order_steps.on_cancelled,
    StepKind.EXPLAIN_CANCEL: order_steps.on_cancel_explained,
    StepKind.PREPARE: comparing_steps.on_prepared,
    StepKind.READ_CLOCK: comparing_steps.on_clock,
    StepKind.CHECK_ORDER: comparing_steps.on_checked,
    StepKind.LIST_OPEN_ORDERS: comparing_steps.on_open_orders,
    StepKind.READ_ACCOUNT: comparing_steps.on_account,
    StepKind.RECHECK_ORDER: comparing_steps.on_rechecked,
    StepKind.SET_COUNTDOWN: comparing_steps.on_countdown,
}


class OutboxCore:
    """The core of the outbox for one account: commands, control, answers and ticks in; calls, reports, alerts out."""

    def __init__(self, account: str, terms: OutboxTerms | None = None) -> None:
        self._work = OutboxWork(OutboxState(account, SendGate(account, NAME)), terms or OutboxTerms())
        self._handlers: dict[type, Callable[[Any], None]] = {
            PlaceOrder: self._on_command,
            CancelOrder: self._on_command,
            VenueAnswer: self._on_answer,
            VenueTick: self._on_tick,
            ControlCommand: self._on_control_command,
            ControlState: self._on_control_state,
        }

    @property
    def account(self) -> str:
        """The account that it sends for."""
        return self._work.state.account

    @property
    def is_halted(self) -> bool:
        """Whether it stopped sending by itself."""
        return self._work.state.gate.is_self_halted

    @property
    def pending_call(self) -> VenueCall | None:
        """The call whose answer it waits for."""
        return self._work.state.pending

    @property
    def start_id(self) -> str:
        """The tick by which the last process began."""
        return self._work.state.start_id

    def is_due(self, now: int) -> bool:
        """Whether a tick of this time of the venue's clock would have it do anything."""
        compare = self._work.state.reconciliation
        return (
            compare.is_reconciliation_due(now, self._work.terms)
            or compare.is_check_due(now)
            or self.is_health_due(now)
            or comparing_steps.has_countdown_changed(self._work, now)
        )

    def is_health_due(self, now: int) -> bool:
        """Whether a tick of this time must say which services are not well."""
        return comparing_steps.is_health_due(self._work, now)

    def handle(self, event: Event) -> Sequence[Event]:
        """Advance by one event; other accounts' change nothing."""
        handler = self._handlers.get(type(event))
        if handler is None:
            return NOTHING
        handler(event)
        return self._advance()

    def handle_unreadable_control(self, reason: str) -> Sequence[Event]:
        """Halt: a control record that cannot be read may have been meant to stop trading."""
        gate = self._work.state.gate
        if not gate.is_self_halted:
            gate.is_self_halted = True
            message = f"sending halted: a control record cannot be read ({reason})"
            self._work.alert(DIFFERENCE_ALERT, message, is_raised=True)
        return self._advance()

    def _on_command(self, command: PlaceOrder | CancelOrder) -> None:
        if command.account == self.account:
            self._work.state.commands.append(command)

    def _on_tick(self, tick: VenueTick) -> None:
        if tick.account != self.account:
            return
        state = self._work.state
        state.now = tick.event_time
        if tick.is_start:
            self._start(tick)
        if tick.has_account_update:
            state.reconciliation.hasten_check(self._work.terms)
        if tick.health_errors is not None:
            state.health = tick.health_errors

    def _start(self, tick: VenueTick) -> None:
        # The process has made none of the calls so far; the one before it may have made one without an answer.
        state = self._work.state
        call = state.pending
        state.start_id = tick.event_id
        state.pending = state.step = state.health = None
        # A reconciliation that was running starts again.
        state.steps.clear()
        state.is_prepared = False
        state.reconciliations_at_start = 2
        state.countdown.next_time = 0
        state.reconciliation.begin_anew(tick.event_time)
        if call is None or call.kind is not VenueCallKind.PLACE or call.order is None:
            return
        if call.event_id == tick.interrupted_call_id:
            state.reconciliation.doubt(call.order.client_order_id, tick.event_time)
        else:
            order_steps.put_back(self._work, call.order)

    def _on_answer(self, answer: VenueAnswer) -> None:
        state = self._work.state
        if answer.account != state.account or state.pending is None or answer.call_id != state.pending.event_id:
            return
        state.now = answer.event_time
        if answer.clock_correction:
            state.reconciliation.correct_clock(answer.clock_correction)
        step, state.step, state.pending = state.step, None, None
        assert step is not None, "a call is made for a step"
        if step.kind in COMPARING and answer.outcome is not CallOutcome.DONE:
            # Put off to the next time.
            state.steps.clear()
            return
        _ON_ANSWER[step.kind](self._work, step, answer)

    def _on_control_command(self, command: ControlCommand) -> None:
        gate = self._work.state.gate
        was_halted = gate.is_self_halted
        gate.take_command(command)
        if gate.is_self_halted and not was_halted:
            self._work.alert(DIFFERENCE_ALERT, f"sending halted: {command.reason}", is_raised=True)
        elif was_halted and not gate.is_self_halted:
            self._work.state.reconciliation.take_over(command.event_id)
            self._work.alert(DIFFERENCE_ALERT, f"resumed by {command.issued_by}: {command.reason}", is_raised=False)

    def _on_control_state(self, published: ControlState) -> None:
        if published.account in (self.account, ALL_ACCOUNTS):
            self._work.state.gate.published = published.state

    # What is done next.

    def _advance(self) -> Sequence[Event]:
        work, state, compare = self._work, self._work.state, self._work.state.reconciliation
        # Before a first tick the time is not known.
        while state.now and state.pending is None:
            if state.steps:
                self._begin(state.steps.popleft())
            elif state.reconciliations_at_start:
                state.reconciliations_at_start -= 1
                comparing_steps.begin_reconciliation(work)
            elif state.commands:
                order_steps.carry_out(work, state.commands.popleft())
            elif compare.is_reconciliation_due(state.now, work.terms):
                comparing_steps.begin_reconciliation(work)
            elif compare.is_check_due(state.now):
                compare.begin_check(state.now)
                comparing_steps.check_open_orders(work)
            elif state.health is not None and self.is_health_due(state.now):
                comparing_steps.look_after_countdown(work, state.health)
            else:
                comparing_steps.watch_countdown(work)
                break
        return work.take_outputs()

    def _begin(self, step: Step) -> None:
        orders = self._work.state.orders
        if step.kind is StepKind.JUDGE_ACCOUNT:
            comparing_steps.judge_account(self._work)
            return
        if step.kind not in ON_ONE_ORDER:
            self._work.call(step)
            return
        order = orders.open.get(step.client_order_id)
        is_taken = step.client_order_id in orders.cancelled
        if order is not None and not (step.kind is StepKind.RETRY_CANCEL and is_taken):
            self._work.call(step, order)

    # Saved form.

    def snapshot(self) -> bytes:
        """Return the state as bytes."""
        return STATE.encode(self._work.state)

    def restore(self, state: bytes) -> None:
        """Take over a state made by `snapshot`. Raises `StateMismatch` for another account's."""
        restored = STATE.decode(state)
        if restored.account != self.account:
            raise StateMismatch(f"the state is of account {restored.account!r}, this outbox sends for {self.account!r}")
        self._work.state = restored
