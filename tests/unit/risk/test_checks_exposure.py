"""Checks of size and of losses, each at its limit and one step beyond, by its number in the verdict."""

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
from libs.domain.orders import OrderIntent, OrderStatus, OrderType
from services.risk.core import RiskCore
from tests.kit.builders import START, a_bar, a_control, a_mark, a_quote, an_account, an_intent
from tests.unit.risk.builders import (
    ETH,
    D,
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


def feed_bars(core: RiskCore, ranges: list[int], start: int = 0) -> None:
    for number, width in enumerate(ranges, start=start):
        bar = a_bar(number)
        core.handle(replace(bar, high_e8=bar.close_e8 + width * 10**8, low_e8=bar.close_e8))


@pytest.mark.parametrize(("quantity", "expected"), [("0.5", []), ("0.501", ["leverage"])])
def test_leverage_counts_the_worst_case_over_equity(quantity: str, expected: list[str]) -> None:
    wide: dict[str, Any] = {"max_order_notional_usdt": 10**6, "max_position_notional_usdt": 10**6}
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
    wide: dict[str, Any] = dict.fromkeys(("max_order_notional_usdt", "max_position_notional_usdt"), 10**12)
    wide |= dict.fromkeys(("max_instrument_exposure_usdt", "max_total_exposure_usdt", "max_leverage"), 10**12)
    wide |= {"max_margin_ratio": 9}
    core = a_core(**wide, min_liquidation_distance=0)
    # Equity 10000; 1.2 M is in the tier to 3 M, where the venue allows 75.
    assert check(ask(core, an_intent(1, "12.5")), "venue_leverage").limit == "<= 75"
    assert "venue_leverage" not in failed(ask(a_core(**wide, min_liquidation_distance=0), an_intent(2, "12.5")))
    assert "venue_leverage" in failed(ask(a_core(**wide, min_liquidation_distance=0), an_intent(2, "12.501")))
    # The last tier ends at 1.8e9 and still allows 1; beyond it nothing does.
    assert check(ask(a_core(**wide), an_intent(1, "30000")), "venue_leverage").limit == "<= 1"
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


@pytest.mark.parametrize("held", ["1", "-1"])
def test_order_cost_counts_what_other_instruments_tie_up(held: str) -> None:
    core = a_core(an_account(positions=(Position(ETH, D(held), D(2000), D(2000)),)), max_leverage=1)
    core.handle(a_mark(2, "2000", instrument=ETH))
    ask(core, an_intent(1, "0.08"))
    assert check(ask(core, an_intent(2, "0.01")), "order_cost_usdt").limit == "<= 3200"
    assert failed(ask(core, an_intent(3, "0.054", Side.SELL))) == ["order_cost_usdt"]


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
    wide: dict[str, Any] = {"max_order_notional_usdt": 10**6, "max_position_notional_usdt": 10**6}
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


def test_equity_without_profit_or_at_zero_bars_everything_measured_against_it() -> None:
    core = a_core(an_account(wallet_balance=D(0), equity=D(0)))
    verdict = ask(core, an_intent())
    assert {"leverage", "margin_ratio", "daily_loss", "drawdown", "venue_leverage"} <= set(failed(verdict))


@pytest.mark.parametrize(("wallet", "value"), [("1", "600"), ("0.5", "1200")])
def test_the_smallest_equity_is_still_a_measure(wallet: str, value: str) -> None:
    verdict = ask(a_core(an_account(wallet_balance=D(wallet))), an_intent())
    assert check(verdict, "leverage").value == value
    assert "leverage" in failed(verdict)


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


@pytest.mark.parametrize(("balance", "value", "expected"), [("8000", "0.2", []), ("7999", "0.2001", ["hard_drawdown"])])
def test_hard_drawdown_is_shown_beside_the_soft_one(balance: str, value: str, expected: list[str]) -> None:
    core = a_core(max_daily_loss_fraction="0.9")
    core.handle(an_account_after(2, wallet_balance=D(balance)))
    verdict = ask(core, an_intent())
    shown = check(verdict, "hard_drawdown")
    assert (shown.value, shown.limit) == (value, "<= 0.2")
    assert check(verdict, "drawdown").value == value
    assert [name for name in failed(verdict) if name == "hard_drawdown"] == expected


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


def test_the_range_is_a_share_of_the_close() -> None:
    core = a_core(volatility_warmup_bars=1, max_volatility_ratio=1000)
    feed_bars(core, [60, 60_000])
    verdict = ask(core, an_intent())
    assert failed(verdict) == []
    assert check(verdict, "volatility_ratio").value == "1000"


def test_the_first_move_after_the_smallest_average_is_a_spike() -> None:
    core = a_core()
    # A millionth and 54 flat bars: the mean is floored to a billionth, one more flat bar and there is none.
    for number, width_e8 in enumerate([6_000_000, *([0] * 54), 6_000_000]):
        bar = a_bar(number)
        core.handle(replace(bar, high_e8=bar.close_e8 + width_e8, low_e8=bar.close_e8))
    verdict = ask(core, an_intent())
    assert failed(verdict) == ["volatility_ratio"]
    assert check(verdict, "volatility_ratio").value == "1000"


def test_average_range_is_a_mean_and_then_forgets_slowly() -> None:
    core = a_core(volatility_warmup_bars=2, max_volatility_ratio=1000)
    feed_bars(core, [60, 120, 300])
    assert check(ask(core, an_intent()), "volatility_ratio").value == str(
        (D(5000) / D(1500)).quantize(D("1e-8")).normalize()
    )
