"""The outbox against a venue that loses answers and processes that die: no order twice, none forgotten, no guess."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from libs.bus.api import NewRecord, ProducerFenced
from libs.bus.memory import MemoryBus
from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.control import Alert, ControlAction, ControlCommand
from libs.domain.events import Event
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CancelOrder, OrderStatus, PlaceOrder, ReportKind, VenueReport
from libs.domain.venues import VenueAccountSnapshot, VenueOrderState
from libs.runtime.errors import BadInput
from libs.venues.errors import VenueUnavailable
from libs.wire.topics import ALERTS, CONTROL_COMMANDS, OUTBOX, REPORTS
from services.execution.core import ExecutionCore
from services.execution.core.reconciliation import OutboxTerms
from services.execution.outbox_shell import OutboxShell
from tests.kit.builders import BTC, START, a_control
from tests.unit.execution.builders import a_cancel_approval, an_approval, an_external_core, order_id
from tests.unit.execution.outboxes import an_outbox
from tests.unit.execution.scripted_venue import Died, Mishap, ScriptedVenue
from tests.unit.execution.test_execution_service import a_bus, publish, read

TERMS = OutboxTerms(reconcile_interval_ns=10 * NANOSECONDS, absent_after_ns=30 * NANOSECONDS)


class World:
    """A bus, a venue, a core that says what its commands are, and a clock the test winds on."""

    def __init__(self) -> None:
        self.bus: MemoryBus = a_bus()
        self.now = START
        self.venue = ScriptedVenue(lambda: self.now)
        self.core: ExecutionCore = an_external_core("1000000")
        self.health_errors: list[str] = []
        self.outbox: OutboxShell
        self.start()

    def start(self) -> OutboxShell:
        """Start an outbox, as after a crash, and let it do what is due."""
        self.outbox = an_outbox(self.venue, self.bus, TERMS, lambda: self.health_errors)
        self.outbox.open()
        while self.outbox.step(0):
            pass
        return self.outbox

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
        self.venue.let_countdowns_run_out()
        while self.outbox.step(0):
            pass

    def reports(self) -> list[VenueReport]:
        """What was recorded."""
        return [event for event in read(self.bus, REPORTS) if isinstance(event, VenueReport)]

    def books(self) -> list[VenueAccount]:
        """The venue's books as recorded."""
        return [event for event in read(self.bus, REPORTS) if isinstance(event, VenueAccount)]

    def kinds(self) -> list[str]:
        """The kinds of what was recorded."""
        return [report.kind.name for report in self.reports()]

    def alerts(self) -> list[str]:
        """What was raised."""
        return [event.message for event in read(self.bus, ALERTS) if isinstance(event, Alert) and event.is_raised]


def test_answer_is_recorded_and_the_core_books_it() -> None:
    world = World()
    world.command(an_approval(1))
    world.work()
    assert world.kinds() == ["ACCEPTED", "FILL"]
    outputs = [event for report in world.reports() for event in world.core.handle(report)]
    assert outputs[-1].position(BTC).quantity == Decimal("0.01")


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
    world.outbox.release()
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
    world.outbox.release()
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
    world.outbox.release()
    world.venue.is_reachable = False
    world.start()
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
    world.outbox.release()
    world.venue.held[BTC] = Decimal(1)
    assert world.start().is_halted


def test_the_venues_books_are_recorded_first_and_whenever_the_wallet_has_changed() -> None:
    world = World()
    assert [books.wallet_balance for books in world.books()] == [Decimal(10_000)]
    world.work(10)
    assert len(world.books()) == 1
    world.venue.wallet = Decimal("9999.5")
    world.work(10)
    assert [books.wallet_balance for books in world.books()] == [Decimal(10_000), Decimal("9999.5")]


def test_position_held_before_the_first_start_is_taken_over() -> None:
    world = World.__new__(World)
    world.bus, world.now, world.health_errors = a_bus(), START, []
    world.venue = ScriptedVenue(lambda: world.now)
    world.venue.held[BTC] = Decimal("-0.2")
    world.core = ExecutionCore("paper", Decimal(1))
    world.start()
    world.work(10)
    assert not world.outbox.is_halted and world.alerts() == []
    (account,) = (event for books in world.books() for event in world.core.handle(books))
    assert isinstance(account, AccountState)
    assert account.position(BTC).quantity == Decimal("-0.2") and account.wallet_balance == Decimal(10_000)


def test_resume_after_a_difference_takes_the_venues_books_over() -> None:
    world = World()
    world.venue.held[BTC] = Decimal(1)
    world.work(10)
    world.work(10)
    assert world.outbox.is_halted
    publish(world.bus, a_control(ControlAction.RESUME, account="paper"))
    world.work(10)
    world.work(10)
    assert not world.outbox.is_halted and len(world.alerts()) == 1
    assert [(books.cause_id, len(books.positions)) for books in world.books()] == [("", 0), (a_control().event_id, 1)]
    world.outbox.release()
    assert not world.start().is_halted
    assert len(world.books()) == 2


