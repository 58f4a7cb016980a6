"""Reductions and worst cases: what counts, whatever arrives first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.domain.control import ControlAction
from libs.domain.market import Side
from libs.domain.orders import (
    OrderApproved,
    OrderStatus,
    OrderType,
    client_order_id_of,
)
from services.risk.core import RiskCore
from tests.kit.builders import (
    a_control,
    a_mark,
    an_intent,
)
from tests.unit.risk.builders import (
    ETH,
    D,
    a_core,
    a_limit,
    an_account_after,
    an_order_event,
    ask,
    check,
    failed,
)

HOLDING = an_account_after(1, "0.05")


def position_value(core: RiskCore, number: int = 900) -> str:
    """What the gate thinks 0.001 more would make of the position, in thousandths of a BTC."""
    verdict = ask(core, an_intent(number, "0.001"))
    return str(D(check(verdict, "position_notional_usdt").value) / 60)


@pytest.mark.parametrize(
    ("quantity", "side", "held", "is_reduction"),
    [
        ("0.05", Side.SELL, "0.05", True),
        ("0.051", Side.SELL, "0.05", False),
        ("0.05", Side.BUY, "-0.05", True),
        ("0.05", Side.BUY, "0.05", False),
        ("0.05", Side.SELL, "0", False),
    ],
)
def test_an_order_no_larger_than_the_position_is_approved_as_reduce_only(
    quantity: str, side: Side, held: str, is_reduction: bool
) -> None:
    core = a_core(an_account_after(1, held))
    core.handle(a_control(ControlAction.HALT))
    verdict = ask(core, an_intent(1, quantity, side))
    assert isinstance(verdict, OrderApproved) == is_reduction
    if is_reduction:
        assert verdict.intent == an_intent(1, quantity, side, reduce_only=True)


def test_two_reductions_may_not_close_the_same_position_twice() -> None:
    core = a_core(HOLDING)
    core.handle(a_control(ControlAction.HALT))
    first = an_intent(1, "0.03", Side.SELL)
    assert failed(ask(core, first)) == []
    assert failed(ask(core, an_intent(2, "0.021", Side.SELL))) == ["trading_state"]
    assert failed(ask(core, an_intent(3, "0.02", Side.SELL))) == []
    core.handle(an_order_event(first, OrderStatus.CANCELLED))
    assert failed(ask(core, an_intent(4, "0.03", Side.SELL))) == []


def test_a_resting_stop_does_not_stand_in_the_way_of_a_reduction() -> None:
    core = a_core(HOLDING)
    stop = an_intent(1, "0.05", Side.SELL, reduce_only=True, order_type=OrderType.STOP_MARKET, trigger_price=D(59000))
    ask(core, stop)
    verdict = ask(core, an_intent(2, "0.05", Side.SELL))
    assert isinstance(verdict, OrderApproved) and verdict.intent.reduce_only


def test_fills_not_yet_settled_shrink_what_can_be_reduced() -> None:
    core = a_core(HOLDING)
    core.handle(a_control(ControlAction.HALT))
    closing = an_intent(90, "0.04", Side.SELL)
    core.handle(an_order_event(closing, OrderStatus.FILLED, "0.04", "0.04"))
    assert failed(ask(core, an_intent(1, "0.02", Side.SELL))) == ["trading_state"]
    assert failed(ask(core, an_intent(2, "0.01", Side.SELL))) == []


def test_orders_of_other_instruments_and_sides_leave_the_reduction_alone() -> None:
    core = a_core(HOLDING)
    core.handle(a_mark(2, "2000", instrument=ETH))
    core.handle(an_order_event(an_intent(90, "0.05", Side.SELL, instrument=ETH), OrderStatus.ACCEPTED))
    core.handle(an_order_event(an_intent(91, "0.05", Side.BUY), OrderStatus.ACCEPTED))
    core.handle(a_control(ControlAction.HALT))
    assert failed(ask(core, an_intent(1, "0.05", Side.SELL))) == []


def test_an_approved_order_counts_until_its_terminal_event() -> None:
    core = a_core()
    order = a_limit(1, "0.02", "59000", reference_price=None)
    ask(core, order)
    assert position_value(core, 900) == "21"
    core.handle(an_order_event(order, OrderStatus.SUBMITTING))
    core.handle(an_order_event(order, OrderStatus.UNKNOWN))
    assert position_value(core, 901) == "21"
    core.handle(an_order_event(order, OrderStatus.REJECTED))
    assert position_value(core, 902) == "1"


def test_a_fill_counts_once_when_the_orders_topic_is_ahead() -> None:
    core = a_core()
    order = a_limit(1, "0.02", "60000")
    ask(core, order)
    core.handle(an_order_event(order, OrderStatus.PARTIALLY_FILLED, "0.005", "0.005"))
    assert position_value(core, 900) == "21"
    core.handle(an_order_event(order, OrderStatus.FILLED, "0.02", "0.015", number=2))
    assert position_value(core, 901) == "21"
    client_order_id = client_order_id_of(order.event_id)
    core.handle(an_account_after(2, "0.005", cause=f"report/{client_order_id}/1"))
    assert position_value(core, 902) == "21"
    core.handle(an_account_after(3, "0.02", cause=f"report/{client_order_id}/2"))
    assert position_value(core, 903) == "21"


def test_a_fill_is_never_missed_when_the_accounts_topic_is_ahead() -> None:
    core = a_core()
    order = a_limit(1, "0.02", "60000")
    ask(core, order)
    client_order_id = client_order_id_of(order.event_id)
    core.handle(an_account_after(2, "0.02", cause=f"report/{client_order_id}/1"))
    assert position_value(core, 900) == "41"
    core.handle(an_order_event(order, OrderStatus.FILLED, "0.02", "0.02"))
    assert position_value(core, 901) == "21"


@pytest.mark.parametrize(("others", "expected"), [(255, "21"), (256, "41")])
def test_the_last_256_causes_of_account_states_are_remembered(others: int, expected: str) -> None:
    core = a_core()
    order = an_intent(1, "0.02")
    core.handle(an_account_after(2, "0.02", cause=f"report/{client_order_id_of(order.event_id)}/1"))
    for number in range(others):
        core.handle(an_account_after(number + 3, "0.02", cause=f"report/other/{number}"))
    core.handle(an_order_event(order, OrderStatus.FILLED, "0.02", "0.02"))
    assert position_value(core) == expected


@pytest.mark.parametrize(("status", "last"), [(OrderStatus.REJECTED, "0.02"), (OrderStatus.CANCELLED, "0")])
def test_a_rejection_and_a_step_of_nothing_are_no_fills(status: OrderStatus, last: str) -> None:
    core = a_core(stop_loss_fraction="0.02")
    core.handle(an_order_event(an_intent(1, "0.02"), status, "0", last))
    assert position_value(core) == "1"
    # A fill that is not settled would hold the stop up.
    (stop,) = core.handle(an_account_after(2, "0.05"))
    assert isinstance(stop, OrderApproved) and stop.intent.order_type is OrderType.STOP_MARKET


def test_an_account_state_made_by_a_moving_mark_settles_nothing() -> None:
    core = a_core()
    order = a_limit(1, "0.02", "60000")
    ask(core, order)
    core.handle(an_order_event(order, OrderStatus.FILLED, "0.02", "0.02"))
    core.handle(an_account_after(50, "0", cause="some/mark"))
    assert position_value(core) == "21"


def test_a_state_caused_by_a_later_fill_settles_the_earlier_ones() -> None:
    core = a_core()
    first, second = an_intent(1, "0.01"), an_intent(2, "0.02")
    core.handle(an_order_event(first, OrderStatus.FILLED, "0.01", "0.01"))
    core.handle(an_order_event(second, OrderStatus.FILLED, "0.02", "0.02"))
    core.handle(an_account_after(2, "0.03", cause=f"order/{client_order_id_of(second.event_id)}/1"))
    assert position_value(core) == "31"


def test_an_older_account_state_changes_nothing() -> None:
    core = a_core(an_account_after(5, "0.02"))
    assert core.handle(an_account_after(5, "0.5")) == []
    core.handle(an_account_after(4, "0.5"))
    assert position_value(core) == "21"


def test_accounts_and_orders_of_others_are_not_ours() -> None:
    core = a_core()
    before = core.snapshot()
    assert core.handle(replace(an_account_after(9, "1"), account="other")) == []
    core.handle(an_order_event(an_intent(1, account="other"), OrderStatus.ACCEPTED))
    assert core.snapshot() == before


@pytest.mark.parametrize(("price", "counted"), [("59000", "6600"), ("61000", "6700")])
def test_a_working_order_counts_at_its_own_price_or_the_mark_whichever_is_higher(price: str, counted: str) -> None:
    core = a_core()
    core.handle(an_order_event(a_limit(90, "0.1", price), OrderStatus.ACCEPTED))
    verdict = ask(core, an_intent(1))
    assert check(verdict, "position_notional_usdt").value == counted
    assert check(verdict, "open_orders").value == "2"


def test_reduce_only_orders_add_no_exposure_of_their_own() -> None:
    core = a_core(an_account_after(1, "0.05"))
    ask(core, an_intent(1, "0.05", Side.SELL, reduce_only=True))
    verdict = ask(core, an_intent(2, "0.01"))
    assert check(verdict, "position_notional_usdt").value == "3600"
    assert check(verdict, "instrument_exposure_usdt").value == "3600"


@pytest.mark.parametrize(("held", "side"), [("-0.05", Side.BUY), ("0.05", Side.SELL)])
def test_only_reductions_of_the_same_side_and_instrument_may_fill_first(held: str, side: Side) -> None:
    core = a_core(an_account_after(1, held))
    core.handle(a_mark(2, "2000", instrument=ETH))
    others = (
        an_intent(91, "0.02", side, instrument=ETH, reduce_only=True),
        an_intent(92, "0.02", side.opposite, reduce_only=True),
        an_intent(93, "0.02", side.opposite),
        a_limit(94, "0.02", "60000", side),
    )
    for order in others:
        core.handle(an_order_event(order, OrderStatus.ACCEPTED))
    # 0.05 the other way, 0.02 working and 0.06 asked for leave 0.03.
    assert check(ask(core, an_intent(1, "0.06", side)), "position_notional_usdt").value == "1800"


def test_a_working_order_elsewhere_counts_in_the_total_though_nothing_is_held_there() -> None:
    core = a_core()
    core.handle(a_mark(2, "2000", instrument=ETH))
    core.handle(an_order_event(a_limit(91, "1", "2000", instrument=ETH), OrderStatus.ACCEPTED))
    verdict = ask(core, an_intent(1))
    assert check(verdict, "total_exposure_usdt").value == "2600"
    assert check(verdict, "leverage").value == "0.26"
    unpriced = a_core()
    unpriced.handle(an_order_event(a_limit(91, "1", "2000", instrument=ETH), OrderStatus.ACCEPTED))
    assert "total_exposure_usdt" in failed(ask(unpriced, an_intent(1)))


def test_a_reduction_elsewhere_adds_nothing_to_the_total_and_needs_no_price() -> None:
    core = a_core()
    reduction = a_limit(91, "1", "2000", Side.SELL, instrument=ETH, reduce_only=True)
    core.handle(an_order_event(reduction, OrderStatus.ACCEPTED))
    verdict = ask(core, an_intent(1))
    assert failed(verdict) == []
    assert check(verdict, "total_exposure_usdt").value == "600"


@pytest.mark.parametrize(("held", "side"), [("-0.05", Side.BUY), ("0.05", Side.SELL)])
def test_a_reduction_that_may_fill_first_leaves_nothing_to_eat_through(held: str, side: Side) -> None:
    core = a_core(an_account_after(1, held))
    assert check(ask(core, an_intent(1, "0.06", side)), "position_notional_usdt").value == "600"
    core = a_core(an_account_after(1, held))
    ask(core, an_intent(1, "0.03", side, reduce_only=True))
    verdict = ask(core, an_intent(2, "0.06", side))
    assert check(verdict, "position_notional_usdt").value == "2400"
    assert check(verdict, "leverage").value == "0.3"
    ask(core, an_intent(3, "0.04", side, reduce_only=True))
    assert check(ask(core, an_intent(4, "0.005", side)), "position_notional_usdt").value == "3900"
