"""Whatever is asked of the account and whatever the market does, its orders, its money and the matcher agree."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.numbers import from_e8
from services.exchange.core.account import AccountTerms, Refused, TradingCore
from tests.kit.builders import a_mark, a_quote, a_trade
from tests.unit.exchange.trader import ASKS, BIDS, Trader, total
from tests.unit.matching.builders import a_depth

BALANCE = Decimal(4000)
SIDES = st.sampled_from(["BUY", "SELL"])
PRICES = st.integers(-60, 60).map(lambda step: f"{60_000 + 25 * step}.0")
QUANTITIES = st.sampled_from(["0.01", "0.2", "1", "3"])
FLAGS = st.sampled_from(["true", "false"])
STOPS = st.sampled_from(["STOP_MARKET", "TAKE_PROFIT_MARKET"])
STEPS = st.one_of(
    st.tuples(st.just("market"), SIDES, QUANTITIES, FLAGS),
    st.tuples(st.just("limit"), SIDES, QUANTITIES, FLAGS, PRICES, st.sampled_from(["GTC", "IOC", "FOK", "GTX"])),
    st.tuples(
        st.just("stop"), SIDES, QUANTITIES, FLAGS, PRICES, st.sampled_from(["STOP_MARKET", "TAKE_PROFIT_MARKET"])
    ),
    st.tuples(st.just("trade"), PRICES, QUANTITIES, SIDES),
    st.tuples(st.just("move"), st.integers(-60, 60)),
    st.tuples(st.just("cancel")),
    st.tuples(st.just("countdown"), st.integers(0, 3000)),
    st.tuples(st.just("leverage"), st.sampled_from([1, 20, 50, 125])),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 10, 8 * 3600])),
)


def take(trader: Trader, number: int, step: tuple[Any, ...]) -> None:
    kind, *given_ = step
    seconds = (trader.now_ms - 1_767_225_600_000) / 1000 + 0.5
    if kind == "market":
        trader.place(given_[0], given_[1], reduceOnly=given_[2])
    elif kind == "limit":
        trader.place(given_[0], given_[1], given_[3], reduceOnly=given_[2], timeInForce=given_[4])
    elif kind == "stop":
        trader.place_algo(given_[4], given_[0], given_[1], reduceOnly=given_[2], triggerPrice=given_[3])
    elif kind == "trade":
        trader.market(a_trade(number, given_[0], given_[1], seconds=seconds, is_buyer_maker=given_[2] == "SELL"))
    elif kind == "move":
        shift = 50 * given_[0]
        bids, asks = ([(str(Decimal(price) + shift), size) for price, size in side] for side in (BIDS, ASKS))
        mark = 60_000 + shift
        trader.market(
            a_depth(bids, asks, seconds=seconds, number=number),
            a_quote(number, f"{mark - 0.1}", f"{mark}", seconds=seconds),
            a_mark(number, str(mark), seconds=seconds, next_funding_time=0),
        )
    elif kind == "cancel":
        trader.send("DELETE /fapi/v1/allOpenOrders")
    elif kind == "countdown":
        trader.send("POST /fapi/v1/countdownCancelAll", countdownTime=given_[0])
    elif kind == "leverage":
        trader.send("POST /fapi/v1/leverage", leverage=given_[0])
    else:
        trader.wait(given_[0])


def check(trader: Trader) -> None:
    core = trader.core
    fills = trader.ask("GET /fapi/v1/userTrades", limit=1000)
    held = sum((Decimal(fill["qty"]) * (1 if fill["buyer"] else -1) for fill in fills), Decimal(0))
    assert held == core.ledger.position.quantity == from_e8(core.order_manager.matcher.position)
    incomes = trader.ask("GET /fapi/v1/income", limit=1000)
    assert core.ledger.wallet == BALANCE + total(incomes, "income")
    matcher = core.order_manager.matcher
    at_matcher = {int(order.venue_order_id): order.remaining for order in (*matcher.resting, *matcher.waiting)}
    assert at_matcher == {number: order.remaining for number, order in core.order_store.open_orders.items()}
    for order in core.order_store.orders.values():
        mine = [fill for fill in fills if fill["orderId"] == order.order_id]
        assert total(mine, "qty") == from_e8(order.executed) <= from_e8(order.quantity)
        assert order.is_open == (order.order_id in core.order_store.open_orders)
        assert order.is_open or order.status in ("FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH")
    updates = [event["o"] for event in trader.events_of("ORDER_TRADE_UPDATE")]
    assert {update["i"]: update["X"] for update in updates} == {
        n: order.status for n, order in core.order_store.orders.items()
    }
    assert [update["t"] for update in updates if update["t"]] == [fill["id"] for fill in fills]
    algos = {event["o"]["aid"]: event["o"]["X"] for event in trader.events_of("ALGO_UPDATE")}
    assert algos == {number: algo.status for number, algo in core.order_store.algos.items()}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_orders_money_and_matcher_agree(steps: list[tuple[Any, ...]]) -> None:
    trader = Trader(str(BALANCE))
    for number, step in enumerate(steps, start=10):
        try:
            take(trader, number, step)
        except Refused as refusal:
            assert refusal.code < 0
    check(trader)
    again = TradingCore(AccountTerms(BALANCE))
    again.restore(trader.core.snapshot())
    assert again.snapshot() == trader.core.snapshot()
