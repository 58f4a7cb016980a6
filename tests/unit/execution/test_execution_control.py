"""Halts, resumes and the last hop: what is not approved is not sent."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from libs.domain.control import Alert, ControlAction, ControlCommand, TradingState
from libs.domain.market import Side
from libs.domain.orders import CancelOrder, PlaceOrder, ReportKind, VenueReport
from tests.kit.builders import BTC, a_control, a_quote, a_tick
from tests.unit.execution.builders import (
    a_control_state,
    a_core,
    a_fill,
    a_report,
    accounts,
    an_approval,
    an_external_core,
    commands,
    order_events,
    order_id,
    place,
    run,
    statuses,
)


@pytest.mark.parametrize("action", [ControlAction.HALT, ControlAction.FLATTEN, ControlAction.REDUCE])
def test_halt_cancels_open_orders_and_lets_no_new_one_out(action: ControlAction) -> None:
    core = a_core()
    run(core, a_quote(1), an_approval(1, limit="59000"), a_tick(2))
    outputs = run(core, a_control(action), a_tick(4), an_approval(2))
    assert [type(each) for each in commands(outputs)] == [CancelOrder]
    assert statuses(outputs) == ["CANCELLED", "REJECTED"]
    assert "only reductions are sent" in order_events(outputs)[-1].reason


def test_reductions_pass_a_halt_and_protective_orders_stay() -> None:
    core = a_core()
    run(core, a_quote(1), an_approval(1), a_tick(2))
    run(core, an_approval(2, side=Side.SELL, limit="61000", reduce_only=True), a_tick(3))
    outputs = run(core, a_control(), an_approval(3, side=Side.SELL), a_tick(9))
    assert [type(each) for each in commands(outputs)] == [PlaceOrder]
    assert accounts(outputs)[-1].position(BTC).quantity == 0


def test_order_on_its_way_does_not_arrive_after_a_halt_and_a_reduction_does() -> None:
    core = a_core(latency_ms=2000)
    run(core, a_quote(1), an_approval(1), a_tick(4))
    on_its_way = run(core, an_approval(2), an_approval(3, side=Side.SELL, reduce_only=True))
    assert len(commands(on_its_way)) == 2
    outputs = run(core, a_control(), a_control_state(TradingState.HALTED), a_tick(9))
    ends = {event.client_order_id: event for event in order_events(outputs) if not event.status.is_open}
    assert ends[order_id(2)].status.name == "REJECTED" and "before it arrived" in ends[order_id(2)].reason
    assert ends[order_id(3)].status.name == "FILLED"
    assert commands(outputs) == []


def test_order_larger_than_the_position_is_no_reduction() -> None:
    core = a_core()
    run(core, a_quote(1), an_approval(1), a_tick(2), a_control())
    assert commands(run(core, an_approval(2, quantity="0.02", side=Side.SELL))) == []


def test_two_reductions_that_would_turn_the_position_over_are_not_both_sent_while_halted() -> None:
    core = a_core()
    run(core, a_quote(1), an_approval(1), a_tick(2), a_control())
    assert len(commands(run(core, an_approval(2, side=Side.SELL)))) == 1
    assert commands(run(core, an_approval(3, side=Side.SELL))) == []


def test_command_on_its_way_when_the_halt_comes_is_not_sent() -> None:
    core = a_core()
    core.handle(a_quote(1))
    command = core.handle(an_approval())[0]
    core.handle(a_control())
    reports = list(core.handle(command))
    assert [each.kind for each in reports if isinstance(each, VenueReport)] == [ReportKind.REJECTED]
    assert statuses(run(core, *reports, a_quote(2, seconds=9))) == ["REJECTED"]


def test_resume_lets_orders_out_again() -> None:
    core = a_core()
    run(core, a_quote(1), a_control(), a_control(ControlAction.RESUME, 2))
    assert len(commands(run(core, an_approval()))) == 1


def test_published_state_halts_and_an_older_active_does_not_lift_a_command() -> None:
    core = a_core()
    run(core, a_control_state(TradingState.HALTED))
    assert core.trading_state is TradingState.HALTED
    run(core, a_control(), a_control_state(TradingState.ACTIVE, 2))
    assert core.trading_state is TradingState.HALTED
    run(core, a_control(ControlAction.RESUME, 2))
    assert core.trading_state is TradingState.ACTIVE


def test_control_of_other_accounts_and_other_matters_changes_nothing() -> None:
    core = a_core()
    assert run(core, a_control(account="other"), a_control(ControlAction.PROMOTE_MODEL, 2)) == []
    assert core.trading_state is TradingState.ACTIVE


def test_command_that_was_never_approved_halts_by_itself() -> None:
    donor = a_core()
    foreign = donor.handle(an_approval(7))[0]
    core = a_core()
    run(core, a_quote(1))
    outputs = list(core.handle(foreign))
    assert [type(each) for each in outputs] == [ControlCommand, Alert]
    assert core.trading_state is TradingState.HALTED
    assert commands(run(core, an_approval(1))) == []


def test_command_that_differs_from_its_approval_halts_by_itself() -> None:
    core = a_core()
    run(core, a_quote(1))
    command = core.handle(an_approval(1))[0]
    assert isinstance(command, PlaceOrder)
    outputs = list(core.handle(replace(command, quantity=Decimal(1))))
    assert [type(each) for each in outputs] == [ControlCommand, Alert, CancelOrder]
    assert not [each for each in run(core, a_quote(2, seconds=9)) if isinstance(each, VenueReport)]


def test_fill_beyond_the_order_is_booked_and_halts() -> None:
    core = an_external_core()
    place(core, an_approval(1))
    outputs = run(core, a_report(ReportKind.ACCEPTED), a_fill("0.02"))
    assert accounts(outputs)[-1].position(BTC).quantity == Decimal("0.02")
    assert [each.is_raised for each in outputs if isinstance(each, Alert)] == [True]
    assert core.trading_state is TradingState.HALTED


def test_only_a_persons_resume_lifts_an_own_halt() -> None:
    core = an_external_core()
    place(core, an_approval(1))
    run(core, a_fill("0.02"), a_control_state(TradingState.ACTIVE))
    assert core.trading_state is TradingState.HALTED
    assert run(core, a_control(ControlAction.RESUME)) == []
    outputs = run(core, a_control(ControlAction.RESUME, 2, account="paper"))
    assert [each.is_raised for each in outputs if isinstance(each, Alert)] == [False]
    assert core.trading_state is TradingState.ACTIVE


def test_cancel_is_sent_once_per_order_however_often_it_is_halted() -> None:
    core = a_core()
    run(core, a_quote(1), an_approval(1, limit="59000"), a_tick(2))
    assert len(commands([*core.handle(a_control()), *core.handle(a_control_state(TradingState.HALTED))])) == 1
    assert order_id(1)
