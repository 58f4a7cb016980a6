"""Liquidation prices: the venue's worked example to the cent, and the definition held against any account."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.margin.brackets import Bracket, BracketTable, MarginError, build_bracket_table
from libs.margin.liquidation import (
    Leg,
    MarginMode,
    PositionMode,
    PositionSide,
    flat_brackets,
    liquidate_account,
    liquidate_isolated,
    solve_liquidation_prices,
)
from libs.margin.requirements import cost_to_open, initial_margin, maintenance_margin, notional_of, open_loss
from tests.unit.margin.builders import a_leg
from tests.unit.margin.test_brackets import bracket_tables

CENT = Decimal("0.01")
WALLET = Decimal("1535443.01")


def worked_example() -> list[Leg]:
    eth = flat_brackets("ETHUSDT", Decimal("0.10"), Decimal(135365))
    btc = flat_brackets("BTCUSDT", Decimal("0.025"), Decimal(16300))
    return [
        a_leg("long", "3683.979", "1456.84", "1335.18", symbol="ETHUSDT", brackets=eth, isolated_margin=str(WALLET)),
        a_leg("long", "109.488", "32481.98", "31967.27", symbol="BTCUSDT", brackets=btc, isolated_margin=str(WALLET)),
    ]


def solve(legs: list[Leg], wallet: Decimal, margin: str, mode: str = "one_way") -> list[Decimal | None]:
    results = liquidate_account(legs, wallet, MarginMode(margin), PositionMode(mode))
    return [result.liquidation_price for result in results]


@pytest.mark.parametrize(
    ("margin_mode", "eth", "btc"),
    [("cross", "1153.26", "26316.89"), ("isolated", "1114.78", "18778.73")],
)
@pytest.mark.parametrize("position_mode", ["one_way", "hedge"])
def test_worked_example_of_the_venue_is_met_to_the_cent(
    margin_mode: str, eth: str, btc: str, position_mode: str
) -> None:
    prices = solve(worked_example(), WALLET, margin_mode, position_mode)
    assert [price and price.quantize(CENT) for price in prices] == [Decimal(eth), Decimal(btc)]


def test_worked_example_has_the_stated_margins() -> None:
    eth, btc = worked_example()
    assert btc.maintenance_margin == Decimal("71200.811444")
    assert btc.unrealised_pnl(btc.mark_price) == Decimal("-56354.56848")
    assert eth.maintenance_margin == Decimal("356512.508122")
    assert eth.unrealised_pnl(eth.mark_price) == Decimal("-448192.88514")
    assert eth.initial_margin == Decimal("491877.508122")


def test_rate_is_that_of_the_notional_at_the_liquidation_price() -> None:
    # 50.5 BTC: 3,030,000 at entry (1 %), but below 3,000,000 where it is liquidated (0.65 %).
    leg = a_leg("long", "50.5", "60000", "60000", "20")
    price = liquidate_isolated(leg).liquidation_price
    assert price is not None
    tier = leg.brackets.bracket_of(price * leg.quantity)
    assert tier.maintenance_rate == Decimal("0.0065")
    expected = (leg.isolated_wallet + tier.maintenance_amount - leg.quantity * leg.entry_price) / (
        leg.quantity * (tier.maintenance_rate - 1)
    )
    assert abs(price - expected) < Decimal("1e-20")


@pytest.mark.parametrize(
    ("side", "liquidation", "bankruptcy"), [("long", "18072.2891566", "18000"), ("short", "21912.3505976", "22000")]
)
def test_isolated_margin_left_open_is_entry_notional_by_leverage(side: str, liquidation: str, bankruptcy: str) -> None:
    result = liquidate_isolated(a_leg(side, mark="19900"))
    assert result.liquidation_price is not None
    assert result.liquidation_price.quantize(Decimal("1e-7")) == Decimal(liquidation)
    assert result.bankruptcy_price == Decimal(bankruptcy)
    gap = (Decimal(19900) - result.liquidation_price) * (1 if side == "long" else -1)
    assert result.liquidation_distance is not None
    assert abs(result.liquidation_distance - gap / 19900) < Decimal("1e-20")


def test_distance_is_negative_once_the_price_has_passed() -> None:
    for side, mark in (("long", "17000"), ("short", "23000")):
        result = liquidate_isolated(a_leg(side, mark=mark))
        assert result.liquidation_distance is not None
        assert result.liquidation_distance < 0


def test_fully_paid_long_has_no_liquidation_price_and_says_so() -> None:
    result = liquidate_isolated(a_leg(leverage="1"))
    assert (result.liquidation_price, result.liquidation_distance, result.bankruptcy_price) == (None, None, None)
    assert result.liquidation_reason == "margin covers the position at every price above zero"
    assert result.bankruptcy_reason


def test_short_under_water_at_every_price_says_it_is_due() -> None:
    hopeless = a_leg("long", "1", "30000", "100", symbol="ETHUSDT")
    prices = liquidate_account([a_leg("short"), hopeless], Decimal(1), MarginMode.CROSS, PositionMode.ONE_WAY)
    assert prices[0].liquidation_price is None
    assert "due for liquidation now" in prices[0].liquidation_reason


def test_cross_counts_the_other_symbols_profit_and_maintenance() -> None:
    alone = solve([a_leg()], Decimal(3000), "cross")[0]
    other = a_leg("short", "1", "2000", "1500", symbol="ETHUSDT")
    beside = solve([a_leg(), other], Decimal(3000), "cross")[0]
    moved = solve([a_leg()], Decimal(3000) + 500 - other.maintenance_margin, "cross")[0]
    assert alone is not None and beside is not None
    assert beside < alone
    assert beside == moved


def test_cross_bankruptcy_counts_the_others_profit_but_not_their_maintenance() -> None:
    other = a_leg("short", "1", "2000", "1500", symbol="ETHUSDT")
    result = liquidate_account([a_leg(), other], Decimal(3000), MarginMode.CROSS, PositionMode.ONE_WAY)[0]
    assert result.bankruptcy_price == 20000 - 3500


def test_hedged_legs_of_one_symbol_share_one_answer() -> None:
    legs = [a_leg("long", "2"), a_leg("short", "1")]
    long_price, short_price = solve(legs, Decimal(5000), "cross", "hedge")
    assert long_price == short_price
    assert long_price is not None and long_price < 20000


def test_evenly_hedged_pair_is_liquidated_upwards_only_by_maintenance() -> None:
    legs = [a_leg("long", "1"), a_leg("short", "1")]
    result = liquidate_account(legs, Decimal(1000), MarginMode.CROSS, PositionMode.HEDGE)[0]
    assert result.liquidation_price is not None and result.liquidation_price > 20000
    assert result.liquidation_distance is not None and result.liquidation_distance > 0
    assert result.bankruptcy_price is None


def test_hedged_pair_that_no_price_saves_is_due() -> None:
    # 100 are locked in as a loss, one more than the wallet holds, whatever the price.
    legs = [a_leg("long", entry="20100"), a_leg("short")]
    result = liquidate_account(legs, Decimal(99), MarginMode.CROSS, PositionMode.HEDGE)[0]
    assert result.liquidation_price is None
    assert "due for liquidation now" in result.liquidation_reason


def test_margin_that_is_just_used_up_covers_nothing() -> None:
    free = flat_brackets("BTCUSDT", Decimal(0), Decimal(0))
    legs = [a_leg("long", entry="20100", brackets=free), a_leg("short", brackets=free)]
    reasons = [
        liquidate_account(legs, Decimal(wallet), MarginMode.CROSS, PositionMode.HEDGE)[0].liquidation_reason
        for wallet in ("100", "100.01")
    ]
    assert "due for liquidation now" in reasons[0]
    assert reasons[1] == "margin covers the position at every price above zero"


@pytest.mark.parametrize(("mark", "distance"), [("4000", "-0.25"), ("5000", "0"), ("6250", "-0.2")])
def test_pair_below_maintenance_on_both_sides_of_its_only_price_has_passed_it(mark: str, distance: str) -> None:
    # Up to 5000, where the long changes its tier, surplus rises by 1.82 a unit of price, from there it falls by 3.08;
    # 900 is the maintenance at 5000, so that surplus only just reaches zero there.
    table = build_bracket_table(
        "BTCUSDT",
        [
            Bracket(Decimal(0), Decimal(50000), Decimal("0.01"), Decimal(0), 50),
            Bracket(Decimal(50000), Decimal(10**9), Decimal("0.5"), Decimal(24500), 1),
        ],
    )
    legs = [a_leg("long", "10", "5000", mark, brackets=table), a_leg("short", "8", "5000", mark, brackets=table)]
    result = liquidate_account(legs, Decimal(900), MarginMode.CROSS, PositionMode.HEDGE)[0]
    assert (result.liquidation_price, result.other_liquidation_price) == (5000, None)
    assert result.liquidation_distance == Decimal(distance)


def test_precision_of_the_caller_changes_nothing() -> None:
    legs = [*worked_example(), a_leg("short", "1.23456789", "20000.12345678", "31967.27")]
    expected = liquidate_account(legs, WALLET, MarginMode.CROSS, PositionMode.HEDGE)
    with localcontext(prec=6):
        assert liquidate_account(legs, WALLET, MarginMode.CROSS, PositionMode.HEDGE) == expected
        assert legs[-1].unrealised_pnl(legs[-1].mark_price) == Decimal("-14774.2548571839092058")


def test_two_solutions_are_found_and_the_farther_is_kept() -> None:
    tiers = a_leg().brackets
    legs = [
        a_leg("long", "100", "20000", "20000", brackets=tiers),
        a_leg("short", "80", "20000", "20000", brackets=tiers),
    ]
    result = liquidate_account(legs, Decimal(120000), MarginMode.CROSS, PositionMode.HEDGE)[0]
    assert result.liquidation_price is not None and result.other_liquidation_price is not None
    assert result.liquidation_price < 20000 < result.other_liquidation_price


def test_the_solution_nearer_the_mark_comes_first() -> None:
    def pair(mark: str) -> list[Leg]:
        return [a_leg("long", "100", mark=mark), a_leg("short", "80", mark=mark)]

    low, high = solve_liquidation_prices(pair("20000"), Decimal(120000))
    for near, far in ((low, high), (high, low)):
        mark = str((near * Decimal("1.01")).quantize(CENT))
        result = liquidate_account(pair(mark), Decimal(120000), MarginMode.CROSS, PositionMode.HEDGE)[0]
        assert (result.liquidation_price, result.other_liquidation_price) == (near, far)
        assert result.liquidation_distance is not None
        assert (result.liquidation_distance > 0) == (near == low)


@pytest.mark.parametrize(("quantity", "mark"), [("1", "100000"), ("0.00001", "20000"), ("1", "1")])
def test_a_covered_long_is_called_covered_whatever_its_profit(quantity: str, mark: str) -> None:
    result = liquidate_isolated(a_leg("long", quantity, mark=mark, leverage="1"))
    assert result.liquidation_reason == "margin covers the position at every price above zero"


def test_prices_below_one_are_prices() -> None:
    result = liquidate_isolated(a_leg("long", "100", "0.5", "0.5"))
    assert result.bankruptcy_price == Decimal("0.45")
    assert result.liquidation_price is not None
    assert Decimal("0.45") < result.liquidation_price < Decimal("0.46")


def test_hedged_isolated_legs_stand_alone() -> None:
    legs = [a_leg("long"), a_leg("short")]
    assert solve(legs, Decimal(0), "isolated", "hedge") == [liquidate_isolated(leg).liquidation_price for leg in legs]


def test_solution_on_the_edge_of_a_tier_is_found_once() -> None:
    # Notional 50,000 is where the rate changes from 0.4 % to 0.5 %; put the liquidation of 3 units exactly there.
    quantity = Decimal(3)
    with localcontext(prec=60):
        edge = Decimal(50000) / quantity
        margin = Decimal(200) + quantity * 20000 - 50000
    leg = a_leg("long", "3", isolated_margin=str(margin))
    prices = solve_liquidation_prices((leg,), margin)
    assert len(prices) == 1
    assert abs(prices[0] - edge) < Decimal("1e-40")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantity": "-1"}, "quantity: -1 must be above zero"),
        ({"quantity": "0"}, "quantity: 0 must be above zero"),
        ({"quantity": "NaN"}, "quantity: NaN must be above zero"),
        ({"entry": "-1"}, "entry_price: -1"),
        ({"mark": "0"}, "mark_price: 0"),
        ({"mark": "Infinity"}, "mark_price: Infinity"),
        ({"leverage": "0.5"}, "leverage: 0.5 must be 1 or above"),
        ({"leverage": "NaN"}, "leverage: NaN"),
        ({"isolated_margin": "-1"}, "isolated_margin: -1 must be zero or above"),
        ({"isolated_margin": "NaN"}, "isolated_margin: NaN"),
    ],
)
def test_impossible_positions_are_refused_by_field(changes: dict[str, str], message: str) -> None:
    with pytest.raises(MarginError, match=message):
        liquidate_isolated(a_leg(**changes))  # type: ignore[arg-type]


def test_every_position_of_a_cross_account_is_checked() -> None:
    legs = [a_leg(), a_leg(quantity="-1", symbol="ETHUSDT")]
    with pytest.raises(MarginError, match="quantity: -1 must be above zero"):
        liquidate_account(legs, Decimal(1000), MarginMode.CROSS, PositionMode.ONE_WAY)


def test_isolated_margin_of_zero_is_taken_as_given() -> None:
    assert liquidate_isolated(a_leg(isolated_margin="0")).bankruptcy_price == 20000


@pytest.mark.parametrize(
    ("legs", "mode", "message"),
    [
        ([a_leg(), a_leg("short")], "one_way", "BTCUSDT appears twice; one_way"),
        ([a_leg(), a_leg()], "hedge", "BTCUSDT long appears twice; hedge"),
        ([a_leg(), a_leg("short", mark="1")], "hedge", "the legs of BTCUSDT differ"),
    ],
)
def test_positions_the_mode_does_not_allow_are_refused(legs: list[Leg], mode: str, message: str) -> None:
    with pytest.raises(MarginError, match=message):
        liquidate_account(legs, Decimal(1000), MarginMode.CROSS, PositionMode(mode))


@pytest.mark.parametrize("wallet", ["-0.01", "NaN", "Infinity"])
def test_impossible_wallets_are_refused(wallet: str) -> None:
    with pytest.raises(MarginError, match="wallet_balance"):
        liquidate_account([a_leg()], Decimal(wallet), MarginMode.CROSS, PositionMode.ONE_WAY)


def test_wallet_of_zero_is_allowed() -> None:
    assert solve([a_leg()], Decimal(0), "cross")[0] is not None


@pytest.mark.parametrize(
    ("rate", "amount", "message"),
    [
        ("1", "0", "maintenance_margin_rate: 1"),
        ("-0.1", "0", "maintenance_margin_rate"),
        ("0.1", "-1", "maintenance_amount: -1"),
    ],
)
def test_impossible_flat_rates_are_refused(rate: str, amount: str, message: str) -> None:
    with pytest.raises(MarginError, match=message):
        flat_brackets("BTCUSDT", Decimal(rate), Decimal(amount))


def test_rate_of_zero_makes_liquidation_and_bankruptcy_meet() -> None:
    result = liquidate_isolated(a_leg(brackets=flat_brackets("BTCUSDT", Decimal(0), Decimal(0))))
    assert result.liquidation_price == result.bankruptcy_price == 18000


@given(
    table=bracket_tables(),
    side=st.sampled_from(["long", "short"]),
    quantity=st.decimals("0.001", 500, places=3),
    entry=st.decimals("0.01", 5000, places=2),
    margin=st.decimals(0, 500_000, places=2),
)
def test_at_the_liquidation_price_equity_equals_maintenance(
    table: BracketTable, side: str, quantity: Decimal, entry: Decimal, margin: Decimal
) -> None:
    leg = a_leg(side, str(quantity), str(entry), str(entry), brackets=table, isolated_margin=str(margin))
    result = liquidate_isolated(leg)
    price = result.liquidation_price
    if price is None:
        assert result.liquidation_reason
        for probe in (Decimal("1e-9"), entry, entry * 1000):
            surplus = margin + leg.unrealised_pnl(probe) - table.maintenance_margin(probe * quantity)
            assert surplus > 0 if side == "long" else surplus < 0
        return
    assert price > 0
    equity = margin + leg.unrealised_pnl(price)
    assert abs(equity - table.maintenance_margin(price * quantity)) < Decimal("1e-9")


@pytest.mark.slow
@given(
    table=bracket_tables(),
    long_quantity=st.decimals("0.001", 500, places=3),
    short_quantity=st.decimals("0.001", 500, places=3),
    entries=st.tuples(st.decimals(1, 5000, places=2), st.decimals(1, 5000, places=2)),
    mark=st.decimals(1, 5000, places=2),
    wallet=st.decimals(0, 500_000, places=2),
)
def test_every_solution_of_a_hedged_pair_is_a_zero_and_there_are_at_most_two(
    table: BracketTable,
    long_quantity: Decimal,
    short_quantity: Decimal,
    entries: tuple[Decimal, Decimal],
    mark: Decimal,
    wallet: Decimal,
) -> None:
    legs = [
        a_leg("long", str(long_quantity), str(entries[0]), str(mark), brackets=table),
        a_leg("short", str(short_quantity), str(entries[1]), str(mark), brackets=table),
    ]

    def surplus(price: Decimal) -> Decimal:
        return wallet + sum(
            (leg.unrealised_pnl(price) - table.maintenance_margin(price * leg.quantity) for leg in legs), Decimal(0)
        )

    prices = solve_liquidation_prices(legs, wallet)
    assert len(prices) <= 2
    assert prices == sorted(prices)
    for price in prices:
        assert price > 0
        assert abs(surplus(price)) < Decimal("1e-6")
    if not prices:
        signs = {surplus(Decimal(probe)) > 0 for probe in ("1e-6", "1", "100", "5000", "1e7")}
        assert len(signs) == 1


def test_margin_and_cost_of_an_order() -> None:
    assert notional_of(Decimal("-2"), Decimal(100)) == 200
    assert initial_margin(Decimal(200), Decimal(4)) == 50
    assert initial_margin(Decimal(200), Decimal(1)) == 200
    assert maintenance_margin(Decimal(100000), a_leg().brackets) == 450
    assert open_loss(Decimal(2), Decimal(110), Decimal(100)) == 20
    assert open_loss(Decimal(2), Decimal(90), Decimal(100)) == 0
    assert open_loss(Decimal(2), Decimal("99.9"), Decimal(100)) == 0
    assert open_loss(Decimal(-2), Decimal(90), Decimal(100)) == 20
    assert open_loss(Decimal(-2), Decimal(110), Decimal(100)) == 0
    assert cost_to_open(Decimal(2), Decimal(110), Decimal(100), Decimal(10)) == 42
    with pytest.raises(MarginError, match=r"leverage: 0\.9 is below 1"):
        initial_margin(Decimal(200), Decimal("0.9"))


def test_sides_have_signs() -> None:
    assert (PositionSide.LONG.sign, PositionSide.SHORT.sign) == (1, -1)
