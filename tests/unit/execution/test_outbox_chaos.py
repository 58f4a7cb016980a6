"""No sequence of mishaps sends an order twice, sends one past a halt or leaves the records apart from the venue.

A state machine with a venue of its own, a core that is fed from the topics and an outbox whose process dies, hangs and
is replaced. At the end everything works again, time passes, and the records must tell what the venue tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from libs.bus.api import BusError, BusFull, NewRecord, Record, TopicPartition
from libs.domain.accounts import AccountState
from libs.domain.control import ALL_ACCOUNTS, Alert, ControlAction, TradingState
from libs.domain.events import Event
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CancelOrder, OrderEvent, OrderStatus, OrderType, PlaceOrder, ReportKind, VenueReport
from libs.runtime.records import read_range
from libs.runtime.verify import verify_service
from libs.venues.binance_orders import UnreadableAnswer
from libs.venues.errors import VenueUnavailable
from libs.wire import DecodeError, decode
from libs.wire.topics import COMMANDS, CONTROL_COMMANDS, CONTROL_STATES, OUTBOX, REPORTS, VENUE_CALLS, VERDICTS
from services.execution.core import ExecutionCore
from services.execution.core.outbox import OutboxCore
from services.execution.core.reconciliation import OutboxTerms
from services.execution.outbox_shell import INPUTS as INPUTS_OF_OUTBOX
from services.execution.outbox_shell import OutboxShell
from tests.kit.builders import BTC, START, a_control
from tests.kit.soak import TIMES, at_length
from tests.unit.execution.builders import a_cancel_approval, a_control_state, an_approval, order_id
from tests.unit.execution.outboxes import an_outbox
from tests.unit.execution.rough_bus import RoughBus
from tests.unit.execution.scripted_venue import ChargingVenue, Died, Mishap
from tests.unit.execution.test_execution_service import publish

EXAMPLES = 120
STEPS_PER_EXAMPLE = 40
SNAPSHOT_EVERY = 60
# A command may be older than it takes to find that an order never arrived: then a process that was held up is checked.
TERMS = OutboxTerms(max_command_age_ns=60 * NANOSECONDS)
CONTROL_TOPICS = (CONTROL_COMMANDS, CONTROL_STATES)
INPUTS = (VERDICTS, COMMANDS, REPORTS)
COMMANDED = {
    ControlAction.HALT: TradingState.HALTED,
    ControlAction.FLATTEN: TradingState.HALTED,
    ControlAction.REDUCE: TradingState.REDUCING,
    ControlAction.RESUME: TradingState.ACTIVE,
}
SCOPES = ("paper", ALL_ACCOUNTS)
CONTROLS = [
    *[(what, scope) for what in [*COMMANDED, *[ControlAction.RESUME] * 6] for scope in SCOPES],
    *[(what, "") for what in [*TradingState, "nonsense", *[TradingState.ACTIVE] * 4]],
]
CALLS = ("prepare", "synchronise", "place", "cancel", "query", "open_order_ids", "account", "set_cancel_countdown")
TROUBLES = (*CALLS, "no way there", "a service has stalled")
COMMITS = ("before a commit", "after a commit")


@dataclass(frozen=True)
class Death:
    """The process dies at a commit or a call to come, `after` that many others."""

    where: str
    after: int


@dataclass(frozen=True)
class Hang:
    """The process hangs at the next commit or call; meanwhile people act and another process takes over."""

    where: str
    seconds: int
    is_replaced: bool
    action: ControlAction | None


KINDS = (OrderType.MARKET, OrderType.LIMIT, OrderType.LIMIT, OrderType.STOP_MARKET, "cancel")
ACTS = ("part", "part", "rest", "trigger", "trigger", "expire", "before books", "arrive", "arrive", "forget")
ORDERS = st.sampled_from(
    [(kind, side, reduces) for kind in KINDS for side in (Side.BUY, Side.SELL) for reduces in (False, False, True)]
)
HEARD = st.sampled_from([(topics, count) for topics in permutations(INPUTS) for count in (0, 1, 2, 1000)])
Upset = tuple[Any, ...]
"""A method of the machine and its arguments."""
UPSETS = st.sampled_from(
    [
        *[("control", *what) for what in CONTROLS],
        *[("restart_core",), ("restart_outbox", 0), ("restart_outbox", -120), ("restart_outbox", 120)] * 2,
        *[("trouble", what, VenueUnavailable("-1003 too many requests")) for what in TROUBLES],
        *[("trouble", what, UnreadableAnswer("lacks status")) for what in CALLS],
        *[("trouble", "over", VenueUnavailable(""))] * 20,
        ("trade_of_someone_else",),
    ]
)
Harm = Mishap | Death | Hang
HARMS = st.sampled_from(
    [
        *[None] * 60,
        *[mishap for mishap in Mishap for _ in range(8)],
        *[Death(where, after) for where in (*COMMITS, *CALLS) for after in range(4)],
        *[
            Hang(where, seconds, is_replaced, action)
            for where in (*COMMITS, "place", "cancel", "query")
            for seconds in (0, 5, 14, 35)
            for is_replaced in (False, True)
            for action in (None, ControlAction.HALT)
        ],
    ]
)


class OutboxMachine(RuleBasedStateMachine):
    """A venue, topics, a core, one outbox or two, people with commands, and everything that can go wrong."""

    steps = 0
    placed = 0

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.clock_error = 0
        self.bus = RoughBus(lambda where: self.pass_by(where))
        self.venue = ChargingVenue(lambda: self.now + self.clock_error)
        self.venue.before = self.at_venue
        self.core = ExecutionCore("paper", Decimal(1))
        self.number = 0
        self.read_to = dict.fromkeys((*CONTROL_TOPICS, *INPUTS), 0)
        self.commands: dict[str, tuple[PlaceOrder, int]] = {}
        self.commands_read_to = 0
        self.orders: dict[str, OrderEvent] = {}
        self.account: AccountState | None = None
        self.report_ids: set[str] = set()
        self.cancelled: set[str] = set()
        self.core_alerts: list[str] = []
        self.commanded = dict.fromkeys(SCOPES, TradingState.ACTIVE)
        self.published = TradingState.ACTIVE
        self.is_unreadable = False
        self.differs = False
        self.unlisted_at = 0
        self.health_errors: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.outbox: OutboxShell | None = None
        self.deaths: dict[str, int] = {}
        self.hang: Hang | None = None
        self.fills_before_books: list[str] = []

    # --- the process -----------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Let the process do all that is due, started first where it does not run."""
        mine = self.outbox
        try:
            if mine is None:
                mine = an_outbox(self.venue, self.bus, TERMS, lambda: self.health_errors, SNAPSHOT_EVERY)
                self.outbox = mine
                mine.open()
            while mine.step(0):
                pass
        except (Died, BusError) as error:
            if not isinstance(error, Died | BusFull):
                assert "took over" in str(error) or "taken over" in str(error)
            # Where it was replaced while it hung, the other one is the process now.
            if self.outbox is mine:
                self.outbox = None

    def pass_by(self, where: str) -> None:
        """Die here or hang here, where that is planned."""
        left = self.deaths.pop(where, None)
        if left == 0:
            raise Died if where != "before a commit" else BusFull("no room left on the device")
        if left is not None:
            self.deaths[where] = left - 1
        hang = self.hang
        if hang is None or hang.where != where:
            return
        self.hang = None
        if hang.action is not None:
            self.control(hang.action, ALL_ACCOUNTS)
        self.pass_time(hang.seconds)
        if hang.is_replaced:
            self.outbox = None
            self.work()

    def at_venue(self, call: str, order: PlaceOrder | None) -> None:
        if call == "place":
            assert order is not None
            self.check_sending(order)
        if call in ("synchronise", "prepare") and self.venue.is_reachable:
            self.clock_error = 0
        if call == "account":
            fills, self.fills_before_books = self.fills_before_books, []
            for name in set(fills).intersection(self.open_at_venue()):
                self.fill(name, Decimal("0.001"))
        self.pass_by(call)
        if call in self.broken:
            raise self.broken[call]

    def check_sending(self, command: PlaceOrder) -> None:
        for record in self.records(COMMANDS, self.commands_read_to):
            self.commands_read_to = record.offset + 1
            event = decode(COMMANDS, record.value)
            if isinstance(event, PlaceOrder):
                self.commands[event.client_order_id] = event, record.offset
        committed, offset = self.commands[command.client_order_id]
        assert committed == command
        (claimed,) = self.bus.committed(OUTBOX, [TopicPartition(COMMANDS, 0)]).values()
        assert claimed is not None and claimed > offset
        is_halted = self.is_unreadable or max(*self.commanded.values(), self.published) is not TradingState.ACTIVE
        assert command.reduce_only or not is_halted

    def pass_time(self, seconds: int) -> None:
        self.now += seconds * NANOSECONDS
        if self.venue.unlisted and self.now - self.unlisted_at >= TERMS.reconcile_interval_ns:
            # What the venue counts and does not list for longer than a round.
            self.differs = True
        self.venue.let_countdowns_run_out()

    # --- the core --------------------------------------------------------------------------------------------------

    def records(self, topic: str, first: int) -> Sequence[Record]:
        (end,) = self.bus.end_offsets([TopicPartition(topic, 0)]).values()
        return list(read_range(self.bus, topic, 0, first, end))

    def hear(self, topics: Sequence[str], count: int = 1000) -> None:
        """Let the core handle what lies in its topics, commands of people first."""
        for topic in (*CONTROL_TOPICS, *topics):
            for record in self.records(topic, self.read_to[topic])[: 1000 if topic in CONTROL_TOPICS else count]:
                self.read_to[topic] = record.offset + 1
                try:
                    event = decode(topic, record.value)
                except DecodeError:
                    continue
                if isinstance(event, VenueReport):
                    self.check_report(event)
                for output in self.core.handle(event):
                    self.take(output)

    def take(self, output: Event) -> None:
        if isinstance(output, OrderEvent):
            self.orders[output.client_order_id] = output
        elif isinstance(output, AccountState):
            self.account = output
        elif isinstance(output, Alert):
            self.core_alerts.append(output.message)
        else:
            if isinstance(output, CancelOrder):
                self.cancelled.add(output.client_order_id)
            publish(self.bus, output)

    def check_report(self, report: VenueReport) -> None:
        assert report.event_id not in self.report_ids
        self.report_ids.add(report.event_id)
        if report.kind is ReportKind.FILL:
            fills = {fill.venue_trade_id: fill for fill in self.venue.orders[report.client_order_id].fills}
            assert fills[report.venue_trade_id].quantity == report.last_quantity

    # --- strategies and people -------------------------------------------------------------------------------------

    @initialize()
    def begin_in_calm(self) -> None:
        for kind in (OrderType.MARKET, OrderType.LIMIT, OrderType.STOP_MARKET):
            side = Side.SELL if kind.is_conditional else Side.BUY
            self.trade((kind, side, kind.is_conditional), 0, None, True)
        self.hear(INPUTS)

    @rule(order=ORDERS, which=st.integers(0, 9), harm=HARMS, is_carried_out=st.sampled_from([True, True, False]))
    def trade(
        self, order: tuple[OrderType | str, Side, bool], which: int, harm: Harm | None, is_carried_out: bool
    ) -> None:
        kind, side, is_reduction = order
        self.number += 1
        if isinstance(kind, OrderType):
            limit = "59000" if kind is OrderType.LIMIT else None
            trigger = Decimal(58000) if kind.is_conditional else None
            terms = {"order_type": kind, "trigger_price": trigger, "reduce_only": is_reduction}
            publish(self.bus, an_approval(self.number, "0.004", side, limit, event_time=self.now, **terms))
        else:
            known = [number for number in range(1, self.number) if order_id(number) in self.orders]
            is_open = [number for number in known if self.orders[order_id(number)].status.is_open]
            targets = is_open or known
            publish(self.bus, a_cancel_approval(self.number, targets[which % len(targets)]))
        self.hear([VERDICTS])
        self.plan(harm)
        if is_carried_out:
            self.work()

    def plan(self, harm: Harm | None) -> None:
        if isinstance(harm, Mishap):
            self.venue.mishaps.append(harm)
        elif isinstance(harm, Death):
            self.deaths = {harm.where: harm.after}
        elif isinstance(harm, Hang):
            self.hang = harm

    @rule(what=UPSETS)
    def upset(self, what: Upset) -> None:
        getattr(self, what[0])(*what[1:])

    def control(self, what: ControlAction | TradingState | str, scope: str) -> None:
        self.number += 1
        if isinstance(what, ControlAction):
            publish(self.bus, a_control(what, self.number, event_time=self.now, account=scope))
            is_resume = what is ControlAction.RESUME
            self.commanded[scope] = COMMANDED[what] if is_resume else max(self.commanded[scope], COMMANDED[what])
            self.is_unreadable &= not (is_resume and scope == "paper")
        elif isinstance(what, TradingState):
            publish(self.bus, a_control_state(what, self.number))
            self.published = what
        else:
            producer = self.bus.producer("stranger")
            producer.begin()
            producer.send([NewRecord(CONTROL_COMMANDS, b"paper", b"\xff\xff")])
            producer.commit()
            self.is_unreadable = True

    # --- processes -------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0, 1, 5, 9, 10, 10, 20, 35, 70]), harm=HARMS, heard=HEARD)
    def go_on(self, seconds: int, harm: Harm | None, heard: tuple[Sequence[str], int]) -> None:
        self.pass_time(seconds)
        self.plan(harm)
        self.work()
        self.hear(*heard)

    def restart_core(self) -> None:
        other = ExecutionCore("paper", Decimal(1))
        other.restore(self.core.snapshot())
        self.core = other

    def restart_outbox(self, clock_error_s: int) -> None:
        if self.outbox is not None:
            self.outbox.release()
        self.outbox = None
        self.clock_error = clock_error_s * NANOSECONDS
        self.work()

    # --- the venue -------------------------------------------------------------------------------------------------

    def trouble(self, what: str, error: Exception) -> None:
        self.broken = {what: error}
        self.venue.is_reachable = what != "no way there"
        self.health_errors = [what] if what == "a service has stalled" else []

    def trade_of_someone_else(self) -> None:
        self.venue.held[BTC] = self.venue.held.get(BTC, Decimal(0)) + 1
        self.differs = True

    def open_at_venue(self) -> list[str]:
        return [name for name, order in self.venue.orders.items() if order.status.is_open]

    def fill(self, name: str, quantity: Decimal) -> None:
        order, command = self.venue.orders[name], self.venue.commands[name]
        left = command.quantity - order.filled_quantity
        if order.status.is_open and not command.order_type.is_conditional:
            self.venue.fill(name, min(left, quantity))

    @rule(
        what=st.sampled_from(ACTS),
        which=st.integers(0, 9),
        how=st.sampled_from(["", "unlisted", "told", "unlisted told"]),
    )
    def venue_acts(self, what: str, which: int, how: str) -> None:
        self.venue.has_update |= "told" in how
        if what == "arrive":
            self.venue.let_requests_arrive()
            self.venue.unlisted.clear()
            return
        names = self.open_at_venue()
        if what not in ("expire", "forget"):
            is_trigger = what == "trigger"
            names = [name for name in names if self.venue.commands[name].order_type.is_conditional is is_trigger]
        if not names:
            return
        name = names[which % len(names)]
        before = self.venue.orders[name].fills
        if what == "forget":
            # Rarely: from then on the outbox is right to halt.
            if not before and which == 9:
                del self.venue.orders[name]
                self.differs = True
            return
        if what == "trigger":
            self.venue.trigger(name)
        elif what == "expire":
            self.venue.end(name, OrderStatus.EXPIRED)
        elif what == "before books":
            self.fills_before_books.append(name)
        else:
            self.fill(name, Decimal("0.001" if what == "part" else "1"))
        if "unlisted" in how and len(self.venue.orders[name].fills) > len(before):
            self.unlisted_at = self.now if not self.venue.unlisted else self.unlisted_at
            self.venue.unlisted.add(name)

    # --- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def no_order_is_placed_twice(self) -> None:
        OutboxMachine.steps += 1
        assert len(self.venue.placed) == len(set(self.venue.placed))

    @invariant()
    def what_is_booked_has_filled(self) -> None:
        for name, event in self.orders.items():
            if event.filled_quantity:
                assert event.filled_quantity <= self.venue.orders[name].filled_quantity

    def calm_down(self, rounds: int) -> None:
        for _ in range(rounds):
            self.pass_time(10)
            self.work()
            self.hear(INPUTS)
            self.hear(INPUTS)

    def teardown(self) -> None:
        OutboxMachine.placed += len(self.venue.placed)
        self.deaths, self.hang, self.broken, self.health_errors, self.fills_before_books = {}, None, {}, [], []
        self.venue.mishaps.clear()
        self.venue.unlisted.clear()
        self.venue.is_reachable = True
        self.venue.let_requests_arrive()
        self.hear(INPUTS)
        self.calm_down(8)
        assert self.outbox is not None
        assert self.outbox.is_halted or not self.is_unreadable
        if self.outbox.is_halted:
            assert self.differs or self.is_unreadable
            self.control(ControlAction.RESUME, "paper")
            self.calm_down(4)
        assert not self.outbox.is_halted
        if max(*self.commanded.values(), self.published) is not TradingState.HALTED:
            assert self.venue.countdowns[BTC] > self.now
        self.check_orders()
        self.check_account()
        self.check_replay()

    def check_replay(self) -> None:
        replayed = verify_service(OUTBOX, OutboxCore("paper", TERMS), INPUTS_OF_OUTBOX, self.bus)
        assert replayed.difference is None, replayed.difference
        assert replayed.counts[VENUE_CALLS] > 5 and replayed.counts[REPORTS] > 1

    def check_orders(self) -> None:
        for name, event in self.orders.items():
            at_venue = self.venue.orders.get(name)
            if at_venue is None:
                # One that the venue took and forgot was closed by the RESUME, if its taking was ever known.
                possible = {OrderStatus.REJECTED, OrderStatus.CANCELLED if name in self.venue.placed else None}
                assert event.status in possible
                continue
            status, booked = event.status, event.filled_quantity
            if status is OrderStatus.EXPIRED and at_venue.status is OrderStatus.REJECTED:
                # It was accepted before the venue rejected it.
                status = OrderStatus.REJECTED
            assert (status, booked) == (at_venue.status, at_venue.filled_quantity)
            assert name not in self.cancelled or not status.is_open

    def check_account(self) -> None:
        assert self.core_alerts == []
        assert self.account is not None
        assert self.account.position(BTC).quantity == self.venue.held.get(BTC, 0)
        assert self.account.wallet_balance == self.venue.wallet
        assert self.account.open_order_count == len(self.open_at_venue())


def run_stories(examples: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=STEPS_PER_EXAMPLE,
        deadline=None,
        derandomize=True,
        database=None,
        # Shrinking a story takes minutes; the story itself is printed, which is enough to replay it.
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    OutboxMachine.steps = OutboxMachine.placed = 0
    run_state_machine_as_test(OutboxMachine, settings=chosen)
    assert OutboxMachine.steps >= examples * STEPS_PER_EXAMPLE / 2
    assert OutboxMachine.placed >= examples


@pytest.mark.slow
def test_no_mishap_sends_an_order_twice_or_parts_the_records_from_the_venue() -> None:
    run_stories(EXAMPLES)


@at_length
@pytest.mark.timeout(3600)
def test_no_mishap_does_so_at_length() -> None:
    run_stories(EXAMPLES * (1 + TIMES))
