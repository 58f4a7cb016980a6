"""A session of many instruments, accounts and partitions whose replicas come, go and are killed; and what must hold.

``python -m tests.kit.scaled --help`` runs one of any size (`make placement`: 50 instruments, 8 accounts, 8 partitions),
`--kill-broker` kills the broker too and starts it again, under load.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from libs.bus.api import Bus, BusUnavailable
from libs.bus.memory import MemoryBus
from libs.bus.open import open_bus
from libs.clock import Deadline, SystemClock
from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from libs.runtime.child import child_command
from libs.runtime.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_UNAVAILABLE
from libs.runtime.lag import read_lags
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import AccountPlacement, Placement, place_evenly, replica_name, task_name
from libs.runtime.records import commit_records, stamped_record
from libs.runtime.service import CoreService
from libs.runtime.shell import CoreShell
from libs.runtime.source import FeedHealth, SourceShell
from libs.runtime.stop import SUPERVISOR_VARIABLE
from libs.runtime.verify import verify_service
from libs.wire import encode
from libs.wire.topics import CORE_SERVICES
from services.backtest.inputs import open_simulation
from services.console.summary import summarise_topics
from tests.kit.buses import World, make_world
from tests.kit.kafka import LONG_LIFE, KafkaBroker, a_kafka
from tests.kit.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
INSTRUMENT_SERVICES = ("bars", "features", "inference")
COMPARED = ("market_events", "bars", "vectors", "forecasts")
_SOURCE = "BTCUSDT"
_CHUNK = 400
# How far the slowest service may be behind what was published.
_AHEAD = 4_000
_OUTAGE_LIMIT_S = 300.0
_STRATEGIES = [{"path": "ema_cross", "parameters": {"fast_bars": 2, "slow_bars": 4, "notional_usdt": "500"}}]


@dataclass(frozen=True, slots=True)
class Size:
    """How large a session is. `minutes` is market time after `history_bars` of history."""

    instruments: int
    accounts: int
    partitions: int
    minutes: int = 6
    history_bars: int = 60


def make_placement(size: Size) -> Placement:
    """Place instruments and accounts; the accounts trade the two instruments that have trading rules."""
    traded = ("BTCUSDT.BINANCE", "ETHUSDT.BINANCE")[: size.instruments]
    names = [*traded, *(f"COIN{number:02}USDT.BINANCE" for number in range(size.instruments - len(traded)))]
    accounts = {
        f"account-{number}": AccountPlacement(
            number,
            traded if number % 2 else traded[-1:],
            {
                "PERPFLOW_STRATEGY_STRATEGIES": json.dumps(_STRATEGIES),
                "PERPFLOW_RISK_MAX_ORDERS_PER_MINUTE": str(60 + number),
                # The market comes as fast as it is handled, not as fast as it was.
                "PERPFLOW_RISK_MAX_INTENT_AGE_MS": "3600000",
                "PERPFLOW_RISK_MAX_MARKET_DATA_AGE_MS": "3600000",
            },
        )
        for number in range(size.accounts)
    }
    return Placement(size.partitions, place_evenly(names, size.partitions), accounts)


def make_market(size: Size, placement: Placement) -> list[MarketEvent]:
    """Return a simulated market for each instrument, in order of time."""
    tapes = [
        [
            event
            for event in open_simulation(seed, minutes=size.minutes, history_bars=size.history_bars).events
            if not isinstance(event, DeadInput)
        ]
        for seed in range(1, min(size.instruments, 4) + 1)
    ]
    return multiply(tapes, placement)


def multiply(tapes: Sequence[Sequence[MarketEvent]], placement: Placement) -> list[MarketEvent]:
    """Return one market after another, each under the name of an instrument, in order of time."""
    markets: list[list[MarketEvent]] = []
    for number, instrument in enumerate(placement.instruments):
        symbol = instrument.partition(".")[0]
        markets.append(
            [
                replace(event, instrument=instrument, event_id=event.event_id.replace(_SOURCE, symbol))
                for event in tapes[number % len(tapes)]
            ]
        )
    events = list(itertools.chain.from_iterable(markets))
    events.sort(key=lambda event: event.received_time)
    return events


def load_services(names: Sequence[str]) -> dict[str, CoreService[Any]]:
    """Return the declarations of services."""
    from importlib import import_module

    return {name: import_module(f"services.{name}.main").SERVICE for name in names}


def undisturbed_digests(placement: Placement, events: Sequence[MarketEvent]) -> dict[str, str]:
    """Return the digests of the same market in one process that nothing happens to."""
    with MemoryBus(partitioner=placement.choose) as bus:
        bus.create_topics(placement.topics())
        publish(bus, events)
        logger = configure_logging("undisturbed", level="error")
        for name, service in load_services(INSTRUMENT_SERVICES).items():
            for task in placement.tasks(name):
                core = service.build_core(service.load_settings(placement, task))
                shell = CoreShell(
                    name, core, service.inputs, bus, ServiceMetrics(name), logger, clock=SystemClock(), task=task
                )
                shell.open()
                while shell.step(0):
                    pass
                shell.close()
        digests: dict[str, str] = summarise_topics(bus)["digests"]
        return digests


def publish(bus: Bus, events: Sequence[MarketEvent]) -> None:
    """Publish events as ingestion does."""
    producer = bus.producer("ingestion")
    for start in range(0, len(events), _CHUNK):
        records = [
            stamped_record(encode(event), "ingestion", time.time_ns()) for event in events[start : start + _CHUNK]
        ]
        commit_records(producer, records)
    producer.close()


class ListedEvents:
    """A source of market events that are known beforehand, up to `until`. Its cursor is how many it has given."""

    def __init__(self, events: Sequence[MarketEvent]) -> None:
        self._events = events
        self._given = 0
        self.until = 0

    def open(self, cursor: bytes | None) -> None:
        """Begin, or resume behind a cursor."""
        self._given = int(cursor or 0)

    def read(self, max_events: int, timeout_ms: int) -> Sequence[MarketEvent]:
        """Return the next."""
        del timeout_ms
        events = self._events[self._given : min(self.until, self._given + max_events)]
        self._given += len(events)
        return events

    def cursor(self) -> bytes:
        """Return how many were given."""
        return b"%d" % self._given

    def check_venue(self) -> None:
        """There is none."""

    def feed_health(self) -> Sequence[FeedHealth]:
        """There is none."""
        return ()

    @property
    def is_finished(self) -> bool:
        """Whether all up to `until` were given."""
        return self._given >= self.until

    def close(self) -> None:
        """Nothing was opened."""


class Publisher:
    """Publishes a market as ingestion does, and goes on behind what is committed where the bus was away."""

    def __init__(self, bus: Bus, events: Sequence[MarketEvent]) -> None:
        self._bus = bus
        self._source = ListedEvents(events)
        self._metrics = ServiceMetrics("ingestion")
        self._shell: SourceShell | None = None

    def publish_until(self, count: int, between: Callable[[], None]) -> None:
        """Publish the events before `count`; `between` is called after each transaction."""
        self._source.until = count
        outage: Deadline | None = None
        while not self._source.is_finished:
            try:
                self._step()
            except BusUnavailable:
                self.close()
                outage = outage or Deadline(_OUTAGE_LIMIT_S)
                if outage.is_over:
                    raise
                continue
            outage = None
            between()

    def _step(self) -> None:
        if self._shell is None:
            logger = configure_logging("ingestion", level="error")
            shell = SourceShell(
                "ingestion",
                self._source,
                self._bus,
                self._metrics,
                logger,
                clock=SystemClock(),
                batch_max_records=_CHUNK,
            )
            shell.open()
            self._shell = shell
        self._shell.step(0)

    def close(self) -> None:
        """Let go of the bus."""
        if self._shell is not None:
            self._shell.release()
            self._shell = None


@dataclass(slots=True)
class Replica:
    """A process of a service."""

    service: str
    number: int
    process: subprocess.Popen[bytes]
    log: Path

    def tasks(self) -> Iterator[str]:
        """Name the tasks that became ready here, as often as they did."""
        for line in self.log.read_bytes().splitlines():
            if b'"ready"' not in line:
                continue
            said = json.loads(line)
            # Faust says after each rebalance which partitions it reads.
            yield from (task_name(self.service, number) for number in said.get("partitions", ()))
            if "task" in said:
                yield str(said["task"])


@dataclass
class ScaledSession:
    """Processes of a session, started and ended one by one."""

    world: World
    placement: Placement
    folder: Path
    replicas: list[Replica] = field(default_factory=list)
    ended: list[Replica] = field(default_factory=list)
    kills: int = 0
    broker: KafkaBroker | None = None
    restarts: Counter[str] = field(default_factory=Counter)
    killed_at: float | None = None
    outage_s: float = 0.0

    def __post_init__(self) -> None:
        self.bus = open_bus(self.world.url, prefix=self.world.prefix, partitioner=self.placement.choose)
        self.bus.create_topics(self.placement.topics())

    def start(self, service: str, number: int) -> Replica:
        """Start a replica."""
        name = replica_name(service, number)
        log = self.folder / f"{name}.{len(self.replicas) + len(self.ended)}.log"
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PERPFLOW_")},
            "PERPFLOW_BUS": self.world.url,
            "PERPFLOW_TOPIC_PREFIX": self.world.prefix,
            "PERPFLOW_CONFIG": "",
            "PERPFLOW_RUN_DIR": str(self.folder / "run"),
            "PERPFLOW_PARTITIONS": str(self.placement.partitions),
            "PERPFLOW_INSTRUMENTS": json.dumps(dict(self.placement.instruments)),
            "PERPFLOW_ACCOUNTS": json.dumps(
                {
                    name: {
                        "partition": each.partition,
                        "instruments": each.instruments,
                        "settings": dict(each.settings),
                    }
                    for name, each in self.placement.accounts.items()
                }
            ),
            "PERPFLOW_REPLICA": str(number),
            "PERPFLOW_LOG_FORMAT": "json",
            "PERPFLOW_SNAPSHOT_EVERY_RECORDS": "2000",
            SUPERVISOR_VARIABLE: str(os.getpid()),
            "OMP_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
        }
        with log.open("wb") as stream:
            process = subprocess.Popen(
                child_command(f"services.{service}.main"),
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        replica = Replica(service, number, process, log)
        self.replicas.append(replica)
        return replica

    def end(self, service: str, number: int, sent: signal.Signals) -> None:
        """Kill a replica, or ask it to stop."""
        replica = next(each for each in self.replicas if (each.service, each.number) == (service, number))
        replica.process.send_signal(sent)
        code = replica.process.wait(timeout=300)
        self.kills += sent is signal.SIGKILL
        # One that is asked to stop while the broker is away cannot finish what it has in hand.
        allowed = (EXIT_OK,) if self.killed_at is None else (EXIT_OK, EXIT_UNAVAILABLE)
        if sent is not signal.SIGKILL and code not in allowed:
            raise AssertionError(f"{replica.log.name} ended with {code}: {replica.log.read_text()[-2000:]}")
        self.replicas.remove(replica)
        self.ended.append(replica)

    def check_alive(self) -> None:
        """Raise where a replica ended by itself; once the broker was away start it again, as a supervisor does."""
        for each in list(self.replicas):
            code = each.process.poll()
            if code is None:
                continue
            if code in (EXIT_OK, EXIT_BAD_INPUT) or self.killed_at is None:
                raise AssertionError(f"{each.log.name} ended with {code}: {each.log.read_text()[-2000:]}")
            self.replicas.remove(each)
            self.ended.append(each)
            self.start(each.service, each.number)
            self.restarts[f"{each.service} {code}"] += 1

    def kill_broker(self) -> None:
        """Kill the broker and start it again at once; it takes a while to answer."""
        assert self.broker is not None
        self.broker.kill()
        self.killed_at = time.monotonic()
        self.broker.launch()

    def let_services_follow(self) -> None:
        """Wait, after something was published, until no service is far behind."""
        if self.killed_at is not None and not self.outage_s:
            self.outage_s = time.monotonic() - self.killed_at
        self.await_lags(lambda behind: behind < _AHEAD * len(CORE_SERVICES), with_markers=True)

    def await_lags(
        self, is_enough: Callable[[int], bool], *, with_markers: bool = False, within_s: float = 1_200.0
    ) -> None:
        """Wait until the lags of all services together are so; while the bus is away nothing is known of them."""

        def look() -> bool:
            try:
                lags = read_lags(self.bus, CORE_SERVICES, placement=self.placement, with_markers=with_markers)
            except BusUnavailable:
                return False
            return is_enough(sum(lags.values()))

        eventually(look, step=self.check_alive, every_s=0.1, within_s=within_s)

    def drain(self) -> None:
        """Wait until every service has handled everything, twice in a row."""
        for _ in range(2):
            self.await_lags(lambda behind: not behind)

    def await_owned(self, within_s: float = 600.0) -> None:
        """Wait until each task is ready in a replica that is alive."""
        wanted = {task.name for name in CORE_SERVICES for task in self.placement.tasks(name)}
        eventually(
            lambda: wanted <= {task for each in self.replicas for task in each.tasks()},
            step=self.check_alive,
            every_s=0.3,
            within_s=within_s,
        )

    def find_owners(self) -> dict[str, list[int]]:
        """Return by task the number of the replica of each process that it has been ready in."""
        owners: dict[str, list[int]] = defaultdict(list)
        for each in (*self.replicas, *self.ended):
            for task in set(each.tasks()):
                owners[task].append(each.number)
        return dict(sorted(owners.items()))

    def close(self) -> None:
        """End what is left."""
        for each in self.replicas:
            each.process.kill()
            each.process.wait()
        self.bus.close()


def run_disturbed(session: ScaledSession, events: Sequence[MarketEvent], *, is_short: bool) -> None:
    """Run a session in which every task changes its owner: replicas are added, stopped and killed while the market
    comes in, and its broker where it has one. A short one moves every task once."""
    for service in CORE_SERVICES:
        session.start(service, 0)
    session.await_owned()
    # Each step comes after its share of the market. Every second replica takes half of the tasks; then every first one
    # ends, one half of the services by a kill, so that the other half of the tasks moves too.
    steps = [
        *((("start", service, 1),) for service in CORE_SERVICES),
        *(((("kill-broker", "", 0),),) if session.broker is not None else ()),
        *((("kill" if place % 2 else "stop", service, 0),) for place, service in enumerate(CORE_SERVICES)),
        *(
            (("start", service, 0), ("kill", service, 1), ("start", service, 1))
            for service in (() if is_short else ("bars", "risk"))
        ),
    ]
    share = len(events) // (len(steps) + 1)
    publisher = Publisher(session.bus, events)
    try:
        for number in range(len(steps) + 1):
            last = number == len(steps)
            if last:
                # On a slow machine every command may be behind the market; those there are fill in what is left of it.
                session.drain()
            publisher.publish_until(
                len(events) if last else (number + 1) * share,
                session.let_services_follow,
            )
            for what, service, replica in () if last else steps[number]:
                if what == "kill-broker":
                    session.kill_broker()
                elif what == "start":
                    session.start(service, replica)
                else:
                    session.end(service, replica, signal.SIGKILL if what == "kill" else signal.SIGTERM)
    finally:
        publisher.close()
    session.drain()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a disturbed session was: everything that must hold, and how much happened."""

    digests: dict[str, str]
    undisturbed: dict[str, str]
    invariants: dict[str, int]
    differences: dict[str, str]
    owners: dict[str, list[int]]
    counts: dict[str, int]
    kills: int
    run_s: float
    restarts: dict[str, int]
    outage_s: float

    @property
    def problems(self) -> list[str]:
        """What does not hold, in words."""
        found = [f"{name} differ" for name in COMPARED if self.digests[name] != self.undisturbed[name]]
        found += [f"{count} {name}" for name, count in self.invariants.items() if count]
        found += [f"{task} replays otherwise: {difference}" for task, difference in self.differences.items()]
        found += [f"{task} never moved" for task, replicas in self.owners.items() if len(set(replicas)) < 2]
        found += [f"no {name}" for name in ("intents", "orders", "fills") if not self.counts[name]]
        return found


