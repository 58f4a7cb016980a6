"""Replay: feed a core the inputs of a recorded session in journalled order and hold every output against the record.

It starts at the beginning while all of that survives, later at the oldest snapshot whose inputs, journal and outputs
since then survive, and says where that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from libs.bus.api import Bus, BusError, OffsetGone, Record, TopicPartition
from libs.domain.events import Core, Event
from libs.domain.orders import OrderApproved, OrderRefused
from libs.domain.state import describe_state
from libs.runtime.handler import CoreHandler, Decode, Input
from libs.runtime.placement import Task
from libs.runtime.records import RunReader, producer_of, read_range
from libs.runtime.recovery import own_starts
from libs.runtime.snapshots import input_places, output_topics, read_snapshots
from libs.wire import DecodeError, Encoded, decode, decode_any
from libs.wire.records import CoreSnapshot
from libs.wire.topics import ALERTS, CONTROL_STATES, CONTROL_TOPICS, TOPICS, journal_topic, state_topic

# They say which settings are in force; they decide nothing.
_NO_DECISIONS = frozenset({CONTROL_STATES, ALERTS})
_SHOWN_DECISIONS = 20
# Each one behind the records that retention removed while those from the last one were read.
_STARTS = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """The first output that is not what was recorded, and the input that led to it."""

    topic: str
    index: int
    recorded_offset: int | None
    recorded: str
    replayed: str
    cause: str


@dataclass(slots=True)
class Verification:
    """The outcome for one task. `verified_from` is None where it was replayed from its very beginning."""

    service: str
    inputs: int = 0
    outputs: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    difference: Difference | None = None
    verified_from: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """From where on a service can be replayed: the snapshot to restore, or the very beginning where there is none.

    Offsets that a mapping does not name begin at the oldest one.
    """

    snapshot: CoreSnapshot | None
    append_time_ms: int | None
    inputs: Mapping[TopicPartition, int]
    outputs: Mapping[TopicPartition, int]
    journal: int

    def describe(self) -> dict[str, Any] | None:
        """Return time and offsets in plain values, None for the beginning."""
        if self.snapshot is None:
            return None
        return {
            "append_time_ms": self.append_time_ms,
            "inputs": {f"{at.topic}/{at.partition}": offset for at, offset in self.inputs.items()},
        }


_BEGINNING = Start(None, None, {}, {}, 0)


def find_start(bus: Bus, task: Task, decode: Decode = decode_any) -> Start:
    """Return the oldest place that a task can be replayed from: everything that followed it survives.

    Raises `BusError` where there is none.
    """
    service, partition, counts = task.service, task.partition, bus.topics()
    inputs = input_places(bus, task)
    outputs = task.places(counts, output_topics(service))
    journal, state = TopicPartition(journal_topic(service), partition), TopicPartition(state_topic(service), partition)
    begins = dict(bus.beginning_offsets([*inputs, *outputs, journal, state]))
    if (
        begins[journal] == 0
        and all(begins[at] == 0 for at in outputs)
        and _survive(bus, journal, inputs, begins, decode)
    ):
        return _BEGINNING
    for place, snapshot in read_snapshots(bus, service, partition, begins[state], bus.end_offsets([state])[state]):
        if place.journal >= begins[journal] and place.survives(inputs, outputs, begins):
            return Start(snapshot, place.append_time_ms, place.inputs, place.outputs or {}, place.journal)
    raise BusError(
        f"{task.name} cannot be replayed from anywhere: what it read at first has passed retention, and no snapshot "
        "stands where all that followed it survives"
    )


def _survive(
    bus: Bus,
    journal: TopicPartition,
    inputs: Sequence[TopicPartition],
    begins: Mapping[TopicPartition, int],
    decode: Decode,
) -> bool:
    """Whether all inputs that a journal names from its beginning on survive."""
    missing = {at for at in inputs if begins[at] > 0}
    end = bus.end_offsets([journal])[journal]
    if end == 0:
        # A service without a journal reads its input from the first record on.
        return not missing
    for entry in read_range(bus, journal.topic, journal.partition, 0, end if missing else 0):
        for run in decode(entry.topic, entry.value).runs:
            at = TopicPartition(run.topic, run.partition)
            if at in missing:
                # Where it has no offsets nothing says whether the first of them survive.
                if run.own_producer or run.first_offset < begins[at]:
                    return False
                missing.discard(at)
        if not missing:
            break
    return True


def journalled_inputs(
    task: Task, inputs: Sequence[Input], bus: Bus, start: Start = _BEGINNING, decode: Decode = decode_any
) -> Iterator[Record]:
    """Return a session's inputs of a task from a start on, in the order in which it consumed them, as far as they go at
    this moment: what they led to can be read afterwards, though the session goes on.

    A service that keeps no journal (Faust) has one input, whose order is the partition's; so has one that kept none for
    a while, up to what its group has committed.
    """
    journal = TopicPartition(journal_topic(task.service), task.partition)
    end = bus.end_offsets([journal])[journal]
    unjournalled: dict[TopicPartition, int] = {}
    if len(inputs) == 1:
        places = task.places(bus.topics(), [inputs[0].topic])
        committed = bus.committed(task.group, places)
        ends = bus.end_offsets(places) if end == 0 else {}
        unjournalled = {at: ends.get(at, committed[at] or 0) for at in places}
    return _read_inputs(task, bus, start, decode, end, unjournalled)


def _read_inputs(
    task: Task, bus: Bus, start: Start, decode: Decode, end: int, unjournalled: Mapping[TopicPartition, int]
) -> Iterator[Record]:
    handled = dict(start.inputs)
    reader = RunReader(bus, own_starts(start.snapshot))
    try:
        for entry in read_range(bus, journal_topic(task.service), task.partition, start.journal, end):
            for run in decode(entry.topic, entry.value).runs:
                if run.own_producer or run.next_offset > handled.get(TopicPartition(run.topic, run.partition), 0):
                    yield from reader.take(run)
        taken = reader.positions()
    finally:
        reader.close()
    for at, until in unjournalled.items():
        first = max(handled.get(at, 0), taken.get(at, 0))
        if end == 0:
            first = max(first, bus.beginning_offsets([at])[at])
        yield from read_range(bus, at.topic, at.partition, first, until)


def read_from(bus: Bus, at: TopicPartition, offset: int) -> Iterator[Record]:
    """Yield what was committed to a partition from an offset on, or from the oldest record kept if that is later."""
    begin, end = bus.beginning_offsets([at])[at], bus.end_offsets([at])[at]
    yield from read_range(bus, at.topic, at.partition, max(begin, offset), end)


def verify_service(
    service: str, core: Core, inputs: Sequence[Input], bus: Bus, task: Task | None = None, decode: Decode = decode_any
) -> Verification:
    """Replay a task of one service, its only one by default, from the oldest possible place and compare key and payload
    of everything it published since, in order, topic by topic.

    The session may go on meanwhile: it is compared up to where it stands now, and from a later place where retention
    removed what followed the first one. Raises `BusError` where there is no place to start from.
    """
    task = task or Task(service)
    start = find_start(bus, task, decode)
    for _ in range(_STARTS):
        found: Verification | OffsetGone
        try:
            found = _verify_from(start, task, core, inputs, bus, decode)
        except OffsetGone as error:
            found = error
        if isinstance(found, Verification) and found.difference is None:
            return found
        later = find_start(bus, task, decode)
        if later == start:
            if isinstance(found, OffsetGone):
                raise found
            return found
        # It begins at a snapshot, which is all of a core's state.
        start = later
    raise BusError(f"{task.name} cannot be replayed: retention removes its records faster than they are read")


def _verify_from(
    start: Start, task: Task, core: Core, inputs: Sequence[Input], bus: Bus, decode: Decode
) -> Verification:
    topics = output_topics(task.service)
    # In this order: whatever stands below the ends is of the inputs, whatever the inputs led to is recorded.
    ends = bus.end_offsets(task.places(bus.topics(), topics))
    unhandled = _unhandled(bus, task, inputs)
    records = journalled_inputs(task, inputs, bus, start, decode)
    recorded = {topic: _recorded(bus, topic, task, start) for topic in topics}
    result = Verification(task.name, counts=dict.fromkeys(topics, 0), verified_from=start.describe())
    handler = _handler(task, core, inputs, start, decode)
    for record in records:
        outputs = handler.handle(record).outputs
        expectations = [next(recorded[output.topic], None) for output in outputs]
        if outputs and expectations[0] is None and record.offset >= unhandled.get(_place(record), record.offset + 1):
            break
        result.inputs += 1
        for output, expected in zip(outputs, expectations, strict=True):
            if expected is None or (expected.key, expected.value) != (output.key, output.payload):
                result.difference = _difference(result, output.topic, expected, output, record)
                return result
            result.outputs += 1
            result.counts[output.topic] += 1
    for topic in topics:
        surplus = next(recorded[topic], None)
        if surplus is not None and surplus.offset < ends[_place(surplus)]:
            result.difference = _difference(result, topic, surplus, None, None)
            return result
    return result


def _unhandled(bus: Bus, task: Task, inputs: Sequence[Input]) -> Mapping[TopicPartition, int]:
    """Return from where on a task without a journal may not have handled its input; nothing for one that keeps one."""
    journal = TopicPartition(journal_topic(task.service), task.partition)
    if bus.end_offsets([journal])[journal]:
        return {}
    places = task.places(bus.topics(), [each.topic for each in inputs])
    return {at: offset or 0 for at, offset in bus.committed(task.group, places).items()}


def _place(record: Record) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)


def _handler(task: Task, core: Core, inputs: Sequence[Input], start: Start, decode: Decode = decode_any) -> CoreHandler:
    handler = CoreHandler(task.service, core, inputs, task, decode)
    if start.snapshot is not None:
        handler.restore(start.snapshot.core, start.snapshot.seen)
    return handler


@dataclass(frozen=True, slots=True)
class StateAt:
    """A task's state at a market time: after how many inputs, the last of them, and the kept values (None: none)."""

    service: str
    inputs: int
    last_input: dict[str, Any] | None
    state: dict[str, Any] | None
    replayed_from: dict[str, Any] | None


