"""Each check at its limit and one step beyond, by its number in the verdict."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from libs.domain.accounts import Position
from libs.domain.control import ControlAction
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import OrderApproved, OrderIntent, OrderRefused, OrderStatus, OrderType
from libs.margin.default_brackets import DEFAULT_BRACKETS
from services.risk.core import RiskCore
from services.risk.core.checks import CHECKS
from tests.kit.builders import BTC, START, a_bar, a_control, a_forecast, a_mark, a_quote, a_tick, an_account, an_intent
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

MS = 1_000_000
HOLDING = an_account_after(1, "0.05")


def test_a_plain_order_passes_and_its_verdict_carries_every_check() -> None:
    verdict = ask(a_core(), an_intent())
    assert isinstance(verdict, OrderApproved)
    assert failed(verdict) == []
    assert [entry.name for entry in verdict.checks] == [function.__name__ for function in CHECKS]
    assert all(entry.value and entry.limit for entry in verdict.checks)
    assert check(verdict, "order_notional_usdt").value == "600"
    assert check(verdict, "order_notional_usdt").limit == "<= 5000"
    assert verdict.limits_version == 1


def test_a_refusal_carries_every_check_too_and_says_why_in_sentences() -> None:
    verdict = ask(a_core(max_order_notional_usdt=599), an_intent())
    assert isinstance(verdict, OrderRefused)
    assert [entry.name for entry in verdict.checks] == [function.__name__ for function in CHECKS]
    assert verdict.reasons == ("order_notional_usdt is 600, must be <= 599",)


# The check, limits that it just passes, limits one step tighter: 0.01 at a mark of 60000, equity 10000.
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


@pytest.mark.parametrize(("name", "at_limit", "beyond"), BOUNDARIES, ids=[entry[0] for entry in BOUNDARIES])
def test_exactly_at_the_limit_passes_and_one_step_beyond_fails(
    name: str, at_limit: dict[str, Any], beyond: dict[str, Any]
) -> None:
    assert failed(ask(a_core(**at_limit), an_intent())) == []
    assert failed(ask(a_core(**beyond), an_intent())) == [name]


@pytest.mark.parametrize(("quantity", "expected"), [("0.5", []), ("0.501", ["leverage"])])
def test_leverage_counts_the_worst_case_over_equity(quantity: str, expected: list[str]) -> None:
    wide = {"max_order_notional_usdt": 10**6, "max_position_notional_usdt": 10**6}
    account = an_account(available_balance=D(10**6))
    core = a_core(account, **wide, max_instrument_exposure_usdt=10**6, max_total_exposure_usdt=10**6, max_leverage=3)
    verdict = ask(core, an_intent(quantity=quantity))
    assert [name for name in failed(verdict) if name != "order_cost_usdt"] == expected
    assert check(verdict, "leverage").value == str((D(quantity) * 6).normalize())


def test_leverage_counts_working_orders_positions_and_other_instruments() -> None:
    account = replace(HOLDING, positions=(*HOLDING.positions, Position(ETH, D("-1"), D(2000), D(2000))))
    core = a_core(account)
    core.handle(a_mark(2, "2000", instrument=ETH))
    ask(core, a_limit(1, "0.02", "59000", reference_price=None))
    verdict = ask(core, an_intent(2, "0.01"))
    # 0.05 held, 0.02 working and 0.01 asked for at 60000, one ETH short at 2000; equity 10000.
    assert check(verdict, "leverage").value == "0.68"
    assert check(verdict, "total_exposure_usdt").value == "6800"
    assert check(verdict, "instrument_exposure_usdt").value == "4800"
    assert check(verdict, "position_notional_usdt").value == "4800"


def test_opposite_orders_count_in_gross_but_not_in_direction() -> None:
    core = a_core()
    ask(core, an_intent(1, "0.02", Side.SELL))
    verdict = ask(core, an_intent(2, "0.01", Side.BUY))
    assert check(verdict, "instrument_exposure_usdt").value == "1800"
    assert check(verdict, "position_notional_usdt").value == "600"
    assert check(verdict, "leverage").value == "0.12"


def test_a_buy_against_a_short_counts_only_what_remains() -> None:
    core = a_core(an_account_after(1, "-0.05"))
    verdict = ask(core, an_intent(1, "0.07"))
    assert check(verdict, "position_notional_usdt").value == "1200"
    assert check(verdict, "leverage").value == "0.3"


def test_limit_price_above_the_mark_counts_at_its_own_price() -> None:
    verdict = ask(a_core(), a_limit(price="60600"))
    assert check(verdict, "order_notional_usdt").value == "606"
    verdict = ask(a_core(), a_limit(price="59400"))
    assert check(verdict, "order_notional_usdt").value == "600"
    trigger = an_intent(order_type=OrderType.STOP_MARKET, trigger_price=D(61000))
    assert check(ask(a_core(), trigger), "order_notional_usdt").value == "610"


def test_venue_leverage_is_that_of_the_bracket() -> None:
    wide = dict.fromkeys(("max_order_notional_usdt", "max_position_notional_usdt"), 10**12)
    wide |= dict.fromkeys(("max_instrument_exposure_usdt", "max_total_exposure_usdt", "max_leverage"), 10**12)
    wide |= {"max_margin_ratio": 9}
    core = a_core(**wide, min_liquidation_distance=0)
    # Equity 10000; 1.2 M is in the tier to 3 M, where the venue allows 75.
    assert check(ask(core, an_intent(1, "12.5")), "venue_leverage").limit == "<= 75"
    assert "venue_leverage" not in failed(ask(a_core(**wide, min_liquidation_distance=0), an_intent(2, "12.5")))
    assert "venue_leverage" in failed(ask(a_core(**wide, min_liquidation_distance=0), an_intent(2, "12.501")))
    verdict = ask(a_core(**wide), an_intent(2, "30001"))
    assert check(verdict, "venue_leverage").limit == "<= 1800000000"
    assert "venue_leverage" in failed(verdict)


def test_order_cost_must_fit_the_free_balance() -> None:
    # 600 / 3 plus 5 bps of 600.
    enough = an_account(available_balance=D("200.3"))
    short = an_account(available_balance=D("200.29999999"))
    assert failed(ask(a_core(enough), an_intent())) == []
    assert failed(ask(a_core(short), an_intent())) == ["order_cost_usdt"]


def test_order_cost_counts_orders_the_account_has_not_heard_of() -> None:
    core = a_core(max_leverage=1)
    ask(core, an_intent(1, "0.08"))
    ask(core, an_intent(2, "0.08", Side.SELL))
    verdict = ask(core, an_intent(3, "0.007"))
    assert check(verdict, "order_cost_usdt").limit == "<= 400"
    assert failed(verdict) == ["order_cost_usdt"]
    assert failed(ask(core, an_intent(4, "0.006"))) == []


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_liquidation_distance_is_that_of_the_position_the_order_leads_to(side: Side) -> None:
    probe = ask(a_core(min_liquidation_distance=0), an_intent(quantity="0.08", side=side))
    # Balance 10000, 4800 of notional: a short has 10000 / 4800 to go, a long cannot be liquidated at all.
    if side is Side.BUY:
        assert "covers the position" in check(probe, "liquidation_distance").value
        assert failed(probe) == []
        return
    distance = (D(10000) - D("4800") * D("0.004")) / (D(4800) * D("1.004"))
    assert abs(D(check(probe, "liquidation_distance").value) - distance) < D("1e-7")


@pytest.mark.parametrize(("floor", "expected"), [("0.33065", []), ("0.33066", ["liquidation_distance"])])
def test_liquidation_distance_floor_binds(floor: str, expected: list[str]) -> None:
    wide = {"max_order_notional_usdt": 10**6, "max_position_notional_usdt": 10**6}
    core = a_core(**wide, min_liquidation_distance=floor, max_leverage=4)
    # 30000 of notional on 10000: long, liquidated at 20000 / (0.5 x 0.996) = 40160.64.
    assert failed(ask(core, an_intent(quantity="0.5"))) == expected


def test_liquidation_distance_fails_where_other_positions_eat_the_equity() -> None:
    big = an_account(positions=(Position(ETH, D("1000"), D(2000), D(2000)),))
    core = a_core(big)
    core.handle(a_mark(2, "1990", instrument=ETH))
    verdict = ask(core, an_intent())
    assert check(verdict, "liquidation_distance").value.startswith("equity less other maintenance")
    assert {"liquidation_distance", "leverage", "margin_ratio", "daily_loss"} <= set(failed(verdict))


@pytest.mark.parametrize(
    ("price", "side", "expected"),
    [
        ("61800", Side.BUY, []),
        ("61800.1", Side.BUY, ["price_deviation"]),
        ("58200", Side.BUY, []),
        ("58199.9", Side.BUY, ["price_deviation"]),
        ("58200", Side.SELL, []),
        ("58199.9", Side.SELL, ["price_deviation"]),
        ("61800", Side.SELL, []),
    ],
)
def test_price_collar_around_the_mark(price: str, side: Side, expected: list[str]) -> None:
    core = a_core(max_price_deviation="0.03", max_slippage_bps=10_000)
    assert failed(ask(core, a_limit(price=price, side=side))) == expected


@pytest.mark.parametrize(("side", "price"), [(Side.BUY, "63000"), (Side.SELL, "57000")])
def test_price_collar_is_never_wider_than_the_venue_multipliers(side: Side, price: str) -> None:
    core = a_core(max_price_deviation="0.5", max_slippage_bps=10_000)
    assert failed(ask(core, a_limit(1, price=price, side=side))) == []
    beyond = D(price) + D("0.1") * side.sign
    assert failed(ask(core, a_limit(2, price=str(beyond), side=side))) == ["price_deviation"]


@pytest.mark.parametrize(("ask_price", "expected"), [("60012", []), ("60012.1", ["spread_bps"])])
def test_spread_cap(ask_price: str, expected: list[str]) -> None:
    core = a_core(max_spread_bps=4)
    core.handle(a_quote(2, bid="59988", ask=ask_price))
    assert failed(ask(core, an_intent())) == expected


def test_a_crossed_or_empty_quote_fails_the_spread_check() -> None:
    for bid, offer in (("60001", "60000"), ("0", "60000"), ("60000", "0")):
        core = a_core()
        core.handle(a_quote(2, bid=bid, ask=offer))
        assert "spread_bps" in failed(ask(core, an_intent()))
    core = a_core()
    core.handle(a_quote(2, bid="60000", ask="60000"))
    assert failed(ask(core, an_intent())) == []


@pytest.mark.parametrize(("side", "decided"), [(Side.BUY, "59406"), (Side.BUY, "60500"), (Side.SELL, "60605.9")])
def test_slippage_is_the_touch_against_the_price_decided_on(side: Side, decided: str) -> None:
    verdict = ask(a_core(), an_intent(side=side, reference_price=D(decided)))
    touch = D(60000) if side is Side.BUY else D("59999.9")
    worse = (touch - D(decided)) * side.sign / D(decided) * 10000
    assert abs(D(check(verdict, "slippage_bps").value) - worse) < D("1e-7")
    assert "slippage_bps" not in failed(verdict)


def test_slippage_cap_binds_just_beyond() -> None:
    core = a_core(max_slippage_bps=100)
    at_limit = D(60000) / D("1.01")
    assert "slippage_bps" not in failed(ask(core, an_intent(1, reference_price=at_limit + D("0.0001"))))
    assert failed(ask(core, an_intent(2, "0.02", reference_price=at_limit - D("0.0001")))) == ["slippage_bps"]


def test_slippage_of_a_limit_order_ends_at_its_limit() -> None:
    verdict = ask(a_core(), a_limit(price="59400", reference_price=D(59400)))
    assert check(verdict, "slippage_bps").value == "0"
    verdict = ask(a_core(), a_limit(price="60600", reference_price=D(60000)))
    assert check(verdict, "slippage_bps").value == "0"
    verdict = ask(a_core(), a_limit(price="60600", side=Side.SELL, reference_price=D(60600)))
    assert check(verdict, "slippage_bps").value == "0"


def test_slippage_without_a_decided_price_is_against_the_mark() -> None:
    assert check(ask(a_core(), an_intent(reference_price=None)), "slippage_bps").value == "0"
    assert "slippage_bps" in failed(ask(a_core(), an_intent(reference_price=D(0))))


def test_funding_costs_the_side_that_pays() -> None:
    core = a_core(max_funding_cost_per_day="0.0002")
    assert failed(ask(core, an_intent(1))) == ["funding_cost_per_day"]
    verdict = ask(core, an_intent(2, side=Side.SELL))
    assert failed(verdict) == []
    assert check(verdict, "funding_cost_per_day").value == "0"
    core.handle(a_mark(2, funding_rate_e8=-10_000))
    assert failed(ask(core, an_intent(3, "0.02", Side.SELL))) == ["funding_cost_per_day"]


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


@pytest.mark.parametrize(("milliseconds", "expected"), [(10_000, []), (10_001, ["market_data_age_ms"])])
def test_stale_marks_are_refused(milliseconds: int, expected: list[str]) -> None:
    core = a_core()
    seconds = milliseconds / 1000
    core.handle(a_quote(2, seconds=seconds))
    assert failed(ask(core, an_intent(1, event_time=START))) == expected


def test_stale_quotes_are_refused_though_the_mark_is_fresh() -> None:
    core = a_core()
    core.handle(a_mark(2, seconds=10.001))
    verdict = ask(core, an_intent())
    assert failed(verdict) == ["market_data_age_ms"]
    assert check(verdict, "market_data_age_ms").value == "10001"


@pytest.mark.parametrize(
    ("skew_ms", "expected"), [(5000, []), (-5000, []), (5001, ["clock_skew_ms"]), (-5001, ["clock_skew_ms"])]
)
def test_clock_skew_between_venue_and_us(skew_ms: int, expected: list[str]) -> None:
    core = a_core()
    core.handle(a_mark(2, received_time=START + skew_ms * MS))
    assert failed(ask(core, an_intent())) == expected


@pytest.mark.parametrize(
    ("offset_ms", "expected"),
    [(120_000, []), (-120_000, []), (120_001, ["intent_age_ms"]), (-120_001, ["intent_age_ms"])],
)
def test_intents_from_another_time_are_refused(offset_ms: int, expected: list[str]) -> None:
    assert failed(ask(a_core(), an_intent(event_time=START + offset_ms * MS))) == expected


def test_intents_do_not_move_the_clock() -> None:
    core = a_core()
    ask(core, an_intent(1, event_time=START + 10**15))
    assert failed(ask(core, an_intent(2))) == []


@pytest.mark.parametrize(("age_s", "expected"), [(600, []), (601, ["forecast_age_ms"])])
def test_stale_forecasts_are_refused(age_s: int, expected: list[str]) -> None:
    core = a_core()
    forecast = a_forecast(event_time=START)
    core.handle(forecast)
    advance(core, age_s)
    intent = an_intent(age_s, confidence=0.4, cause_ids=("bar", forecast.event_id))
    assert failed(ask(core, intent)) == expected
    assert check(ask(core, an_intent(age_s + 1, "0.02")), "forecast_age_ms").value == "no forecast used"


def test_the_forecast_named_among_the_causes_is_the_one_that_counts() -> None:
    core = a_core()
    old, new = a_forecast(0, event_time=START), a_forecast(1, event_time=START + 700 * NANOSECONDS)
    core.handle(old)
    core.handle(new)
    advance(core, 700)
    assert failed(ask(core, an_intent(700, confidence=0.4, cause_ids=(old.event_id,)))) == ["forecast_age_ms"]
    assert failed(ask(core, an_intent(701, confidence=0.4, cause_ids=("unseen",)))) == []


def test_a_confidence_without_any_forecast_seen_is_refused() -> None:
    verdict = ask(a_core(), an_intent(confidence=0.4))
    assert failed(verdict) == ["forecast_age_ms"]
    assert check(verdict, "forecast_age_ms").value == "unknown"


def test_shadow_forecasts_do_not_count() -> None:
    core = a_core()
    core.handle(replace(a_forecast(), role=type(a_forecast().role).SHADOW))
    assert failed(ask(core, an_intent(confidence=0.4))) == ["forecast_age_ms"]


@pytest.mark.parametrize(
    ("confidence", "expected"), [(0.25, []), (0.2499, ["forecast_confidence"]), (float("nan"), ["forecast_confidence"])]
)
def test_low_confidence_is_refused(confidence: float, expected: list[str]) -> None:
    core = a_core(min_forecast_confidence="0.25")
    core.handle(a_forecast(event_time=START))
    assert failed(ask(core, an_intent(confidence=confidence))) == expected


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
            an_intent(**changes, reduce_only=reduce_only, **({"side": Side.SELL} if reduce_only else {})),
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


def test_without_any_price_nothing_new_is_opened() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    core.handle(an_account())
    core.handle(a_tick(0))
    names = failed(ask(core, an_intent()))
    assert {"reference_price", "market_data_age_ms", "clock_skew_ms", "order_notional_usdt", "leverage"} <= set(names)
    assert {"position_notional_usdt", "spread_bps", "slippage_bps", "min_notional", "order_cost_usdt"} <= set(names)
    assert {"instrument_exposure_usdt", "total_exposure_usdt", "margin_ratio", "liquidation_distance"} <= set(names)


def test_without_a_mark_the_quote_stands_in_where_that_is_allowed() -> None:
    verdict = ask(a_core(mark=None), an_intent())
    assert failed(verdict) == []
    assert check(verdict, "reference_price").value == "59999.95 quote_mid"
    assert check(verdict, "funding_cost_per_day").value == "no funding rate seen"
    refused = ask(a_core(mark=None, allow_quote_as_mark=False), an_intent())
    assert {"reference_price", "funding_cost_per_day"} <= set(failed(refused))
    assert check(ask(a_core(), an_intent()), "reference_price").value == "60000 mark"


def test_a_stale_mark_is_not_replaced_by_a_fresh_quote() -> None:
    core = a_core()
    core.handle(a_quote(2, seconds=11))
    verdict = ask(core, an_intent(11))
    assert failed(verdict) == ["market_data_age_ms"]
    assert check(verdict, "reference_price").value == "60000 mark"


def test_without_a_quote_nothing_new_is_opened() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    core.handle(a_mark())
    core.handle(an_account())
    assert failed(ask(core, an_intent())) == ["market_data_age_ms", "spread_bps", "slippage_bps"]


def test_without_an_account_nothing_new_is_opened() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    core.handle(a_quote())
    core.handle(a_mark())
    verdict = ask(core, an_intent())
    assert {"leverage", "order_cost_usdt", "daily_loss", "drawdown", "margin_ratio"} <= set(failed(verdict))


def test_without_a_price_for_another_holding_nothing_new_is_opened() -> None:
    account = an_account(positions=(Position(ETH, D(1), D(2000), D(2000)),))
    assert {"total_exposure_usdt", "leverage", "order_cost_usdt", "margin_ratio", "liquidation_distance"} == set(
        failed(ask(a_core(account), an_intent()))
    )


def test_without_a_clock_the_age_of_an_intent_is_unknown() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    assert "intent_age_ms" in failed(ask(core, an_intent()))


def test_equity_without_profit_or_at_zero_bars_everything_measured_against_it() -> None:
    core = a_core(an_account(wallet_balance=D(0), equity=D(0)))
    verdict = ask(core, an_intent())
    assert {"leverage", "margin_ratio", "daily_loss", "drawdown", "venue_leverage"} <= set(failed(verdict))


@pytest.mark.parametrize(("balance", "expected"), [("9500", []), ("9499.99", ["daily_loss"])])
def test_daily_loss_limit(balance: str, expected: list[str]) -> None:
    core = a_core(soft_drawdown_fraction="0.2")
    core.handle(an_account_after(2, wallet_balance=D(balance)))
    assert [name for name in failed(ask(core, an_intent())) if name != "trading_state"] == expected


def test_daily_loss_starts_anew_at_midnight_utc() -> None:
    core = a_core(soft_drawdown_fraction="0.2")
    core.handle(an_account_after(2, wallet_balance=D(9000)))
    core.handle(a_control(ControlAction.RESUME))
    assert "daily_loss" in failed(ask(core, an_intent(1)))
    advance(core, 86_400)
    assert check(ask(core, an_intent(86_400, "0.02")), "daily_loss").value == "0"


@pytest.mark.parametrize(("balance", "expected"), [("9000", []), ("8999.99", ["drawdown"])])
def test_soft_drawdown_limit(balance: str, expected: list[str]) -> None:
    core = a_core(max_daily_loss_fraction="0.9")
    core.handle(an_account_after(2, wallet_balance=D(balance)))
    assert [name for name in failed(ask(core, an_intent())) if name != "trading_state"] == expected


def test_drawdown_is_measured_from_the_peak_at_the_mark() -> None:
    core = a_core(HOLDING, max_daily_loss_fraction="0.9")
    advance(core, 1, "80000")
    advance(core, 2, "57999")
    # Peak 10000 + 0.05 x 20000 = 11000; now 10000 - 0.05 x 2001.
    value = check(ask(core, an_intent(2, side=Side.BUY)), "drawdown").value
    assert abs(D(value) - D("1100.05") / 11000) < D("1e-8")


def lose(core: RiskCore, number: int, pnl: str, intent: OrderIntent | None = None, seconds: int = 0) -> None:
    closing = an_intent(number) if intent is None else intent
    core.handle(
        an_order_event(
            closing,
            OrderStatus.FILLED,
            "0.01",
            None,
            realised_pnl=Decimal(pnl),
            event_time=START + seconds * NANOSECONDS,
        )
    )


def test_consecutive_losses_pause_new_orders() -> None:
    core = a_core(max_consecutive_losses=2, loss_pause_s=10)
    lose(core, 101, "-1")
    assert failed(ask(core, an_intent(1))) == []
    lose(core, 102, "-1")
    assert failed(ask(core, an_intent(2, "0.02"))) == ["consecutive_losses"]
    advance(core, 10)
    assert failed(ask(core, an_intent(10, "0.02"))) == ["consecutive_losses"]
    advance(core, 11)
    assert failed(ask(core, an_intent(11, "0.02"))) == []


def test_a_win_ends_the_run_of_losses_and_nothing_else_does() -> None:
    core = a_core(max_consecutive_losses=2)
    lose(core, 101, "-1")
    lose(core, 102, "1")
    lose(core, 103, "-1")
    lose(core, 104, "0")
    assert check(ask(core, an_intent(1)), "consecutive_losses").value == "1"
    lose(core, 105, "-1")
    assert failed(ask(core, an_intent(2, "0.02"))) == ["consecutive_losses"]


def test_several_fills_of_one_closing_order_are_one_loss() -> None:
    core = a_core(max_consecutive_losses=2)
    lose(core, 101, "-1")
    lose(core, 101, "-1")
    assert check(ask(core, an_intent(1)), "consecutive_losses").value == "1"


def feed_bars(core: RiskCore, ranges: list[int], start: int = 0) -> None:
    for number, width in enumerate(ranges, start=start):
        bar = a_bar(number)
        core.handle(replace(bar, high_e8=bar.close_e8 + width * 10**8, low_e8=bar.close_e8))


@pytest.mark.parametrize(("last", "expected"), [(480, []), (481, ["volatility_ratio"])])
def test_volatility_spike(last: int, expected: list[str]) -> None:
    core = a_core(max_volatility_ratio=8, volatility_warmup_bars=20)
    feed_bars(core, [60] * 20 + [last])
    assert failed(ask(core, an_intent())) == expected


def test_volatility_is_not_judged_before_its_average_is_warm() -> None:
    core = a_core(volatility_warmup_bars=20)
    feed_bars(core, [60] * 19 + [6000])
    verdict = ask(core, an_intent())
    assert failed(verdict) == []
    assert check(verdict, "volatility_ratio").value == "19 of 20 bars"
    strict = a_core(volatility_warmup_bars=20, require_volatility=True)
    feed_bars(strict, [60] * 19 + [60])
    assert failed(ask(strict, an_intent(1))) == ["volatility_ratio"]
    feed_bars(strict, [60], start=20)
    assert failed(ask(strict, an_intent(2, "0.02"))) == []


def test_other_timeframes_and_repeated_bars_do_not_move_the_average() -> None:
    core = a_core(volatility_warmup_bars=1)
    feed_bars(core, [60, 60])
    before = core.snapshot()
    core.handle(a_bar(1))
    core.handle(a_bar(0, timeframe="5m"))
    core.handle(replace(a_bar(5), close_e8=0))
    assert core.snapshot() == before


def test_average_range_is_a_mean_and_then_forgets_slowly() -> None:
    core = a_core(volatility_warmup_bars=2, max_volatility_ratio=1000)
    feed_bars(core, [60, 120, 300])
    assert check(ask(core, an_intent()), "volatility_ratio").value == str(
        (D(5000) / D(1500)).quantize(D("1e-8")).normalize()
    )


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
