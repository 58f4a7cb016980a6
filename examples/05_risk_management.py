"""Ask first: where is a position liquidated, how likely is that, how large may it be, and what is refused?"""
# ruff: noqa: T201

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from libs.domain.accounts import AccountState
from libs.domain.instruments import find_instrument
from libs.domain.market import BestQuote, MarkPrice, Side
from libs.domain.numbers import to_e8
from libs.domain.orders import IntentAction, OrderIntent, OrderRefused, OrderType, TimeInForce
from libs.margin.default_brackets import DEFAULT_BRACKETS
from libs.margin.liquidation import Leg, MarginMode, PositionMode, PositionSide, liquidate_account
from libs.margin.probability import BarrierQuestion, estimate_first_passage
from libs.sizing.rounding import round_to_filters
from libs.sizing.rules import size_by_risk
from services.risk.core import RiskCore, RiskLimits

BTC = find_instrument("BTCUSDT.BINANCE")
NOW = 1_767_225_600 * 10**9
PRICE, EQUITY = Decimal(60_000), Decimal(10_000)


def show_liquidation() -> None:
    """Print the liquidation price of a leveraged long and the chance that it is touched within a week."""
    leg = Leg(
        symbol=BTC.symbol,
        side=PositionSide.LONG,
        quantity=Decimal("0.5"),
        entry_price=PRICE,
        mark_price=PRICE,
        leverage=Decimal(10),
        brackets=DEFAULT_BRACKETS[BTC.symbol],
    )
    (result,) = liquidate_account([leg], EQUITY, MarginMode.ISOLATED, PositionMode.ONE_WAY)
    assert result.liquidation_price is not None
    print(f"long {leg.quantity} BTC at {PRICE}, leverage {leg.leverage}: liquidated at {result.liquidation_price:.1f}")
    question = BarrierQuestion(
        spot=float(PRICE), barrier=float(result.liquidation_price), volatility=0.6, drift=0.0, horizon=7 / 365
    )
    print(f"  chance of touching it within 7 days at 60 % volatility a year: {estimate_first_passage(question):.1%}")


def show_size() -> None:
    """Print the size that loses 1 % of the equity when the stop is hit."""
    notional = size_by_risk(EQUITY, Decimal("0.01"), PRICE, Decimal(58_800), BTC.taker_fee_rate)
    rounded = round_to_filters(notional, PRICE, BTC)
    print(f"risking 1 % of {EQUITY} with the stop 2 % away: {rounded.quantity} BTC, {rounded.notional} USDT")


def show_gate() -> None:
    """Print what the gate says of an order within its limits and of one beyond them."""
    gate = RiskCore(RiskLimits(max_order_notional_usdt=Decimal(2_000)), {BTC.instrument: BTC}, "paper")
    price, size = to_e8(PRICE), to_e8(Decimal(5))
    gate.handle(BestQuote(BTC.instrument, "quote/1", NOW, NOW, 1, price - 10**7, size, price, size))
    gate.handle(MarkPrice(BTC.instrument, "mark/1", NOW, NOW, price, price, 0, NOW + 8 * 3600 * 10**9))
    gate.handle(AccountState("account/paper/1", NOW, "paper", 1, EQUITY, EQUITY, Decimal(0), EQUITY, (), 0))
    small = OrderIntent(
        event_id="intent/1",
        event_time=NOW,
        account="paper",
        instrument=BTC.instrument,
        strategy="example",
        action=IntentAction.PLACE,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        quantity=Decimal("0.01"),
        time_in_force=TimeInForce.GTC,
        reduce_only=False,
        reference_price=PRICE,
    )
    for intent in (small, replace(small, event_id="intent/2", side=Side.SELL, quantity=Decimal("0.2"))):
        (verdict,) = gate.handle(intent)
        print(f"{intent.side.name} {intent.quantity} BTC: {type(verdict).__name__}")
        if isinstance(verdict, OrderRefused):
            for check in verdict.checks:
                if not check.has_passed:
                    print(f"  {check.name}: {check.value}, the limit is {check.limit}")


def main() -> None:
    """Show all three."""
    show_liquidation()
    show_size()
    show_gate()


if __name__ == "__main__":
    main()