def read_state(
    service: str, core: Core, inputs: Sequence[Input], bus: Bus, at: int, task: Task | None = None
) -> StateAt:
    """Replay a task of one service up to a market time (ns) and return its state there.

    It ends before the first input behind that time; commands of control, which carry a clock of their own, do not end
    it. Raises `BusError` where there is no place to start from.
    """
    task = task or Task(service)
    start = find_start(bus, task)
    handler = _handler(task, core, inputs, start)
    count = 0
    last: dict[str, Any] | None = None
    for record in journalled_inputs(task, inputs, bus, start):
        event_id, event_time = _name_and_time(record)
        if event_time > at and record.topic not in CONTROL_TOPICS:
            break
        handler.handle(record)
        count += 1
        last = {
            "place": f"{record.topic}/{record.partition}@{record.offset}",
            "event_id": event_id,
            "event_time": event_time,
        }
    return StateAt(task.name, count, last, describe_state(core.snapshot()), start.describe())


def _name_and_time(record: Record) -> tuple[str, int]:
    try:
        event = decode(record.topic, record.value)
    except DecodeError:
        return "", 0
    return event.event_id, event.event_time


@dataclass(slots=True)
class Decisions:
    """What a task decides differently under other settings; the first differences are described.

    The inputs are the recorded ones throughout, so a decision that would have changed later inputs is not followed.
    """

    service: str
    inputs: int = 0
    agreed: int = 0
    changed: int = 0
    missing: int = 0
    added: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)
    compared_from: dict[str, Any] | None = None


