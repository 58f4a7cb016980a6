"""Checks against the market, each at its limit and one step beyond, by its number in the verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.domain.forecasts import ModelRole
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from services.risk.core import RiskCore
from tests.kit.builders import BTC, START, a_bar, a_forecast, a_mark, a_quote, a_tick, a_trade, an_account, an_intent
from tests.unit.risk.builders import (
    D,
    a_core,
    a_limit,
    advance,
    ask,
    check,
    failed,
    limits,
)

MS = 1_000_000


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


@pytest.mark.parametrize(("side", "price"), [(Side.BUY, "61200"), (Side.SELL, "57600")])
def test_each_side_has_the_multiplier_of_its_own_direction(side: Side, price: str) -> None:
    rules = replace(INSTRUMENTS[BTC], price_multiplier_up=D("1.02"), price_multiplier_down=D("0.96"))
    core = RiskCore(limits(max_price_deviation="0.5", max_slippage_bps=10_000), {BTC: rules}, "paper")
    for event in (a_quote(), a_mark(), an_account()):
        core.handle(event)
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


@pytest.mark.parametrize(("skew_ms", "expected"), [(-5000, []), (5001, ["clock_skew_ms"]), (-5001, ["clock_skew_ms"])])
def test_clock_skew_of_the_last_price_where_nothing_else_is_known(skew_ms: int, expected: list[str]) -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    core.handle(an_account())
    core.handle(a_trade(1))
    core.handle(a_trade(2, received_time=START + skew_ms * MS))
    verdict = ask(core, an_intent())
    assert failed(verdict) == expected
    assert check(verdict, "clock_skew_ms").value == str(abs(skew_ms))


def test_of_trades_at_one_time_the_later_is_the_last_price_and_an_older_one_is_not() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    core.handle(an_account())
    core.handle(a_trade(1, price="60000", seconds=1))
    core.handle(a_trade(2, price="60100", seconds=1))
    assert check(ask(core, an_intent(1)), "reference_price").value == "60100 last_price"
    core.handle(a_trade(3, price="50000", seconds=0.999))
    assert check(ask(core, an_intent(2)), "reference_price").value == "60100 last_price"


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


def test_an_account_of_a_model_knows_its_forecasts_and_not_the_champions() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper", model="mine/12ab")
    for event in (a_quote(), a_mark(price="60000"), an_account(), a_forecast(event_time=START)):
        core.handle(event)
    assert failed(ask(core, an_intent(1, confidence=0.4))) == ["forecast_age_ms"]
    core.handle(a_forecast(1, event_time=START, model_name="mine", model_version="12ab", role=ModelRole.SHADOW))
    assert failed(ask(core, an_intent(2, "0.02", confidence=0.4))) == []


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


def test_without_a_clock_the_age_of_an_intent_is_unknown() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    verdict = ask(core, an_intent())
    assert "intent_age_ms" in failed(verdict)
    assert check(verdict, "intent_age_ms").value == "unknown"


def test_an_order_that_adds_risk_waits_for_a_bar_with_all_its_trades() -> None:
    core = a_core(an_account("0.1"))
    core.handle(a_bar(0, is_incomplete=True))
    assert failed(ask(core, an_intent(1))) == ["market_data_complete"]
    assert failed(ask(core, an_intent(2, "0.02", Side.SELL, reduce_only=True))) == []
    again = a_core(an_account("0.1"))
    again.restore(core.snapshot())
    assert check(ask(again, an_intent(3, "0.03")), "market_data_complete").value == "the last bar lacks trades"
    again.handle(a_bar(1))
    assert failed(ask(again, an_intent(4, "0.04"))) == []


def test_no_risk_is_added_on_the_forecast_of_a_bar_that_lacks_trades() -> None:
    core = a_core()
    core.handle(a_forecast(0, event_time=START, is_incomplete=True))
    core.handle(a_forecast(1, event_time=START))
    marked, other = (a_forecast(number, event_time=START).event_id for number in (0, 1))
    assert failed(ask(core, an_intent(1, confidence=0.4, cause_ids=(marked,)))) == ["market_data_complete"]
    assert failed(ask(core, an_intent(2, "0.02", confidence=0.4, cause_ids=(other,)))) == []
    for number in range(2, 12):
        core.handle(a_forecast(number, event_time=START))
    assert b'incomplete_forecasts":[]' in core.snapshot()
