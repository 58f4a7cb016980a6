"""The chain of real cores on a memory bus: equal to the backtest byte for byte, through kills and changes of layout."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from libs.bus.api import NO_FOOTPRINT, Bus, BusError, Footprint, Producer, TopicPartition
from libs.clock import SystemClock
from libs.domain.control import ControlAction, TradingState
from libs.runtime.chain import ChainShell
from libs.runtime.errors import BadInput
from libs.runtime.lag import read_lags
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import ONE_PARTITION, AccountPlacement, Placement
from libs.runtime.records import read_topic
from libs.runtime.shell import CoreShell
from libs.wire import decode, topics
from services.chain.building import SERVICES
from tests.kit.chain import (
    BUSY,
    PUBLISHED,
    a_bus,
    a_chain,
    backtest,
    differences,
    market,
    publish,
    publish_command,
    published,
    run_dry,
    run_spread,
)


class Killed(Exception):
    """Stands for a kill at this very place."""


@pytest.fixture(autouse=True)
def busy_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BUSY.items():
        monkeypatch.setenv(name, value)


class RoughBus:
    """A bus whose commits are killed, before or after they took hold."""

    def __init__(self, bus: Bus, rng: random.Random, share: float) -> None:
        self._bus = bus
        self._rng = rng
        self._share = share

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def producer(self, transactional_id: str, _footprint: Footprint = NO_FOOTPRINT, /) -> Producer:
        producer = self._bus.producer(transactional_id)
        commit, abort = producer.commit, producer.abort

        def rough_commit() -> None:
            if self._rng.random() < self._share:
                raise Killed
            commit()
            if self._rng.random() < self._share:
                raise Killed

        def rough_abort() -> None:
            try:
                abort()
            except BusError:
                # Killed after the commit: nothing is open.
                return

        producer.commit = rough_commit  # type: ignore[method-assign]
        producer.abort = rough_abort  # type: ignore[method-assign]
        return producer


def test_a_chain_publishes_what_the_backtest_makes_byte_for_byte_in_every_topic() -> None:
    expected = backtest()
    assert min(len(expected[topic]) for topic in (topics.INTENTS, topics.COMMANDS, topics.ORDERS)) > 3
    with a_bus() as bus:
        publish(bus, market())
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        assert published(bus) == {topic: expected[topic] for topic in PUBLISHED}
        assert differences(bus) == []
        assert not any(read_lags(bus, tuple(SERVICES)).values())


@pytest.mark.parametrize("seed", range(2))
def test_a_chain_that_is_killed_at_any_commit_publishes_the_same(seed: int) -> None:
    expected = backtest()
    rng, kills = random.Random(seed), 0
    with a_bus() as bus:
        rough = RoughBus(bus, rng, 0.05)

        def start() -> ChainShell:
            batch = rng.choice([1, 7, 100])
            while True:
                try:
                    return a_chain(rough, batch_max_records=batch, snapshot_every_records=200)
                except Killed:
                    continue

        shell, at, idle = start(), 0, 0
        while at < len(market()) or idle < 3:
            chunk = rng.choice([1, 5, 50])
            if at < len(market()):
                publish(bus, market()[at : at + chunk])
                at += chunk
            try:
                idle = 0 if shell.step(0) else idle + 1
            except Killed:
                kills += 1
                shell = start()
        assert kills > 5
        assert published(bus) == {topic: expected[topic] for topic in PUBLISHED}
        assert differences(bus) == []


def test_a_drained_session_changes_its_layout_and_back() -> None:
    third = len(market()) // 3
    with a_bus() as bus:
        publish(bus, market()[:third])
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        publish(bus, market()[third : 2 * third])
        run_spread(bus)
        publish(bus, market()[2 * third :])
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        assert differences(bus) == []
        found, expected = published(bus), backtest()
        for topic in (topics.BARS_CLOSED, topics.FEATURE_VECTORS, topics.FORECASTS):
            assert found[topic] == expected[topic]


def test_a_chain_that_was_killed_goes_on_spread() -> None:
    half = len(market()) // 2
    with a_bus() as bus:
        publish(bus, market()[:half])
        shell = a_chain(bus, snapshot_every_records=300)
        while shell.step(0):
            pass
        shell.release()
        publish(bus, market()[half:])
        run_spread(bus)
        assert differences(bus) == []


def test_a_session_that_was_not_drained_is_refused_by_name() -> None:
    with a_bus() as bus:
        publish(bus, market())
        service = SERVICES["bars"]
        shell = CoreShell(
            "bars",
            service.build_core(service.load_settings(ONE_PARTITION, ONE_PARTITION.tasks("bars")[0])),
            service.inputs,
            bus,
            ServiceMetrics("bars"),
            configure_logging("bars", level="critical"),
            clock=SystemClock(),
        )
        shell.open()
        run_dry(shell)
        shell.close()
        with pytest.raises(BadInput, match=r"risk .*drain the session"):
            a_chain(bus)


def test_commands_from_outside_are_handled_once_and_replayed_in_their_place() -> None:
    quarter = len(market()) // 4
    actions = (ControlAction.HALT, ControlAction.RESUME, ControlAction.SET_LIMITS)
    with a_bus() as bus:
        shell = a_chain(bus, snapshot_every_records=300)
        for number, action in enumerate(actions):
            publish(bus, market()[number * quarter : (number + 1) * quarter])
            publish_command(bus, action, number)
            run_dry(shell)
            shell.release()
            shell = a_chain(bus, snapshot_every_records=300)
        publish(bus, market()[3 * quarter :])
        run_dry(shell)
        shell.close()
        assert differences(bus) == []
        states = [decode(topics.CONTROL_STATES, each.value) for each in read_topic(bus, topics.CONTROL_STATES)]
        assert [state.state for state in states[-3:-1]] == [TradingState.HALTED, TradingState.ACTIVE]
        assert not any(read_lags(bus, tuple(SERVICES)).values())


def test_accounts_and_partitions_of_one_chain_replay_alike() -> None:
    instrument = market()[0].instrument
    placement = Placement(
        3, {instrument: 2}, {"a": AccountPlacement(0, (instrument,)), "b": AccountPlacement(1, (instrument,))}
    )
    with a_bus(placement) as bus:
        publish(bus, market())
        shell = a_chain(bus, placement, snapshot_every_records=400)
        while shell.step(0):
            pass
        shell.release()
        shell = a_chain(bus, placement)
        run_dry(shell)
        shell.close()
        assert differences(bus, placement) == []
        intents = Counter(record.partition for record in read_topic(bus, topics.INTENTS))
        assert intents[0] == intents[1] > 3
        assert not any(read_lags(bus, tuple(SERVICES), placement=placement).values())


def test_a_group_without_a_journal_goes_on_in_a_chain_and_is_replayed_alike() -> None:
    # Faust commits its group's offset and keeps no journal.
    half = len(market()) // 2
    with a_bus() as bus:
        publish(bus, market()[:half])
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        ends = bus.end_offsets([TopicPartition(topics.journal_topic("features"), 0)])
        bus.delete_topics([topics.journal_topic("features"), topics.state_topic("features")])
        bus.create_topics(ONE_PARTITION.topics())
        assert all(ends.values())
        publish(bus, market()[half:])
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        assert differences(bus) == []
        assert published(bus)[topics.FEATURE_VECTORS] == backtest()[topics.FEATURE_VECTORS]
