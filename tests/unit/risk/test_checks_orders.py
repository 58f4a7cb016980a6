"""Checks of the order itself, each at its limit and one step beyond, by its number in the verdict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from libs.domain.control import ControlAction
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.orders import IntentAction, OrderApproved, OrderRefused, OrderStatus, OrderType
from libs.margin.default_brackets import DEFAULT_BRACKETS
from services.risk.core import RiskCore
from services.risk.core.checks import CHECKS
from tests.kit.builders import BTC, a_control, a_mark, a_quote, an_account, an_intent
from tests.unit.risk.builders import (
    ETH,
    D,
    a_cancel,
    a_core,
    a_limit,
    advance,
    an_account_after,
    an_order_event,
    ask,
    check,
    failed,
    limits,
)

HOLDING = an_account_after(1, "0.05")


BOUNDARIES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("order_notional_usdt", {"max_order_notional_usdt": 600}, {"max_order_notional_usdt": "599.99999999"}),
    ("position_notional_usdt", {"max_position_notional_usdt": 600}, {"max_position_notional_usdt": "599.99999999"}),
    ("instrument_exposure_usdt", {"max_instrument_exposure_usdt": 600}, {"max_instrument_exposure_usdt": "599.9"}),
    ("total_exposure_usdt", {"max_total_exposure_usdt": 600}, {"max_total_exposure_usdt": "599.99999999"}),
    ("margin_ratio", {"max_margin_ratio": "0.00024"}, {"max_margin_ratio": "0.00023999"}),
    ("orders_per_second", {"max_orders_per_second": 1}, {"max_orders_per_second": 0}),
    ("orders_per_minute", {"max_orders_per_minute": 1}, {"max_orders_per_minute": 0}),
    ("open_orders", {"max_open_orders": 1}, {"max_open_orders": 0}),
    ("intent_age_ms", {"max_intent_age_ms": 1000}, {"max_intent_age_ms": 999}),
    ("funding_cost_per_day", {"max_funding_cost_per_day": "0.0003"}, {"max_funding_cost_per_day": "0.00029999"}),
]


def test_a_plain_order_passes_and_its_verdict_carries_every_check() -> None:
    verdict = ask(a_core(), an_intent())
    assert isinstance(verdict, OrderApproved)
    assert failed(verdict) == []
    assert [entry.name for entry in verdict.checks] == [each.name for each in CHECKS]
    assert all(entry.value and entry.limit for entry in verdict.checks)
    assert check(verdict, "order_notional_usdt").value == "600"
    assert check(verdict, "order_notional_usdt").limit == "<= 5000"
    assert verdict.limits_version == 1


def test_a_refusal_carries_every_check_too_and_says_why_in_sentences() -> None:
    verdict = ask(a_core(max_order_notional_usdt=599), an_intent())
    assert isinstance(verdict, OrderRefused)
    assert [entry.name for entry in verdict.checks] == [each.name for each in CHECKS]
    assert verdict.reasons == ("order_notional_usdt is 600, must be <= 599",)


def test_cancels_and_reductions_carry_every_check_with_its_number_and_limit() -> None:
    core = a_core(an_account("0.05"), max_open_orders=0, max_order_notional_usdt=1)
    reduction = an_intent(1, "0.05", Side.SELL, reduce_only=True)
    cancel = an_intent(2, "0", action=IntentAction.CANCEL, target_client_order_id="pf-x")
    for intent, why in ((reduction, "reduction"), (cancel, "cancel")):
        verdict = ask(core, intent)
        assert isinstance(verdict, OrderApproved)
        assert [entry.name for entry in verdict.checks] == [each.name for each in CHECKS]
        assert all(entry.value and entry.limit for entry in verdict.checks)
        assert check(verdict, "open_orders").limit == f"<= 0 (not binding: {why})"
    assert check(ask(core, replace(reduction, event_id="other")), "order_notional_usdt").value == "3000"


def test_orders_of_risk_itself_carry_every_check_and_none_binds() -> None:
    core = a_core(an_account("0.05"), max_open_orders=0, max_spread_bps="0.00000001")
    events = core.handle(a_control(ControlAction.FLATTEN))
    (closing,) = [event for event in events if isinstance(event, OrderApproved)]
    assert [entry.name for entry in closing.checks] == ["origin", *(each.name for each in CHECKS)]
    assert all(entry.has_passed and entry.value and entry.limit for entry in closing.checks)
    assert check(closing, "origin").value == "flatten"
    assert (check(closing, "order_notional_usdt").value, check(closing, "open_orders").value) == ("3000", "1")
    assert check(closing, "trading_state").value == "HALTED"
    assert all("not binding" in entry.limit for entry in closing.checks[1:])


@pytest.mark.parametrize(("name", "at_limit", "beyond"), BOUNDARIES, ids=[entry[0] for entry in BOUNDARIES])
def test_exactly_at_the_limit_passes_and_one_step_beyond_fails(
    name: str, at_limit: dict[str, Any], beyond: dict[str, Any]
) -> None:
    assert failed(ask(a_core(**at_limit), an_intent())) == []
    assert failed(ask(a_core(**beyond), an_intent())) == [name]


def test_open_orders_take_the_larger_of_both_counts() -> None:
    core = a_core(an_account(open_order_count=2), max_open_orders=3)
    ask(core, an_intent(1))
    verdict = ask(core, an_intent(2, "0.02"))
    assert check(verdict, "open_orders").value == "3"
    assert failed(verdict) == []
    assert failed(ask(core, an_intent(3, "0.03"))) == []
    assert failed(ask(core, an_intent(4, "0.04"))) == ["open_orders"]


def test_venue_cap_on_open_orders_counts_the_instrument() -> None:
    rules = {BTC: replace(INSTRUMENTS[BTC], max_open_orders=1), ETH: INSTRUMENTS[ETH]}
    core = RiskCore(limits(), rules, "paper")
    for event in (a_quote(), a_mark(), an_account()):
        core.handle(event)
    core.handle(an_order_event(an_intent(90, instrument=ETH), OrderStatus.ACCEPTED))
    core.handle(a_mark(2, "2000", instrument=ETH))
    assert failed(ask(core, an_intent(1))) == []
    assert failed(ask(core, an_intent(2, "0.02"))) == ["venue_open_orders"]


def test_order_rate_forgets_after_a_second_and_a_minute() -> None:
    core = a_core(max_orders_per_second=1, max_orders_per_minute=2, duplicate_window_ms=0)
    assert failed(ask(core, an_intent(1, "0.002"))) == []
    core.handle(a_quote(2, seconds=0.999))
    assert failed(ask(core, an_intent(2, "0.003"))) == ["orders_per_second"]
    core.handle(a_quote(3, seconds=1.0))
    assert failed(ask(core, an_intent(3, "0.004"))) == []
    advance(core, 59)
    assert failed(ask(core, an_intent(59, "0.002"))) == ["orders_per_minute"]
    advance(core, 60)
    assert failed(ask(core, an_intent(60, "0.002"))) == []


def test_refused_orders_do_not_count_towards_the_rate() -> None:
    core = a_core(max_orders_per_minute=1)
    ask(core, an_intent(1, "9"))
    assert failed(ask(core, an_intent(2))) == []


def test_the_same_order_again_within_the_window_is_a_duplicate() -> None:
    core = a_core(duplicate_window_ms=1000)
    assert failed(ask(core, an_intent(1))) == []
    core.handle(a_quote(2, seconds=0.999))
    verdict = ask(core, an_intent(2))
    assert failed(verdict) == ["duplicate_intent"]
    assert check(verdict, "duplicate_intent").value == "one 999 ms ago"
    core.handle(a_quote(3, seconds=1.0))
    assert failed(ask(core, an_intent(3))) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": D("0.011")},
        {"side": Side.SELL},
        {"strategy": "other"},
        {"order_type": OrderType.LIMIT, "limit_price": D(60000)},
    ],
)
def test_another_shape_is_no_duplicate(changes: dict[str, Any]) -> None:
    core = a_core()
    ask(core, an_intent(1))
    assert failed(ask(core, an_intent(2, **({"quantity": "0.011"} if "quantity" in changes else changes)))) == []


def test_an_intent_id_seen_before_gets_no_second_verdict() -> None:
    core = a_core()
    ask(core, an_intent(1))
    assert core.handle(an_intent(1, "0.02")) == []


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"quantity": "0.0105"}, "quantity_step", "0.0105"),
        ({"quantity": "0.0005"}, "min_quantity", "0.0005"),
        ({"quantity": "121"}, "max_quantity", "121"),
        ({"quantity": "0.001"}, "min_notional", "60"),
        ({"order_type": OrderType.LIMIT, "limit_price": D("60000.05")}, "price_tick", "60000.05"),
        ({"order_type": OrderType.STOP_MARKET, "trigger_price": D("60000.05")}, "price_tick", "60000.05"),
        ({"order_type": OrderType.LIMIT}, "order_fields", "limit_price is missing"),
        ({"order_type": OrderType.STOP_MARKET}, "order_fields", "trigger_price is missing"),
        ({"order_type": OrderType.TAKE_PROFIT_MARKET}, "order_fields", "trigger_price is missing"),
        (
            {"order_type": OrderType.TRAILING_STOP_MARKET},
            "order_fields",
            "callback_rate None lies outside 0.001 to 0.1",
        ),
        ({"order_type": OrderType.LIMIT, "limit_price": D(-1)}, "order_fields", "limit_price -1 is not above zero"),
        (
            {"order_type": OrderType.STOP_MARKET, "trigger_price": D(0)},
            "order_fields",
            "trigger_price 0 is not above zero",
        ),
        ({"quantity": "0"}, "order_fields", "quantity 0 is not above zero"),
        ({"quantity": "-0.01"}, "order_fields", "quantity -0.01 is not above zero"),
        ({"quantity": "NaN"}, "order_fields", "a number is not finite"),
        ({"limit_price": D("Infinity")}, "order_fields", "a number is not finite"),
        ({"trigger_price": D("NaN")}, "order_fields", "a number is not finite"),
        ({"reference_price": D("NaN")}, "order_fields", "a number is not finite"),
        ({"callback_rate": D("NaN")}, "order_fields", "a number is not finite"),
        ({"instrument": "DOGEUSDT.BINANCE"}, "instrument", "unknown"),
        ({"account": "other"}, "account", "other"),
    ],
)
def test_what_the_venue_would_not_take_is_refused_by_name(changes: dict[str, Any], name: str, value: str) -> None:
    for reduce_only in (False, True):
        if reduce_only and name == "min_notional":
            continue
        verdict = ask(
            a_core(HOLDING),
            an_intent(reduce_only=reduce_only, **changes | ({"side": Side.SELL} if reduce_only else {})),
        )
        assert name in failed(verdict)
        assert check(verdict, name).value == value


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": "0.002"},
        {"order_type": OrderType.LIMIT, "limit_price": D("60000.1")},
        {"order_type": OrderType.STOP_MARKET, "trigger_price": D("60000.1")},
        {"order_type": OrderType.TRAILING_STOP_MARKET, "callback_rate": D("0.001")},
        {"order_type": OrderType.TRAILING_STOP_MARKET, "callback_rate": D("0.1")},
    ],
)
def test_what_the_venue_takes_passes(changes: dict[str, Any]) -> None:
    assert failed(ask(a_core(), an_intent(**changes))) == []


def test_a_price_of_one_is_far_from_the_mark_but_complete() -> None:
    verdict = ask(a_core(), a_limit(price="1"))
    assert failed(verdict) == ["price_deviation"]
    assert check(verdict, "order_fields").value == "complete"


@pytest.mark.parametrize("rate", ["0.00099", "0.101"])
def test_callback_rates_outside_the_venue_range_are_refused(rate: str) -> None:
    intent = an_intent(order_type=OrderType.TRAILING_STOP_MARKET, callback_rate=D(rate))
    assert failed(ask(a_core(), intent)) == ["order_fields"]


def test_maximum_quantity_depends_on_the_order_type() -> None:
    assert "max_quantity" not in failed(ask(a_core(), a_limit(1, "121")))
    assert "max_quantity" not in failed(ask(a_core(), an_intent(1, "120")))
    assert "max_quantity" in failed(ask(a_core(), a_limit(1, "1000.001")))
    assert "max_quantity" not in failed(ask(a_core(), a_limit(1, "1000")))


def test_minimum_notional_passes_exactly() -> None:
    core = a_core(mark="50000")
    core.handle(a_quote(2, bid="49999.9", ask="50000"))
    assert failed(ask(core, an_intent(1, "0.002", reference_price=D(50000)))) == []
    core.handle(a_mark(3, "49999"))
    short = an_intent(2, "0.002", Side.SELL, reference_price=D(50000))
    assert failed(ask(core, short)) == ["min_notional"]


def test_without_brackets_nothing_new_is_opened_but_positions_can_be_reduced() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper", {"ETHUSDT": DEFAULT_BRACKETS["ETHUSDT"]})
    for event in (a_quote(), a_mark(), HOLDING):
        core.handle(event)
    assert {"brackets", "venue_leverage", "margin_ratio", "liquidation_distance"} == set(
        failed(ask(core, an_intent(1)))
    )
    assert failed(ask(core, an_intent(2, "0.05", Side.SELL, reduce_only=True))) == []


def test_cancels_pass_whatever_is_unknown_or_broken() -> None:
    core = RiskCore(limits(max_orders_per_minute=0, max_open_orders=0), INSTRUMENTS, "paper")
    verdict = ask(core, a_cancel(instrument="DOGEUSDT.BINANCE"))
    assert isinstance(verdict, OrderApproved)
    assert check(verdict, "max_quantity").limit.endswith("(not binding: cancel)")
    assert failed(ask(core, a_cancel(51, target=""))) == ["order_fields"]
    assert failed(ask(core, a_cancel(52, account="other"))) == ["account"]


def test_reductions_pass_whatever_else_fails() -> None:
    core = RiskCore(limits(max_orders_per_minute=0, max_open_orders=0), INSTRUMENTS, "paper")
    verdict = ask(core, an_intent(reduce_only=True))
    assert failed(verdict) == []
    assert check(verdict, "leverage").limit == "<= 3 (not binding: reduction)"
    assert check(verdict, "quantity_step").limit == "multiple of 0.001"
