"""Runs seeds: one session each, its invariants and its replay, side by side on the cores that there are."""

from __future__ import annotations

import gc
import logging
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from multiprocessing import get_context

import structlog

from libs.clock import SimulatedClock
from libs.runtime.placement import ONE_PARTITION, Placement, Task, place_evenly
from libs.runtime.records import read_topic
from libs.runtime.verify import verify_service
from libs.wire import topics
from services.execution.outbox_shell import INPUTS as OUTBOX_INPUTS
from services.simulation.invariants import check_bars, check_dead_letters, check_store, check_trading
from services.simulation.market import START_NS, SessionMarket, make_market
from services.simulation.mishaps import Mishaps, draw_mix
from services.simulation.platform import Platform, build_platform
from services.simulation.world import Stuck, World

EVENTS = 500
# So many seeds in a row share a market: making one takes as long as a third of a session.
SEEDS_PER_MARKET = 10
# Every so many seeds orders go to the simulated exchange, in the others to the paper venue.
VENUE_EVERY = 4
# Every so many seeds the cores run fused in one chain, in the others each in a shell of its own.
FUSED_EVERY = 3
# Every so many seeds features and a model run too, and forecasts are traded.
MODEL_EVERY = 5
# Every so many seeds, but for those that are fused, two replicas of each service share out tasks of two partitions.
SHARED_EVERY = 7
_PARTITIONS = 2


@dataclass(frozen=True, slots=True)
class SeedOutcome:
    """One session: what did not hold (empty where all did), what happened, and how much was traded."""

    seed: int
    broken: tuple[str, ...]
    mishaps: Mapping[str, int]
    mix: Mapping[str, float]
    intents: int
    restarts: int


@dataclass(slots=True)
class Tally:
    """Many sessions in sum."""

    sessions: int = 0
    intents: int = 0
    restarts: int = 0
    mishaps: Counter[str] = field(default_factory=Counter)
    failures: list[SeedOutcome] = field(default_factory=list)

    def add(self, outcome: SeedOutcome) -> None:
        """Take one session in."""
        self.sessions += 1
        self.intents += outcome.intents
        self.restarts += outcome.restarts
        self.mishaps.update(outcome.mishaps)
        if outcome.broken:
            self.failures.append(outcome)


@cache
def _platform(*, at_venue: bool, has_model: bool) -> Platform:
    return build_platform(at_venue=at_venue, has_model=has_model)


@cache
def _logger() -> structlog.stdlib.BoundLogger:
    # Errors are what a simulation makes on purpose: they are counted, not logged. The process's own logs stay on.
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(structlog.ReturnLogger(), wrapper_class=silent)
    return logger


@lru_cache(maxsize=4)
def _market(number: int, event_count: int, *, at_venue: bool) -> SessionMarket:
    platform = _platform(at_venue=at_venue, has_model=False)
    bars = next(service for service in platform.services if service.name == "bars")
    return SessionMarket(make_market(number, event_count, platform.instruments), bars.build_core())


def run_seed(seed: int, mix: Mapping[str, float] | None = None, event_count: int = EVENTS) -> SeedOutcome:
    """Run one session. An error that no mishap explains is what did not hold."""
    at_venue, is_fused = seed % VENUE_EVERY == 0, seed % FUSED_EVERY == 0
    is_shared = seed % SHARED_EVERY == 0 and not is_fused
    platform = _platform(at_venue=at_venue, has_model=seed % MODEL_EVERY == 0)
    chosen = dict(draw_mix(seed) if mix is None else mix)
    rng = random.Random(f"scheduler/{seed}")
    world = World(
        seed=seed,
        market=_market(seed // SEEDS_PER_MARKET, event_count, at_venue=at_venue),
        services=platform.services,
        mishaps=Mishaps(rng, dict(chosen)),
        recorder_settings=platform.recorder_settings,
        outbox=platform.outbox,
        account=platform.account,
        placement=_placement(platform) if is_shared else ONE_PARTITION,
        is_fused=is_fused,
        is_shared=is_shared,
        logger=_logger(),
        clock=SimulatedClock(START_NS),
        rng=rng,
    )
    with _without_collection():
        broken = _find_broken(world, platform)
    return SeedOutcome(
        seed=seed,
        broken=tuple(broken),
        mishaps=dict(world.mishaps.counts),
        mix=chosen,
        intents=sum(1 for _ in read_topic(world.bus, topics.INTENTS)),
        restarts=world.restarts,
    )


def _placement(platform: Platform) -> Placement:
    return Placement(_PARTITIONS, place_evenly(platform.instruments, _PARTITIONS))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Do not look for cyclic garbage meanwhile: a session keeps nearly all it makes, and looking is an eighth of it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _find_broken(world: World, platform: Platform) -> list[str]:
    try:
        world.run()
        return _check(world, platform)
    except Stuck as error:
        return [str(error)]
    # Whatever a defect raises is what the simulation found.
    except Exception as error:  # noqa: BLE001
        return [f"{type(error).__name__}: {error}"]


def _check(world: World, platform: Platform) -> list[str]:
    broken = check_trading(world.history, platform.limits, platform.starting_balance_usdt, world.decode, world.exchange)
    broken += check_dead_letters(world.bus)
    broken += check_store(world.archive.catch_up(), world.store.rows, world.decode)
    broken += check_bars(world.bus, world.market.bars, world.placement)
    replayed = [
        (task, service.build_core(), service.inputs)
        for service in platform.services
        for task in world.placement.tasks(service.name)
    ]
    if platform.outbox is not None:
        replayed.append((Task(topics.OUTBOX), platform.outbox(), OUTBOX_INPUTS))
    for task, core, inputs in replayed:
        difference = verify_service(task.service, core, inputs, world.bus, task, world.decode).difference
        if difference is not None:
            broken.append(
                f"replay of {task.name} differs at {difference.topic} #{difference.index}: recorded "
                f"{difference.recorded:.120}, replayed {difference.replayed:.120}, after {difference.cause}"
            )
    return broken


def run_seeds(seeds: Sequence[int], workers: int | None = None) -> Iterator[SeedOutcome]:
    """Run many seeds in processes of their own; outcomes come in order of the seeds."""
    count = workers or os.cpu_count() or 1
    chunks = [seeds[at : at + SEEDS_PER_MARKET] for at in range(0, len(seeds), SEEDS_PER_MARKET)]
    if count == 1 or len(chunks) == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        for outcomes in pool.map(_run_chunk, chunks):
            yield from outcomes


def _run_chunk(seeds: Sequence[int]) -> list[SeedOutcome]:
    return [run_seed(seed) for seed in seeds]


def find_failure(seeds: Iterable[int], run: Callable[[int], SeedOutcome] = run_seed) -> SeedOutcome | None:
    """Run seeds one after the other until one fails; return it, or None where all hold."""
    return next((outcome for outcome in map(run, seeds) if outcome.broken), None)