def run_and_check(
    kind: str, size: Size, folder: Path, *, is_short: bool = False, broker: KafkaBroker | None = None
) -> Outcome:
    """Run a session on a kind of bus and return what it was; on a broker of its own, that is killed meanwhile."""
    placement = make_placement(size)
    events = make_market(size, placement)
    undisturbed = undisturbed_digests(placement, events)
    world = make_world(kind, folder) if broker is None else World(kind, f"kafka:{broker.address}", "scaled.")
    session = ScaledSession(world, placement, folder, broker=broker)
    begun = time.monotonic()
    try:
        run_disturbed(session, events, is_short=is_short)
        for each in list(session.replicas):
            session.end(each.service, each.number, signal.SIGTERM)
        run_s = time.monotonic() - begun
        summary = summarise_topics(session.bus)
        differences = {}
        for name, service in load_services(CORE_SERVICES).items():
            for task in placement.tasks(name):
                core = service.build_core(service.load_settings(placement, task))
                verified = verify_service(name, core, service.inputs, session.bus, task)
                if verified.difference is not None:
                    differences[task.name] = str(verified.difference)
        return Outcome(
            {name: summary["digests"][name] for name in COMPARED},
            undisturbed,
            summary["invariants"],
            differences,
            session.find_owners(),
            {name: summary[name] for name in ("market_events", "bars", "intents", "orders", "fills", "dead_letters")},
            session.kills,
            run_s,
            dict(session.restarts),
            session.outage_s,
        )
    finally:
        session.close()
        world.close()


