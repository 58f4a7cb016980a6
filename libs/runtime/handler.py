"""What happens to one record, the same live, in recovery and in replay: filter, decode, drop repeats, call the core."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from libs.bus.api import Record
from libs.domain.events import Core, Event, MarketReader, Unhandleable, UnreadableControlHandler
from libs.domain.state import StateMismatch
from libs.runtime.errors import BadInput
from libs.runtime.placement import Task
from libs.runtime.records import KIND
from libs.wire import DecodeError, Encoded, decode_any, encode
from libs.wire.records import DeadLetter, encode_dead_letter
from libs.wire.topics import CONTROL_TOPICS, MARKET_EVENTS, dead_topic

SEEN_WINDOW = 2048
Decode: TypeAlias = Callable[[str, bytes], Any]


@dataclass(frozen=True, slots=True)
class Input:
    """A topic a service reads; with `kinds`, only records of these kinds reach the core; a header names the kind."""

    topic: str
    kinds: frozenset[str] | None = None


def inputs_of(core: Core, inputs: Sequence[Input]) -> tuple[Input, ...]:
    """Return what this very core reads of its service's inputs: of the market no more than it asks for."""
    return tuple(each for each in _narrow(core, inputs) if each.kinds is None or each.kinds)


def _narrow(core: Core, inputs: Sequence[Input]) -> Sequence[Input]:
    if not isinstance(core, MarketReader):
        return inputs
    wanted = core.market_kinds
    return [
        replace(each, kinds=wanted if each.kinds is None else each.kinds & wanted)
        if each.topic == MARKET_EVENTS
        else each
        for each in inputs
    ]


class SeenWindow:
    """The last ids of one partition, to drop what an at-least-once producer sent again."""

    __slots__ = ("_ids", "_order")

    def __init__(self, event_ids: Iterable[str] = ()) -> None:
        self._order = deque(event_ids, SEEN_WINDOW)
        self._ids = set(self._order)

    def add(self, event_id: str) -> bool:
        """Remember an id; False when it was among the last ones already."""
        if event_id in self._ids:
            return False
        if len(self._order) == SEEN_WINDOW:
            self._ids.discard(self._order[0])
        self._order.append(event_id)
        self._ids.add(event_id)
        return True

    def event_ids(self) -> tuple[str, ...]:
        """Return the ids, oldest first."""
        return tuple(self._order)


@dataclass(frozen=True, slots=True)
class Handled:
    """The outcome of one record: what to publish, and the dead letter in it. Nothing for filtered and repeated ones."""

    outputs: Sequence[Encoded] = ()
    dead: DeadLetter | None = None
    is_repeat: bool = False
    event_id: str = ""


NOTHING = Handled()
REPEAT = Handled(is_repeat=True)


class CoreHandler:
    """Feeds records to a core, those that concern its task. Its state is the core's plus the windows of seen ids.

    `decode` reads a topic's payload; a caller that feeds the same records to many cores may give one that remembers.
    """

    def __init__(
        self, service: str, core: Core, inputs: Sequence[Input], task: Task | None = None, decode: Decode = decode_any
    ) -> None:
        self.service = service
        self.core = core
        self._decode = decode
        self._takes = None if task is None or task.instruments is None else task.takes
        self._kinds = {
            each.topic: None if each.kinds is None else frozenset(kind.encode() for kind in each.kinds)
            for each in _narrow(core, inputs)
        }
        self._seen: dict[tuple[str, int], SeenWindow] = {}

    def handle(self, record: Record, *, withholds: bool = False) -> Handled:
        """Take one record. Whatever the core raises beyond `Unhandleable` passes through and must stop the process.

        With `withholds` what the core returns is not encoded and not handed on: it was committed before.
        """
        kinds = self._kinds[record.topic]
        if kinds is not None and record.headers.get(KIND) not in kinds and KIND in record.headers:
            return NOTHING
        if self._takes is not None and not self._takes(record.topic, record.key):
            return NOTHING
        try:
            event: Event = self._decode(record.topic, record.value)
        except DecodeError as error:
            return self._undecodable(record, error)
        where = (record.topic, record.partition)
        seen = self._seen.get(where)
        if seen is None:
            seen = self._seen[where] = SeenWindow()
        if not seen.add(event.event_id):
            return REPEAT
        try:
            outputs: Sequence[Event] = self.core.handle(event)
        except Unhandleable as error:
            dead = self._dead(record, f"unhandleable: {error}")
            return Handled([encode_dead(dead)], dead, event_id=event.event_id)
        if withholds or not outputs:
            return NOTHING
        return Handled([encode(output) for output in outputs])

    def seen(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """Return the windows of ids for a snapshot."""
        return {where: window.event_ids() for where, window in self._seen.items()}

    def restore(self, core: bytes, seen: dict[tuple[str, int], tuple[str, ...]]) -> None:
        """Take over a snapshot. Raises `BadInput` where the core cannot go on from it."""
        try:
            self.core.restore(core)
        except StateMismatch as error:
            raise BadInput(str(error)) from error
        self._seen = {where: SeenWindow(event_ids) for where, event_ids in seen.items()}

    def _undecodable(self, record: Record, error: DecodeError) -> Handled:
        dead = self._dead(record, f"undecodable: {error}")
        outputs: Sequence[Event] = ()
        if record.topic in CONTROL_TOPICS and isinstance(self.core, UnreadableControlHandler):
            outputs = self.core.handle_unreadable_control(str(error))
        return Handled([encode_dead(dead), *(encode(output) for output in outputs)], dead)

    def _dead(self, record: Record, reason: str) -> DeadLetter:
        return DeadLetter(self.service, reason, record.topic, record.partition, record.offset, record.key, record.value)


def encode_dead(letter: DeadLetter) -> Encoded:
    """Write a dead letter for its topic, keyed as its source was."""
    return Encoded(dead_topic(letter.source_topic), letter.key, encode_dead_letter(letter), "dead_letter")
