"""Builders of verdicts and reports, and a loop that stands for execution's own topics."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.control import ALL_ACCOUNTS, ControlState, TradingState
from libs.domain.events import Event
from libs.domain.instruments import find_instrument
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import (
    CancelOrder,
    IntentAction,
    Liquidity,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderType,
    Origin,
    PlaceOrder,
    ReportKind,
    VenueReport,
    client_order_id_of,
    verdict_id_of,
)
from libs.matching import LatencyModel, PaperVenue
from services.execution.core import ExecutionCore
from tests.kit.builders import BTC, START, an_intent


def a_core(latency_ms: int = 50, balance: str = "10000") -> ExecutionCore:
    """Execution on paper."""
    latency = LatencyModel(latency_ms * 1_000_000, latency_ms * 1_000_000)
    venue = PaperVenue("paper", [find_instrument(BTC)], latency=latency)
    return ExecutionCore("paper", Decimal(balance), venue=venue)


def an_external_core(balance: str = "10000") -> ExecutionCore:
    """Execution whose venue is elsewhere: reports are the test's to make."""
    core = ExecutionCore("paper", Decimal(balance))
    core.handle(VenueAccount("venue-account/paper/0", START, "paper", Decimal(balance), ()))
    return core


def an_approval(
    number: int = 1, quantity: str = "0.01", side: Side = Side.BUY, limit: str | None = None, **changes: Any
) -> OrderApproved:
    """An approved intent: a market order, or with `limit` a limit order."""
    if limit:
        changes = {"order_type": OrderType.LIMIT, "limit_price": Decimal(limit), **changes}
    intent = an_intent(number, quantity, side, **changes)
    return approve(intent)


def a_cancel_approval(number: int, target: int) -> OrderApproved:
    """An approved cancel of `an_approval(target)`'s order."""
    return approve(
        an_intent(number, "0", action=IntentAction.CANCEL, target_client_order_id=order_id(target)),
    )


def approve(intent: OrderIntent) -> OrderApproved:
    """The verdict that lets an intent through."""
    return OrderApproved(
        verdict_id_of(intent.event_id),
        intent.event_time,
        intent.account,
        intent.instrument,
        intent.event_id,
        intent,
        Origin.STRATEGY,
        1,
        (),
    )


def order_id(number: int = 1) -> str:
    """The client order id of `an_approval(number)`'s order."""
    return client_order_id_of(an_intent(number).event_id)


def a_report(kind: ReportKind, number: int = 1, sequence: int = 1, **changes: Any) -> VenueReport:
    """The venue's word on `an_approval(number)`'s order."""
    report = VenueReport(
        event_id=f"report/paper/{number}/{sequence}",
        event_time=START + sequence * NANOSECONDS,
        account="paper",
        instrument=BTC,
        client_order_id=order_id(number),
        venue_order_id=f"v{number}",
        kind=kind,
    )
    return replace(report, **changes)


def a_fill(
    quantity: str = "0.01", price: str = "60000", number: int = 1, sequence: int = 2, fee: str = "0.3", **changes: Any
) -> VenueReport:
    """A taker's fill of `an_approval(number)`'s order."""
    return a_report(
        ReportKind.FILL,
        number,
        sequence,
        **{
            "last_quantity": Decimal(quantity),
            "last_price": Decimal(price),
            "fee": Decimal(fee),
            "liquidity": Liquidity.TAKER,
            "venue_trade_id": f"t{number}-{sequence}",
            **changes,
        },
    )


def a_control_state(state: TradingState, number: int = 1) -> ControlState:
    """Risk's published state."""
    return ControlState(f"control-state/{number}", START, ALL_ACCOUNTS, state, "because", 1, {}, "cause")


def run(core: ExecutionCore, *events: Event) -> list[Event]:
    """Feed events; commands and reports come back in at once, as from their topics. Return every output in order."""
    outputs: list[Event] = []
    waiting: deque[Event] = deque()
    for event in events:
        waiting.append(event)
        while waiting:
            made = core.handle(waiting.popleft())
            outputs.extend(made)
            waiting.extend(each for each in made if isinstance(each, PlaceOrder | CancelOrder | VenueReport))
    return outputs


def place(core: ExecutionCore, *approvals: OrderApproved) -> list[Event]:
    """Approve and hand each command back in, up to the call of an external venue."""
    return run(core, *approvals)


def order_events(outputs: Iterable[Event]) -> list[OrderEvent]:
    """The order events among some outputs."""
    return [event for event in outputs if isinstance(event, OrderEvent)]


def commands(outputs: Iterable[Event]) -> list[PlaceOrder | CancelOrder]:
    """The commands among some outputs."""
    return [event for event in outputs if isinstance(event, PlaceOrder | CancelOrder)]


def accounts(outputs: Iterable[Event]) -> list[AccountState]:
    """The account states among some outputs."""
    return [event for event in outputs if isinstance(event, AccountState)]


def statuses(outputs: Sequence[Event]) -> list[str]:
    """The names of the statuses that orders went through."""
    return [event.status.name for event in order_events(outputs)]
