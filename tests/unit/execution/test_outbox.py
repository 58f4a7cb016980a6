"""The outbox against a venue that loses answers and processes that die: no order twice, none forgotten, no guess."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.bus.memory import MemoryBus
from libs.domain.control import Alert, ControlAction
from libs.domain.events import Event
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CancelOrder, PlaceOrder, ReportKind, VenueReport
from libs.runtime.log import configure_logging
from libs.wire.topics import ALERTS, REPORTS
from services.execution.core import ExecutionCore
from services.execution.effects import Outbox, OutboxTerms
from tests.kit.builders import BTC, START, a_control
from tests.unit.execution.builders import a_cancel_approval, an_approval, an_external_core, order_id
from tests.unit.execution.scripted_venue import Died, Mishap, ScriptedVenue
from tests.unit.execution.test_execution_service import a_bus, publish, read

TERMS = OutboxTerms(reconcile_interval_ns=10 * NANOSECONDS, absent_after_ns=30 * NANOSECONDS)


class World:
    """A bus, a venue, a core that says what its commands are, and a clock the test winds on."""

    def __init__(self) -> None:
        self.bus: MemoryBus = a_bus()
        self.venue = ScriptedVenue()
        self.core: ExecutionCore = an_external_core("1000000")
        self.now = START
        self.outbox = self.start()

    def start(self) -> Outbox:
        """Start an outbox, as after a crash."""
        outbox = Outbox("paper", self.venue, self.bus, lambda: self.now, configure_logging("execution"), TERMS)
        outbox.open()
        self.outbox = outbox
        return outbox

    def command(self, *verdicts: Event) -> None:
        """Approve, and commit the commands that follow."""
        for verdict in verdicts:
            for event in self.core.handle(verdict):
                if isinstance(event, PlaceOrder | CancelOrder):
                    self.core.handle(event)
                    publish(self.bus, event)

    def work(self, seconds: int = 0) -> None:
        """Let time pass and the outbox do everything that is due."""
        self.now += seconds * NANOSECONDS
        while self.outbox.step(0):
            pass

    def reports(self) -> list[VenueReport]:
        """What was recorded."""
        return [event for event in read(self.bus, REPORTS) if isinstance(event, VenueReport)]

    def kinds(self) -> list[str]:
        """The kinds of what was recorded."""
        return [report.kind.name for report in self.reports()]

    def alerts(self) -> list[str]:
        """What was raised."""
        return [event.message for event in read(self.bus, ALERTS) if isinstance(event, Alert)]


def test_answer_is_recorded_and_the_core_books_it() -> None:
    world = World()
    world.command(an_approval(1))
    world.work()
    assert world.kinds() == ["ACCEPTED", "FILL"]
    outputs = [event for report in world.reports() for event in world.core.handle(report)]
    assert outputs[-1].position(BTC).quantity == Decimal("0.01")  # type: ignore[union-attr]


def test_refusal_is_recorded_with_the_venues_reason() -> None:
    world = World()
    world.venue.mishaps.append(Mishap.REFUSE)
    world.command(an_approval(1))
    world.work()
    assert [(r.kind, r.reason) for r in world.reports()] == [(ReportKind.REJECTED, "-2019 margin is insufficient")]


def test_lost_answer_is_asked_for_and_never_sent_again() -> None:
    world = World()
    world.venue.mishaps.append(Mishap.TIMEOUT_AFTER)
    world.command(an_approval(1))
    world.work()
    assert world.kinds() == ["UNKNOWN", "ACCEPTED", "FILL"]
    assert world.venue.placed == [order_id(1)]


def test_order_that_never_arrived_is_rejected_after_its_time_and_not_sent_again() -> None:
    world = World()
    world.venue.mishaps.append(Mishap.TIMEOUT_BEFORE)
    world.command(an_approval(1))
    world.work()
    world.work(20)
    assert world.kinds() == ["UNKNOWN"]
    world.work(20)
    assert world.kinds() == ["UNKNOWN", "REJECTED"]
    assert world.venue.placed == [] and world.alerts() == []


@pytest.mark.parametrize(
    ("mishap", "kinds"), [(Mishap.DIE_AFTER, ["ACCEPTED", "FILL"]), (Mishap.DIE_BEFORE, ["UNKNOWN"])]
)
def test_process_that_dies_between_call_and_record_leaves_one_order_at_most(mishap: Mishap, kinds: list[str]) -> None:
    world = World()
    world.venue.mishaps.append(mishap)
    world.command(an_approval(1))
    with pytest.raises(Died):
        world.work()
    world.outbox.release()
    world.start()
    world.work()
    assert world.kinds() == kinds
    assert len(world.venue.placed) == (1 if mishap is Mishap.DIE_AFTER else 0)
    world.work(40)
    assert world.kinds() == (kinds if mishap is Mishap.DIE_AFTER else ["UNKNOWN", "REJECTED"])


def test_only_the_first_command_after_a_death_is_in_doubt() -> None:
    world = World()
    world.venue.mishaps.append(Mishap.DIE_BEFORE)
    world.command(an_approval(1), an_approval(2))
    with pytest.raises(Died):
        world.work()
    world.outbox.release()
    world.start()
    world.work()
    assert world.venue.placed == [order_id(2)]


def test_restart_without_work_in_hand_sends_the_next_command() -> None:
    world = World()
    world.command(an_approval(1))
    world.work()
    world.outbox.close()
    world.start()
    world.command(an_approval(2))
    world.work()
    assert world.venue.placed == [order_id(1), order_id(2)]
    assert world.alerts() == []


def test_later_fills_are_found_by_reconciliation_and_recorded_once() -> None:
    world = World()
    world.command(an_approval(1, quantity="0.03", limit="59000"))
    world.work()
    world.venue.fill(order_id(1), Decimal("0.01"))
    world.work(10)
    world.work(10)
    world.outbox.close()
    world.start()
    world.venue.fill(order_id(1), Decimal("0.02"))
    world.work(10)
    assert world.kinds() == ["ACCEPTED", "FILL", "FILL"]
    assert world.alerts() == []


def test_partial_fill_then_cancel_is_recorded_in_that_order() -> None:
    world = World()
    world.command(an_approval(1, quantity="0.03", limit="59000"))
    world.work()
    world.venue.fill(order_id(1), Decimal("0.01"))
    world.command(a_cancel_approval(2, target=1))
    world.work()
    assert world.kinds() == ["ACCEPTED", "FILL", "CANCELLED"]


@pytest.mark.parametrize("mishap", [Mishap.TIMEOUT_BEFORE, Mishap.DIE_AFTER])
def test_cancel_in_doubt_is_tried_again(mishap: Mishap) -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work()
    world.venue.mishaps.append(mishap)
    world.command(a_cancel_approval(2, target=1))
    if mishap is Mishap.DIE_AFTER:
        with pytest.raises(Died):
            world.work()
        world.outbox.release()
        world.start()
    world.work()
    world.work(10)
    assert [kind for kind in world.kinds() if kind != "CANCEL_REJECTED"] == ["ACCEPTED", "CANCELLED"]


def test_cancel_of_a_filled_order_is_rejected() -> None:
    world = World()
    world.command(an_approval(1), a_cancel_approval(2, target=1))
    world.work()
    assert world.kinds() == ["ACCEPTED", "FILL", "CANCEL_REJECTED"]


def test_unreachable_venue_holds_orders_in_doubt_until_it_answers() -> None:
    world = World()
    world.venue.is_reachable = False
    world.command(an_approval(1))
    world.work()
    world.work(60)
    assert world.kinds() == ["UNKNOWN"]
    world.venue.is_reachable = True
    world.work(10)
    assert world.kinds() == ["UNKNOWN", "REJECTED"]


def test_nothing_new_is_sent_before_the_first_comparison() -> None:
    world = World()
    world.outbox.close()
    world.venue.is_reachable = False
    world.start()
    world.venue.mishaps.clear()
    world.command(an_approval(1))
    world.work()
    assert [report.reason.startswith("not sent") for report in world.reports()] == [True]


@pytest.mark.parametrize("fault", ["position", "order"])
def test_lasting_difference_alerts_and_halts(fault: str) -> None:
    world = World()
    if fault == "position":
        world.venue.held[BTC] = Decimal(1)
    else:
        world.venue.place(
            next(e for e in an_external_core().handle(an_approval(9, limit="59000")) if isinstance(e, PlaceOrder))
        )
    world.work(10)
    assert world.alerts() == []
    world.work(10)
    assert len(world.alerts()) == 1 and world.outbox.is_halted
    world.command(an_approval(1))
    world.work()
    assert order_id(1) not in world.venue.placed
    assert world.kinds() == ["REJECTED"]


def test_difference_at_start_halts_at_once() -> None:
    world = World()
    world.outbox.close()
    world.venue.held[BTC] = Decimal(1)
    assert world.start().is_halted


def test_order_that_vanished_at_the_venue_halts() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work()
    del world.venue.orders[order_id(1)]
    world.work(10)
    world.work(10)
    assert "does not know order" in world.alerts()[0]


def test_halt_reaches_the_outbox_by_itself_and_across_restarts() -> None:
    world = World()
    publish(world.bus, a_control(ControlAction.HALT))
    world.work()
    world.outbox.close()
    world.start()
    world.command(an_approval(1))
    world.work()
    assert world.venue.placed == [] and world.kinds() == ["REJECTED"]
    world.command(an_approval(2, side=Side.SELL, reduce_only=True))
    world.work()
    assert world.venue.placed == [order_id(2)]


def test_old_command_is_not_sent() -> None:
    world = World()
    world.command(an_approval(1))
    world.work(120)
    assert world.venue.placed == []
    assert "s old" in world.reports()[0].reason


def test_other_accounts_commands_are_left_alone() -> None:
    world = World()
    world.command(an_approval(1, account="other"))
    other = ExecutionCore("other", Decimal(1000))
    publish(world.bus, next(iter(other.handle(an_approval(1, account="other")))))
    world.work()
    assert world.venue.placed == [] and world.kinds() == []
