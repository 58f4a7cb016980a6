"""Doubts of the outbox that only time, a second question or a person resolves; most stories once went wrong."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from libs.bus.api import BusError, NewRecord
from libs.domain.accounts import AccountState
from libs.domain.control import Alert, ControlAction
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import OrderStatus, OrderType, PlaceOrder
from libs.venues.binance_orders import UnreadableAnswer
from libs.venues.errors import VenueError, VenueRefused
from libs.wire.topics import ALERTS, CONTROL_COMMANDS, REPORTS
from services.execution.core.outbox_work import DIFFERENCE_ALERT
from services.execution.core.reconciliation import OutboxTerms
from tests.kit.builders import BTC, START, a_control
from tests.unit.execution.builders import a_cancel_approval, an_approval, an_external_core, order_id
from tests.unit.execution.outboxes import an_outbox
from tests.unit.execution.rough_bus import RoughBus
from tests.unit.execution.scripted_venue import Mishap, ScriptedVenue
from tests.unit.execution.test_execution_service import publish, read
from tests.unit.execution.test_outbox import TERMS, World


def restart(world: World) -> None:
    """Let the process die without a word, and start another."""
    world.outbox.release()
    world.start()


def raised_and_cleared(world: World, name: str) -> list[bool]:
    return [event.is_raised for event in read(world.bus, ALERTS) if isinstance(event, Alert) and event.name == name]


def do_once_before(world: World, call: str, act: Callable[[], object]) -> None:
    """Let something happen at the venue just before a call is answered."""

    def before(name: str, _: PlaceOrder | None) -> None:
        if name == call:
            world.venue.before = lambda *_: None
            act()

    world.venue.before = before


# Cancels.


def test_cancel_in_doubt_is_tried_again_by_the_next_process() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work()
    world.venue.mishaps.extend([Mishap.TIMEOUT_BEFORE] * 2)
    world.command(a_cancel_approval(2, target=1))
    world.outbox.step(0)
    restart(world)
    world.work()
    assert world.kinds() == ["ACCEPTED", "CANCELLED"]


def test_cancel_that_was_refused_is_not_tried_again_by_the_next_process() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work()
    do_once_before(world, "cancel", lambda: world.venue.end(order_id(1), OrderStatus.CANCELLED))
    world.command(a_cancel_approval(2, target=1))
    world.work()
    restart(world)
    world.work(10)
    assert world.kinds() == ["ACCEPTED", "CANCELLED"]


def test_cancel_of_an_order_that_is_under_way_waits_until_it_has_come() -> None:
    world = World()
    world.venue.mishaps.append(Mishap.DELAY)
    world.command(an_approval(1, limit="59000"))
    world.work()
    world.command(a_cancel_approval(2, target=1))
    world.work()
    world.venue.let_requests_arrive()
    world.work(10)
    assert world.kinds() == ["UNKNOWN", "ACCEPTED", "CANCELLED"]


def test_cancel_of_an_order_that_never_came_ends_with_it() -> None:
    world = World()
    world.venue.mishaps.append(Mishap.TIMEOUT_BEFORE)
    world.command(an_approval(1, limit="59000"))
    world.work()
    world.command(a_cancel_approval(2, target=1))
    world.work(20)
    restart(world)
    world.work(20)
    world.work(20)
    world.work(20)
    assert world.kinds() == ["UNKNOWN", "REJECTED"]


def test_order_that_the_venue_forgets_once_cancelled_is_cancelled() -> None:
    # Binance does not tell of orders without a fill that closed and are older than three days.
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work()
    world.command(a_cancel_approval(2, target=1))
    do_once_before(world, "query", lambda: world.venue.orders.pop(order_id(1)))
    for _ in range(5):
        world.work(10)
    assert world.kinds() == ["ACCEPTED", "CANCELLED"] and not world.outbox.is_halted


# Orders.


def test_order_refused_when_triggered_expires_and_is_told_once() -> None:
    world = World()
    world.command(an_approval(1, order_type=OrderType.STOP_MARKET, trigger_price=Decimal(58000)))
    world.work()
    world.venue.end(order_id(1), OrderStatus.REJECTED)
    for _ in range(3):
        world.work(10)
    assert world.kinds() == ["ACCEPTED", "EXPIRED"]
    for report in world.reports():
        world.core.handle(report)
    assert world.core.order_status(order_id(1)) is OrderStatus.EXPIRED


def test_order_refused_before_it_was_answered_is_rejected() -> None:
    world = World()
    world.venue.mishaps.append(Mishap.TIMEOUT_AFTER)
    world.command(an_approval(1, limit="59000"))
    do_once_before(world, "query", lambda: world.venue.end(order_id(1), OrderStatus.REJECTED))
    world.work()
    assert world.kinds() == ["UNKNOWN", "REJECTED"]


def test_core_that_hears_of_a_halt_before_its_own_command_leaves_the_order_to_the_outbox() -> None:
    world = World()
    core = an_external_core("1000000")
    placed, *_ = core.handle(an_approval(1, limit="59000"))
    publish(world.bus, placed)
    world.work()
    (cancel,) = core.handle(a_control(ControlAction.HALT))
    publish(world.bus, a_control(ControlAction.HALT), cancel)
    for output in core.handle(placed):
        publish(world.bus, output)
    restart(world)
    world.work(10)
    world.work(10)
    for report in world.reports():
        core.handle(report)
    assert world.kinds() == ["ACCEPTED", "CANCELLED"] and not world.outbox.is_halted
    assert core.order_status(order_id(1)) is OrderStatus.CANCELLED


@pytest.mark.parametrize("seconds_off", [-120, 120])
def test_correction_of_the_clock_does_not_shorten_a_doubt(seconds_off: int) -> None:
    world = World()
    offsets = [seconds_off * NANOSECONDS]
    world.venue.mishaps.append(Mishap.DELAY)
    world.command(an_approval(1, limit="59000"))
    world.outbox.step(0)
    world.venue.now = lambda: world.now + offsets[0]
    do_once_before(world, "synchronise", lambda: offsets.__setitem__(0, 0))
    restart(world)
    world.work(5)
    world.venue.let_requests_arrive()
    world.work(10)
    assert world.kinds() == ["UNKNOWN", "ACCEPTED"]


def test_clock_put_back_puts_nothing_off() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work(5)
    world.now -= 3600 * NANOSECONDS
    world.venue.fill(order_id(1), Decimal("0.01"))
    world.work()
    assert world.kinds() == ["ACCEPTED", "FILL"]
    assert world.venue.countdowns[BTC] == world.now + TERMS.countdown_ns


def test_process_that_was_held_up_after_it_took_a_command_in_hand_does_not_send_it() -> None:
    world = World.__new__(World)
    held_up: list[str] = []

    def be_held_up(where: str) -> None:
        if held_up == ["wait for the claim"] and where == "after a commit":
            held_up.append("now")
            world.start()
            for _ in range(4):
                world.work(10)

    world.bus, world.now, world.health_errors = RoughBus(be_held_up), START, []
    world.venue, world.core = ScriptedVenue(lambda: world.now), an_external_core("1000000")
    zombie = an_outbox(world.venue, world.bus, OutboxTerms(max_command_age_ns=3600 * NANOSECONDS))
    zombie.open()
    while zombie.step(0):
        pass
    world.command(an_approval(1, limit="59000"))
    held_up.append("wait for the claim")
    with pytest.raises(BusError, match="taken over"):
        zombie.step(0)
    assert world.kinds() == ["UNKNOWN", "REJECTED"] and world.venue.placed == []


# Books.


def test_fill_between_the_questions_after_orders_and_books_is_not_taken_over_twice() -> None:
    world = World()
    world.command(an_approval(1, quantity="0.03", limit="59000"))
    world.venue.held[BTC] = Decimal(1)
    for _ in range(3):
        world.work(10)
    assert world.outbox.is_halted
    publish(world.bus, a_control(ControlAction.RESUME, account="paper"))
    do_once_before(world, "account", lambda: world.venue.fill(order_id(1), Decimal("0.01")))
    for _ in range(4):
        world.work(10)
    assert not world.outbox.is_halted
    outputs = [output for event in read(world.bus, REPORTS) for output in world.core.handle(event)]
    account = [output for output in outputs if isinstance(output, AccountState)][-1]
    assert account.position(BTC).quantity == Decimal("1.01")


def test_wallet_is_recorded_with_all_the_fills_it_holds() -> None:
    world = World()
    world.command(an_approval(1, quantity="0.03", limit="59000"))
    world.command(an_approval(2, quantity="0.03", limit="61000", side=Side.SELL))
    world.work()

    def fill_both() -> None:
        for number in (1, 2):
            world.venue.wallet -= Decimal("0.3")
            world.venue.fill(order_id(number), Decimal("0.01"))

    do_once_before(world, "account", fill_both)
    for _ in range(3):
        world.work(10)
    outputs = [output for event in read(world.bus, REPORTS) for output in world.core.handle(event)]
    account = [output for output in outputs if isinstance(output, AccountState)][-1]
    assert account.wallet_balance == world.venue.wallet == Decimal("9999.4")


def test_fill_that_is_counted_before_it_is_listed_is_no_difference() -> None:
    world = World()
    world.command(an_approval(1, quantity="0.03", limit="59000"))
    world.work()
    world.venue.fill(order_id(1), Decimal("0.01"))
    world.venue.unlisted.add(order_id(1))
    restart(world)
    world.work(9)
    world.venue.unlisted.clear()
    for _ in range(3):
        world.work(10)
    assert not world.outbox.is_halted and world.alerts() == []
    assert world.kinds() == ["ACCEPTED", "FILL"]


def test_fill_that_is_never_listed_halts() -> None:
    world = World()
    world.command(an_approval(1, quantity="0.03", limit="59000"))
    world.work()
    world.venue.fill(order_id(1), Decimal("0.01"))
    world.venue.unlisted.add(order_id(1))
    for _ in range(4):
        world.work(10)
    assert world.outbox.is_halted and "as filled than the 0 it lists" in world.alerts()[0]


def test_difference_that_changes_from_round_to_round_halts() -> None:
    world = World()
    for _ in range(3):
        world.venue.held[BTC] = world.venue.held.get(BTC, Decimal(0)) + 1
        world.work(10)
    assert world.outbox.is_halted and len(world.alerts()) == 1


def test_resume_closes_the_orders_that_the_venue_does_not_know_any_more() -> None:
    world = World()
    world.command(an_approval(1, limit="59000"))
    world.work()
    del world.venue.orders[order_id(1)]
    world.work(10)
    world.work(10)
    assert world.outbox.is_halted
    publish(world.bus, a_control(ControlAction.RESUME, account="paper"))
    for _ in range(4):
        world.work(10)
    assert not world.outbox.is_halted
    assert world.kinds() == ["ACCEPTED", "CANCELLED"]
    assert "does not know" in world.reports()[-1].reason


def test_second_resume_takes_nothing_over() -> None:
    world = World()
    world.venue.held[BTC] = Decimal(1)
    world.work(10)
    world.work(10)
    publish(world.bus, a_control(ControlAction.RESUME, 1, account="paper"))
    world.work()
    publish(world.bus, a_control(ControlAction.RESUME, 2, account="paper"))
    world.work(10)
    assert [books.cause_id for books in world.books()] == ["", a_control(number=1).event_id]


# Alerts.


def test_resume_clears_the_alert() -> None:
    world = World()
    world.venue.held[BTC] = Decimal(1)
    world.work(10)
    world.work(10)
    publish(world.bus, a_control(ControlAction.RESUME, account="paper"))
    world.work(10)
    assert raised_and_cleared(world, DIFFERENCE_ALERT) == [True, False]
    restart(world)
    assert raised_and_cleared(world, DIFFERENCE_ALERT) == [True, False]


def test_next_process_tells_nobody_again_of_what_was_resumed() -> None:
    world = World()
    producer = world.bus.producer("stranger")
    producer.begin()
    producer.send([NewRecord(CONTROL_COMMANDS, b"paper", b"\xff\xff")])
    producer.commit()
    world.work()
    publish(world.bus, a_control(ControlAction.RESUME, account="paper"))
    world.work()
    restart(world)
    assert raised_and_cleared(world, DIFFERENCE_ALERT) == [True, False] and not world.outbox.is_halted


# What the venue answers.


@pytest.mark.parametrize("error", [UnreadableAnswer("lacks status"), VenueRefused("-9999 no", -9999)])
@pytest.mark.parametrize("call", ["query", "open_order_ids", "account", "set_cancel_countdown", "synchronise"])
def test_strange_answer_to_a_question_ends_nothing_and_the_orders_are_found_after(call: str, error: VenueError) -> None:
    world = World()

    def answer(name: str, _: PlaceOrder | None) -> None:
        if name == call:
            raise error

    world.venue.mishaps.append(Mishap.DELAY)
    world.command(an_approval(1, limit="59000"))
    world.venue.before = answer
    world.work(10)
    restart(world)
    world.venue.let_requests_arrive()
    world.work(10)
    world.venue.before = lambda *_: None
    world.work(10)
    world.work(10)
    assert world.kinds() == ["UNKNOWN", "ACCEPTED"] and not world.outbox.is_halted
