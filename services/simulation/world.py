"""One simulated session: every core in its shell on a memory bus, a scheduler that draws who steps next, mishaps.

Nothing here reads a clock or chance of its own: a seed repeats a session exactly.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from libs.bus.api import BusError, BusFull, NewRecord, Producer
from libs.bus.memory import MemoryBus
from libs.clock import SimulatedClock
from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand
from libs.domain.events import Core
from libs.runtime.chain import ChainedCore, ChainShell
from libs.runtime.handler import Input
from libs.runtime.placement import Placement, Task, replica_name, service_of
from libs.runtime.records import commit_records, stamped_record
from libs.runtime.retention import RetentionPass
from libs.runtime.settings import CHAIN
from libs.runtime.shell import CoreShell
from libs.wire import encode
from libs.wire.topics import OUTBOX, RECORDED_TOPICS
from services.execution.core.outbox import OutboxCore
from services.execution.outbox_shell import OutboxShell
from services.recorder.loop import NAME as RECORDER
from services.recorder.loop import RecorderLoop
from services.recorder.settings import RecorderSettings
from services.simulation.bus import RoughBus, RoughCore
from services.simulation.decoding import DecodedOnce
from services.simulation.exchange import OUTBOX_ACCESS, RECONCILE_INTERVAL_S, SessionExchange, open_venue
from services.simulation.invariants import Committed
from services.simulation.market import SessionMarket
from services.simulation.mishaps import Killed, Mishaps
from services.simulation.replicas import Replica
from services.simulation.silent_metrics import SilentMetrics
from services.simulation.store import Archive, MemoryStore, read_events

_BATCHES = (2, 7, 100, 1000)
_SNAPSHOTS = (25, 100, 400, 20_000)
_CHUNKS = (2, 4, 8)
# An order's way to the venue and back takes more rounds than one on paper.
_CHUNKS_AT_VENUE = (1, 2, 4)
_IDLE_ROUNDS = 3
_RECORDER_ROUNDS = 40
_RECORDER_ROUND_S = 3.0
_REPEATED_OF = 40
# How young the oldest record that retention keeps may be; a session takes some ten minutes of simulated time.
_AGES_MS = (0, 20_000, 200_000)
# Below and above what the strategy's orders are worth.
_ORDER_LIMITS = ("200", "5000")
_HANG_STEPS = 12
# Where its tasks are shared out, a service has so many replicas; one that goes is away for up to so many rounds, some
# half a second each, within and past the time that its tasks wait for it.
_REPLICAS = 2
_LONGEST_ABSENCE = 40
# How often a second command about a halt takes it back, rather than that the other scope is halted too.
_SHARE_RESUMED = 0.85
# How likely a halt is taken back in a round: a session that stands still for most of its time shows little.
_SHARE_RESUMED_LATER = 0.05
# Beyond what any session needs: a session that never becomes quiet is a defect of its own.
_STEP_LIMIT = 200_000
# How long mishaps go on where the session does not become quiet among them; most are after a tenth of it.
_DISTURBED_STEPS = 20_000
# A difference lasts where two have found it; an order that never arrived is given up after one.
_RECONCILIATIONS = 4
_METRICS = SilentMetrics()


@dataclass(frozen=True, slots=True)
class SimulatedService:
    """A service of the simulation: its name, what it reads, and how a fresh core is made."""

    name: str
    inputs: Sequence[Input]
    build_core: Callable[[], Core]


@dataclass(slots=True)
class Instance:
    """One process of a service. `is_replaced` once another was started in its place."""

    name: str
    loop: Loop
    is_replaced: bool = False
    is_busy: bool = False


class Loop(Protocol):
    """What a process of the simulation does over and over."""

    def open(self) -> None: ...

    def step(self, timeout_ms: int) -> int: ...


class Stuck(AssertionError):
    """The session never became quiet."""


@dataclass(slots=True)
class World:
    """A session in progress. `run` takes it to its end; what it left is on `bus`."""

    seed: int
    market: SessionMarket
    services: Sequence[SimulatedService]
    mishaps: Mishaps
    recorder_settings: RecorderSettings
    outbox: Callable[[], OutboxCore] | None
    account: str
    placement: Placement
    is_fused: bool
    is_shared: bool
    logger: structlog.stdlib.BoundLogger
    clock: SimulatedClock
    rng: random.Random
    bus: MemoryBus = field(init=False)
    store: MemoryStore = field(init=False)
    archive: Archive = field(init=False)
    exchange: SessionExchange | None = field(init=False)
    decode: DecodedOnce = field(init=False)
    history: list[Committed] = field(default_factory=list)
    restarts: int = 0
    steps: int = 0
    _instances: dict[str, Instance] = field(default_factory=dict)
    _zombies: list[Instance] = field(default_factory=list)
    _absent: dict[str, int] = field(default_factory=dict)
    _owners: dict[str, str] = field(default_factory=dict)
    _retention: RetentionPass = field(init=False)
    _published: int = 0
    _commands: int = 0
    _is_hanging: bool = False
    # What is halted: the account, all accounts, or both; each is resumed by itself.
    _held: set[str] = field(default_factory=set)
    _names: tuple[str, ...] = field(init=False)
    _chunks: tuple[int, ...] = field(init=False)
    _batch: int = field(init=False)
    _snapshot_every: int = field(init=False)

    def __post_init__(self) -> None:
        self.decode = DecodedOnce(self.market.decode)
        self.bus = MemoryBus(clock=self.clock, partitioner=self.placement.choose)
        self.bus.create_topics(self.placement.topics())
        self.store = MemoryStore(self.clock, self.mishaps)
        self.archive = Archive(self.bus)
        self.exchange = None if self.outbox is None else SessionExchange(self.clock, self.mishaps)
        self._chunks = _CHUNKS if self.outbox is None else _CHUNKS_AT_VENUE
        at_venue = () if self.outbox is None else (OUTBOX,)
        cores = (CHAIN,) if self.is_fused else tuple(service.name for service in self.services)
        if self.is_shared:
            cores = tuple(replica_name(name, number) for number in range(_REPLICAS) for name in cores)
        self._names = (*cores, *at_venue, RECORDER)
        self._retention = RetentionPass(
            self.bus, self.clock, max_age_ms=self.rng.choice(_AGES_MS), placement=self.placement
        )
        self._batch = self.rng.choice(_BATCHES)
        self._snapshot_every = self.rng.choice(_SNAPSHOTS)

    def run(self) -> None:
        """Run the session until everything published was handled. Raises `Stuck` where that never comes."""
        feed = self.bus.producer("ingestion")
        for name in self._names:
            self._start(name)
        # Where mishaps are many there is always one more.
        self._becomes_quiet(feed, _DISTURBED_STEPS)
        # What is in doubt or held back is settled undisturbed.
        self.mishaps.probabilities.clear()
        self._end_zombie_replicas()
        self._absent = dict.fromkeys(self._absent, 1)
        # One process alone may have seen nothing for as long as a session counts as quiet.
        self._run_until_quiet(feed)
        if self.exchange is not None:
            self.exchange.has_ended = True
            for _ in range(_RECONCILIATIONS):
                self.clock.advance(RECONCILE_INTERVAL_S + 1.0)
                self._run_until_quiet(feed)
        # Rows wait for a second, and longer where the store was down.
        for _ in range(_RECORDER_ROUNDS):
            self.clock.advance(_RECORDER_ROUND_S)
            self._step(self._instances[RECORDER])

    def _run_until_quiet(self, feed: Producer) -> None:
        if not self._becomes_quiet(feed, _STEP_LIMIT):
            raise Stuck(f"not quiet after {self.steps} steps")

    def _becomes_quiet(self, feed: Producer, limit: int) -> bool:
        """Go on until nobody has anything to do; say whether that came before the session had taken so many steps."""
        quiet = 0
        while quiet < _IDLE_ROUNDS:
            if self.steps > limit:
                return False
            handled = self._round(feed)
            if not handled and self._held:
                # A session ends as it was begun, so that what a halt left behind is seen too.
                self._command(ControlAction.RESUME, min(self._held))
                handled = 1
            quiet = 0 if handled else quiet + 1
        return True

    def _round(self, feed: Producer) -> int:
        handled = self._come_back()
        names = list(self._names)
        self.rng.shuffle(names)
        for name in names:
            if name in self._absent:
                continue
            if self._published < len(self.market.encoded) and self.rng.random() < 0.4:
                handled += 1
                continue
            handled += self._step(self._instances[name])
        for zombie in list(self._zombies):
            self._step(zombie)
        if self._published < len(self.market.encoded):
            self._publish(feed)
            handled += 1
        if self.mishaps.strikes("halt"):
            self._halt_or_resume()
            handled += 1
        elif self._held and self.rng.random() < _SHARE_RESUMED_LATER:
            self._command(ControlAction.RESUME, self.rng.choice(sorted(self._held)))
            handled += 1
        if self.mishaps.strikes("limits"):
            self._set_limits()
            handled += 1
        if self.mishaps.strikes("retention"):
            self.archive.catch_up()
            self._retention.apply()
        self.clock.advance(self.rng.choice((0.001, 0.02, 0.2, 2.0)))
        if self.mishaps.strikes("clock_jump"):
            self.clock.set_wall(self.clock.now_ns() + self.rng.choice((-3_600, -5, 5, 3_600)) * 1_000_000_000)
        return handled

    def _step(self, instance: Instance) -> int:
        if instance.is_busy:
            return 0
        self.steps += 1
        if not instance.is_replaced:
            if self.mishaps.strikes("kill_between_steps"):
                self._replace(instance)
                return 1
            if self.mishaps.strikes("zombie"):
                # It is taken for dead, is not, and goes on beside its successor.
                self._replace(instance)
                self._zombies.append(instance)
                return 1
            if isinstance(instance.loop, Replica) and self.mishaps.strikes("replica_leaves"):
                self._leave(instance, instance.loop)
                return 1
        instance.is_busy = True
        try:
            handled = instance.loop.step(0)
        except (Killed, BusError) as error:
            if instance.is_replaced:
                self._zombies.remove(instance)
                if not isinstance(error, Killed):
                    self.mishaps.counts["zombie_refused"] += 1
            elif isinstance(instance.loop, Replica) and self.mishaps.strikes("replica_lost_in_batch"):
                self._lose(instance, instance.loop)
            else:
                self._replace(instance)
            return 1
        except Exception:
            if not instance.is_replaced:
                raise
            # It reads its successor's answers to other calls of the same numbers, and may fail on them before its next
            # commit is refused.
            self._zombies.remove(instance)
            self.mishaps.counts["zombie_failed"] += 1
            return 1
        finally:
            instance.is_busy = False
        return handled

    def _replace(self, instance: Instance) -> None:
        if instance.is_replaced:
            return
        instance.is_replaced = True
        self.restarts += 1
        self._start(instance.name)

    def _leave(self, instance: Instance, replica: Replica) -> None:
        """Have a replica finish what it has in hand and leave; it may die or be refused meanwhile."""
        instance.is_busy = True
        try:
            replica.close()
        except (Killed, BusError):
            self.mishaps.counts["replica_lost_leaving"] += 1
        self._lose(instance, replica)

    def _lose(self, instance: Instance, replica: Replica) -> None:
        """Let a replica be gone for a while; the broker notices."""
        replica.expire()
        instance.is_replaced = True
        del self._instances[instance.name]
        self._absent[instance.name] = self.rng.randint(1, _LONGEST_ABSENCE)

    def _come_back(self) -> int:
        """Start those replicas whose time away is over; say whether anybody is away or has tasks to hand over."""
        for name in list(self._absent):
            self._absent[name] -= 1
            if not self._absent[name]:
                del self._absent[name]
                self.mishaps.counts["replica_joins"] += 1
                self._start(name)
        if not self.is_shared:
            return 0
        replicas = [each.loop for each in self._instances.values() if isinstance(each.loop, Replica)]
        owned = Counter(name for each in replicas for name in each.running)
        wanted = {task.name: 1 for service in self.services for task in self.placement.tasks(service.name)}
        return int(bool(self._absent) or owned != wanted)

    def _end_zombie_replicas(self) -> None:
        for zombie in list(self._zombies):
            if isinstance(zombie.loop, Replica):
                zombie.loop.expire()
                self._zombies.remove(zombie)

    def _note_owner(self, name: str, task: Task) -> None:
        if self._owners.setdefault(task.name, name) != name:
            self._owners[task.name] = name
            self.mishaps.counts["task_moved"] += 1

    def _start(self, name: str) -> None:
        while True:
            loop = self._make_loop(name)
            try:
                loop.open()
            except (Killed, BusFull):
                self.restarts += 1
                continue
            self._instances[name] = Instance(name, loop)
            return

    def _make_loop(self, name: str) -> Loop:
        hang = partial(self._hang, name)
        view = RoughBus(self.bus, self.mishaps, hang, self._note)
        if name == RECORDER:
            return RecorderLoop(
                lambda: view.consumer(RECORDED_TOPICS, group=RECORDER, member_id=f"{RECORDER}-0"),
                self.store,
                partial(read_events, self.decode),
                self.recorder_settings,
                _METRICS,
                self.logger,
                clock=self.clock,
            )
        if name == OUTBOX:
            return self._make_outbox(view, hang)
        if name == CHAIN:
            return self._make_chain(view, hang)
        service = next(each for each in self.services if each.name == service_of(name))
        if not self.is_shared:
            return self._make_shell(service, Task(service.name), view, hang)
        return Replica(
            service.name,
            name,
            self.placement,
            lambda: RoughBus(self.bus, self.mishaps, hang, self._note),
            lambda task, own_view: self._make_shell(service, task, own_view, hang),
            _METRICS,
            self.logger,
            self.clock,
            partial(self._note_owner, name),
        )

    def _make_shell(self, service: SimulatedService, task: Task, view: RoughBus, hang: Callable[[], None]) -> CoreShell:
        return CoreShell(
            service.name,
            RoughCore(service.build_core(), self.mishaps, hang),
            service.inputs,
            view,  # type: ignore[arg-type]
            _METRICS,
            self.logger,
            clock=self.clock,
            decode=self.decode,
            batch_max_records=self._batch,
            snapshot_every_records=self._snapshot_every,
            task=task,
        )

    def _make_chain(self, view: RoughBus, hang: Callable[[], None]) -> ChainShell:
        return ChainShell(
            CHAIN,
            [
                ChainedCore(Task(each.name), RoughCore(each.build_core(), self.mishaps, hang), each.inputs)
                for each in self.services
            ],
            view,  # type: ignore[arg-type]
            _METRICS,
            self.logger,
            clock=self.clock,
            choose=self.placement.choose,
            decode=self.decode,
            batch_max_records=self._batch,
            snapshot_every_records=self._snapshot_every,
        )

    def _make_outbox(self, view: RoughBus, hang: Callable[[], None]) -> OutboxShell:
        assert self.outbox is not None and self.exchange is not None, "orders go to a venue"
        return OutboxShell(
            RoughCore(self.outbox(), self.mishaps, hang),  # type: ignore[arg-type]
            OUTBOX_ACCESS,
            open_venue(self.exchange, self.mishaps, hang),
            view,  # type: ignore[arg-type]
            _METRICS,
            self.logger,
            clock=self.clock,
            decode=self.decode,
            snapshot_every_records=self._snapshot_every,
        )

    def _hang(self, name: str) -> None:
        """Let the rest of the world go on while a process stands still with something in hand."""
        if self._is_hanging:
            return
        self._is_hanging = True
        try:
            drawn = self.rng.random()
            if drawn < 0.1:
                self._set_limits()
            elif drawn < 0.4:
                self._halt_or_resume()
                self.mishaps.counts["command_during_hang"] += 1
            for _ in range(self.rng.randint(1, _HANG_STEPS)):
                self.clock.advance(self.rng.choice((0.01, 0.1, 3.0)))
                # While a session begins not everybody is there yet, and a replica may be away.
                others = [each for each in self._names if each != name and each in self._instances]
                if others:
                    self._step(self._instances[self.rng.choice(others)])
        finally:
            self._is_hanging = False

    def _publish(self, feed: Producer) -> None:
        chunk = self.market.encoded[self._published : self._published + self.rng.choice(self._chunks)]
        self._published += len(chunk)
        rows = list(chunk)
        if self.mishaps.strikes("repeated_market_events"):
            # Anything of late: a producer that is at-least-once sends again what it does not know to be there.
            rows += self.rng.choices(self.market.encoded[max(0, self._published - _REPEATED_OF) : self._published], k=3)
        now = self.clock.now_ns()
        commit_records(feed, [stamped_record(encoded, "ingestion", now) for encoded in rows])
        if self.exchange is not None:
            for encoded in chunk:
                self.exchange.take(self.decode(encoded.topic, encoded.payload))

    def _halt_or_resume(self) -> None:
        free = [scope for scope in (ALL_ACCOUNTS, self.account) if scope not in self._held]
        if not free or (self._held and self.rng.random() < _SHARE_RESUMED):
            self._command(ControlAction.RESUME, self.rng.choice(sorted(self._held)))
        else:
            self._command(ControlAction.HALT, self.rng.choice(free))

    def _set_limits(self) -> None:
        limits = {"max_order_notional_usdt": self.rng.choice(_ORDER_LIMITS)}
        self._command(ControlAction.SET_LIMITS, ALL_ACCOUNTS, limits)

    def _command(self, action: ControlAction, scope: str, arguments: dict[str, str] | None = None) -> None:
        self._commands += 1
        command = ControlCommand(
            event_id=f"simulated/{self._commands}",
            event_time=self.clock.now_ns(),
            account=scope,
            action=action,
            issued_by="simulation",
            reason="drawn by the scheduler",
            arguments=arguments or {},
        )
        record = stamped_record(encode(command), "console", self.clock.now_ns())
        commit_records(self.bus.producer("console"), [record])
        self._note([record])
        if action is not ControlAction.SET_LIMITS:
            (self._held.add if action is ControlAction.HALT else self._held.discard)(scope)
            if self.exchange is not None:
                self.exchange.is_halted = bool(self._held)

    def _note(self, records: Sequence[NewRecord]) -> None:
        self.history.append(Committed(self.clock.monotonic_s(), records))
