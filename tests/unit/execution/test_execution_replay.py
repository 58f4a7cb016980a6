"""Whatever happens: position equals the sum of fills, no venue order twice, and a restored core goes on the same."""

from __future__ import annotations

from collections import deque
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from libs.domain.accounts import AccountState
from libs.domain.control import ControlAction
from libs.domain.events import Event, Unhandleable
from libs.domain.market import Side
from libs.domain.orders import CancelOrder, OrderEvent, OrderStatus, PlaceOrder, ReportKind, VenueReport
from services.execution.core import ExecutionCore
from tests.kit.builders import BTC, a_control, a_mark, a_quote, a_tick, a_trade
from tests.unit.execution.builders import a_cancel_approval, a_core, an_approval, an_external_core

CONTROLS = [ControlAction.HALT, ControlAction.RESUME, ControlAction.REDUCE, ControlAction.FLATTEN]


@st.composite
def happenings(draw: st.DrawFn) -> list[Event]:
    """A market that moves, verdicts (some repeated), cancels and control, in ascending market time."""
    events: list[Event] = [a_mark(0, "60000")]
    for i in range(1, draw(st.integers(2, 60))):
        what = draw(
            st.sampled_from(["quote", "quote", "trade", "mark", "tick", "approve", "approve", "cancel", "control"])
        )
        price = 60_000 + draw(st.integers(-40, 40))
        if what == "quote":
            events.append(a_quote(i, str(price), str(price + 1), i))
        elif what == "trade":
            events.append(a_trade(i, str(price), "0.5", i, is_buyer_maker=draw(st.booleans())))
        elif what == "mark":
            events.append(a_mark(i, str(price), i))
        elif what == "tick":
            events.append(a_tick(i))
        elif what == "cancel":
            events.append(a_cancel_approval(i + 1000, target=draw(st.integers(1, i))))
        elif what == "control":
            events.append(a_control(draw(st.sampled_from(CONTROLS)), i))
        else:
            events.append(
                an_approval(
                    draw(st.integers(max(1, i - 2), i)),
                    draw(st.sampled_from(["0.01", "0.02", "0.5"])),
                    draw(st.sampled_from([Side.BUY, Side.SELL])),
                    draw(st.sampled_from([None, str(price)])),
                    reduce_only=draw(st.booleans()),
                )
            )
    return events


def drive(
    core: ExecutionCore, events: list[Event], saving_at: int = -1
) -> tuple[ExecutionCore, list[Event], list[Event]]:
    """Run the events with commands and reports coming back; with `saving_at` go on in a restored core from there.

    Returns the last core, every output and every input in order.
    """
    outputs: list[Event] = []
    inputs: list[Event] = []
    waiting: deque[Event] = deque()
    for event in events:
        waiting.append(event)
        while waiting:
            if len(inputs) == saving_at:
                state = core.snapshot()
                core = a_core()
                core.restore(state)
                assert core.snapshot() == state
            event = waiting.popleft()
            inputs.append(event)
            try:
                made = core.handle(event)
            except Unhandleable:
                continue
            outputs.extend(made)
            waiting.extend(each for each in made if isinstance(each, PlaceOrder | CancelOrder | VenueReport))
    return core, outputs, inputs


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(happenings())
def test_position_equals_the_sum_of_fills_and_no_order_is_sent_twice(events: list[Event]) -> None:
    core, outputs, _ = drive(a_core(), events)
    placed = [each.client_order_id for each in outputs if isinstance(each, PlaceOrder)]
    assert len(placed) == len(set(placed))
    accepted = [r.client_order_id for r in outputs if isinstance(r, VenueReport) and r.kind is ReportKind.ACCEPTED]
    assert len(accepted) == len(set(accepted)) and set(accepted) <= set(placed)
    position, wallet = Decimal(0), Decimal(10_000)
    open_orders: dict[str, bool] = {}
    for each in outputs:
        if isinstance(each, OrderEvent):
            open_orders[each.client_order_id] = each.status.is_open
            if each.last_quantity is not None and each.realised_pnl is not None and each.fee is not None:
                position += each.last_quantity * each.side.sign
                wallet += each.realised_pnl - each.fee
        if isinstance(each, AccountState):
            assert each.position(BTC).quantity == position
            assert each.wallet_balance == wallet
    assert core.snapshot()
    sequences = [each.sequence for each in outputs if isinstance(each, AccountState)]
    assert sequences == list(range(1, len(sequences) + 1))
    ids = [each.event_id for each in outputs]
    assert len(ids) == len(set(ids))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(happenings(), st.integers(0, 80))
def test_restored_core_goes_on_as_if_never_saved(events: list[Event], saving_at: int) -> None:
    straight, expected, _ = drive(a_core(), events)
    restored, actual, _ = drive(a_core(), events, saving_at)
    assert actual == expected
    assert restored.snapshot() == straight.snapshot()


def test_a_snapshot_of_the_build_before_is_read() -> None:
    core, _, _ = drive(a_core(), [a_mark(1)])
    kept = core.snapshot()
    assert kept.count(b'"_published"') == 1
    again = a_core()
    again.restore(kept.replace(b'"version":2', b'"version":1').replace(b'"_published"', b'"_told"'))
    assert again.snapshot() == kept


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(happenings())
def test_inputs_handled_again_give_the_same_outputs(events: list[Event]) -> None:
    core, outputs, inputs = drive(a_core(), events)
    again = a_core()
    repeated: list[Event] = []
    for event in inputs:
        try:
            repeated.extend(again.handle(event))
        except Unhandleable:
            continue
    assert repeated == outputs
    assert again.snapshot() == core.snapshot()


def test_market_that_stops_leaves_the_order_submitting() -> None:
    core, _, _ = drive(a_core(), [a_quote(1), an_approval(1)])
    assert core.order_status(an_order_id()) is OrderStatus.SUBMITTING


def an_order_id() -> str:
    command = a_core().handle(an_approval(1))[0]
    assert isinstance(command, PlaceOrder)
    return command.client_order_id


def test_state_of_the_other_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="external mode"):
        a_core().restore(an_external_core().snapshot())


def test_state_of_another_account_is_refused() -> None:
    with pytest.raises(ValueError, match="account 'paper'"):
        ExecutionCore("other", Decimal(1)).restore(an_external_core().snapshot())
