"""Execution as a service: its settings, and paper trading through the shell and the wire on a bus in memory."""

from __future__ import annotations

from decimal import Decimal

import pytest

from libs.bus.api import NewRecord, TopicSpec
from libs.bus.memory import MemoryBus
from libs.clock import SystemClock
from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.events import Event
from libs.domain.market import Side
from libs.domain.orders import OrderEvent, OrderStatus, PlaceOrder, VenueReport
from libs.runtime.errors import BadInput
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.records import read_topic, stamp_headers
from libs.runtime.settings import load_settings
from libs.runtime.shell import CoreShell
from libs.runtime.verify import verify_service
from libs.wire import decode, encode
from libs.wire.topics import ACCOUNTS, COMMANDS, ORDERS, REPORTS, TOPICS
from services.execution.building import build_core
from services.execution.main import SERVICE
from services.execution.outbox import check_settings
from services.execution.settings import ExecutionSettings
from tests.kit.builders import BTC, START, a_mark, a_quote, a_tick, a_trade
from tests.unit.execution.builders import a_cancel_approval, an_approval

STORY: tuple[Event, ...] = (
    a_quote(1),
    a_mark(1),
    an_approval(1, quantity="0.02"),
    a_quote(2, seconds=3),
    an_approval(2, quantity="0.01", limit="59990"),
    a_tick(5),
    a_trade(1, "59980", "0.004", 6, is_buyer_maker=True),
    a_cancel_approval(3, target=2),
    a_tick(9),
    an_approval(4, quantity="0.024", side=Side.SELL, reduce_only=True),
    a_quote(3, seconds=12),
    an_approval(5, quantity="0.001"),
    a_tick(15),
)


def a_bus() -> MemoryBus:
    bus = MemoryBus()
    bus.create_topics(TopicSpec(topic) for topic in TOPICS)
    return bus


def a_shell(bus: MemoryBus, snapshot_every_records: int = 20_000) -> CoreShell:
    shell = CoreShell(
        "execution",
        build_core(ExecutionSettings()),
        SERVICE.inputs,
        bus,
        ServiceMetrics("execution"),
        configure_logging("execution"),
        clock=SystemClock(),
        snapshot_every_records=snapshot_every_records,
    )
    shell.open()
    return shell


def publish(bus: MemoryBus, *events: Event) -> None:
    producer = bus.producer("test")
    for event in events:
        encoded = encode(event)
        headers = stamp_headers(encoded.kind, "test", 1, None)
        producer.begin()
        producer.send([NewRecord(encoded.topic, encoded.key, encoded.payload, headers)])
        producer.commit()
    producer.close()


def drain(shell: CoreShell) -> None:
    while shell.step(0):
        pass


def read(bus: MemoryBus, topic: str) -> list[Event]:
    return [decode(record.topic, record.value) for record in read_topic(bus, topic)]


def payloads(bus: MemoryBus) -> dict[str, list[bytes]]:
    return {name: [r.value for r in read_topic(bus, name)] for name in (COMMANDS, REPORTS, ORDERS, ACCOUNTS)}


def tell(bus: MemoryBus, *, restart_every: int = 0) -> None:
    """Publish the story event by event; every so often the process dies without a word and another takes over."""
    shell = a_shell(bus, snapshot_every_records=7)
    for number, event in enumerate(STORY, start=1):
        publish(bus, event)
        drain(shell)
        if restart_every and number % restart_every == 0:
            shell.release()
            shell = a_shell(bus, snapshot_every_records=7)
    shell.close()


def test_paper_trading_through_the_wire_ends_as_it_should() -> None:
    bus = a_bus()
    tell(bus)
    last: dict[str, OrderStatus] = {}
    position = Decimal(0)
    for event in read(bus, ORDERS):
        assert isinstance(event, OrderEvent)
        last[event.client_order_id] = event.status
        if event.last_quantity is not None:
            position += event.last_quantity * event.side.sign
    assert [status.name for status in last.values()] == ["FILLED", "CANCELLED", "FILLED", "REJECTED"]
    account = read(bus, ACCOUNTS)[-1]
    assert isinstance(account, AccountState)
    assert account.position(BTC).quantity == position == 0
    assert account.open_order_count == 0
    placed = [each.client_order_id for each in read(bus, COMMANDS) if isinstance(each, PlaceOrder)]
    assert len(placed) == len(set(placed)) == 4
    assert all(isinstance(each, VenueReport) for each in read(bus, REPORTS))
    assert not [name for name in TOPICS if name.startswith("dead.") and list(read_topic(bus, name))]


@pytest.mark.parametrize("restart_every", [1, 2, 5])
def test_processes_that_die_change_nothing(restart_every: int) -> None:
    calm, rough = a_bus(), a_bus()
    tell(calm)
    tell(rough, restart_every=restart_every)
    assert payloads(rough) == payloads(calm)


def test_recorded_session_replays_to_the_byte() -> None:
    bus = a_bus()
    tell(bus, restart_every=4)
    result = verify_service("execution", build_core(ExecutionSettings()), SERVICE.inputs, bus)
    assert result.difference is None
    assert result.outputs > 20


def test_default_settings_build_a_paper_core() -> None:
    assert build_core(load_settings(ExecutionSettings, {})).account == "paper"


@pytest.mark.parametrize("mode", ["testnet", "live"])
def test_core_of_a_real_venue_needs_no_key_and_tells_of_no_account_before_the_venues_books(mode: str) -> None:
    core = build_core(ExecutionSettings.model_validate({"mode": mode}))
    assert list(core.handle(a_mark(1))) == []
    books = VenueAccount("venue-account/paper/1", START, "paper", Decimal("5000"), ())
    (account,) = core.handle(books)
    assert isinstance(account, AccountState) and account.wallet_balance == Decimal("5000")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "needs PERPFLOW_EXECUTION_API_KEY"),
        ({"api_key": "k", "api_secret": "s", "leverage": "2.5"}, "whole numbers"),
        ({"api_key": "k", "api_secret": "s", "instruments": ("DOGEUSDT.BINANCE",)}, "DOGEUSDT"),
    ],
)
def test_real_venue_without_what_it_takes_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_settings(ExecutionSettings.model_validate({"mode": "testnet", **changes}))


def test_secrets_do_not_show_in_the_settings_text() -> None:
    assert "hidden" not in repr(ExecutionSettings.model_validate({"api_key": "hidden", "api_secret": "hidden"}))


def test_unlisted_instrument_is_refused_by_name() -> None:
    settings = ExecutionSettings(instruments=("DOGEUSDT.BINANCE",))
    with pytest.raises(BadInput, match=r"DOGEUSDT\.BINANCE.*known: BTCUSDT\.BINANCE"):
        build_core(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STARTING_BALANCE_USDT", "-1"),
        ("STARTING_BALANCE_USDT", "NaN"),
        ("LEVERAGE", "200"),
        ("LATENCY_MS", "-3"),
        ("MODE", "practice"),
        ("ACCOUNT", "two words"),
        ("TAKER_FEE_RATE", "0.5"),
    ],
)
def test_bad_setting_is_refused_with_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(f"PERPFLOW_EXECUTION_{variable}", value)
    with pytest.raises(BadInput, match=f"PERPFLOW_EXECUTION_{variable}"):
        load_settings(ExecutionSettings)
