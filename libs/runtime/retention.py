"""Removes old records: one pass for every bus, which never takes what somebody still needs.

A record goes once it is older than its topic keeps records and nobody needs it any more::

    unread          at or behind the committed offset of a group of the registry             kept
    recovery        behind the newest snapshot of a service: its journal, inputs, outputs    kept
    verification    a snapshot, its journal and outputs stay as long as its inputs do: all
                    behind the oldest snapshot whose later inputs and outputs survive        kept

So journals and snapshots go with the inputs that they follow, topics that are kept for ever keep everything, and the
newest record of a topic always stays. Bounds only rise, so a pass over a running session is safe, and so are two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

import structlog
from prometheus_client import Counter, Gauge

from libs.bus.api import Bus, TopicPartition
from libs.clock import SYSTEM_ENTROPY, Clock, Entropy
from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand
from libs.runtime.control_commands import TOKEN_BYTES, append_commands
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import ONE_PARTITION, Placement
from libs.runtime.records import read_last
from libs.runtime.snapshots import (
    JOURNALLED_SERVICES,
    SnapshotPlace,
    group_topics,
    input_places,
    output_topics,
    partitions_of,
    read_snapshots,
)
from libs.wire.topics import TOPICS, journal_topic, state_topic

_SOURCE_STATE = state_topic("ingestion")
# What ages are shortened to, one after the other, where the log is over its bound: from half a week to a minute.
_AGES_MS = (*(302_400_000 >> halved for halved in range(13)), 60_000)


@dataclass(slots=True)
class Removal:
    """What one pass removed: the new first offset of each partition that was cut, how many offsets that took, and who
    held back records that are over age."""

    begins: dict[TopicPartition, int] = field(default_factory=dict)
    removed: dict[TopicPartition, int] = field(default_factory=dict)
    held: dict[TopicPartition, str] = field(default_factory=dict)


class RetentionPass:
    """Applies retention to one bus, as often as `apply` is called. `max_age_ms` shortens every age that is not for
    ever."""

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        *,
        max_age_ms: int | None = None,
        placement: Placement = ONE_PARTITION,
    ) -> None:
        self._bus = bus
        self._placement = placement
        self._max_age_ms = max_age_ms
        self._clock = clock
        self._snapshots: dict[tuple[str, int], list[SnapshotPlace]] = {}

    def apply(self, *, max_age_ms: int | None = None) -> Removal:
        """Remove what nobody needs any more; `max_age_ms` shortens the ages of this pass further."""
        places = partitions_of(self._bus, tuple(TOPICS))
        begins = dict(self._bus.beginning_offsets(places))
        bounds = _Bounds(self._find_over_age(places, begins, max_age_ms))
        for service in JOURNALLED_SERVICES:
            for task in self._placement.tasks(service):
                self._keep_unread(task.group, input_places(self._bus, task), begins, bounds)
        self._keep_unread("recorder", partitions_of(self._bus, group_topics("recorder")), begins, bounds)
        tasks = self._read_tasks(begins)
        for each in tasks:
            each.keep_newest(begins, bounds)
        # Nobody lowers the bounds of inputs and outputs any more: what lies behind them survives this pass.
        expected = dict(bounds.offsets)
        for each in tasks:
            each.let_go(begins, expected, bounds)
        self._keep_last_cursor(bounds)
        cut = {at: offset for at, offset in bounds.offsets.items() if offset > begins[at]}
        self._bus.delete_before(cut)
        return Removal(cut, {at: offset - begins[at] for at, offset in cut.items()}, bounds.holders)

    def _find_over_age(
        self, places: list[TopicPartition], begins: Mapping[TopicPartition, int], max_age_ms: int | None
    ) -> dict[TopicPartition, int]:
        longest_ms = min((each for each in (self._max_age_ms, max_age_ms) if each is not None), default=None)
        now_ms = self._clock.now_ns() // 1_000_000
        since: dict[TopicPartition, int] = {}
        for at in places:
            age_ms = TOPICS[at.topic].retention_ms
            if age_ms > 0:
                since[at] = now_ms - (age_ms if longest_ms is None else min(age_ms, longest_ms))
        found = dict(self._bus.offsets_for_times(since))
        ends = self._bus.end_offsets(found)
        for at, offset in found.items():
            if offset >= ends[at] > begins[at]:
                # All of it is over age: who asks for the state in force still finds it.
                last = read_last(self._bus, at.topic, at.partition)
                found[at] = begins[at] if last is None else last.offset
        return {**begins, **found}

    def _keep_unread(
        self, group: str, places: list[TopicPartition], begins: Mapping[TopicPartition, int], bounds: _Bounds
    ) -> None:
        for at, offset in self._bus.committed(group, [at for at in places if at in begins]).items():
            bounds.keep(at, begins[at] if offset is None else offset, f"group {group}")

    def _read_tasks(self, begins: Mapping[TopicPartition, int]) -> list[_TaskRecords]:
        tasks = []
        counts = self._bus.topics()
        for service in JOURNALLED_SERVICES:
            for task in self._placement.tasks(service):
                state = TopicPartition(state_topic(service), task.partition)
                journal = TopicPartition(journal_topic(service), task.partition)
                if state not in begins or journal not in begins:
                    continue
                inputs = [at for at in input_places(self._bus, task) if at in begins]
                outputs = [at for at in task.places(counts, output_topics(service)) if at in begins]
                has_run = self._bus.end_offsets([journal])[journal] > 0
                snapshots = self._read_snapshots(service, state, begins[state])
                tasks.append(_TaskRecords(task.name, inputs, outputs, journal, state, has_run, snapshots))
        return tasks

    def _read_snapshots(self, service: str, state: TopicPartition, begin: int) -> list[SnapshotPlace]:
        known = self._snapshots.setdefault((service, state.partition), [])
        known[:] = [each for each in known if each.offset >= begin]
        first = known[-1].offset + 1 if known else begin
        end = self._bus.end_offsets([state])[state]
        known += (place for place, _ in read_snapshots(self._bus, service, state.partition, first, end))
        return known

    def _keep_last_cursor(self, bounds: _Bounds) -> None:
        # A source goes on behind its last cursor; no other is ever read again.
        for at in partitions_of(self._bus, [_SOURCE_STATE]):
            last = read_last(self._bus, at.topic, at.partition)
            if last is not None:
                bounds.remove_before(at, last.offset)


@dataclass(frozen=True, slots=True)
class _TaskRecords:
    """A task of a session: what it reads and writes, and its snapshots, oldest first."""

    name: str
    inputs: list[TopicPartition]
    outputs: list[TopicPartition]
    journal: TopicPartition
    state: TopicPartition
    has_run: bool
    snapshots: list[SnapshotPlace]

    def keep_newest(self, begins: Mapping[TopicPartition, int], bounds: _Bounds) -> None:
        """Keep what follows the newest snapshot; everything where there is none."""
        if not self.snapshots:
            for at in (*self.inputs, *(self.outputs if self.has_run else ())):
                bounds.keep(at, begins[at], f"{self.name}, which has no snapshot yet")
            return
        newest = self.snapshots[-1]
        for at in self.inputs:
            bounds.keep(at, newest.inputs.get(at, begins[at]), f"the newest snapshot of {self.name}")
        if newest.outputs is not None:
            for at in self.outputs:
                bounds.keep(at, newest.outputs.get(at, begins[at]), f"the newest snapshot of {self.name}")

    def let_go(
        self, begins: Mapping[TopicPartition, int], expected: Mapping[TopicPartition, int], bounds: _Bounds
    ) -> None:
        """Give up journal and snapshots behind the oldest snapshot that is of use after this pass."""
        is_cut = any(expected[at] > begins[at] for at in (*self.inputs, *self.outputs))
        is_whole = begins[self.journal] == begins[self.state] == 0 and not is_cut
        # Where it is whole it can be verified from its very beginning, and still can after this pass.
        if not self.snapshots or is_whole:
            return
        useful = (each for each in self.snapshots if each.survives(self.inputs, self.outputs, expected))
        oldest = next(useful, self.snapshots[-1])
        bounds.remove_before(self.journal, oldest.journal)
        bounds.remove_before(self.state, oldest.offset)


class _Bounds:
    """The offset before which each partition may be cut, and who lowered it last."""

    def __init__(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.offsets = dict(offsets)
        self.holders: dict[TopicPartition, str] = {}
        self._kept: dict[TopicPartition, int] = {}

    def keep(self, at: TopicPartition, offset: int, holder: str) -> None:
        self._kept[at] = min(offset, self._kept.get(at, offset))
        if offset < self.offsets[at]:
            self.offsets[at] = offset
            self.holders[at] = holder

    def remove_before(self, at: TopicPartition, offset: int) -> None:
        """Let go of what lies before an offset, short of what was said to be kept."""
        self.offsets[at] = max(self.offsets[at], min(offset, self._kept.get(at, offset)))


@runtime_checkable
class SizedBus(Protocol):
    """A bus whose records take up a known space on this machine."""

    def size_bytes(self) -> int:
        """Return how much of it is in use."""
        ...


@dataclass(frozen=True, slots=True)
class RetentionTimes:
    """How often a pass runs, and what shortens the ages of topics that are not kept for ever; seconds.

    `max_bytes` bounds the log of a bus that knows its size: beyond it records go at a younger age, down to a minute.
    """

    every_s: float
    max_age_s: float | None = None
    max_bytes: int | None = None


def apply_within(retention: RetentionPass, bus: Bus, max_bytes: int | None) -> tuple[Removal, int]:
    """Apply retention, at ever younger ages while the log is larger than its bound; return what went, and by how many
    bytes the log is over its bound still: what somebody needs is never taken.
    """
    removal = retention.apply()
    if max_bytes is None or not isinstance(bus, SizedBus):
        return removal, 0
    for age_ms in _AGES_MS:
        if bus.size_bytes() <= max_bytes:
            break
        further = retention.apply(max_age_ms=age_ms)
        removal.begins |= further.begins
        for at, count in further.removed.items():
            removal.removed[at] = removal.removed.get(at, 0) + count
        removal.held = further.held
    return removal, max(0, bus.size_bytes() - max_bytes)


def halt_trading(bus: Bus, service: str, over_bytes: int, clock: Clock, entropy: Entropy) -> None:
    """Halt all accounts: the log grows beyond its bound, and a full disk would stop the session anywhere."""
    reason = f"the log is {over_bytes:,} bytes over its bound and everything in it is still needed; free what holds it"
    command_id = f"control/{service}/{entropy.token_hex(TOKEN_BYTES)}"
    command = ControlCommand(command_id, clock.now_ns(), ALL_ACCOUNTS, ControlAction.HALT, service, reason)
    append_commands(bus, service, [command], actor="retention", source_address="", clock=clock, entropy=entropy)


class RetentionThread:
    """Runs passes while its block runs, with a bus of its own. One process of a session has it: the recorder.

    A log that is over its bound with nothing more to remove halts trading, once each time that it becomes so.
    A pass that fails is logged and counted, and the next one tries again: meanwhile only disk space is lost.
    """

    def __init__(
        self,
        service: str,
        open_bus: Callable[[], Bus],
        clock: Clock,
        times: RetentionTimes,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        placement: Placement = ONE_PARTITION,
        *,
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._service = service
        self._placement = placement
        self._open_bus = open_bus
        self._clock = clock
        self._logger = logger
        self._every_s = times.every_s
        self._max_age_ms = None if times.max_age_s is None else int(times.max_age_s * 1000)
        self._max_bytes = times.max_bytes
        self._is_over = False
        self._entropy = entropy
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)
        labels, registry = ("service",), metrics.registry
        self._passes = Counter(
            "perpflow_retention_passes", "Retention passes that ended well", labels, registry=registry
        )
        self._failures = Counter(
            "perpflow_retention_failures", "Retention passes that failed", labels, registry=registry
        )
        self._removed = Counter(
            "perpflow_retention_removed", "Offsets removed by retention", ("service", "topic"), registry=registry
        )
        self._held = Gauge(
            "perpflow_retention_held_partitions",
            "Partitions with records over age that somebody still needs",
            labels,
            registry=registry,
        )

        self._over = Gauge(
            "perpflow_log_over_bytes",
            "By how much the log is larger than its bound though nothing more may go",
            labels,
            registry=registry,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every_s):
            try:
                with self._open_bus() as bus:
                    self._apply_while_well(bus)
            except Exception as error:
                self._failures.labels(self._service).inc()
                self._logger.exception("retention failed; nothing that is needed was removed", reason=str(error))

    def _apply_while_well(self, bus: Bus) -> None:
        # One bus for all of them: what was learnt of the snapshots stays known.
        retention = RetentionPass(bus, self._clock, max_age_ms=self._max_age_ms, placement=self._placement)
        while True:
            removal, over_bytes = apply_within(retention, bus, self._max_bytes)
            self._note(removal, over_bytes)
            if over_bytes and not self._is_over:
                halt_trading(bus, self._service, over_bytes, self._clock, self._entropy)
            self._is_over = over_bytes > 0
            if self._stopped.wait(self._every_s):
                return

    def _note(self, removal: Removal, over_bytes: int) -> None:
        self._over.labels(self._service).set(over_bytes)
        if over_bytes:
            self._logger.error(
                "the log is over its bound and everything in it is still needed",
                over_bytes=over_bytes,
                held={f"{at.topic}/{at.partition}": holder for at, holder in removal.held.items()},
            )
        self._passes.labels(self._service).inc()
        self._held.labels(self._service).set(len(removal.held))
        for at, count in removal.removed.items():
            self._removed.labels(self._service, at.topic).inc(count)
        self._logger.info(
            "retention applied",
            removed=sum(removal.removed.values()),
            begins={f"{at.topic}/{at.partition}": begin for at, begin in removal.begins.items()},
            held={f"{at.topic}/{at.partition}": holder for at, holder in removal.held.items()},
        )
