"""The five rules, their composition, their caps, and the rounding to what the venue takes."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.instruments import INSTRUMENTS
from libs.margin.default_brackets import DEFAULT_BRACKETS
from libs.margin.liquidation import Leg, PositionSide, liquidate_isolated
from libs.sizing.compose import Composition, cap_notional, compose
from libs.sizing.errors import SizingError
from libs.sizing.rounding import round_to_filters
from libs.sizing.rules import (
    SizeQuestion,
    size_by_all_rules,
    size_by_risk,
    size_fixed_fraction,
    size_kelly,
    size_leverage_adjusted,
    size_volatility_target,
)

D = Decimal
BTC = INSTRUMENTS["BTCUSDT.BINANCE"]
BRACKETS = DEFAULT_BRACKETS["BTCUSDT"]


def a_question() -> SizeQuestion:
    """10,000 USDT of equity, BTC at 60,000, a stop 2 % away."""
    return SizeQuestion(
        equity=D(10000),
        entry_price=D(60000),
        stop_price=D(58800),
        brackets=BRACKETS,
        win_probability=0.55,
        win_loss_ratio=1.0,
        kelly_share=0.5,
        kelly_cap=D(3),
        fraction=D("0.1"),
        target_volatility=D("0.2"),
        volatility=D("0.6"),
        risk_fraction=D("0.01"),
        fee_rate=D("0.0005"),
        margin_fraction=D("0.2"),
        leverage=D(3),
        min_liquidation_distance=D("0.15"),
    )


def test_all_five_rules_side_by_side() -> None:
    sizes = size_by_all_rules(a_question())
    assert list(sizes) == ["kelly", "fixed_fraction", "volatility_target", "risk_based", "leverage_adjusted"]
    assert sizes["kelly"] == 25000
    assert sizes["fixed_fraction"] == 1000
    assert abs(sizes["volatility_target"] - D(10000) / 3) < D("1e-20")
    assert abs(sizes["risk_based"] - D(100) * 60000 / (1200 + D("0.0005") * 118800)) < D("1e-20")
    assert sizes["leverage_adjusted"] == 6000


def test_risk_based_loses_its_share_at_the_stop_with_fees() -> None:
    for stop in (D(58000), D(62000)):
        notional = size_by_risk(D(10000), D("0.02"), D(60000), stop, D("0.0005"))
        quantity = notional / 60000
        lost = quantity * (abs(stop - 60000) + D("0.0005") * (60000 + stop))
        assert abs(lost - 200) < D("1e-18")
    assert size_by_risk(D(10000), D("0.01"), D(100), D(90)) == 1000


def test_kelly_is_capped_and_scaled() -> None:
    assert size_kelly(D(1000), 0.6, 1.0, D("0.1")) == 2000
    assert size_kelly(D(1000), 0.6, 1.0, D("0.1"), 0.5) == 1000
    assert size_kelly(D(1000), 0.6, 1.0, D("0.1"), 1.0, D("0.5")) == 500
    assert size_kelly(D(1000), 0.4, 1.0, D("0.1")) == 0


@given(
    equity=st.decimals(10, 10**7, places=2),
    leverage=st.decimals(1, 125, places=1),
    distance=st.decimals("0.01", "0.9", places=3),
)
def test_leverage_adjusted_position_keeps_its_distance(equity: Decimal, leverage: Decimal, distance: Decimal) -> None:
    stake = equity * D("0.5")
    notional = size_leverage_adjusted(equity, D("0.5"), leverage, distance, BRACKETS)
    assert 0 < notional <= stake * leverage
    if notional <= stake:
        return
    leg = Leg("BTCUSDT", PositionSide.LONG, notional / 100, D(100), D(100), D(1), BRACKETS, stake)
    result = liquidate_isolated(leg)
    assert result.liquidation_distance is None or result.liquidation_distance >= distance - D("1e-9")
    assert notional / stake <= BRACKETS.bracket_of(notional).max_leverage


def test_leverage_adjusted_respects_the_tier_it_leads_to() -> None:
    assert size_leverage_adjusted(D(10000), D(1), D(125), D(0), BRACKETS) == 1_000_000 - 250_000
    assert size_leverage_adjusted(D(1000), D("0.1"), D(10), D("0.046"), BRACKETS) == 1000
    assert size_leverage_adjusted(D(0), D(1), D(3), D(0), BRACKETS) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: size_fixed_fraction(D(-1), D(1)), "equity: -1"),
        (lambda: size_fixed_fraction(D("NaN"), D(1)), "equity: NaN"),
        (lambda: size_fixed_fraction(D(1), D(-1)), "fraction: -1"),
        (lambda: size_volatility_target(D(1), D(1), D(0)), "volatility: 0"),
        (lambda: size_volatility_target(D(1), D(-1), D(1)), "target_volatility: -1"),
        (lambda: size_volatility_target(D(-1), D(1), D(1)), "equity: -1"),
        (lambda: size_by_risk(D(-1), D(1), D(2), D(1)), "equity"),
        (lambda: size_by_risk(D(1), D(2), D(2), D(1)), "risk_fraction: 2"),
        (lambda: size_by_risk(D(1), D(1), D(0), D(1)), "entry_price: 0"),
        (lambda: size_by_risk(D(1), D(1), D(1), D(0)), "stop_price: 0"),
        (lambda: size_by_risk(D(1), D(1), D(2), D(1), D(2)), "fee_rate: 2"),
        (lambda: size_by_risk(D(1), D(1), D(2), D(2)), "stop_price: 2 equals the entry price"),
        (lambda: size_kelly(D(1), 0.6, 1.0, D(0)), "loss_fraction: 0"),
        (lambda: size_kelly(D(-1), 0.6, 1.0, D(1)), "equity"),
        (lambda: size_kelly(D(1), 0.6, 1.0, D(1), 1.0, D(-1)), "cap: -1"),
        (lambda: size_leverage_adjusted(D(-1), D(1), D(1), D(0), BRACKETS), "equity"),
        (lambda: size_leverage_adjusted(D(1), D(2), D(1), D(0), BRACKETS), "margin_fraction: 2"),
        (lambda: size_leverage_adjusted(D(1), D(1), D("0.9"), D(0), BRACKETS), r"leverage: 0\.9"),
        (lambda: size_leverage_adjusted(D(1), D(1), D(1), D(2), BRACKETS), "min_liquidation_distance: 2"),
        (lambda: size_by_all_rules(replace(a_question(), stop_price=D(60000))), "stop_price: 60000 equals"),
        (lambda: size_by_all_rules(replace(a_question(), entry_price=D(0))), "entry_price: 0"),
        (lambda: size_by_all_rules(replace(a_question(), stop_price=D(-1))), "stop_price: -1"),
        (lambda: compose({}, Composition.MEAN), "there are none to compose"),
        (lambda: compose({"a": D(-1)}, Composition.MEAN), "a: -1"),
        (lambda: compose({"a": D(1), "b": D(1)}, Composition.WEIGHTED, {"a": D(1)}), "weights: none for b"),
        (lambda: compose({"a": D(1)}, Composition.WEIGHTED), "weights: none for a"),
        (lambda: compose({"a": D(1)}, Composition.WEIGHTED, {"a": D(0)}), "weights: all are 0"),
        (lambda: compose({"a": D(1)}, Composition.WEIGHTED, {"a": D(-1)}), "weight of a: -1"),
        (lambda: cap_notional(D(-1), D(1), D(1)), "notional: -1"),
        (lambda: cap_notional(D(1), D(-1), D(1)), "equity: -1"),
        (lambda: cap_notional(D(1), D(1), D(-1)), "max_leverage: -1"),
        (lambda: cap_notional(D(1), D(1), D(1), D(-1)), "max_notional: -1"),
        (lambda: round_to_filters(D(-1), D(1), BTC), "notional: -1"),
        (lambda: round_to_filters(D(1), D(0), BTC), "price: 0"),
    ],
)
def test_impossible_inputs_are_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(SizingError, match=message):
        call()


def test_composition() -> None:
    sizes = {"a": D(100), "b": D(300)}
    assert compose(sizes, Composition.SMALLEST) == 100
    assert compose(sizes, Composition.MEAN) == 200
    assert compose(sizes, Composition.WEIGHTED, {"a": D(3), "b": D(1), "c": D(9)}) == 150


def test_caps_say_which_one_bound() -> None:
    assert cap_notional(D(100), D(50), D(3)).bound_by == ""
    assert cap_notional(D(150), D(50), D(3)).bound_by == ""
    capped = cap_notional(D(151), D(50), D(3))
    assert (capped.notional, capped.bound_by) == (150, "max_leverage")
    capped = cap_notional(D(151), D(50), D(3), D(120))
    assert (capped.notional, capped.bound_by) == (120, "max_notional")
    assert cap_notional(D(120), D(50), D(3), D(120)).bound_by == ""


def test_rounding_goes_down_to_the_step() -> None:
    size = round_to_filters(D(6059), D(60000), BTC)
    assert (size.quantity, size.notional, size.reason) == (D("0.1"), 6000, "")


def test_rounding_says_why_nothing_fits() -> None:
    assert round_to_filters(D(59), D(60000), BTC).reason == "below the minimum quantity 0.001"
    assert round_to_filters(D(0), D(60000), BTC).quantity == 0
    size = round_to_filters(D("99.9"), D(60000), BTC)
    assert (size.quantity, size.notional) == (0, 0)
    assert "below the minimum notional 100" in size.reason
    assert round_to_filters(D(120), D(60000), BTC).quantity == D("0.002")
    assert round_to_filters(D(100), D(50000), BTC).quantity == D("0.002")


def test_rounding_cuts_to_the_maximum_of_the_order_type() -> None:
    assert round_to_filters(D(10**8), D(60000), BTC).quantity == 120
    assert "maximum quantity 120" in round_to_filters(D(10**8), D(60000), BTC).reason
    assert round_to_filters(D(10**8), D(60000), BTC, is_market=False).quantity == 1000
    assert round_to_filters(D(7_200_000), D(60000), BTC).reason == ""


@given(notional=st.decimals(0, 10**7, places=6), price=st.decimals("0.1", 10**5, places=1))
def test_rounded_size_obeys_every_filter_and_never_exceeds_what_was_asked(notional: Decimal, price: Decimal) -> None:
    size = round_to_filters(notional, price, BTC)
    assert size.notional == size.quantity * price <= notional
    if size.quantity:
        assert size.quantity % BTC.step_size == 0
        assert BTC.min_quantity <= size.quantity <= BTC.market_max_quantity
        assert size.notional >= BTC.min_notional
        assert size.reason or (size.quantity + BTC.step_size) * price > notional
    else:
        assert size.reason
