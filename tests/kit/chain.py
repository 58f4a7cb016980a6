"""A chain of real cores over a small simulated market: what it is run with, and what must come of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from typing import Any

from libs.bus.api import Bus
from libs.bus.memory import MemoryBus
from libs.clock import SystemClock
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.events import DeadInput, Event
from libs.domain.market import MarketEvent
from libs.runtime.chain import ChainShell
from libs.runtime.handler import inputs_of
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import ONE_PARTITION, Placement
from libs.runtime.records import commit_records, read_topic, stamped_record
from libs.runtime.shell import CoreShell
from libs.runtime.verify import verify_service
from libs.wire import encode, topics
from services.backtest.inputs import open_simulation
from services.backtest.pipeline import Pipeline, Stage
from services.chain.building import SERVICES, build_cores

BUSY = {
    "PERPFLOW_STRATEGY_STRATEGIES": (
        '[{"path": "ema_cross", "parameters": {"fast_bars": 2, "slow_bars": 3, "notional_usdt": "500"}}]'
    ),
    "PERPFLOW_RISK_MAX_CONSECUTIVE_LOSSES": "1000000",
}
"""Variables under which the small market leads to orders."""

PUBLISHED = (
    *(topics.BARS_CLOSED, topics.FEATURE_VECTORS, topics.FORECASTS, topics.INTENTS, topics.VERDICTS),
    *(topics.COMMANDS, topics.REPORTS, topics.ORDERS, topics.ACCOUNTS, topics.CONTROL_STATES, topics.ALERTS),
)


@cache
def market() -> Sequence[MarketEvent]:
    events = open_simulation(5, minutes=6, history_bars=30).events
    return [event for event in events if not isinstance(event, DeadInput)]


@cache
def backtest() -> dict[str, list[bytes]]:
    """Return the payloads of each topic as the backtest's pipeline makes them."""
    made: defaultdict[str, list[bytes]] = defaultdict(list)

    def observe(event: Event) -> None:
        encoded = encode(event)
        made[encoded.topic].append(encoded.payload)

    cores = build_cores(ONE_PARTITION, ONE_PARTITION.chain_tasks())
    pipeline = Pipeline(
        [Stage(each.task.service, each.core, inputs_of(each.core, each.inputs)) for each in cores], observe
    )
    for event in market():
        pipeline.feed(event)
    return made


def published(bus: Bus) -> dict[str, list[bytes]]:
    return {topic: [record.value for record in read_topic(bus, topic)] for topic in PUBLISHED}


def a_bus(placement: Placement = ONE_PARTITION) -> MemoryBus:
    bus = MemoryBus(partitioner=placement.choose)
    bus.create_topics(placement.topics())
    return bus


def a_chain(bus: Bus, placement: Placement = ONE_PARTITION, **changes: Any) -> ChainShell:
    shell = ChainShell(
        "chain",
        build_cores(placement, placement.chain_tasks()),
        bus,
        ServiceMetrics("chain"),
        configure_logging("chain", level="critical"),
        clock=SystemClock(),
        choose=placement.choose,
        **{"batch_max_records": 100, "snapshot_every_records": 700, **changes},
    )
    shell.open()
    return shell


def publish(bus: Bus, events: Sequence[MarketEvent]) -> None:
    producer = bus.producer("ingestion")
    commit_records(producer, [stamped_record(encode(event), "ingestion", 1) for event in events])
    producer.close()


def publish_command(bus: Bus, action: ControlAction, number: int) -> None:
    arguments = {"max_order_notional_usdt": "400"} if action is ControlAction.SET_LIMITS else {}
    command = ControlCommand(f"command/{number}", market()[0].event_time, "*", action, "person", "test", arguments)
    producer = bus.producer("console")
    commit_records(producer, [stamped_record(encode(command), "console", 1)])
    producer.close()


def run_dry(shell: ChainShell | CoreShell) -> int:
    idle, handled = 0, 0
    while idle < 3:
        count = shell.step(20)
        handled += count
        idle = 0 if count else idle + 1
    return handled


def run_spread(bus: Bus, placement: Placement = ONE_PARTITION) -> None:
    """Run every service until nothing is left, each in a shell of its own."""
    shells = []
    for service in SERVICES.values():
        for task in placement.tasks(service.name):
            core = service.build_core(service.load_settings(placement, task))
            shells.append(
                CoreShell(
                    service.name,
                    core,
                    service.inputs,
                    bus,
                    ServiceMetrics(service.name),
                    configure_logging(service.name, level="critical"),
                    clock=SystemClock(),
                    task=task,
                )
            )
    for shell in shells:
        shell.open()
    while any(run_dry(shell) for shell in shells):
        pass
    for shell in shells:
        shell.close()


def differences(bus: Bus, placement: Placement = ONE_PARTITION) -> list[str]:
    """Replay every task and say what came out otherwise."""
    found = []
    for service in SERVICES.values():
        for task in placement.tasks(service.name):
            core = service.build_core(service.load_settings(placement, task))
            verified = verify_service(service.name, core, service.inputs, bus, task)
            if verified.difference is not None:
                found.append(f"{task.name}: {verified.difference}")
    return found
