"""Edges of the gate that only a small defect would show: defaults, exact bounds, what is remembered for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.domain.accounts import Position
from libs.domain.control import Alert, ControlAction, ControlState
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import ExchangeBar, Side
from libs.domain.orders import OrderApproved, OrderStatus, OrderType
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
    advance,
    an_account_after,
    an_order_event,
    ask,
    check,
    failed,
    limits,
)

HOLDING = an_account_after(1, "0.05")


def test_the_defaults_are_these() -> None:
    assert RiskLimits().as_strings() == {
        "max_order_notional_usdt": "5000",
        "max_position_notional_usdt": "20000",
        "max_instrument_exposure_usdt": "30000",
        "max_total_exposure_usdt": "40000",
        "max_leverage": "3",
        "max_margin_ratio": "0.5",
        "min_liquidation_distance": "0.15",
        "max_open_orders": "20",
        "max_orders_per_second": "10",
        "max_orders_per_minute": "120",
        "max_price_deviation": "0.03",
        "max_spread_bps": "20",
        "max_slippage_bps": "100",
        "max_funding_cost_per_day": "0.003",
        "allow_quote_as_mark": "true",
        "max_market_data_age_ms": "10000",
        "max_clock_skew_ms": "5000",
        "max_intent_age_ms": "120000",
        "max_forecast_age_ms": "600000",
        "min_forecast_confidence": "0",
        "duplicate_window_ms": "1000",
        "max_daily_loss_fraction": "0.05",
        "soft_drawdown_fraction": "0.1",
        "hard_drawdown_fraction": "0.2",
        "max_consecutive_losses": "10",
        "loss_pause_s": "900",
        "max_volatility_ratio": "8",
        "volatility_warmup_bars": "20",
        "require_volatility": "false",
        "stop_loss_fraction": "0",
        "take_profit_fraction": "0",
        "trailing_stop_fraction": "0",
        "break_even_trigger_fraction": "0",
        "max_holding_s": "0",
    }


def test_peak_and_day_follow_quotes_where_these_stand_in_for_the_mark() -> None:
    core = a_core(HOLDING, mark=None, soft_drawdown_fraction="0.001", max_daily_loss_fraction="0.9")
    core.handle(a_quote(2, bid="61999.9", ask="62000"))
    assert failed(ask(core, an_intent(1, reference_price=None))) == []
    core.handle(a_quote(3, bid="61699.9", ask="61700"))
    assert failed(ask(core, an_intent(2, "0.02", reference_price=None))) == ["drawdown"]


def test_a_second_halt_is_announced_with_its_own_reason() -> None:
    core = a_core()
    core.handle(a_control(ControlAction.HALT))
    state = core.handle(a_control(ControlAction.HALT, 2, reason="again"))[0]
    assert isinstance(state, ControlState)
    assert state.reason == "HALT by test: again"


def test_own_cancels_are_reduce_only_and_say_what_caused_them() -> None:
    core = a_core()
    ask(core, a_limit(1, price="59000", reference_price=None))
    (cancel,) = [event for event in core.handle(a_control()) if isinstance(event, OrderApproved)]
    assert cancel.intent.reduce_only
    assert cancel.intent.cause_ids == ("control/test/1",)
    assert cancel.checks[0].has_passed
    assert cancel.limits_version == 1


def test_the_smallest_position_is_flattened_and_dust_is_not() -> None:
    core = a_core(an_account_after(1, "0.001"))
    orders = [event for event in core.handle(a_control(ControlAction.FLATTEN)) if isinstance(event, OrderApproved)]
    assert [order.intent.quantity for order in orders] == [D("0.001")]
    assert orders[0].checks[0].has_passed
    dust = a_core(an_account_after(1, "0.0009"))
    assert not [event for event in dust.handle(a_control(ControlAction.FLATTEN)) if isinstance(event, OrderApproved)]


@pytest.mark.parametrize(
    ("least", "expected"), [("0.003", []), ("0.002", [D("0.002")]), ("0", [D("0.002")])], ids=["dust", "least", "any"]
)
def test_flatten_keeps_to_the_least_that_the_venue_takes(least: str, expected: list[object]) -> None:
    core = RiskCore(limits(), {BTC: replace(INSTRUMENTS[BTC], min_quantity=D(least))}, "paper")
    for event in (a_quote(), a_mark(), an_account_after(1, "0.002")):
        core.handle(event)
    assert [order.intent.quantity for order in flatten_orders(core)] == expected


def test_an_order_of_nothing_is_no_reduction() -> None:
    verdict = ask(a_core(HOLDING), an_intent(1, "0", Side.SELL))
    assert {"order_fields", "min_quantity", "min_notional"} <= set(failed(verdict))
    assert check(verdict, "leverage").limit == "<= 3"


def test_known_rules_and_brackets_are_called_known() -> None:
    verdict = ask(a_core(), an_intent())
    assert check(verdict, "instrument").value == check(verdict, "brackets").value == "known"
    core = RiskCore(limits(), INSTRUMENTS, "paper", {})
    assert check(ask(core, an_intent()), "brackets").value == "unknown"


@pytest.mark.parametrize(("held", "fill"), [("0.05", "-0.1"), ("-0.05", "0.1")])
def test_a_position_that_may_have_turned_is_no_ground_for_a_reduction(held: str, fill: str) -> None:
    core = a_core(an_account_after(1, held))
    core.handle(a_control(ControlAction.HALT))
    turning = an_intent(90, fill.lstrip("-"), Side.SELL if fill.startswith("-") else Side.BUY)
    core.handle(an_order_event(turning, OrderStatus.FILLED, str(turning.quantity), str(turning.quantity)))
    for number, side in enumerate((Side.BUY, Side.SELL)):
        assert failed(ask(core, an_intent(number + 1, "0.01", side))) == ["trading_state"]


@pytest.mark.slow
def test_the_last_4096_intents_are_remembered() -> None:
    core = a_core(max_order_notional_usdt=0)
    for number in range(4096):
        core.handle(an_intent(number + 1, account=""))
    assert core.handle(an_intent(1, account="")) == []
    core.handle(an_intent(9999, account=""))
    assert len(core.handle(an_intent(1, account=""))) == 1


def test_several_instruments_each_count_once() -> None:
    account = an_account(
        positions=(Position(ETH, D(1), D(2000), D(2000)), Position(BTC, D("0.01"), D(60000), D(60000)))
    )
    core = a_core(account)
    core.handle(a_mark(2, "2000", instrument=ETH))
    core.handle(
        an_order_event(an_intent(91, "1", Side.SELL, instrument=ETH), OrderStatus.ACCEPTED, average_price=D(1900))
    )
    core.handle(an_order_event(an_intent(92, "0.5", instrument=ETH), OrderStatus.FILLED, "0.5", "0.5"))
    verdict = ask(core, an_intent(1))
    # ETH: 1.5 at 2000 and a working sell of 1 at the mark; BTC: 0.01 held and 0.01 asked for at 60000.
    assert check(verdict, "total_exposure_usdt").value == str(3000 + 2000 + 1200)
    assert check(verdict, "leverage").value == "0.42"


def test_maintenance_counts_the_worst_case_of_every_instrument() -> None:
    account = an_account(positions=(Position(ETH, D(-1), D(2000), D(2000)),))
    core = a_core(account)
    core.handle(a_mark(2, "2000", instrument=ETH))
    core.handle(
        an_order_event(an_intent(91, "2", Side.SELL, instrument=ETH), OrderStatus.ACCEPTED, limit_price=D(2000))
    )
    # 6000 of ETH at 0.4 % and 600 of BTC at 0.4 %, over 10000.
    assert check(ask(core, an_intent(1)), "margin_ratio").value == "0.00264"


def test_equity_takes_the_account_mark_where_no_price_is_known() -> None:
    account = replace(an_account(), positions=(Position(ETH, D(1), D(2000), D(1500)),))
    core = a_core(account)
    assert check(ask(core, an_intent(1)), "venue_leverage").value == str(
        (D(600) / D(9500)).quantize(D("1e-8")).normalize()
    )


def test_conditional_orders_count_at_their_trigger() -> None:
    core = a_core()
    ask(core, an_intent(1, order_type=OrderType.STOP_MARKET, trigger_price=D(61000)))
    assert check(ask(core, an_intent(2, "0.02")), "position_notional_usdt").value == "1810"


def test_cancels_are_not_counted_as_orders() -> None:
    core = a_core(max_orders_per_minute=1, max_open_orders=1)
    for number in range(3):
        assert failed(ask(core, a_cancel(60 + number))) == []
    assert failed(ask(core, an_intent(1))) == []


def test_a_tick_alone_notices_the_loss_and_the_new_day() -> None:
    core = a_core(HOLDING, mark=None, max_daily_loss_fraction="0.01")
    core.handle(a_quote(2, bid="57000", ask="57000.1"))
    events = core.handle(a_tick(1))
    assert [event.state.name for event in events if isinstance(event, ControlState)] == ["REDUCING"]
    reason = next(event.reason for event in events if isinstance(event, ControlState))
    assert reason.startswith("loss of ") and reason.endswith("passes the daily limit")


def test_liquidation_distance_counts_working_orders_of_the_side() -> None:
    core = a_core(an_account_after(1, "-0.01"), min_liquidation_distance=0)
    ask(core, a_limit(1, "0.04", "60000", Side.SELL))
    core.handle(an_order_event(an_intent(91, "0.05"), OrderStatus.ACCEPTED, limit_price=D(60000)))
    verdict = ask(core, an_intent(2, "0.05", Side.SELL))
    # Short 0.1 on 10000: (10000 - 6000 x 0.004) / (6000 x 1.004).
    distance = D(10000 - 24) / D("6024")
    assert abs(D(check(verdict, "liquidation_distance").value) - distance) < D("1e-7")


def test_the_day_turns_at_midnight_and_not_before() -> None:
    core = a_core(max_daily_loss_fraction="0.9", soft_drawdown_fraction="0.2")
    core.handle(an_account_after(2, wallet_balance=D(9900)))
    core.handle(a_tick(86_399))
    core.handle(a_quote(5, seconds=86_399))
    assert check(ask(core, an_intent(86_399)), "daily_loss").value == "0.01"
    core.handle(a_tick(86_400))
    assert check(ask(core, an_intent(86_400, "0.02")), "daily_loss").value == "0"


def test_an_older_account_state_moves_nothing_at_all() -> None:
    core = a_core(an_account_after(5), stop_loss_fraction="0.02")
    before = core.snapshot()
    core.handle(a_quote(5, seconds=0))
    assert core.handle(replace(an_account_after(4, "0.05"), wallet_balance=D(1))) == []
    assert core.snapshot() == before


def test_an_older_account_state_is_no_occasion_to_act() -> None:
    core = a_core(an_account_after(5, "0.1"), mark=None, stop_loss_fraction="0.02")
    core.handle(a_quote(5, bid="50000", ask="50000.1"))
    assert core.handle(an_account_after(5, "0.1")) == []
    assert core.handle(an_account_after(4, "0.1")) == []
    assert {type(event) for event in core.handle(an_account_after(6, "0.1"))} == {ControlState, Alert}


def test_every_check_that_needs_the_rules_fails_without_them() -> None:
    verdict = ask(a_core(), an_intent(instrument="DOGEUSDT.BINANCE"))
    assert failed(verdict) == [
        "instrument", "brackets", "quantity_step", "min_quantity", "max_quantity", "price_tick", "min_notional",
        "venue_open_orders", "reference_price", "market_data_age_ms", "clock_skew_ms", "order_notional_usdt",
        "position_notional_usdt", "instrument_exposure_usdt", "total_exposure_usdt", "leverage", "venue_leverage",
        "order_cost_usdt", "margin_ratio", "liquidation_distance", "price_deviation", "spread_bps", "slippage_bps",
        "funding_cost_per_day",
    ]  # fmt: skip


def test_every_check_that_needs_a_finite_number_fails_without_it() -> None:
    verdict = ask(a_core(), an_intent(quantity="NaN"))
    assert failed(verdict) == [
        "order_fields", "quantity_step", "min_quantity", "max_quantity", "price_tick", "min_notional",
        "order_notional_usdt", "position_notional_usdt", "instrument_exposure_usdt", "total_exposure_usdt", "leverage",
        "venue_leverage", "order_cost_usdt", "margin_ratio", "liquidation_distance", "price_deviation", "slippage_bps",
    ]  # fmt: skip


def test_every_check_that_needs_the_account_fails_without_it() -> None:
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    core.handle(a_quote())
    core.handle(a_mark())
    assert failed(ask(core, an_intent())) == [
        "leverage", "venue_leverage", "order_cost_usdt", "margin_ratio", "liquidation_distance", "daily_loss",
        "drawdown", "hard_drawdown",
    ]  # fmt: skip


def test_an_unknown_age_is_called_unknown() -> None:
    core = RiskCore(limits(allow_quote_as_mark=False), INSTRUMENTS, "paper")
    core.handle(an_account())
    core.handle(a_quote())
    assert check(ask(core, an_intent(1)), "market_data_age_ms").value == "unknown"
    assert check(ask(core, an_intent(2)), "clock_skew_ms").value == "unknown"
    core = RiskCore(limits(), INSTRUMENTS, "paper")
    core.handle(a_mark())
    assert check(ask(core, an_intent(1)), "market_data_age_ms").value == "unknown"
    assert check(ask(core, an_intent(2)), "spread_bps").value == "unknown"
    assert check(ask(core, an_intent(3)), "slippage_bps").value == "unknown"


def test_one_sided_quotes_are_no_reference() -> None:
    for bid, offer in (("0", "60000"), ("60000", "0")):
        core = RiskCore(limits(), INSTRUMENTS, "paper")
        core.handle(a_quote(bid=bid, ask=offer))
        assert check(ask(core, an_intent()), "reference_price").value == "unknown"


def test_a_sell_counts_like_a_buy() -> None:
    for number, side in enumerate((Side.BUY, Side.SELL)):
        verdict = ask(a_core(), an_intent(number + 1, "0.01", side))
        assert check(verdict, "instrument_exposure_usdt").value == "600"
        assert check(verdict, "leverage").value == "0.06"
        assert check(verdict, "position_notional_usdt").value == "600"


def test_a_spread_that_cannot_be_known_is_called_unknown() -> None:
    for bid, offer in (("60001", "60000"), ("0", "60000"), ("60000", "0")):
        core = a_core()
        core.handle(a_quote(2, bid=bid, ask=offer))
        assert check(ask(core, an_intent()), "spread_bps").value == "unknown"


def test_no_equity_at_all_leaves_no_distance() -> None:
    verdict = ask(a_core(an_account(wallet_balance=D(0))), an_intent())
    assert check(verdict, "liquidation_distance").value == "equity less other maintenance 0"


def test_slippage_ends_at_a_limit_half_a_dollar_better_than_the_touch() -> None:
    verdict = ask(a_core(), a_limit(1, price="59999.5", reference_price=D("59999.5")))
    assert check(verdict, "slippage_bps").value == "0"


def flatten_orders(core: RiskCore) -> list[OrderApproved]:
    events = core.handle(a_control(ControlAction.FLATTEN))
    approved = [event for event in events if isinstance(event, OrderApproved)]
    return [
        verdict for verdict in approved if verdict.intent.order_type is OrderType.MARKET and verdict.intent.quantity
    ]


def test_flatten_closes_beside_working_orders_and_resting_stops() -> None:
    core = a_core(HOLDING)
    ask(core, a_limit(1, "0.02", "60600", Side.SELL))
    assert len(flatten_orders(core)) == 1
    protected = a_core(stop_loss_fraction="0.02")
    protected.handle(an_account_after(2, "0.05"))
    assert len(flatten_orders(protected)) == 1


def a_bar_of(core: RiskCore, number: int, width: int) -> None:
    bar = a_bar(number)
    core.handle(replace(bar, high_e8=bar.close_e8 + width * 10**8, low_e8=bar.close_e8))


def test_flat_bars_have_no_ratio_and_do_no_harm() -> None:
    core = a_core(volatility_warmup_bars=2)
    for number in range(5):
        a_bar_of(core, number, 0)
    verdict = ask(core, an_intent())
    assert failed(verdict) == []
    assert check(verdict, "volatility_ratio").value == "4 of 2 bars"


def test_the_average_range_is_a_mean_up_to_sixty_bars_and_a_sixtieth_after() -> None:
    core = a_core(volatility_warmup_bars=2)
    widths = [60] * 60 + [120] * 20
    average = 0
    for number, width in enumerate(widths):
        a_bar_of(core, number, width)
        if number:
            average += (widths[number - 1] * 1_000_000 // 60000 * 1000 - average) // min(number, 60)
    expected = D(2_000_000) / D(average)
    assert abs(D(check(ask(core, an_intent()), "volatility_ratio").value) - expected) < D("1e-8")


def test_changed_limits_say_who_changed_them() -> None:
    (state,) = a_core().handle(a_control(ControlAction.SET_LIMITS, arguments={"max_open_orders": "3"}))
    assert isinstance(state, ControlState)
    assert state.reason == "SET_LIMITS by test: because"
    resumed = a_core().handle(a_control(ControlAction.RESUME))[0]
    assert isinstance(resumed, ControlState)
    assert resumed.reason == "RESUME by test: because"


@pytest.mark.parametrize(("skew_ms", "expected"), [(5000, []), (5001, ["clock_skew_ms"])])
def test_clock_skew_of_the_quote_counts_where_it_stands_in_for_the_mark(skew_ms: int, expected: list[str]) -> None:
    core = a_core(mark=None)
    core.handle(a_quote(2, received_time=START + skew_ms * 1_000_000))
    assert failed(ask(core, an_intent())) == expected


def test_the_last_price_stands_in_where_no_quote_was_ever_seen() -> None:
    core = RiskCore(RiskLimits(), {BTC: INSTRUMENTS[BTC]}, "paper")
    core.handle(an_account())
    assert "reference_price" in failed(ask(core, an_intent()))
    core.handle(a_trade(1, price="60000"))
    verdict = ask(core, an_intent(2))
    assert check(verdict, "reference_price").value == "60000 last_price"
    assert failed(verdict) == []
    core.handle(a_quote(1, bid="60100", ask="60100.2"))
    core.handle(a_trade(2, price="50000"))
    assert check(ask(core, an_intent(3)), "reference_price").value == "60100.1 quote_mid"


def test_the_close_of_a_history_bar_is_no_price_to_trade_at() -> None:
    core = RiskCore(RiskLimits(), {BTC: INSTRUMENTS[BTC]}, "paper")
    core.handle(an_account())
    bar = a_bar()
    times = (bar.open_time, bar.close_time, bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8, bar.volume_e8)
    past = ExchangeBar(BTC, "k/1", bar.event_time, bar.event_time, "1m", *times, None, None, None, is_history=True)
    core.handle(past)
    assert "reference_price" in failed(ask(core, an_intent()))
    core.handle(replace(past, event_id="k/2", is_history=False))
    assert check(ask(core, an_intent(2)), "reference_price").value == "60000 last_price"


def test_the_verdict_says_what_may_serve_as_reference() -> None:
    assert check(ask(a_core(), an_intent()), "reference_price").limit == "mark, quote_mid or last_price"
    assert check(ask(a_core(allow_quote_as_mark=False), an_intent()), "reference_price").limit == "mark"


def cancelled_by_flatten(core: RiskCore) -> int:
    events = core.handle(a_control(ControlAction.FLATTEN))
    return sum(isinstance(event, OrderApproved) and event.intent.quantity == 0 for event in events)


def test_flatten_cancels_own_stops_and_resting_reductions_of_others() -> None:
    protected = a_core(stop_loss_fraction="0.02")
    protected.handle(an_account_after(2, "0.05"))
    assert cancelled_by_flatten(protected) == 1
    reducing = a_core(HOLDING)
    ask(reducing, a_limit(1, "0.02", "60600", Side.SELL, reduce_only=True))
    assert cancelled_by_flatten(reducing) == 1


def test_the_smallest_balance_has_a_distance() -> None:
    verdict = ask(a_core(an_account(wallet_balance=D(1))), an_intent())
    assert D(check(verdict, "liquidation_distance").value) < 0


def test_the_last_eight_forecasts_are_remembered() -> None:
    for others, expected in ((7, ["forecast_age_ms"]), (8, [])):
        core = a_core()
        core.handle(a_forecast(0, event_time=START))
        advance(core, 700)
        for number in range(others):
            core.handle(a_forecast(number + 1, event_time=START + 690 * 10**9))
        intent = an_intent(700, confidence=0.4, cause_ids=(a_forecast(0).event_id,))
        assert failed(ask(core, intent)) == expected


def test_a_closing_order_that_ended_is_replaced_though_other_orders_still_work() -> None:
    core = a_core(HOLDING)
    ask(core, a_limit(1, "0.02", "60600", Side.SELL))
    (closing,) = flatten_orders(core)
    core.handle(an_order_event(closing.intent, OrderStatus.EXPIRED))
    again = [event for event in core.handle(a_tick(6)) if isinstance(event, OrderApproved)]
    assert [verdict.intent.quantity for verdict in again] == [D("0.05")]


def test_a_fill_nobody_has_settled_counts_in_the_total_though_nothing_else_is_held_there() -> None:
    core = a_core()
    core.handle(a_mark(2, "2000", instrument=ETH))
    core.handle(an_order_event(an_intent(92, "0.5", instrument=ETH), OrderStatus.FILLED, "0.5", "0.5"))
    assert check(ask(core, an_intent(1)), "total_exposure_usdt").value == "1600"
