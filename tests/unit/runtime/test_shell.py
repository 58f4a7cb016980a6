"""The shell over a small core, on the memory and the SQLite bus: commits, crashes, recovery, replay."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from libs.bus.api import Bus, BusError, NewRecord, TopicPartition, TopicSpec
from libs.bus.memory import MemoryBus
from libs.bus.open import open_bus
from libs.clock import SimulatedClock, SystemClock
from libs.domain.control import Alert, Severity
from libs.domain.events import Event, Unhandleable
from libs.domain.forecasts import Forecast
from libs.domain.market import Trade
from libs.runtime.handler import Input
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import Placement, Task
from libs.runtime.records import commit_records, read_last, read_topic
from libs.runtime.shell import CoreShell
from libs.runtime.verify import verify_service
from libs.wire import decode, encode, topics
from tests.kit.builders import a_forecast, a_trade

_NAMES = itertools.count()
INPUTS = (Input(topics.MARKET_EVENTS, frozenset({"trade"})), Input(topics.FORECASTS))


class Died(Exception):
    """Stands for a kill at this very place."""


class CountingCore:
    """Alerts with the running count of trades and forecasts, so that a lost, doubled or reordered input shows."""

    def __init__(self) -> None:
        self.count = 0
        self.weight = 1

    def handle(self, event: Event) -> Sequence[Event]:
        if isinstance(event, Forecast):
            self.weight = self.weight * 3 % 1009
            return []
        assert isinstance(event, Trade)
        if event.quantity_e8 == 13:
            raise Unhandleable("thirteen")
        if event.quantity_e8 == 666:
            raise Died
        self.count += self.weight
        return [
            Alert(f"count/{event.event_id}", event.event_time, "risk", "count", Severity.INFO, True, str(self.count))
        ]

    def snapshot(self) -> bytes:
        return f"{self.count} {self.weight}".encode()

    def restore(self, state: bytes) -> None:
        count, weight = state.split()
        self.count, self.weight = int(count), int(weight)


@pytest.fixture(params=["memory", "sqlite"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    address = f"memory:shell-{next(_NAMES)}" if request.param == "memory" else f"sqlite:{tmp_path / 'bus.db'}"
    with open_bus(address) as opened:
        opened.create_topics(TopicSpec(name, 1) for name in topics.TOPICS)
        yield opened


def publish(bus: Bus, *events: Event, headers: bool = True) -> None:
    producer = bus.producer("test")
    producer.begin()
    for event in events:
        encoded = encode(event)
        producer.send(
            [NewRecord(encoded.topic, encoded.key, encoded.payload, {"k": encoded.kind.encode()} if headers else {})]
        )
    producer.commit()
    producer.close()


def a_shell(bus: Bus, *, snapshot_every: int = 20_000, batch: int = 7, inputs: Sequence[Input] = INPUTS) -> CoreShell:
    shell = CoreShell(
        "risk",
        CountingCore(),
        inputs,
        bus,
        ServiceMetrics("risk"),
        configure_logging("risk", level="error"),
        clock=SystemClock(),
        batch_max_records=batch,
        snapshot_every_records=snapshot_every,
    )
    shell.open()
    return shell


def run_dry(shell: CoreShell) -> None:
    idle = 0
    while idle < 2:
        idle = 0 if shell.step(20) else idle + 1


def counts(bus: Bus) -> list[str]:
    return [decode(topics.ALERTS, record.value).message for record in read_topic(bus, topics.ALERTS)]


def test_outputs_are_published_once_for_every_input(bus: Bus) -> None:
    publish(bus, *(a_trade(number) for number in range(1, 31)))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    assert counts(bus) == [str(number) for number in range(1, 31)]


def test_records_of_other_kinds_never_reach_the_core(bus: Bus) -> None:
    from tests.kit.builders import a_quote

    publish(bus, a_trade(1), a_quote(1), a_trade(2))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    assert counts(bus) == ["1", "2"]


def test_repeated_ids_are_dropped(bus: Bus) -> None:
    publish(bus, a_trade(1), a_trade(1), a_trade(2))
    shell = a_shell(bus)
    run_dry(shell)
    publish(bus, a_trade(2), a_trade(3))
    run_dry(shell)
    shell.close()
    assert counts(bus) == ["1", "2", "3"]


def test_repeated_ids_are_dropped_across_a_restart(bus: Bus) -> None:
    publish(bus, a_trade(1), a_trade(2))
    shell = a_shell(bus)
    run_dry(shell)
    shell.release()
    publish(bus, a_trade(2), a_trade(3))
    again = a_shell(bus)
    run_dry(again)
    again.close()
    assert counts(bus) == ["1", "2", "3"]


def test_undecodable_and_unhandleable_records_are_put_aside_with_their_reason(bus: Bus) -> None:
    publish(bus, a_trade(1))
    producer = bus.producer("stranger")
    producer.begin()
    producer.send([NewRecord(topics.MARKET_EVENTS, b"BTCUSDT.BINANCE", b"\xff\xff not protobuf", {"k": b"trade"})])
    producer.commit()
    producer.close()
    publish(bus, replace(a_trade(2), quantity_e8=13), a_trade(3))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    assert counts(bus) == ["1", "2"]
    from libs.wire.records import decode_dead_letter

    dead = [decode_dead_letter(record.value) for record in read_topic(bus, topics.dead_topic(topics.MARKET_EVENTS))]
    assert [letter.reason.split(":")[0] for letter in dead] == ["undecodable", "unhandleable"]
    assert dead[0].payload == b"\xff\xff not protobuf"
    assert [letter.source_offset for letter in dead] == [1, 2]


def test_an_unexpected_error_commits_nothing_of_its_batch(bus: Bus) -> None:
    publish(bus, a_trade(1), a_trade(2))
    shell = a_shell(bus)
    run_dry(shell)
    publish(bus, a_trade(3), replace(a_trade(4), quantity_e8=666))
    with pytest.raises(Died):
        run_dry(shell)
    shell.release()
    assert counts(bus) == ["1", "2"]
    where = TopicPartition(topics.MARKET_EVENTS, 0)
    assert bus.committed("risk", [where])[where] == 2


@pytest.mark.parametrize("snapshot_every", [1, 10, 10_000])
def test_a_crash_at_any_batch_changes_no_output(bus: Bus, snapshot_every: int) -> None:
    events: list[Event] = []
    for number in range(1, 41):
        events.append(a_trade(number))
        if number % 5 == 0:
            events.append(a_forecast(number))
    expected_core = CountingCore()
    for stop in range(0, len(events), 6):
        publish(bus, *events[stop : stop + 6])
        shell = a_shell(bus, snapshot_every=snapshot_every, batch=3)
        run_dry(shell)
        # No close: the process is gone, and with it everything that is not in the log.
        shell.release()
    for record in journalled(bus):
        expected_core.handle(record)
    assert counts(bus)[-1] == str(expected_core.count)
    assert len(counts(bus)) == 40
    result = verify_service("risk", CountingCore(), INPUTS, bus)
    assert result.difference is None
    assert result.outputs == 40


def journalled(bus: Bus) -> list[Event]:
    from libs.runtime.verify import journalled_inputs

    return [decode(record.topic, record.value) for record in journalled_inputs(Task("risk"), INPUTS, bus)]


def test_a_clean_stop_leaves_a_snapshot_that_covers_everything(bus: Bus) -> None:
    publish(bus, *(a_trade(number) for number in range(1, 11)))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    last = read_last(bus, topics.state_topic("risk"))
    assert last is not None
    from libs.wire.records import decode_core_snapshot

    snapshot = decode_core_snapshot(last.value)
    assert snapshot.positions[(topics.MARKET_EVENTS, 0)] == 10
    assert snapshot.core == b"10 1"


def test_replay_names_the_first_difference(bus: Bus) -> None:
    publish(bus, *(a_trade(number) for number in range(1, 11)))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()

    class OtherCore(CountingCore):
        def handle(self, event: Event) -> Sequence[Event]:
            if isinstance(event, Trade) and event.venue_trade_id == 4:
                self.weight = 2
            return super().handle(event)

    result = verify_service("risk", OtherCore(), INPUTS, bus)
    assert result.difference is not None
    assert (result.difference.index, result.outputs) == (3, 3)
    assert result.difference.cause == f"{topics.MARKET_EVENTS}/0@3"
    assert "message='4'" in result.difference.recorded
    assert "message='5'" in result.difference.replayed


@pytest.mark.parametrize("inputs", [INPUTS, INPUTS[:1]], ids=["several inputs", "one input"])
def test_a_session_that_goes_on_is_compared_up_to_where_it_stood(bus: Bus, inputs: Sequence[Input]) -> None:
    publish(bus, *(a_trade(number) for number in range(1, 6)))
    shell = a_shell(bus, inputs=inputs)
    run_dry(shell)

    class Beside(CountingCore):
        def handle(self, event: Event) -> Sequence[Event]:
            if self.count == 2:
                publish(bus, *(a_trade(number) for number in range(6, 9)))
                run_dry(shell)
            return super().handle(event)

    result = verify_service("risk", Beside(), inputs, bus)
    assert (result.difference, result.inputs, result.outputs) == (None, 5, 5)
    publish(bus, a_trade(9))
    assert verify_service("risk", CountingCore(), inputs, bus).outputs == 8
    shell.close()


def test_replay_notices_an_output_that_no_input_explains(bus: Bus) -> None:
    publish(bus, a_trade(1))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    stray = encode(Alert("stray", 1, "risk", "count", Severity.INFO, True, "7"))
    producer = bus.producer("someone")
    producer.begin()
    producer.send([NewRecord(stray.topic, stray.key, stray.payload, {"p": b"risk"})])
    producer.commit()
    producer.close()
    result = verify_service("risk", CountingCore(), INPUTS, bus)
    assert result.difference is not None
    assert result.difference.replayed == "nothing"


def test_a_lost_control_topic_stops_the_service(bus: Bus) -> None:
    inputs = (*INPUTS, Input(topics.CONTROL_COMMANDS))
    shell = CoreShell(
        "risk",
        CountingCore(),
        inputs,
        bus,
        ServiceMetrics("risk"),
        configure_logging("risk", level="error"),
        clock=SystemClock(),
    )
    shell.open()
    publish(bus, a_trade(1))
    run_dry(shell)
    bus.delete_topics([topics.CONTROL_COMMANDS])
    publish(bus, a_trade(2))
    # Fails closed: without the topic that could say halt, nothing more is decided.
    with pytest.raises(BusError, match="topic"):
        run_dry(shell)
    shell.release()


def test_offsets_that_contradict_the_journal_are_refused(bus: Bus) -> None:
    publish(bus, *(a_trade(number) for number in range(1, 11)))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    rewound = bus.consumer([topics.MARKET_EVENTS], group="risk", member_id="risk-0")
    rewound.poll(1, 100)
    rewound.commit({TopicPartition(topics.MARKET_EVENTS, 0): 3})
    rewound.close()
    with pytest.raises(BusError, match="stands at 3 in market"):
        a_shell(bus)


def test_tasks_of_a_process_add_up_in_the_lag_that_it_shows() -> None:
    metrics = ServiceMetrics("bars")
    clock = SimulatedClock(0)
    with MemoryBus() as bus:
        bus.create_topics(Placement(2).topics())
        shells = [
            CoreShell(
                "bars",
                CountingCore(),
                [Input(topics.MARKET_EVENTS)],
                bus,
                metrics,
                configure_logging("bars", level="error"),
                clock=clock,
                batch_max_records=1,
                task=Task("bars", partition),
            )
            for partition in range(2)
        ]
        for partition, shell in enumerate(shells):
            shell.open()
            encoded = [encode(a_trade(number)) for number in range(1, 4 + partition)]
            records = [NewRecord(each.topic, each.key, each.payload, partition=partition) for each in encoded]
            commit_records(bus.producer("ingestion"), records)
        clock.advance(6.0)
        for shell in shells:
            shell.step(0)
        labels = {"service": "bars", "topic": topics.MARKET_EVENTS}
        assert metrics.registry.get_sample_value("perpflow_lag_records", labels) == 2 + 3
        shells[1].release()
        assert metrics.registry.get_sample_value("perpflow_lag_records", labels) == 2
        shells[0].close()
        assert metrics.registry.get_sample_value("perpflow_lag_records", labels) == 0
