"""Commands before all else: after a restart, after a stop, and for a batch that was in hand when one came."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from libs.bus.api import Bus, BusError, NewRecord, OffsetGone, Record, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.clock import SimulatedClock
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.events import Event
from libs.domain.orders import OrderIntent, OrderRefused, verdict_id_of
from libs.runtime.control_lane import FRESH_S, ControlLane
from libs.runtime.handler import Input
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.records import read_topic
from libs.runtime.shell import CoreShell
from libs.runtime.verify import verify_service
from libs.wire import decode, encode, topics
from libs.wire.topics import ALERTS, CONTROL_COMMANDS, CONTROL_STATES, INTENTS, VERDICTS, dead_topic
from tests.kit.builders import a_control, an_intent

_NAMES = itertools.count()
# The consumer turns through its topics in an order of its own; the control topic is not the first of these.
INPUTS = (Input(INTENTS), Input(CONTROL_COMMANDS))


class Clock:
    """Stands still but for being moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SayingCore:
    """Answers an intent with the number of commands known at that time, in place of a limits' version."""

    def __init__(self) -> None:
        self.commands = 0

    def handle(self, event: Event) -> Sequence[Event]:
        if isinstance(event, ControlCommand):
            self.commands += 1
            return []
        assert isinstance(event, OrderIntent)
        return [
            OrderRefused(
                verdict_id_of(event.event_id), event.event_time, event.account, event.instrument, event.event_id, event,
                self.commands, ("said",), (),
            )
        ]  # fmt: skip

    def snapshot(self) -> bytes:
        return str(self.commands).encode()

    def restore(self, state: bytes) -> None:
        self.commands = int(state)


