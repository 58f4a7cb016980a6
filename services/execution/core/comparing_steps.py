"""Reconciliation and the venue's countdown: which calls they take, and what the answers come to."""

from __future__ import annotations

from libs.domain.control import TradingState
from libs.domain.venues import CallOutcome, VenueAnswer
from services.execution.core.outbox_state import Step, StepKind
from services.execution.core.outbox_work import DEAD_MAN_ALERT, DIFFERENCE_ALERT, OutboxWork
from services.execution.core.reconciliation import ACCOUNT_READINGS
from services.execution.core.venue_reports import reports_of


def begin_reconciliation(work: OutboxWork) -> None:
    """Begin to compare orders, fills and positions with the venue."""
    state = work.state
    state.reconciliation.begin(state.now, work.terms)
    kinds = (StepKind.READ_CLOCK,) if state.is_prepared else (StepKind.PREPARE, StepKind.READ_CLOCK)
    state.steps.extend(Step(kind) for kind in kinds)


def check_open_orders(work: OutboxWork) -> None:
    """Ask for every open order, cancelling again where that is in doubt."""
    orders = work.state.orders
    for name in orders.open:
        if name in orders.cancels:
            work.state.steps.append(Step(StepKind.RETRY_CANCEL, name))
        work.state.steps.append(Step(StepKind.CHECK_ORDER, name))


def on_prepared(work: OutboxWork, _step: Step, _answer: VenueAnswer) -> None:
    """Note that the account is one that can be traded."""
    work.state.is_prepared = True


def on_clock(work: OutboxWork, _step: Step, _answer: VenueAnswer) -> None:
    """Go on to the orders and the account, on the right clock."""
    check_open_orders(work)
    work.state.steps.extend([Step(StepKind.LIST_OPEN_ORDERS), Step(StepKind.READ_ACCOUNT)])


def on_checked(work: OutboxWork, step: Step, answer: VenueAnswer) -> None:
    """Record what the venue says of an open order."""
    state = work.state
    order = state.orders.open[step.client_order_id]
    venue_order = None if answer.order is None else work.counted(answer.order)
    work.record(state.reconciliation.check_order(state.orders, order, venue_order, state.now, work.terms))


def on_open_orders(work: OutboxWork, _step: Step, answer: VenueAnswer) -> None:
    """Compare the venue's open orders with ours."""
    state = work.state
    state.reconciliation.compare_open_orders(state.orders, answer.open_order_ids, state.now, work.terms)


def on_account(work: OutboxWork, _step: Step, answer: VenueAnswer) -> None:
    """Compare the account; where it differs or is new, see whether orders have moved since."""
    state = work.state
    assert answer.snapshot is not None
    if not state.reconciliation.compare_account(state.orders, answer.snapshot):
        _conclude(work)
        return
    state.has_moved = False
    state.steps.extend(Step(StepKind.RECHECK_ORDER, name) for name in state.orders.open)
    state.steps.append(Step(StepKind.JUDGE_ACCOUNT))


def on_rechecked(work: OutboxWork, step: Step, answer: VenueAnswer) -> None:
    """Record what the venue says of an open order since its account was read."""
    state = work.state
    if answer.order is not None:
        state.has_moved |= state.reconciliation.has_moved(answer.order)
        work.record(reports_of(state.orders.open[step.client_order_id], work.counted(answer.order)))


def judge_account(work: OutboxWork) -> None:
    """Record the account or note its difference; read it again where an order has filled meanwhile."""
    state = work.state
    if not state.has_moved:
        work.record(state.reconciliation.judge_account(state.orders, state.account, state.now))
        _conclude(work)
    elif state.reconciliation.readings < ACCOUNT_READINGS:
        state.steps.append(Step(StepKind.READ_ACCOUNT))
    # Orders fill faster than the account can be read: put off to the next time.


def _conclude(work: OutboxWork) -> None:
    state = work.state
    lasting = state.reconciliation.conclude(state.now, work.terms)
    if lasting and not state.gate.is_self_halted:
        reason = "; ".join(lasting)
        work.alert(DIFFERENCE_ALERT, f"sending halted: {reason}", is_raised=True)
        # On the control topic, so that risk knows it.
        work.outputs.append(state.gate.halt_itself(state.alert_count, state.now, reason))


def is_health_due(work: OutboxWork, now: int) -> bool:
    """Whether it must be known which services are not well; before the account is prepared the clock is not known."""
    state = work.state
    return state.is_prepared and state.countdown.is_due(now, work.terms.countdown_ns)


def look_after_countdown(work: OutboxWork, health: tuple[str, ...]) -> None:
    """Have the countdown set again unless something is wrong."""
    state = work.state
    state.health = None
    errors = [*health, *state.reconciliation.errors(state.now, work.terms)]
    if state.gate.state is TradingState.HALTED:
        errors.append("trading is halted")
    if state.countdown.look_after(state.now, work.terms.countdown_ns, errors):
        state.steps.append(Step(StepKind.SET_COUNTDOWN))


def on_countdown(work: OutboxWork, _step: Step, answer: VenueAnswer) -> None:
    """Note until when the countdown runs."""
    countdown = work.state.countdown
    if answer.outcome is CallOutcome.DONE:
        countdown.runs_out_at = work.state.now + work.terms.countdown_ns
    else:
        countdown.errors = (f"the venue did not take it: {answer.reason}",)


def has_countdown_changed(work: OutboxWork, now: int) -> bool:
    """Whether it has run out, or was set again, and no alert says so yet."""
    state = work.state
    return state.is_prepared and state.countdown.has_run_out(now) != state.countdown.is_alerted


def watch_countdown(work: OutboxWork) -> None:
    """Raise or clear the alert that the countdown ran out."""
    state = work.state
    if not has_countdown_changed(work, state.now) or is_health_due(work, state.now):
        return
    state.countdown.is_alerted = not state.countdown.is_alerted
    message = "the countdown is set again"
    if state.countdown.is_alerted:
        message = f"the venue has been left to cancel all open orders: {'; '.join(state.countdown.errors)}"
    work.alert(DEAD_MAN_ALERT, message, is_raised=state.countdown.is_alerted)