def compare_decisions(
    service: str, core: Core, inputs: Sequence[Input], bus: Bus, task: Task | None = None
) -> Decisions:
    """Replay a task of one service, its only one by default, from the oldest possible place and compare what it decides
    with what it decided, by event id.

    Raises `BusError` where there is no place to start from.
    """
    task = task or Task(service)
    start = find_start(bus, task)
    ends = bus.end_offsets(task.places(bus.topics(), output_topics(service)))
    records = journalled_inputs(task, inputs, bus, start)
    recorded: dict[tuple[str, str], str] = {}
    later: set[tuple[str, str]] = set()
    for topic in output_topics(service):
        if topic in _NO_DECISIONS or topic.startswith("dead."):
            continue
        for record in _recorded(bus, topic, task, start):
            event = decode(topic, record.value)
            recorded[(topic, event.event_id)] = _decision(event)
            if record.offset >= ends[_place(record)]:
                later.add((topic, event.event_id))
    result = Decisions(task.name, compared_from=start.describe())
    handler = _handler(task, core, inputs, start)
    for record in records:
        result.inputs += 1
        for output in handler.handle(record).outputs:
            if output.topic in _NO_DECISIONS or output.topic.startswith("dead."):
                continue
            event = decode(output.topic, output.payload)
            before = recorded.pop((output.topic, event.event_id), None)
            now = _decision(event)
            if before == now:
                result.agreed += 1
                continue
            result.changed += before is not None
            result.added += before is None
            _note(result, output.topic, event.event_id, before or "nothing", now)
    recorded = {key: before for key, before in recorded.items() if key not in later}
    result.missing = len(recorded)
    for (topic, event_id), before in recorded.items():
        _note(result, topic, event_id, before, "nothing")
    return result


