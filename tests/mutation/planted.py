"""Defects of the kind that only mishaps show, planted one at a time into the running platform.

Each is a context manager that changes live code and puts it back; `perpflow simulate` must find every one of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from libs.bus import memory
from libs.bus.api import BusError, Consumer, Producer, Record
from libs.domain.accounts import Position
from libs.domain.control import ControlAction, ControlCommand, TradingControl
from libs.runtime import control_lane, handler, records, retention, shell, snapshots
from services.execution.core import ExecutionCore, order_steps
from services.execution.core import execution as execution_core
from services.execution.core.outbox import OutboxCore
from services.execution.core.outbox_state import Step, StepKind
from services.execution.outbox_shell import OutboxShell
from services.recorder.loop import RecorderLoop
from services.risk.core import RiskCore
from services.strategy.core import StrategyCore

Plant = Callable[[], AbstractContextManager[None]]


@contextmanager
def _changed(place: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def _offsets_before_outputs() -> AbstractContextManager[None]:
    original = shell.commit_records

    def commit(producer: Producer, records: Any, consumer: Consumer | None = None, offsets: Any = None) -> None:
        if consumer is not None:
            original(producer, [], consumer, offsets)
        original(producer, records)

    return _changed(shell, "commit_records", commit)


def _outputs_before_offsets() -> AbstractContextManager[None]:
    original = shell.commit_records

    def commit(producer: Producer, records: Any, consumer: Consumer | None = None, offsets: Any = None) -> None:
        original(producer, [record for record in records if not record.topic.startswith("journal.")])
        if consumer is not None:
            original(producer, [record for record in records if record.topic.startswith("journal.")], consumer, offsets)

    return _changed(shell, "commit_records", commit)


@contextmanager
def _no_fence() -> Iterator[None]:
    def commit(producer: Any) -> None:
        log = producer._log
        with log.changed:
            log.append(producer._rows)
            for consumer, offsets in producer._offsets:
                consumer.write_offsets(offsets)
        producer._clear()

    def follow(consumer: Any, group_name: str) -> None:
        consumer._token = consumer._log.groups[group_name].members[consumer._member].token
        original(consumer, group_name)

    original = memory.MemoryConsumer._follow_group
    with _changed(memory.MemoryProducer, "commit", commit), _changed(memory.MemoryConsumer, "_follow_group", follow):
        yield


def _repeats_are_handled() -> AbstractContextManager[None]:
    return _changed(handler.SeenWindow, "add", lambda _window, _event_id: True)


def _seen_ids_are_forgotten() -> AbstractContextManager[None]:
    return _changed(handler.CoreHandler, "seen", lambda _handler: {})


@contextmanager
def _commands_wait_their_turn() -> Iterator[None]:
    def in_order(_lane: Any, records: Sequence[Record]) -> Sequence[Record]:
        return records

    with (
        _changed(control_lane.ControlLane, "put_first", in_order),
        _changed(control_lane.ControlLane, "check", lambda _lane, _topics: None),
    ):
        yield


def _no_look_before_commit() -> AbstractContextManager[None]:
    return _changed(control_lane.ControlLane, "check", lambda _lane, _topics: None)


def _snapshot_names_a_later_entry() -> AbstractContextManager[None]:
    original = snapshots.encode_core_snapshot

    def encode(snapshot: Any) -> bytes:
        return original(replace(snapshot, journal_next_offset=snapshot.journal_next_offset + 1))

    return _changed(snapshots, "encode_core_snapshot", encode)


def _snapshot_is_an_older_one() -> AbstractContextManager[None]:
    """The state in a snapshot is the first one ever taken, its positions are right: what lies between is lost."""
    original = StrategyCore.snapshot
    kept: dict[int, bytes] = {}

    def snapshot(core: Any) -> bytes:
        return kept.setdefault(id(core), original(core))

    return _changed(StrategyCore, "snapshot", snapshot)


def _execution_forgets_on_restart() -> AbstractContextManager[None]:
    """A field is missing in the snapshot: which intents were commanded already."""
    original = ExecutionCore.restore

    def restore(core: Any, state: bytes) -> None:
        original(core, state)
        core._intents.clear()
        core._orders.clear()

    return _changed(ExecutionCore, "restore", restore)


def _risk_forgets_on_restart() -> AbstractContextManager[None]:
    """The whole state is missing in the snapshot."""
    return _changed(RiskCore, "restore", lambda _core, _state: None)


def _recovery_stops_one_record_early() -> AbstractContextManager[None]:
    original = records.RunReader.take

    def take(reader: Any, run: Any) -> Iterator[Record]:
        records = list(original(reader, run))
        yield from records[:-1] if len(records) > 1 else records

    return _changed(records.RunReader, "take", take)


def _bus_error_is_swallowed() -> AbstractContextManager[None]:
    original = shell.CoreShell.step

    def step(self: Any, timeout_ms: int) -> int:
        try:
            return original(self, timeout_ms)
        except BusError:
            return 1

    return _changed(shell.CoreShell, "step", step)


def _order_ids_are_counted_in_the_process() -> AbstractContextManager[None]:
    original = execution_core.make_place_command
    counter = itertools.count()

    def make(*arguments: Any, **named: Any) -> Any:
        return replace(original(*arguments, **named), client_order_id=f"x{next(counter)}")

    return _changed(execution_core, "make_place_command", make)


def _a_core_counts_across_restarts() -> AbstractContextManager[None]:
    """State that lives in the process, not in the core: what is decided depends on how often it was killed."""
    original: Any = StrategyCore.handle
    counter = itertools.count()

    def handle(core: Any, event: Any) -> Any:
        return [replace(each, reason=f"{next(counter)}") for each in original(core, event)]

    return _changed(StrategyCore, "handle", handle)


def _fee_is_booked_twice() -> AbstractContextManager[None]:
    original = Position.apply_fill

    def apply(position: Position, signed_quantity: Any, price: Any, fee: Any) -> Any:
        return original(position, signed_quantity, price, fee * 2)

    return _changed(Position, "apply_fill", apply)


def _limits_take_hold_one_event_late() -> AbstractContextManager[None]:
    original = RiskCore.handle
    waiting: dict[int, list[ControlCommand]] = {}

    def handle(core: Any, event: Any) -> Any:
        if isinstance(event, ControlCommand) and event.action is ControlAction.SET_LIMITS:
            waiting.setdefault(id(core), []).append(event)
            return []
        outputs = list(original(core, event))
        for command in waiting.pop(id(core), []):
            outputs += original(core, command)
        return outputs

    return _changed(RiskCore, "handle", handle)


@contextmanager
def _halt_is_ignored() -> Iterator[None]:
    def deaf(handle: Any) -> Any:
        def wrapped(core: Any, event: Any) -> Any:
            is_halt = isinstance(event, ControlCommand) and event.action is ControlAction.HALT
            return [] if is_halt else handle(core, event)

        return wrapped

    with (
        _changed(RiskCore, "handle", deaf(RiskCore.handle)),
        _changed(ExecutionCore, "handle", deaf(ExecutionCore.handle)),
    ):
        yield


def _resume_of_one_scope_lifts_all_holds() -> AbstractContextManager[None]:
    return _changed(TradingControl, "resume", lambda _control, _scope: TradingControl())


def _retention_forgets_snapshots() -> AbstractContextManager[None]:
    return _changed(retention._TaskRecords, "keep_newest", lambda *_arguments: None)


def _retention_forgets_readers() -> AbstractContextManager[None]:
    return _changed(retention.RetentionPass, "_keep_unread", lambda *_arguments: None)


def _recorder_commits_before_it_writes() -> AbstractContextManager[None]:
    original = RecorderLoop.flush

    def flush(loop: Any) -> bool:
        loop._consumer.commit(loop._offsets)
        return original(loop)

    return _changed(RecorderLoop, "flush", flush)


def _order_is_sent_again_after_no_answer() -> AbstractContextManager[None]:
    original = order_steps._doubt

    def doubt(work: Any, order: Any, reason: str) -> None:
        original(work, order, reason)
        work.state.steps.appendleft(Step(StepKind.PLACE, order.command.client_order_id))

    return _changed(order_steps, "_doubt", doubt)


def _interrupted_call_counts_as_never_made() -> AbstractContextManager[None]:
    """An order that the last process may have sent is sent by the next one."""
    original = OutboxCore._on_tick
    return _changed(OutboxCore, "_on_tick", lambda core, tick: original(core, replace(tick, interrupted_call_id="")))


def _no_look_at_control_before_sending() -> AbstractContextManager[None]:
    return _changed(OutboxShell, "_hold_back", lambda _shell, _call, _taken_at: "")


PLANTED: Mapping[str, Plant] = {
    plant.__name__.strip("_"): plant
    for plant in (
        _offsets_before_outputs,
        _outputs_before_offsets,
        _no_fence,
        _repeats_are_handled,
        _seen_ids_are_forgotten,
        _commands_wait_their_turn,
        _no_look_before_commit,
        _snapshot_names_a_later_entry,
        _snapshot_is_an_older_one,
        _execution_forgets_on_restart,
        _risk_forgets_on_restart,
        _recovery_stops_one_record_early,
        _bus_error_is_swallowed,
        _order_ids_are_counted_in_the_process,
        _a_core_counts_across_restarts,
        _fee_is_booked_twice,
        _limits_take_hold_one_event_late,
        _halt_is_ignored,
        _resume_of_one_scope_lifts_all_holds,
        _retention_forgets_snapshots,
        _retention_forgets_readers,
        _recorder_commits_before_it_writes,
        _order_is_sent_again_after_no_answer,
        _interrupted_call_counts_as_never_made,
        _no_look_at_control_before_sending,
    )
}
"""Every defect by name."""
