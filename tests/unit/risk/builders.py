"""Builders of a warm gate and short ways to ask it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState, Position
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import (
    CheckResult,
    IntentAction,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    OrderType,
    client_order_id_of,
)
from services.risk.core import RiskCore, RiskLimits
from tests.kit.builders import BTC, START, a_mark, a_quote, a_tick, an_account, an_intent

ETH = "ETHUSDT.BINANCE"
D = Decimal


def limits(**changes: Any) -> RiskLimits:
    """The default limits with some replaced; numbers may be given as text."""
    return RiskLimits().with_changes(
        {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in changes.items()}
    )


def a_core(account: AccountState | None = None, *, mark: str | None = "60000", **changes: Any) -> RiskCore:
    """A gate that has seen a quote, a mark at 60000 and a flat account of 10,000 USDT."""
    core = RiskCore(limits(**changes), INSTRUMENTS, "paper")
    core.handle(a_quote())
    if mark is not None:
        core.handle(a_mark(price=mark))
    core.handle(an_account() if account is None else account)
    return core


def ask(core: RiskCore, intent: OrderIntent) -> OrderApproved | OrderRefused:
    """Hand in an intent and return its one verdict."""
    (verdict,) = core.handle(intent)
    assert isinstance(verdict, OrderApproved | OrderRefused)
    assert verdict.intent_id == intent.event_id
    assert verdict.event_id == f"verdict/{intent.event_id}"
    return verdict


def check(verdict: OrderApproved | OrderRefused, name: str) -> CheckResult:
    """Return one check of a verdict by its name."""
    (found,) = [entry for entry in verdict.checks if entry.name == name]
    return found


def failed(verdict: OrderApproved | OrderRefused) -> list[str]:
    """Return the names of the checks that failed; an approval has none."""
    names = [entry.name for entry in verdict.checks if not entry.has_passed]
    assert bool(names) == isinstance(verdict, OrderRefused)
    return names


def a_cancel(number: int = 50, target: str = "pf-x", **changes: Any) -> OrderIntent:
    """A cancel of an order."""
    return an_intent(number, "0", action=IntentAction.CANCEL, target_client_order_id=target, **changes)


def a_limit(
    number: int = 1, quantity: str = "0.01", price: str = "60000", side: Side = Side.BUY, **changes: Any
) -> OrderIntent:
    """A limit order."""
    return an_intent(number, quantity, side, order_type=OrderType.LIMIT, limit_price=D(price), **changes)


def an_order_event(
    intent: OrderIntent,
    status: OrderStatus,
    filled: str = "0",
    last: str | None = None,
    number: int = 1,
    **changes: Any,
) -> OrderEvent:
    """A step in the life of an intent's order."""
    client_order_id = client_order_id_of(intent.event_id)
    event = OrderEvent(
        event_id=f"order/{client_order_id}/{number}",
        event_time=intent.event_time,
        account=intent.account,
        instrument=intent.instrument,
        client_order_id=client_order_id,
        venue_order_id="1",
        intent_id=intent.event_id,
        status=status,
        side=intent.side,
        order_type=intent.order_type,
        quantity=intent.quantity,
        filled_quantity=D(filled),
        average_price=None,
        limit_price=intent.limit_price,
        reduce_only=intent.reduce_only,
        last_quantity=None if last is None else D(last),
        last_price=None if last is None else D(60000),
        report_id=f"report/{client_order_id}/{number}",
    )
    return replace(event, **changes)


def an_account_after(
    sequence: int, quantity: str = "0", cause: str = "", entry: str = "60000", **changes: Any
) -> AccountState:
    """The account state number `sequence`, holding BTC."""
    held = D(quantity)
    positions = (Position(BTC, held, D(entry), D(60000)),) if held else ()
    state = an_account(sequence=sequence, event_id=f"account/paper/{sequence}", cause_id=cause)
    return replace(state, positions=positions, event_time=START + sequence * NANOSECONDS, **changes)


def advance(core: RiskCore, seconds: int, price: str = "60000") -> None:
    """Move the market's clock with a fresh mark, quote and tick."""
    number = 1000 + seconds
    bid = D(price) - D("0.1")
    core.handle(a_quote(number, bid=str(bid), ask=price, seconds=seconds))
    core.handle(a_mark(number, price=price, seconds=seconds))
    core.handle(a_tick(seconds))
