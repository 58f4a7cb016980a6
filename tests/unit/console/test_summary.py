"""Positions must be what fills add up to, beginning with what a real venue's account held."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.bus.api import TopicPartition
from libs.bus.memory import MemoryBus
from libs.domain.accounts import VenueAccount, VenuePosition
from libs.domain.control import ControlAction
from libs.domain.events import Event
from libs.domain.orders import CancelOrder, PlaceOrder, ReportKind
from libs.wire.topics import ACCOUNTS, COMMANDS, MARKET_EVENTS
from services.console.summary import summarise_topics
from services.execution.core import ExecutionCore
from tests.kit.builders import BTC, START, a_control, a_trade
from tests.unit.execution.builders import a_fill, a_report, an_approval, an_external_core, order_id
from tests.unit.execution.test_execution_service import a_bus, publish


def the_books(quantity: str, cause_id: str = "", number: int = 1) -> VenueAccount:
    positions = (VenuePosition(BTC, Decimal(quantity), Decimal(60_000)),)
    return VenueAccount(f"venue-account/paper/{number}", START + number, "paper", Decimal(9_000), positions, cause_id)


def tell(bus: MemoryBus, core: ExecutionCore, *events: Event) -> None:
    """Publish events, and what a core makes of them."""
    for event in events:
        publish(bus, event)
        for output in core.handle(event):
            publish(bus, output)
            if isinstance(output, PlaceOrder):
                core.handle(output)


@pytest.mark.parametrize(
    ("later", "unequal"),
    [
        ([], 0),
        ([the_books("0.21", number=2)], 0),
        ([the_books("-1", cause_id="control/1", number=2)], 0),
        # A fill that the account was never told of.
        (["lost"], 1),
    ],
)
def test_fills_add_to_the_books_taken_over(later: list[VenueAccount | str], unequal: int) -> None:
    bus = a_bus()
    core = ExecutionCore("paper", Decimal(1))
    tell(bus, core, the_books("0.2"), an_approval(1), a_report(ReportKind.ACCEPTED), a_fill())
    for event in later:
        if isinstance(event, VenueAccount):
            tell(bus, core, event)
        else:
            publish(bus, a_fill(sequence=9))
    invariants = summarise_topics(bus)["invariants"]
    assert invariants["positions_unequal_to_sum_of_fills"] == unequal


def test_a_cancel_that_a_halt_causes_needs_no_approval() -> None:
    bus = a_bus()
    halt = a_control(ControlAction.HALT)
    tell(bus, an_external_core(), an_approval(1), a_report(ReportKind.ACCEPTED), halt)
    assert bus.end_offsets([TopicPartition(COMMANDS, 0)])[TopicPartition(COMMANDS, 0)] == 2
    assert summarise_topics(bus)["invariants"]["approved_without_exactly_one_command"] == 0


def test_a_cancel_that_nothing_asked_for_is_a_command_without_an_approval() -> None:
    bus = a_bus()
    core = an_external_core()
    tell(bus, core, an_approval(1), a_report(ReportKind.ACCEPTED))
    publish(bus, CancelOrder("cancel/1/stranger", START, "paper", BTC, order_id(1), "stranger"))
    assert summarise_topics(bus)["invariants"]["approved_without_exactly_one_command"] == 1


def test_paper_session_begins_flat() -> None:
    bus = a_bus()
    tell(bus, an_external_core(), an_approval(1), a_report(ReportKind.ACCEPTED), a_fill())
    assert summarise_topics(bus)["invariants"]["positions_unequal_to_sum_of_fills"] == 0


def test_counts_and_digests_are_of_what_the_topics_still_hold_and_say_from_where() -> None:
    whole, cut = a_bus(), a_bus()
    for number in range(1, 7):
        publish(whole, a_trade(number))
        publish(cut, a_trade(number))
    assert summarise_topics(whole)["first_offsets"] == {}
    cut.delete_before({TopicPartition(MARKET_EVENTS, 0): 4})
    summary = summarise_topics(cut)
    assert summary["topics"][MARKET_EVENTS] == summary["market_events"] == 2
    assert summary["first_offsets"] == {f"{MARKET_EVENTS}/0": 4}
    rest = a_bus()
    for number in (5, 6):
        publish(rest, a_trade(number))
    assert summary["digests"]["market_events"] == summarise_topics(rest)["digests"]["market_events"]


def test_positions_hold_after_old_account_states_have_passed_retention() -> None:
    bus = a_bus()
    core = ExecutionCore("paper", Decimal(1))
    tell(bus, core, the_books("0.2"), an_approval(1), a_report(ReportKind.ACCEPTED), a_fill())
    at = TopicPartition(ACCOUNTS, 0)
    bus.delete_before({at: bus.end_offsets([at])[at] - 1})
    assert summarise_topics(bus)["invariants"]["positions_unequal_to_sum_of_fills"] == 0