def main() -> int:
    """Run a session and print what happened; 1 where anything does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bus", choices=("sqlite", "kafka"), default="sqlite")
    parser.add_argument("--instruments", type=int, default=50)
    parser.add_argument("--accounts", type=int, default=8)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--minutes", type=int, default=6)
    parser.add_argument("--kill-broker", action="store_true", help="kill and restart a Kafka broker under load")
    parser.add_argument("--logs", type=Path, help="an empty folder that keeps what the processes write")
    chosen = parser.parse_args()
    if chosen.kill_broker and chosen.bus != "kafka":
        parser.error("--kill-broker goes with --bus kafka")
    os.environ |= LONG_LIFE
    size = Size(chosen.instruments, chosen.accounts, chosen.partitions, chosen.minutes)
    begun = time.monotonic()
    with ExitStack() as stack:
        if chosen.logs:
            chosen.logs.mkdir(parents=True, exist_ok=True)
        kept = nullcontext(chosen.logs) if chosen.logs else tempfile.TemporaryDirectory()
        folder = Path(stack.enter_context(kept))
        broker = stack.enter_context(a_kafka()) if chosen.kill_broker else None
        outcome = run_and_check(chosen.bus, size, folder, broker=broker)
    moves = [len(replicas) - 1 for replicas in outcome.owners.values()]
    print(f"{chosen.bus}: {size} in {time.monotonic() - begun:.0f} s; {outcome.counts}")
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s, megabytes = spent.ru_utime + spent.ru_stime, spent.ru_maxrss // 1024
    rate, load = outcome.counts["market_events"] / outcome.run_s, os.getloadavg()[0]
    print(
        f"the session ran {outcome.run_s:.0f} s: {rate:.0f} market events/s, {cpu_s:.0f} s of processor time in its "
        f"processes, the largest of {megabytes} MB; load {load:.1f}"
    )
    if chosen.kill_broker:
        print(
            f"the broker was killed; the next transaction ended {outcome.outage_s:.1f} s later; replicas started "
            f"again, by service and exit code: {outcome.restarts or 'none'}"
        )
    print(f"{outcome.kills} kills; {len(moves)} tasks moved {sum(moves)} times, each at least {min(moves)}")
    for problem in outcome.problems:
        print(f"DOES NOT HOLD: {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
