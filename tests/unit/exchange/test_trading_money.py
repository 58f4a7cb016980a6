"""Margin, funding, leverage and liquidation of the account at the simulated exchange."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.domain.numbers import NANOSECONDS
from libs.margin.brackets import parse_leverage_brackets
from libs.margin.default_brackets import DEFAULT_BRACKETS
from libs.margin.requirements import cost_to_open
from services.exchange.core.account import AccountTerms, Refused, TradingCore
from tests.kit.builders import START, a_mark
from tests.unit.exchange.trader import BIDS, Trader, total
from tests.unit.matching.builders import a_depth

FUNDING_S = 8 * 3600


def test_leverage_brackets_are_read_back_by_libs_margin() -> None:
    tables = parse_leverage_brackets(Trader().ask("GET /fapi/v1/leverageBracket"))
    assert tables["BTCUSDT"].brackets == DEFAULT_BRACKETS["BTCUSDT"].brackets


def test_order_is_taken_up_to_its_cost_and_not_beyond() -> None:
    cost = cost_to_open(Decimal(1), Decimal("60100"), Decimal("60000"), Decimal(20))
    assert Trader(str(cost)).place("BUY", "1", "60100", timeInForce="IOC")["status"] == "FILLED"
    assert Trader(str(cost - Decimal("0.01"))).refused_order(quantity="1", price="60100") == -2019


def test_open_orders_tie_up_margin_and_cancelling_frees_it() -> None:
    trader = Trader()
    trader.place("BUY", "1", "59000")
    account = trader.ask("GET /fapi/v3/account")
    assert Decimal(account["totalOpenOrderInitialMargin"]) == Decimal(59000) / 20
    assert Decimal(account["availableBalance"]) == 10_000 - Decimal(59000) / 20
    trader.send("DELETE /fapi/v1/allOpenOrders")
    account = trader.ask("GET /fapi/v3/account")
    assert (Decimal(account["availableBalance"]), account["positions"]) == (10_000, [])


def test_closing_needs_no_margin() -> None:
    trader = Trader("3050")
    trader.place("BUY", "1")
    assert trader.refused_order(side="BUY", quantity="0.1") == -2019
    assert trader.place("SELL", "1")["status"] == "FILLED"


def test_turning_a_position_round_needs_margin_for_what_opens() -> None:
    trader = Trader("3050")
    trader.place("BUY", "1")
    assert trader.refused_order(side="SELL", quantity="2.5") == -2019


def test_account_adds_up() -> None:
    trader = Trader()
    trader.place("BUY", "0.5")
    trader.market(a_mark(2, "60100", seconds=2))
    account = trader.ask("GET /fapi/v2/account")
    assert Decimal(account["totalUnrealizedProfit"]) == 50
    assert Decimal(account["totalWalletBalance"]) == 10_000 - 15
    assert Decimal(account["totalMarginBalance"]) == 10_000 - 15 + 50
    assert Decimal(account["totalInitialMargin"]) == Decimal("30050") / 20
    assert Decimal(account["totalMaintMargin"]) == Decimal("30050") * Decimal("0.004")
    assert Decimal(account["availableBalance"]) == 10_035 - Decimal("1502.5")
    (risk,) = trader.ask("GET /fapi/v3/positionRisk")
    assert (risk["positionAmt"], risk["entryPrice"], risk["markPrice"]) == ("0.500", "60000.00000000", "60100.00000000")
    assert Decimal(risk["breakEvenPrice"]) == 60_030
    assert Decimal(risk["liquidationPrice"]) == pytest.approx(Decimal("40190.76"), abs=Decimal("0.01"))


def test_flat_account_has_no_position_in_the_third_version_and_a_flat_one_in_the_second() -> None:
    trader = Trader()
    assert trader.ask("GET /fapi/v3/positionRisk") == []
    assert trader.ask("GET /fapi/v2/positionRisk")[0]["liquidationPrice"] == "0"


@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_funding_is_settled_at_its_time_with_the_rate_published_before(side: str) -> None:
    trader = Trader()
    trader.place(side, "0.1")
    before = trader.wallet
    later = START + 2 * FUNDING_S * NANOSECONDS
    mark = a_mark(3, "61000", seconds=FUNDING_S, funding_rate_e8=999_999, next_funding_time=later)
    trader.market(a_mark(2, "60500", seconds=FUNDING_S - 1), mark)
    paid = Decimal("0.1") * 61000 * Decimal("0.0001")
    assert trader.wallet - before == (-paid if side == "BUY" else paid)
    (income,) = trader.ask("GET /fapi/v1/income", incomeType="FUNDING_FEE")
    assert (Decimal(income["income"]), income["time"]) == (trader.wallet - before, START // 10**6 + FUNDING_S * 1000)
    update = trader.events_of("ACCOUNT_UPDATE")[-1]["a"]
    assert (update["m"], update["P"], Decimal(update["B"][0]["bc"])) == ("FUNDING_FEE", [], trader.wallet - before)


def test_funding_whose_mark_never_came_is_settled_at_the_last_one() -> None:
    trader = Trader()
    trader.place("BUY", "0.1")
    trader.wait(FUNDING_S + 10)
    (income,) = trader.ask("GET /fapi/v1/income", incomeType="FUNDING_FEE")
    assert (Decimal(income["income"]), income["time"]) == (Decimal("-0.6"), START // 10**6 + FUNDING_S * 1000)


def test_flat_account_pays_no_funding() -> None:
    trader = Trader()
    trader.wait(FUNDING_S + 10)
    assert trader.ask("GET /fapi/v1/income") == []


def test_leverage_is_changed_and_published() -> None:
    trader = Trader()
    answer = trader.send("POST /fapi/v1/leverage", leverage=50)
    assert answer == {"leverage": 50, "maxNotionalValue": "12000000", "symbol": "BTCUSDT"}
    assert trader.events_of("ACCOUNT_CONFIG_UPDATE")[0]["ac"] == {"s": "BTCUSDT", "l": 50}
    assert trader.ask("GET /fapi/v1/symbolConfig")[0]["leverage"] == 50


@pytest.mark.parametrize("leverage", ["0", "126"])
def test_leverage_out_of_range_is_refused(leverage: str) -> None:
    assert Trader().refused("POST /fapi/v1/leverage", leverage=leverage) == -4028


def test_leverage_that_the_position_does_not_allow_is_refused_and_changes_nothing() -> None:
    trader = Trader()
    trader.place("BUY", "1")
    assert trader.refused("POST /fapi/v1/leverage", leverage=125) == -2027
    assert trader.refused("POST /fapi/v1/leverage", leverage=2) == -2028
    assert trader.ask("GET /fapi/v1/symbolConfig")[0]["leverage"] == 20


def test_settings_that_never_change_say_so() -> None:
    trader = Trader()
    for request, name, same, code, other in (
        ("POST /fapi/v1/positionSide/dual", "dualSidePosition", "false", -4059, "true"),
        ("POST /fapi/v1/multiAssetsMargin", "multiAssetsMargin", "false", -4171, "true"),
        ("POST /fapi/v1/marginType", "marginType", "CROSSED", -4046, "ISOLATED"),
    ):
        for value, expected in ((same, code), (other, -1130), ("", -1102)):
            with pytest.raises(Refused) as caught:
                trader.ask(request, **{name: value})
            assert caught.value.code == expected
    assert trader.ask("GET /fapi/v1/positionSide/dual") == {"dualSidePosition": False}
    assert trader.ask("GET /fapi/v1/multiAssetsMargin") == {"multiAssetsMargin": False}
    assert trader.ask("GET /fapi/v1/accountConfig")["dualSidePosition"] is False
    rates = {"symbol": "BTCUSDT", "makerCommissionRate": "0.0002", "takerCommissionRate": "0.0005"}
    assert trader.ask("GET /fapi/v1/commissionRate") == rates


def liquidated(price: str, bids: tuple[tuple[str, str], ...]) -> Trader:
    trader = Trader("3100")
    trader.place("BUY", "1")
    trader.place("SELL", "0.5", "62000")
    trader.place_algo(triggerPrice="50000", reduceOnly="true")
    assert trader.position == "1.000"
    trader.market(a_depth(bids, [("60000", "5")], seconds=2, number=2), a_mark(2, price, seconds=3))
    return trader


def test_position_is_liquidated_at_the_price_that_libs_margin_computes() -> None:
    trader = Trader("3100")
    trader.place("BUY", "1")
    price = Decimal(trader.ask("GET /fapi/v2/positionRisk")[0]["liquidationPrice"])
    trader.market(a_mark(2, f"{price + 1:.1f}", seconds=2))
    assert trader.position == "1.000"
    trader.market(a_mark(3, f"{price - 1:.1f}", seconds=3))
    assert trader.position == "0.000"


def test_liquidation_cancels_everything_and_closes_at_the_book() -> None:
    trader = liquidated("57100", BIDS)
    assert trader.position == "0.000"
    orders = trader.ask("GET /fapi/v1/allOrders")
    assert [order["status"] for order in orders] == ["FILLED", "CANCELED", "FILLED"]
    assert orders[-1]["clientOrderId"].startswith("autoclose-")
    assert (orders[-1]["timeInForce"], orders[-1]["type"]) == ("IOC", "LIMIT")
    assert trader.ask("GET /fapi/v1/allAlgoOrders")[0]["algoStatus"] == "CANCELED"
    assert ("CALCULATED", "FILLED") in trader.steps()
    (clearing,) = trader.ask("GET /fapi/v1/income", incomeType="INSURANCE_CLEAR")
    assert Decimal(clearing["income"]) == Decimal("-57100") * Decimal("0.0125")
    assert trader.wallet == 3100 + total(trader.ask("GET /fapi/v1/income"), "income")


def test_insurance_fund_takes_what_the_book_does_not_and_the_wallet_is_not_overdrawn() -> None:
    trader = liquidated("57100", (("50000", "5"),))
    assert trader.position == "0.000"
    taken, fund = trader.ask("GET /fapi/v1/allOrders")[-2:]
    assert (taken["status"], taken["executedQty"]) == ("EXPIRED", "0.000")
    assert (fund["status"], fund["executedQty"]) == ("FILLED", "1.000")
    assert fund["clientOrderId"].startswith("autoclose-fund-")
    assert trader.wallet == 0


def test_liquidated_account_without_money_takes_no_orders() -> None:
    assert liquidated("57100", (("50000", "5"),)).refused_order(quantity="0.01") == -2019


def test_core_goes_on_exactly_from_a_snapshot() -> None:
    trader = Trader()
    trader.place("BUY", "0.1")
    trader.place("BUY", "0.2", "59900", newClientOrderId="rest")
    trader.place_algo("TRAILING_STOP_MARKET", callbackRate="1", quantity="0.1")
    trader.send("POST /fapi/v1/listenKey")
    trader.send("POST /fapi/v1/countdownCancelAll", countdownTime=60_000)
    state = trader.core.snapshot()
    other = Trader()
    other.core = TradingCore(AccountTerms())
    other.core.restore(state)
    other.now_ms = trader.now_ms
    assert other.core.snapshot() == state
    trader.events.clear()
    other.events.clear()
    for each in (trader, other):
        each.market(a_mark(2, "60500", seconds=5), a_mark(3, "59800", seconds=6))
        each.place("SELL", "0.05")
        each.wait(100)
    assert other.events == trader.events
    assert len(trader.events) > 5
    assert other.core.snapshot() == trader.core.snapshot()


def test_snapshot_of_another_format_is_refused() -> None:
    with pytest.raises(ValueError, match="the kept state of exchange-account is of a build before states had versions"):
        TradingCore(AccountTerms()).restore(b'{"format":"older"}')