def _note(result: Decisions, topic: str, event_id: str, recorded: str, replayed: str) -> None:
    if len(result.examples) < _SHOWN_DECISIONS:
        result.examples.append({"topic": topic, "event_id": event_id, "recorded": recorded, "replayed": replayed})


def _decision(event: Event) -> str:
    """Say what was decided, without the numbers and limits that were weighed."""
    if isinstance(event, OrderApproved):
        intent = event.intent
        return f"approved {intent.side.name} {intent.quantity} reduce_only={intent.reduce_only}"
    if isinstance(event, OrderRefused):
        return "refused: " + "; ".join(check.name for check in event.checks if not check.has_passed)
    return str(event)


def _recorded(bus: Bus, topic: str, task: Task, start: Start) -> Iterator[Record]:
    repeats: set[bytes] = set()
    places = task.places(bus.topics(), [topic])
    for record in chain.from_iterable(read_from(bus, at, start.outputs.get(at, 0)) for at in places):
        if producer_of(record.headers) != task.name:
            continue
        if TOPICS[topic].may_repeat:
            # An at-least-once producer may have written a record twice; its readers drop the second.
            if record.value in repeats:
                continue
            repeats.add(record.value)
        yield record


def _difference(
    result: Verification, topic: str, recorded: Record | None, replayed: Encoded | None, cause: Record | None
) -> Difference:
    return Difference(
        topic=topic,
        index=result.counts[topic],
        recorded_offset=None if recorded is None else recorded.offset,
        recorded="nothing" if recorded is None else _describe(topic, recorded.value),
        replayed="nothing" if replayed is None else _describe(topic, replayed.payload),
        cause="end of inputs" if cause is None else f"{cause.topic}/{cause.partition}@{cause.offset}",
    )


def _describe(topic: str, payload: bytes) -> str:
    try:
        return str(decode_any(topic, payload))
    except DecodeError as error:
        return f"{payload.hex()} ({error})"
