"""States, limits, what the gate does by itself, time, snapshots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from libs.domain.accounts import Position
from libs.domain.control import Alert, ControlAction, ControlCommand, ControlState, Severity, TradingState
from libs.domain.events import Event
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import (
    IntentAction,
    OrderApproved,
    OrderStatus,
    OrderType,
    Origin,
    TimeInForce,
    client_order_id_of,
)
from services.risk.core import RiskCore, RiskLimits
from tests.kit.builders import (
    BTC,
    START,
    a_bar,
    a_control,
    a_forecast,
    a_mark,
    a_quote,
    a_tick,
    a_trade,
    an_account,
    an_intent,
)
from tests.unit.risk.builders import (
    ETH,
    D,
    a_cancel,
    a_core,
    a_limit,
    an_account_after,
    an_order_event,
    ask,
    check,
    failed,
    limits,
)

HOLDING = an_account_after(1, "0.05")


def of_kind(events: Sequence[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def own_orders(events: Sequence[Event], action: IntentAction = IntentAction.PLACE) -> list[OrderApproved]:
    approved = of_kind(events, OrderApproved)
    assert all(verdict.origin is Origin.RISK for verdict in approved)
    assert all(verdict.event_id == f"verdict/{verdict.intent_id}" for verdict in approved)
    return [verdict for verdict in approved if verdict.intent.action is action]


def a_long_story() -> list[Event]:
    first, second = a_limit(1, "0.02", "59900", reference_price=None), an_intent(2, "0.01")
    events: list[Event] = [
        a_quote(), a_mark(), an_account(), a_forecast(event_time=START), first, second,
        an_order_event(first, OrderStatus.ACCEPTED),
        an_order_event(second, OrderStatus.FILLED, "0.01", "0.01"),
        an_intent(2), a_quote(2, seconds=1), a_tick(1),
        an_account_after(2, "0.01", cause="x"),
        a_control(ControlAction.SET_LIMITS, arguments={"max_open_orders": "7", "stop_loss_fraction": "0.02"}),
        a_mark(3, "60010", seconds=2),
        an_account_after(3, "0.01", cause=f"report/{client_order_id_of(second.event_id)}/1"),
        a_mark(4, "60020", seconds=3),
        an_order_event(an_intent(7), OrderStatus.FILLED, "0.01", realised_pnl=D(-3)),
        an_intent(3, "0.03", confidence=0.3), a_tick(4), a_mark(5, "58000", seconds=4),
        a_control(ControlAction.FLATTEN, 2), a_tick(5), an_intent(6, "0.04"), a_tick(40),
    ]  # fmt: skip
    events += [a_bar(number) for number in range(3)]
    return [*events, an_intent(8, "0.01", Side.SELL), a_cancel(60)]


def test_the_first_account_state_announces_the_limits() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    (state,) = core.handle(an_account())
    assert isinstance(state, ControlState)
    assert (state.state, state.limits_version, state.account) == (TradingState.ACTIVE, 1, "paper")
    assert state.limits == RiskLimits().as_strings()
    assert state.event_id == "state/paper/account/paper/1"
    assert state.cause_id == "account/paper/1"
    assert core.handle(an_account_after(2)) == []


@pytest.mark.parametrize(
    ("action", "state"), [(ControlAction.HALT, TradingState.HALTED), (ControlAction.REDUCE, TradingState.REDUCING)]
)
def test_halt_and_reduce_act_at_once_and_are_announced(action: ControlAction, state: TradingState) -> None:
    core = a_core(HOLDING)
    announced, alert = core.handle(a_control(action))
    assert isinstance(announced, ControlState)
    assert (announced.state, announced.cause_id) == (state, "control/test/1")
    assert announced.reason == f"{action.name} by test: because"
    assert isinstance(alert, Alert)
    assert alert.is_raised
    assert alert.severity is (Severity.CRITICAL if action is ControlAction.HALT else Severity.WARNING)
    assert core.trading_state is state
    verdict = ask(core, an_intent(1))
    assert failed(verdict) == ["trading_state"]
    assert check(verdict, "trading_state").value == state.name
    assert failed(ask(core, a_cancel())) == []
    assert failed(ask(core, an_intent(2, "0.05", Side.SELL, reduce_only=True))) == []


def test_commands_to_another_account_do_nothing() -> None:
    core = a_core()
    assert core.handle(a_control(account="other")) == []
    assert core.trading_state is TradingState.ACTIVE
    assert core.handle(a_control(account="paper"))
    assert core.trading_state is TradingState.HALTED


def test_reduce_does_not_relax_a_halt() -> None:
    core = a_core()
    core.handle(a_control(ControlAction.HALT))
    (answer,) = core.handle(a_control(ControlAction.REDUCE, 2))
    assert isinstance(answer, ControlState)
    assert answer.state is TradingState.HALTED
    assert answer.reason.startswith("stays HALTED")


def test_resume_relaxes_and_clears_the_alert() -> None:
    core = a_core()
    core.handle(a_control(ControlAction.HALT))
    state, alert = core.handle(a_control(ControlAction.RESUME, 2))
    assert isinstance(state, ControlState) and state.state is TradingState.ACTIVE
    assert isinstance(alert, Alert) and not alert.is_raised
    assert failed(ask(core, an_intent())) == []


def test_resuming_the_account_does_not_lift_a_halt_of_all_accounts_and_says_so() -> None:
    core = a_core()
    core.handle(a_control(ControlAction.HALT))
    state, alert = core.handle(a_control(ControlAction.RESUME, 2, account="paper"))
    assert isinstance(state, ControlState) and state.state is core.trading_state is TradingState.HALTED
    assert state.reason == "stays HALTED until * is resumed (HALT by test: because); RESUME by test: because"
    assert isinstance(alert, Alert) and alert.is_raised
    core.handle(a_control(ControlAction.RESUME, 3))
    assert core.trading_state is TradingState.ACTIVE


def test_resuming_all_accounts_neither_lifts_a_drawdown_nor_ends_flattening() -> None:
    core = a_core(an_account_after(1, "0.1"), hard_drawdown_fraction="0.1")
    core.handle(a_mark(2, "49999", seconds=1))
    core.handle(a_control(ControlAction.RESUME, 2))
    assert core.trading_state is TradingState.HALTED
    assert own_orders(core.handle(a_tick(40)))


def test_snapshot_from_before_holds_had_a_scope_is_taken_over_for_the_account() -> None:
    core = a_core()
    core.handle(a_control(ControlAction.FLATTEN))
    kept = orjson.loads(core.snapshot())["state"]
    saved = kept["gate"] | {"limits": kept["limits"], "stops": kept["stops"]}
    saved |= {"trading_state": 3, "is_flattening": True, "reason": "FLATTEN by test: because"}
    del saved["control"]
    older = a_core()
    older.restore(orjson.dumps(saved))
    assert older.trading_state is TradingState.HALTED
    older.handle(a_control(ControlAction.RESUME, 2, account="paper"))
    assert older.trading_state is TradingState.ACTIVE


def test_promote_model_does_not_concern_the_gate() -> None:
    assert a_core().handle(a_control(ControlAction.PROMOTE_MODEL)) == []


def test_halt_cancels_working_orders_that_could_add_risk_and_keeps_stops() -> None:
    core = a_core(HOLDING)
    opening, stop = a_limit(1, price="59000", reference_price=None), an_intent(2, "0.05", Side.SELL, reduce_only=True)
    ask(core, opening)
    ask(core, stop)
    (cancel,) = own_orders(core.handle(a_control()), IntentAction.CANCEL)
    assert cancel.intent.target_client_order_id == client_order_id_of(opening.event_id)
    assert cancel.intent_id == f"risk/cancel/control/test/1/{client_order_id_of(opening.event_id)}"
    assert (cancel.instrument, cancel.account, cancel.intent.quantity) == (BTC, "paper", 0)


def test_limits_change_by_command_alone_and_are_versioned() -> None:
    core = a_core()
    (state,) = core.handle(a_control(ControlAction.SET_LIMITS, arguments={"max_order_notional_usdt": "599"}))
    assert isinstance(state, ControlState)
    assert state.limits_version == 2
    assert state.limits["max_order_notional_usdt"] == "599"
    assert core.limits.max_order_notional_usdt == 599
    verdict = ask(core, an_intent())
    assert failed(verdict) == ["order_notional_usdt"]
    assert verdict.limits_version == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"max_leverge": "2"}, "unknown limit 'max_leverge'"), ({"max_leverage": "-2"}, "max_leverage: -2 is negative")],
)
def test_impossible_limits_change_nothing_and_the_answer_says_why(arguments: dict[str, str], message: str) -> None:
    core = a_core()
    (state,) = core.handle(a_control(ControlAction.SET_LIMITS, arguments={"max_open_orders": "1"} | arguments))
    assert isinstance(state, ControlState)
    assert message in state.reason
    assert state.limits_version == 1
    assert core.limits == limits()


def by_settings(number: int, **arguments: str) -> ControlCommand:
    return a_control(ControlAction.SET_LIMITS, number, issued_by="settings", arguments=arguments)


def test_the_first_limits_of_the_settings_are_version_one_whatever_was_handed_in() -> None:
    recorded = by_settings(1, **limits(max_leverage=2).as_strings())
    states = [a_core(max_leverage=handed_in).handle(recorded) for handed_in in (2, 9)]
    assert states[0] == states[1]
    (state,) = states[0]
    assert isinstance(state, ControlState)
    assert (state.limits_version, state.limits["max_leverage"]) == (1, "2")


def test_limits_changed_in_the_settings_are_a_new_version_and_leave_the_others() -> None:
    core = a_core()
    core.handle(by_settings(1, **limits().as_strings()))
    core.handle(a_control(ControlAction.SET_LIMITS, 2, arguments={"max_open_orders": "7"}))
    other = RiskCore(limits(max_leverage=9), INSTRUMENTS, "paper")
    other.restore(core.snapshot())
    (state,) = other.handle(by_settings(3, max_leverage="2"))
    assert isinstance(state, ControlState)
    assert (state.limits_version, state.limits["max_leverage"], state.limits["max_open_orders"]) == (3, "2", "7")


def test_a_gate_that_asks_what_if_keeps_the_limits_handed_in() -> None:
    core = RiskCore(limits(max_leverage=2), INSTRUMENTS, "paper", follows_settings=False)
    assert core.handle(by_settings(1, **limits().as_strings())) == []
    assert core.limits.max_leverage == 2
    core.handle(a_control(ControlAction.SET_LIMITS, 2, arguments={"max_leverage": "4"}))
    assert core.limits.max_leverage == 4


def test_a_gate_that_asks_what_if_from_a_snapshot_keeps_the_limits_handed_in() -> None:
    core = a_core()
    core.handle(by_settings(1, **limits(max_leverage=5).as_strings()))
    asking = RiskCore(limits(max_leverage=2), INSTRUMENTS, "paper", follows_settings=False)
    asking.restore(core.snapshot())
    assert asking.limits.max_leverage == 2


def test_new_limits_do_not_hide_why_trading_is_halted() -> None:
    core = a_core()
    core.handle(a_control())
    (state,) = core.handle(by_settings(2, max_leverage="2"))
    assert isinstance(state, ControlState)
    assert (state.state, state.reason) == (TradingState.HALTED, "SET_LIMITS by settings: because")
    (later,) = core.handle(a_control(ControlAction.REDUCE, 3))
    assert isinstance(later, ControlState)
    assert later.state is TradingState.HALTED
    again = a_core()
    again.restore(core.snapshot())
    assert b'"reason":"HALT by test: because"' in again.snapshot()


def test_tighter_limits_of_loss_act_at_once() -> None:
    core = a_core()
    core.handle(an_account_after(2, wallet_balance=D(9600)))
    events = core.handle(a_control(ControlAction.SET_LIMITS, arguments={"max_daily_loss_fraction": "0.03"}))
    assert [state.state for state in of_kind(events, ControlState)] == [TradingState.ACTIVE, TradingState.REDUCING]
    assert len({event.event_id for event in events}) == len(events)


@pytest.mark.parametrize(
    ("wallet", "state"),
    [
        ("9500", TradingState.ACTIVE),
        ("9499.99", TradingState.REDUCING),
        ("8000", TradingState.REDUCING),
        ("7999.99", TradingState.HALTED),
    ],
)
def test_losses_tighten_by_themselves(wallet: str, state: TradingState) -> None:
    core = a_core()
    events = core.handle(an_account_after(2, wallet_balance=D(wallet)))
    assert core.trading_state is state
    assert [announced.state for announced in of_kind(events, ControlState)] == (
        [] if state is TradingState.ACTIVE else [state]
    )


@pytest.mark.parametrize(("wallet", "state"), [("9000", TradingState.ACTIVE), ("8999.99", TradingState.REDUCING)])
def test_soft_drawdown_reduces(wallet: str, state: TradingState) -> None:
    core = a_core(max_daily_loss_fraction="0.9")
    events = core.handle(an_account_after(2, wallet_balance=D(wallet)))
    assert core.trading_state is state
    if events:
        assert "soft limit" in of_kind(events, ControlState)[0].reason


def test_hard_drawdown_at_the_mark_flattens_and_halts() -> None:
    core = a_core(an_account_after(1, "0.1"), hard_drawdown_fraction="0.1")
    resting = a_limit(1, price="59000", reference_price=None)
    ask(core, resting)
    events = core.handle(a_mark(2, "49999", seconds=1))
    assert core.trading_state is TradingState.HALTED
    assert "hard limit" in of_kind(events, ControlState)[0].reason
    (cancel,) = own_orders(events, IntentAction.CANCEL)
    assert cancel.intent.target_client_order_id == client_order_id_of(resting.event_id)
    (order,) = own_orders(events)
    cause = f"{BTC}/mark/2"
    assert order.intent_id == f"risk/flatten/{cause}/{BTC}"
    intent = order.intent
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.SELL, D("0.1"), True)
    assert (intent.order_type, intent.time_in_force) == (OrderType.MARKET, TimeInForce.IOC)
    assert intent.cause_ids == (cause,)
    assert intent.event_time == START + NANOSECONDS


def test_hard_drawdown_flattens_though_already_halted() -> None:
    core = a_core(an_account_after(1, "0.1"), hard_drawdown_fraction="0.1")
    core.handle(a_control(ControlAction.HALT))
    assert own_orders(core.handle(a_mark(2, "49999", seconds=1)))
    assert own_orders(core.handle(a_mark(3, "49998", seconds=2))) == []


def test_flatten_closes_every_position_of_either_side() -> None:
    account = an_account(
        positions=(Position(BTC, D("-0.05"), D(60000), D(60000)), Position(ETH, D("1.2345"), D(2000), D(2000)))
    )
    core = a_core(account)
    core.handle(a_mark(2, "2000", instrument=ETH))
    orders = own_orders(core.handle(a_control(ControlAction.FLATTEN)))
    assert [(order.instrument, order.intent.side, order.intent.quantity) for order in orders] == [
        (BTC, Side.BUY, D("0.05")),
        (ETH, Side.SELL, D("1.234")),
    ]
    assert core.trading_state is TradingState.HALTED


def test_flatten_splits_what_exceeds_the_venue_maximum() -> None:
    core = a_core(an_account_after(1, "250.5", wallet_balance=D(10**9)))
    orders = own_orders(core.handle(a_control(ControlAction.FLATTEN)))
    assert [order.intent.quantity for order in orders] == [120, 120, D("10.5")]
    assert [order.intent_id.rsplit("/", 1)[1] for order in orders] == [BTC, "1", "2"]


def test_flatten_is_tried_again_until_the_account_is_flat() -> None:
    core = a_core(HOLDING)
    (first,) = own_orders(core.handle(a_control(ControlAction.FLATTEN)))
    assert core.handle(a_tick(6)) == []
    core.handle(an_order_event(first.intent, OrderStatus.EXPIRED))
    assert core.handle(a_tick(10)) == []
    (second,) = own_orders(core.handle(a_tick(11)))
    assert second.intent_id != first.intent_id
    core.handle(an_order_event(second.intent, OrderStatus.FILLED, "0.05", "0.05"))
    assert core.handle(a_tick(20)) == []
    core.handle(an_account_after(30, "0", cause=f"report/{client_order_id_of(second.intent_id)}/1"))
    assert core.handle(a_tick(60)) == []


def test_flatten_that_nobody_answers_is_tried_again_after_half_a_minute() -> None:
    core = a_core(HOLDING)
    core.handle(a_control(ControlAction.FLATTEN))
    for second in (5, 10, 15, 20, 25):
        assert core.handle(a_tick(second)) == []
    core = a_core(HOLDING)
    core.handle(a_control(ControlAction.FLATTEN))
    assert len(own_orders(core.handle(a_tick(30)))) == 1


def test_flatten_cancels_stops_but_not_its_own_closing_order() -> None:
    core = a_core(HOLDING)
    stop = an_intent(2, "0.05", Side.SELL, reduce_only=True, order_type=OrderType.STOP_MARKET, trigger_price=D(59000))
    ask(core, stop)
    first = core.handle(a_control(ControlAction.FLATTEN))
    assert len(own_orders(first, IntentAction.CANCEL)) == 1
    again = core.handle(a_control(ControlAction.FLATTEN, 2))
    targets = [verdict.intent.target_client_order_id for verdict in own_orders(again, IntentAction.CANCEL)]
    assert targets == [client_order_id_of(stop.event_id)]
    assert own_orders(again) == []


def test_resume_ends_flattening_but_a_drawdown_that_lasts_flattens_again() -> None:
    core = a_core(an_account_after(1, "0.1"), hard_drawdown_fraction="0.1")
    core.handle(a_mark(2, "49999", seconds=1))
    events = core.handle(a_control(ControlAction.RESUME, 2, account="paper"))
    assert [state.state for state in of_kind(events, ControlState)] == [TradingState.ACTIVE, TradingState.HALTED]
    assert len({event.event_id for event in events}) == len(events)
    events = core.handle(a_control(ControlAction.RESUME, 3, account="paper", arguments={"reset_drawdown": "true"}))
    assert [state.state for state in of_kind(events, ControlState)] == [TradingState.ACTIVE]
    assert core.handle(a_tick(40)) == []


def test_resume_with_reset_forgets_losses_in_a_row() -> None:
    core = a_core(max_consecutive_losses=1)
    core.handle(an_order_event(an_intent(101), OrderStatus.FILLED, "0.01", realised_pnl=D(-1)))
    assert failed(ask(core, an_intent(1))) == ["consecutive_losses"]
    core.handle(a_control(ControlAction.RESUME))
    assert failed(ask(core, an_intent(2))) == ["consecutive_losses"]
    core.handle(a_control(ControlAction.RESUME, 2, arguments={"reset_drawdown": "true"}))
    assert failed(ask(core, an_intent(3))) == []


def test_older_quotes_and_marks_do_not_replace_newer_ones() -> None:
    core = a_core()
    core.handle(a_quote(5, bid="61000", ask="61000.1", seconds=5))
    core.handle(a_quote(4, bid="1", ask="2", seconds=4))
    core.handle(a_mark(5, "61000", seconds=5))
    core.handle(a_mark(4, "1", seconds=4))
    verdict = ask(core, an_intent(5, reference_price=D(61000)))
    assert check(verdict, "reference_price").value == "61000 mark"
    assert failed(verdict) == []


def test_trades_move_the_clock_and_nothing_else() -> None:
    core = a_core()
    assert core.handle(a_trade(seconds=11)) == []
    assert failed(ask(core, an_intent(11))) == ["market_data_age_ms"]
    core.handle(a_trade(2, seconds=1))
    assert check(ask(core, an_intent(12, "0.02")), "market_data_age_ms").value == "11000"


def test_restoring_at_any_point_changes_nothing() -> None:
    story = a_long_story()
    undisturbed = a_core()
    expected = [list(undisturbed.handle(event)) for event in story]
    assert sum(len(outputs) for outputs in expected) > 12
    for cut in range(len(story)):
        core = a_core()
        for event in story[:cut]:
            core.handle(event)
        state = core.snapshot()
        other = RiskCore(RiskLimits(), INSTRUMENTS, "paper")
        other.restore(state)
        assert other.snapshot() == state
        assert [list(other.handle(event)) for event in story[cut:]] == expected[cut:]
        assert other.snapshot() == undisturbed.snapshot()


def test_restored_limits_go_before_those_of_the_settings() -> None:
    core = a_core()
    core.handle(a_control(ControlAction.SET_LIMITS, arguments={"max_leverage": "2"}))
    other = RiskCore(limits(max_leverage=9), INSTRUMENTS, "paper")
    other.restore(core.snapshot())
    assert other.limits.max_leverage == 2


@pytest.mark.parametrize("state", [b"[]", b"{}", b'"text"'])
def test_what_is_no_snapshot_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match="the kept bytes are no state of risk"):
        a_core().restore(state)


@pytest.mark.slow
def test_memory_of_intents_and_causes_is_bounded() -> None:
    core = a_core(max_order_notional_usdt=0)
    for number in range(4200):
        core.handle(an_intent(number + 1, account=""))
    for number in range(300):
        core.handle(an_account_after(number + 2, cause=f"mark/{number}"))
    assert len(core.snapshot()) < 150_000


def test_events_the_gate_does_not_use_are_ignored() -> None:
    core = a_core()
    before = core.snapshot()
    verdict = ask(a_core(), an_intent())
    assert core.handle(verdict) == []
    assert core.snapshot() == before
    assert own_orders(core.handle(a_mark(2, seconds=0))) == []