@pytest.fixture(params=["memory", "sqlite"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    address = f"memory:lane-{next(_NAMES)}" if request.param == "memory" else f"sqlite:{tmp_path / 'bus.db'}"
    with open_bus(address) as opened:
        opened.create_topics(TopicSpec(name) for name in topics.TOPICS)
        yield opened


def publish(bus: Bus, *events: Event) -> None:
    producer = bus.producer("test")
    producer.begin()
    for event in events:
        encoded = encode(event)
        producer.send([NewRecord(encoded.topic, encoded.key, encoded.payload, {"k": encoded.kind.encode()})])
    producer.commit()
    producer.close()


def a_shell(bus: Bus, batch: int = 1000, clock: SimulatedClock | None = None) -> CoreShell:
    shell = CoreShell(
        "risk", SayingCore(), INPUTS, bus, ServiceMetrics("risk"), configure_logging("risk", level="error"),
        clock=clock or SimulatedClock(0),
        batch_max_records=batch,
    )  # fmt: skip
    shell.open()
    return shell


def run_dry(shell: CoreShell) -> None:
    idle = 0
    while idle < 2:
        idle = 0 if shell.step(20) else idle + 1


def known_commands(bus: Bus) -> list[int]:
    verdicts = [decode(VERDICTS, record.value) for record in read_topic(bus, VERDICTS)]
    return [verdict.limits_version for verdict in verdicts if isinstance(verdict, OrderRefused)]


def polled(bus: Bus, topic: str) -> list[Record]:
    return list(read_topic(bus, topic))


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_commands_that_came_while_a_process_was_dead_go_before_what_waited_longer(bus: Bus, batch: int) -> None:
    publish(bus, *(an_intent(number) for number in range(1, 8)))
    publish(bus, a_control(), a_control(number=2))
    shell = a_shell(bus, batch)
    run_dry(shell)
    shell.close()
    assert known_commands(bus) == [2] * 7


def test_every_command_is_handled_once_and_the_order_is_replayed(bus: Bus) -> None:
    clock = SimulatedClock(0)
    shell = a_shell(bus, 2, clock)
    for number in range(1, 30, 3):
        # Every second round the lane looks for itself, else the command comes with the batch.
        clock.advance(number % 2)
        publish(bus, an_intent(number), an_intent(number + 1), an_intent(number + 2), a_control(number=number))
        shell.step(20)
    run_dry(shell)
    shell.release()
    publish(bus, an_intent(40))
    again = a_shell(bus, 2)
    run_dry(again)
    again.close()
    assert known_commands(bus)[-1] == 10
    assert known_commands(bus) == sorted(known_commands(bus))
    result = verify_service("risk", SayingCore(), INPUTS, bus)
    assert result.difference is None
    assert result.inputs == 30 + 10 + 1


def test_records_keep_their_order_behind_the_commands(bus: Bus) -> None:
    publish(bus, an_intent(1), an_intent(2), a_control(number=1), a_control(ControlAction.RESUME, 2))
    lane = ControlLane(bus, [INTENTS, CONTROL_COMMANDS], {})
    records = [*polled(bus, INTENTS), *polled(bus, CONTROL_COMMANDS)]
    ordered = lane.put_first(records)
    assert [(record.topic, record.offset) for record in ordered] == [
        (CONTROL_COMMANDS, 0), (CONTROL_COMMANDS, 1), (INTENTS, 0), (INTENTS, 1)
    ]  # fmt: skip
    # The consumer catches up with what the lane has read for itself.
    assert lane.put_first(polled(bus, CONTROL_COMMANDS)) == []


def test_a_look_that_is_fresh_is_not_repeated(bus: Bus) -> None:
    clock = Clock()
    lane = ControlLane(bus, [CONTROL_COMMANDS], {}, clock)
    lane.put_first(polled(bus, INTENTS))
    publish(bus, an_intent(1), a_control())
    clock.now += FRESH_S
    assert [record.topic for record in lane.put_first(polled(bus, INTENTS))] == [INTENTS]
    clock.now += 0.001
    assert [record.topic for record in lane.put_first(polled(bus, INTENTS))] == [CONTROL_COMMANDS, INTENTS]


def test_a_batch_in_hand_while_a_command_came_is_not_committed_late(bus: Bus) -> None:
    clock = Clock()
    lane = ControlLane(bus, [CONTROL_COMMANDS], {}, clock)
    lane.put_first([])
    publish(bus, a_control())
    clock.now += FRESH_S
    lane.check({VERDICTS})  # as fast as any batch
    clock.now += 2.0
    lane.check({ALERTS, CONTROL_STATES})  # nothing that could lead to an order
    with pytest.raises(BusError, match=r"a command came while a batch was in hand for 2\.05 s"):
        lane.check({ALERTS, VERDICTS})


def test_a_batch_that_was_in_hand_for_long_is_committed_where_nothing_came(bus: Bus) -> None:
    clock = Clock()
    lane = ControlLane(bus, [CONTROL_COMMANDS], {}, clock)
    lane.put_first([])
    clock.now += 2.0
    lane.check({VERDICTS})


def test_a_process_stopped_with_a_batch_in_hand_hears_the_command_first_when_it_comes_back(bus: Bus) -> None:
    clock = Clock()
    shell = a_shell(bus)
    shell._lane = ControlLane(bus, [CONTROL_COMMANDS], {}, clock)

    class StoppedCore(SayingCore):
        def handle(self, event: Event) -> Sequence[Event]:
            # What SIGSTOP does: the batch is in hand, the world goes on.
            publish(bus, a_control())
            clock.now += 3.0
            return super().handle(event)

    shell._handler.core = StoppedCore()
    publish(bus, an_intent(1))
    with pytest.raises(BusError, match="a command came"):
        shell.step(20)
    shell.release()
    assert known_commands(bus) == []
    again = a_shell(bus)
    run_dry(again)
    again.close()
    assert known_commands(bus) == [1]


def test_a_control_topic_cut_short_is_refused(bus: Bus) -> None:
    lane = ControlLane(bus, [CONTROL_COMMANDS], {(CONTROL_COMMANDS, 0): 5})
    with pytest.raises(BusError, match=r"control\.commands\.v1/0 ends at 0, but 5 of it were handled"):
        lane.put_first(polled(bus, INTENTS))


def test_a_service_without_control_topics_is_left_alone(bus: Bus) -> None:
    publish(bus, an_intent(1))
    clock = Clock()
    lane = ControlLane(bus, [INTENTS], {}, clock)
    records = polled(bus, INTENTS)
    assert lane.put_first(records) is records
    clock.now += 10.0
    lane.check({VERDICTS})
    assert bus.end_offsets([TopicPartition(INTENTS, 0)])[TopicPartition(INTENTS, 0)] == 1


def test_commands_removed_before_they_were_handled_stop_the_service(bus: Bus) -> None:
    publish(bus, a_control(number=1), a_control(number=2))
    bus.delete_before({TopicPartition(CONTROL_COMMANDS, 0): 1})
    with pytest.raises(OffsetGone, match=r"control\.commands\.v1/0 was to be read from offset 0"):
        ControlLane(bus, [CONTROL_COMMANDS], {}).look()


def test_command_that_was_looked_for_between_batches_goes_first_in_the_next(bus: Bus) -> None:
    shell = a_shell(bus)
    assert not shell.has_waiting_control()
    publish(bus, an_intent(1), a_control())
    assert shell.has_waiting_control() and shell.has_waiting_control()
    run_dry(shell)
    assert not shell.has_waiting_control()
    publish(bus, an_intent(2))
    run_dry(shell)
    shell.close()
    assert known_commands(bus) == [1, 1]
    assert verify_service("risk", SayingCore(), INPUTS, bus).inputs == 3


class CautiousCore(SayingCore):
    """Says how many commands nobody could read, as a command more."""

    def handle_unreadable_control(self, reason: str) -> Sequence[Event]:
        self.commands += 1
        return [a_control(reason=reason)]


def test_control_record_that_cannot_be_read_reaches_a_core_that_asks_for_it(bus: Bus) -> None:
    producer = bus.producer("stranger")
    producer.begin()
    producer.send([NewRecord(CONTROL_COMMANDS, b"paper", b"\xff\xff"), NewRecord(INTENTS, b"paper", b"\xff\xff")])
    producer.commit()
    publish(bus, an_intent(1))
    shell = CoreShell(
        "risk", CautiousCore(), (Input(INTENTS), Input(CONTROL_COMMANDS)), bus, ServiceMetrics("risk"),
        configure_logging("risk", level="critical"), clock=SimulatedClock(0),
    )  # fmt: skip
    shell.open()
    run_dry(shell)
    shell.close()
    assert known_commands(bus) == [1]
    assert [len(list(read_topic(bus, dead_topic(topic)))) for topic in (CONTROL_COMMANDS, INTENTS)] == [1, 1]
    (said,) = list(read_topic(bus, CONTROL_COMMANDS))[1:]
    command = decode(CONTROL_COMMANDS, said.value)
    assert isinstance(command, ControlCommand) and "ControlCommand" in command.reason
    assert verify_service("risk", CautiousCore(), INPUTS, bus).difference is None
