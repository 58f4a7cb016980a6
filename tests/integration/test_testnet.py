"""Trading at a real venue: every service a process, orders over signed REST to the simulated exchange."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from libs.bus.open import open_bus
from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.events import Event
from libs.domain.orders import OrderType, PlaceOrder, ReportKind, VenueReport
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import ACCOUNTS, COMMANDS, REPORTS, VENUE_CALLS
from tests.kit.platform import Platform, SessionOutcome, trading_platform

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Platform, SessionOutcome]:
    """Ten minutes that trade at every bar, with a protective stop each; three processes die meanwhile."""
    folder = tmp_path_factory.mktemp("testnet")
    platform = trading_platform(
        folder, PERPFLOW_RISK_STOP_LOSS_FRACTION="0.01", PERPFLOW_EXECUTION_MAX_COMMAND_AGE_S="3600"
    )
    arguments = ("--market", "simulated", "--mode", "testnet", "--seed", "7", "--speed", "20", "--span", "10m")
    return platform, platform.up(*arguments, kill=("execution", "outbox", "exchange"))


def read(platform: Platform, topic: str) -> list[Event]:
    session = json.loads(next((platform.folder / "var" / "sessions").glob("*/session.json")).read_text())
    with open_bus(session["bus"]) as bus:
        return [decode(record.topic, record.value) for record in read_topic(bus, topic)]


def requests_at_the_exchange(platform: Platform) -> list[dict[str, Any]]:
    """What the exchange wrote down before it carried it out."""
    (journal,) = (platform.folder / "var" / "sessions").glob("*/run/exchange-orders.jsonl")
    return [json.loads(line) for line in journal.read_text().splitlines()[1:]]


def test_session_is_whole_though_processes_died(traded: tuple[Platform, SessionOutcome]) -> None:
    _, outcome = traded
    assert outcome.exit_code == 0, outcome.stderr[-3000:]
    summary = outcome.summary
    assert summary["fills"] > 1 and summary["dead_letters"] == 0 and summary["restarts"] >= 3
    assert summary["topics"] == summary["tables"]
    assert set(summary["invariants"].values()) == {0}


def test_every_command_reached_the_exchange_once(traded: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = traded
    commanded = {event.client_order_id: event for event in read(platform, COMMANDS) if isinstance(event, PlaceOrder)}
    placed = Counter(
        request["sent"].get("newClientOrderId") or request["sent"].get("clientAlgoId")
        for request in requests_at_the_exchange(platform)
        if request["request"] in ("POST /fapi/v1/order", "POST /fapi/v1/algoOrder")
    )
    assert set(placed.values()) == {1} and set(placed) <= set(commanded)
    refused = {
        report.client_order_id
        for report in read(platform, REPORTS)
        if isinstance(report, VenueReport) and report.kind is ReportKind.REJECTED
    }
    assert set(commanded) - set(placed) <= refused


def test_protective_stops_rest_at_the_exchange(traded: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = traded
    stops = {
        event.client_order_id
        for event in read(platform, COMMANDS)
        if isinstance(event, PlaceOrder) and event.order_type is OrderType.STOP_MARKET
    }
    at_exchange = {
        request["sent"]["clientAlgoId"]
        for request in requests_at_the_exchange(platform)
        if request["request"] == "POST /fapi/v1/algoOrder"
    }
    assert stops and at_exchange and at_exchange <= stops


def test_cancel_countdown_was_set(traded: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = traded
    countdowns = [
        request["sent"]
        for request in requests_at_the_exchange(platform)
        if request["request"] == "POST /fapi/v1/countdownCancelAll"
    ]
    assert len(countdowns) > 5
    assert {sent["countdownTime"] for sent in countdowns} == {"60000"}


def test_own_account_agrees_with_the_exchanges_to_the_last_digit(traded: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = traded
    books = {event.event_id: event for event in read(platform, REPORTS) if isinstance(event, VenueAccount)}
    assert len(books) > 3 and {event.cause_id for event in books.values()} == {""}
    before: AccountState | None = None
    compared = 0
    for state in read(platform, ACCOUNTS):
        assert isinstance(state, AccountState)
        told = books.get(state.cause_id)
        if told is not None and before is not None:
            assert before.wallet_balance == told.wallet_balance
            ours = {held.instrument: (held.quantity, held.entry_price) for held in before.positions if held.quantity}
            theirs = {held.instrument: (held.quantity, held.entry_price) for held in told.positions}
            assert ours == theirs
            compared += 1
        before = state
    assert compared > 2


def test_fill_leads_back_to_the_ticks_by_what_the_exchange_said(traded: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = traded
    (fill, *_) = (
        event for event in read(platform, REPORTS) if isinstance(event, VenueReport) and event.kind is ReportKind.FILL
    )
    done = platform.call("trace", fill.venue_order_id, "--json")
    assert done.returncode == 0, done.stderr
    links = json.loads(done.stdout)
    assert {"order", "report", "command", "verdict", "intent", "bar", "trade"} <= {link["step"] for link in links}
    assert fill.event_id in [link["event_id"] for link in links if link["step"] == "report"]
    assert json.loads(fill.raw)["status"] in ("FILLED", "PARTIALLY_FILLED")


def test_session_replays_byte_for_byte_without_a_key(traded: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = traded
    done = platform.call("replay", "--verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    replays = {each["service"]: each for each in json.loads(done.stdout)["services"]}
    assert replays["outbox"]["counts"][VENUE_CALLS] > 100 and replays["outbox"]["counts"][REPORTS] > 10
