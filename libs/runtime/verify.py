"""Replay: feed a core the inputs of a recorded session in journalled order and hold every output against the record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from libs.bus.api import Bus, Record
from libs.domain.events import Core, Event
from libs.domain.orders import OrderApproved, OrderRefused
from libs.runtime.handler import CoreHandler, Input, encode_dead
from libs.runtime.records import RunReader, producer_of, read_topic
from libs.wire import DecodeError, Encoded, decode, decode_any
from libs.wire.records import decode_journal_entry
from libs.wire.topics import ALERTS, CONTROL_STATES, TOPICS, dead_topic, journal_topic

# They say which settings are in force; they decide nothing.
_NO_DECISIONS = frozenset({CONTROL_STATES, ALERTS})
_SHOWN_DECISIONS = 20


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
    """The outcome for one service."""

    service: str
    inputs: int = 0
    outputs: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    difference: Difference | None = None


def output_topics(service: str, inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return every topic that a service's handler may write, by the registry."""
    data = tuple(
        name
        for name, topic in TOPICS.items()
        if service in topic.producers and not name.startswith(("journal.", "state.", "dead."))
    )
    return data + tuple(dead_topic(each.topic) for each in inputs)


def journalled_inputs(service: str, inputs: Sequence[Input], bus: Bus) -> Iterator[Record]:
    """Yield a session's inputs of a service in the order in which it consumed them.

    A service that keeps no journal (Faust) has one input, whose order is the partition's.
    """
    reader = RunReader(bus)
    is_journalled = False
    try:
        for entry in read_topic(bus, journal_topic(service)):
            is_journalled = True
            for run in decode_journal_entry(entry.value).runs:
                yield from reader.take(run)
    finally:
        reader.close()
    if not is_journalled and len(inputs) == 1:
        yield from read_topic(bus, inputs[0].topic)


def verify_service(service: str, core: Core, inputs: Sequence[Input], bus: Bus) -> Verification:
    """Replay one service and compare key and payload of everything it published, in order, topic by topic."""
    topics = output_topics(service, inputs)
    recorded = {topic: _recorded(bus, topic, service) for topic in topics}
    result = Verification(service, counts=dict.fromkeys(topics, 0))
    handler = CoreHandler(service, core, inputs)
    for record in journalled_inputs(service, inputs, bus):
        result.inputs += 1
        handled = handler.handle(record)
        outputs = handled.outputs if handled.dead is None else [encode_dead(handled.dead)]
        for output in outputs:
            expected = next(recorded[output.topic], None)
            if expected is None or (expected.key, expected.value) != (output.key, output.payload):
                result.difference = _difference(result, output.topic, expected, output, record)
                return result
            result.outputs += 1
            result.counts[output.topic] += 1
    for topic in topics:
        surplus = next(recorded[topic], None)
        if surplus is not None:
            result.difference = _difference(result, topic, surplus, None, None)
            return result
    return result


@dataclass(slots=True)
class Decisions:
    """What a service decides differently under other settings; the first differences are told in words.

    The inputs are the recorded ones throughout, so a decision that would have changed later inputs is not followed.
    """

    service: str
    inputs: int = 0
    agreed: int = 0
    changed: int = 0
    missing: int = 0
    added: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)


def compare_decisions(service: str, core: Core, inputs: Sequence[Input], bus: Bus) -> Decisions:
    """Replay one service and compare what it decides with what it decided, by event id."""
    recorded: dict[tuple[str, str], str] = {}
    for topic in output_topics(service, inputs):
        if topic in _NO_DECISIONS or topic.startswith("dead."):
            continue
        for record in _recorded(bus, topic, service):
            event = decode(topic, record.value)
            recorded[(topic, event.event_id)] = _decision(event)
    result = Decisions(service)
    handler = CoreHandler(service, core, inputs)
    for record in journalled_inputs(service, inputs, bus):
        result.inputs += 1
        for output in handler.handle(record).outputs:
            if output.topic in _NO_DECISIONS:
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


def _recorded(bus: Bus, topic: str, service: str) -> Iterator[Record]:
    repeats: set[bytes] = set()
    for record in read_topic(bus, topic):
        if producer_of(record.headers) != service:
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
