"""What holds trading back: scopes hold it each by itself, the strictest is in force, RESUME of the scope relaxes it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand, Hold, TradingControl, TradingState
from libs.domain.instruments import INSTRUMENTS
from services.execution.core.send_gate import SendGate
from services.risk.core import RiskCore, RiskLimits
from tests.kit.builders import a_control

SCOPES = ("paper", ALL_ACCOUNTS)
HOLDING = (ControlAction.HALT, ControlAction.REDUCE, ControlAction.FLATTEN)
STORIES = st.lists(
    st.tuples(st.sampled_from([*HOLDING, ControlAction.RESUME, ControlAction.PROMOTE_MODEL]), st.sampled_from(SCOPES))
).map(lambda story: [a_control(action, number, account=scope) for number, (action, scope) in enumerate(story)])


def control_after(story: Sequence[ControlCommand]) -> TradingControl:
    control = TradingControl()
    for command in story:
        control = control.obey(command)
    return control


@settings(deadline=None)
@given(STORIES, st.sampled_from(SCOPES))
def test_resume_changes_its_own_scope_alone(story: Sequence[ControlCommand], scope: str) -> None:
    before = control_after(story)
    after = before.obey(a_control(ControlAction.RESUME, 99, account=scope))
    assert after.holds == {name: hold for name, hold in before.holds.items() if name != scope}


@settings(deadline=None)
@given(STORIES, st.sampled_from(HOLDING), st.sampled_from(SCOPES))
def test_only_resume_relaxes(story: Sequence[ControlCommand], action: ControlAction, scope: str) -> None:
    before = control_after(story)
    after = before.obey(a_control(action, 99, account=scope))
    assert after.state >= before.state
    assert after.is_flattening >= before.is_flattening
    wanted = TradingState.REDUCING if action is ControlAction.REDUCE else TradingState.HALTED
    assert after.holds[scope].state >= wanted


@pytest.mark.slow
@settings(deadline=None)
@given(STORIES)
def test_strictest_hold_is_in_force_and_without_holds_trading_is_active(story: Sequence[ControlCommand]) -> None:
    control = control_after(story)
    if not control.holds:
        assert control.state is TradingState.ACTIVE and control.in_force is None
        return
    assert control.in_force is not None
    scope, hold = control.in_force
    assert control.holds[scope] is hold
    assert control.state is hold.state is max(each.state for each in control.holds.values())


@pytest.mark.slow
@settings(deadline=None)
@given(STORIES)
def test_scopes_are_told_apart_and_the_order_between_them_does_not_matter(story: Sequence[ControlCommand]) -> None:
    apart = [command for scope in SCOPES for command in story if command.account == scope]
    assert control_after(apart).holds == control_after(story).holds


@pytest.mark.slow
@settings(deadline=None)
@given(STORIES)
def test_risk_and_execution_are_in_the_state_that_the_commands_lead_to(story: Sequence[ControlCommand]) -> None:
    risk, execution = RiskCore(RiskLimits(), INSTRUMENTS, "paper"), SendGate("paper", "execution")
    control = TradingControl()
    for command in story:
        control = control.obey(command)
        risk.handle(command)
        execution.take_command(command)
        assert risk.trading_state is execution.state is control.state


def test_hold_that_repeats_another_keeps_closing_positions_and_takes_the_newer_reason() -> None:
    control = control_after([a_control(ControlAction.FLATTEN, 1), a_control(ControlAction.HALT, 2, reason="again")])
    assert control.holds == {ALL_ACCOUNTS: Hold(TradingState.HALTED, "HALT by test: again", is_flattening=True)}
