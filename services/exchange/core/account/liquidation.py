"""Liquidation: once the margin balance no longer exceeds the maintenance margin, everything is cancelled and closed.

Binance closes large positions tier by tier; here the whole position goes at once. An order at the bankruptcy price
takes what the book gives, the insurance fund takes the rest at that price.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from libs.domain.numbers import quantize_e8, to_e8
from services.exchange.core.account.conditional import ConditionalOrders
from services.exchange.core.account.order_manager import OrderManager
from services.exchange.core.account.records import OrderRecord

LIQUIDATION_FEE_RATE = Decimal("0.0125")


def liquidate_if_due(order_manager: OrderManager, conditional: ConditionalOrders, time_ms: int) -> None:
    """Close the position if the mark leaves it no more than its maintenance margin."""
    ledger, mark = order_manager.ledger, order_manager.mark
    if not order_manager.matcher.position or ledger.wallet + ledger.unrealised(mark) > ledger.maintenance(mark):
        return
    order_manager.cancel_all(time_ms)
    conditional.cancel_all(time_ms)
    price = _bankruptcy_price(order_manager)
    notional = abs(ledger.position.quantity) * mark
    order_manager.submit(_closing_order(order_manager, "autoclose", price, time_ms), time_ms)
    if order_manager.matcher.position:
        order = _closing_order(order_manager, "autoclose-fund", price, time_ms)
        order_manager.order_store.add_order(order)
        order_manager.matcher.position = 0
        order_manager.book_fill(order, order.quantity, order.price, time_ms, is_maker=False)
    # The clearing fee takes at most what is left; a wallet below zero is made whole by the insurance fund.
    clearing = -min(quantize_e8(notional * LIQUIDATION_FEE_RATE), ledger.wallet)
    if clearing:
        ledger.pay("INSURANCE_CLEAR", clearing, time_ms)
        order_manager.publish_account("INSURANCE_CLEAR", time_ms, change=clearing)


def _bankruptcy_price(order_manager: OrderManager) -> Decimal:
    """Return the price at which the position's loss uses up the wallet, to the tick that does not overdraw it."""
    tick = order_manager.rules.tick_size
    solved = order_manager.ledger.liquidation(order_manager.mark)
    if solved is None or solved.bankruptcy_price is None:
        return order_manager.mark
    ticks = (solved.bankruptcy_price / tick).to_integral_value(
        ROUND_CEILING if order_manager.matcher.position > 0 else ROUND_FLOOR
    )
    return max(ticks, Decimal(1)) * tick


def _closing_order(order_manager: OrderManager, name: str, price: Decimal, time_ms: int) -> OrderRecord:
    order_id = order_manager.order_store.next_order_id()
    return OrderRecord(
        order_id=order_id,
        client_order_id=f"{name}-{time_ms}{order_id % 1_000_000:06d}",
        side="SELL" if order_manager.matcher.position > 0 else "BUY",
        order_type="LIMIT",
        time_in_force="IOC",
        quantity=abs(order_manager.matcher.position),
        price=to_e8(price),
        is_reduce_only=True,
        time_ms=time_ms,
        updated_ms=time_ms,
        is_liquidation=True,
    )