def test_halt_over_a_difference_outlives_a_restart_and_the_difference_until_the_account_is_resumed() -> None:
    world = World()
    world.venue.held[BTC] = Decimal(1)
    world.work(10)
    world.work(10)
    assert world.outbox.is_halted
    del world.venue.held[BTC]
    world.outbox.release()
    assert world.start().is_halted
    world.work(10)
    assert world.outbox.is_halted
    publish(world.bus, a_control(ControlAction.RESUME, 1))
    world.work()
    assert world.outbox.is_halted
    publish(world.bus, a_control(ControlAction.RESUME, 2, account="paper"))
    world.work(10)
    assert not world.outbox.is_halted
    world.outbox.release()
    assert not world.start().is_halted


def test_halt_over_a_difference_is_a_command_on_the_control_topic_so_that_risk_halts_as_well() -> None:
    world = World()
    world.venue.held[BTC] = Decimal(1)
    world.work(10)
    world.work(10)
    (halt,) = (event for event in read(world.bus, CONTROL_COMMANDS) if isinstance(event, ControlCommand))
    assert (halt.account, halt.action, halt.issued_by) == ("paper", ControlAction.HALT, OUTBOX)
    assert halt.reason in world.alerts()[0]


def test_account_that_cannot_be_reckoned_with_ends_the_outbox() -> None:
    world = World()
    world.outbox.release()
    world.venue.refusal = "the account is in hedge mode"
    with pytest.raises(BadInput, match="hedge mode"):
        world.start()


def test_news_make_it_look_at_once_but_not_all_the_time() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work()
    asked = world.venue.queries
    world.venue.fill(order_id(1), Decimal("0.01"))
    world.work(1)
    assert world.kinds() == ["ACCEPTED"]
    for _ in range(5):
        world.venue.has_update = True
        world.work()
    assert world.kinds() == ["ACCEPTED", "FILL"] and world.venue.queries == asked + 1


def test_halt_that_comes_between_two_commands_of_a_batch_stops_the_second() -> None:
    world = World()
    world.command(an_approval(1), an_approval(2))
    place = world.venue.place

    def place_and_halt(command: PlaceOrder) -> VenueOrderState:
        publish(world.bus, a_control(ControlAction.HALT))
        return place(command)

    world.venue.place = place_and_halt  # type: ignore[method-assign]
    world.work()
    assert world.venue.placed == [order_id(1)]
    assert world.kinds()[-1] == "REJECTED"


def test_process_that_was_hung_in_a_call_sends_nothing_more_once_another_took_over() -> None:
    world = World()
    zombie = world.outbox
    world.command(an_approval(1), an_approval(2))
    place = world.venue.place

    def be_replaced_meanwhile(command: PlaceOrder) -> VenueOrderState:
        world.venue.place = place  # type: ignore[method-assign]
        world.start()
        return place(command)

    world.venue.place = be_replaced_meanwhile  # type: ignore[method-assign]
    with pytest.raises(ProducerFenced):
        while zombie.step(0):
            pass
    # The one it was hung in, after the other process had found that it was not there.
    assert world.venue.placed == [order_id(2), order_id(1)]
    world.work(10)
    assert world.venue.placed == [order_id(2), order_id(1)]
    assert world.kinds() == ["UNKNOWN", "ACCEPTED", "FILL", "ACCEPTED", "FILL"]


def test_control_record_that_cannot_be_read_halts_until_resumed() -> None:
    world = World()
    producer = world.bus.producer("stranger")
    producer.begin()
    producer.send([NewRecord(CONTROL_COMMANDS, b"paper", b"\xff\xff")])
    producer.commit()
    world.work()
    assert world.outbox.is_halted and "cannot be read" in world.alerts()[0]
    world.outbox.release()
    assert world.start().is_halted
    publish(world.bus, a_control(ControlAction.RESUME, account="paper"))
    world.work()
    assert not world.outbox.is_halted


def test_dead_man_switch_is_wound_while_all_is_well() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    for _ in range(20):
        world.work(5)
    assert world.venue.countdowns[BTC] - world.now > 45 * NANOSECONDS
    assert world.kinds() == ["ACCEPTED"] and world.alerts() == []


def _stop_a_service(world: World) -> None:
    world.health_errors = ["risk has stalled or lags by more than 5 s"]


def _halt(world: World) -> None:
    publish(world.bus, a_control(ControlAction.HALT))


def _differ(world: World) -> None:
    world.venue.held[BTC] = Decimal(1)


def _cut_off_the_books(world: World) -> None:
    def account() -> VenueAccountSnapshot:
        raise VenueUnavailable("503")

    world.venue.account = account  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_stop_a_service, "risk has stalled"),
        (_halt, "trading is halted"),
        (_differ, "position in BTCUSDT.BINANCE is 1 at the venue and 0"),
        (_cut_off_the_books, "could not be compared"),
    ],
)
def test_dead_man_switch_is_left_to_run_out_on_any_doubt(harm: Callable[[World], None], reason: str) -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work(5)
    harm(world)
    for _ in range(25):
        world.work(5)
    assert world.venue.orders[order_id(1)].status is OrderStatus.CANCELLED
    (alert,) = (message for message in world.alerts() if "left to cancel" in message)
    assert reason in alert


def test_dead_man_switch_runs_out_when_the_process_is_hung_and_is_wound_again_after() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work(5)
    world.now += 61 * NANOSECONDS
    world.venue.let_countdowns_run_out()
    assert world.venue.orders[order_id(1)].status is OrderStatus.CANCELLED
    world.work(10)
    assert world.kinds() == ["ACCEPTED", "CANCELLED"]
    assert BTC in world.venue.countdowns


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
    world.outbox.release()
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
