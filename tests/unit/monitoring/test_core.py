"""When alerts are raised and cleared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.domain.control import Severity, TradingState
from services.monitoring.core import AlertLimits, AlertRules, ServiceCondition
from tests.unit.monitoring import builders as make

MS = 1_000_000
S = 1000 * MS


def rules() -> AlertRules:
    return AlertRules(AlertLimits(stale_market_after_ms=10_000, lag_limit_records=100, lag_for_ms=5000), started_ns=0)


def test_silent_market_is_raised_once_and_cleared_once() -> None:
    alerts = rules()
    alerts.saw_market(1 * S)
    assert alerts.evaluate(11 * S) == []
    (raised,) = alerts.evaluate(11 * S + MS)
    assert (raised.name, raised.severity, raised.is_raised) == ("market_data_stale", Severity.CRITICAL, True)
    assert alerts.evaluate(20 * S) == []
    alerts.saw_market(21 * S)
    (cleared,) = alerts.evaluate(21 * S)
    assert (cleared.name, cleared.is_raised) == ("market_data_stale", False)
    assert alerts.evaluate(22 * S) == []


def test_market_that_never_spoke_is_raised_too() -> None:
    (raised,) = rules().evaluate(11 * S)
    assert raised.message == "No market data yet for more than 10 s"


def test_finished_recording_is_not_stale() -> None:
    alerts = rules()
    alerts.saw_services([ServiceCondition("ingestion", None, is_finished=True)], 1 * S)
    assert alerts.evaluate(60 * S) == []


def test_halt_is_raised_and_cleared_with_the_state() -> None:
    alerts = rules()
    alerts.handle(make.a_control_state(TradingState.HALTED, reason="drawdown"))
    (raised,) = alerts.evaluate(S)
    assert raised.name == "trading_halted/paper"
    assert raised.message == "Trading of account paper is halted: drawdown"
    alerts.handle(make.a_control_state(TradingState.REDUCING, reason="careful"))
    changes = alerts.evaluate(2 * S)
    assert [(change.name, change.is_raised) for change in changes] == [
        ("trading_halted/paper", False),
        ("trading_reducing/paper", True),
    ]


def test_dead_letters_are_raised_and_clear_when_no_more_come() -> None:
    alerts = AlertRules(AlertLimits(dead_letters_clear_after_ms=60_000, stale_market_after_ms=10**9), started_ns=0)
    alerts.saw_dead_letters({"dead.market.events.v1": 0, "dead.bars.closed.v1": 2}, S)
    (raised,) = alerts.evaluate(S)
    assert raised.message == "Messages could not be handled, see dead.bars.closed.v1"
    alerts.saw_dead_letters({"dead.bars.closed.v1": 2}, 30 * S)
    assert alerts.evaluate(60 * S) == []
    (cleared,) = alerts.evaluate(61 * S)
    assert not cleared.is_raised


@pytest.mark.parametrize("is_finished", [True, False])
def test_service_is_down_unless_its_work_is_done(is_finished: bool) -> None:
    alerts = rules()
    gone = ServiceCondition("bars", False, is_finished=is_finished, detail="process 7 is gone")
    alerts.saw_services([gone], S)
    assert alerts.evaluate(S) == []
    alerts.saw_services([gone], 6 * S)
    assert [change.message for change in alerts.evaluate(6 * S)] == (
        [] if is_finished else ["Service bars is down process 7 is gone"]
    )


def test_restart_within_a_few_seconds_is_no_alert() -> None:
    alerts = rules()
    for at, is_up in ((1, True), (2, False), (4, True), (8, False)):
        alerts.saw_services([ServiceCondition("bars", is_up)], at * S)
        assert alerts.evaluate(at * S) == []


def test_store_that_does_not_answer_has_an_alert_of_its_own() -> None:
    alerts = rules()
    waiting = ServiceCondition("recorder", False, detail="its store does not answer", missing=("store",))
    alerts.saw_services([waiting], S)
    assert alerts.evaluate(S) == []
    alerts.saw_services([waiting], 6 * S)
    (raised,) = alerts.evaluate(6 * S)
    assert (raised.name, raised.severity, raised.is_raised) == ("store_down", Severity.WARNING, True)
    alerts.saw_services([ServiceCondition("recorder", True)], 7 * S)
    assert [(change.name, change.is_raised) for change in alerts.evaluate(7 * S)] == [("store_down", False)]


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (("bus",), ["bus_down"]),
        (("bus", "store"), ["bus_down", "store_down"]),
        (("bus", "venue"), ["bus_down", "service_down/recorder"]),
    ],
)
def test_service_that_misses_more_than_bus_and_store_is_down(missing: tuple[str, ...], expected: list[str]) -> None:
    alerts = rules()
    for at in (1, 6):
        alerts.saw_services([ServiceCondition("recorder", False, missing=missing)], at * S)
        alerts.saw_bus("", at * S)
    changes = alerts.evaluate(6 * S)
    assert [change.name for change in changes] == expected
    assert changes[0].message == "The bus does not answer: recorder cannot reach it"


def test_bus_that_does_not_answer_is_raised_without_it_and_waits_to_be_recorded() -> None:
    alerts = rules()
    alerts.saw_market(S)
    alerts.saw_bus("Kafka at k:9092 does not answer", S)
    assert alerts.evaluate_bus(S) == []
    alerts.saw_bus("Kafka at k:9092 does not answer (again)", 30 * S)
    (raised,) = alerts.evaluate_bus(30 * S)
    assert (raised.name, raised.severity, raised.is_raised) == ("bus_down", Severity.CRITICAL, True)
    assert raised.message == "The bus does not answer: Kafka at k:9092 does not answer (again)"
    assert alerts.unrecorded == (raised,)
    # An older record of the topic, read when the bus is back.
    alerts.adopt(replace(raised, event_id="older", is_raised=False))
    alerts.saw_bus("", 31 * S)
    alerts.saw_market(31 * S)
    (cleared,) = alerts.evaluate(31 * S)
    assert (cleared.name, cleared.is_raised) == ("bus_down", False)
    assert alerts.unrecorded == (raised, cleared)
    alerts.note_recorded([raised, cleared])
    assert alerts.unrecorded == ()


def test_store_outage_shorter_than_the_limit_is_no_alert() -> None:
    alerts = rules()
    for at, missing in ((1, ("store",)), (3, ()), (4, ("store",)), (8, ("store",))):
        alerts.saw_services([ServiceCondition("recorder", not missing, missing=missing)], at * S)
        assert alerts.evaluate(at * S) == []


def test_lag_is_raised_only_when_it_lasts() -> None:
    alerts = rules()
    slow = ServiceCondition("bars", True, lag_records=101)
    alerts.saw_services([slow], S)
    assert alerts.evaluate(S) == []
    alerts.saw_services([slow], 6 * S)
    (raised,) = alerts.evaluate(6 * S)
    assert raised.name == "service_lagging/bars"
    alerts.saw_services([ServiceCondition("bars", True, lag_records=100)], 7 * S)
    assert [change.is_raised for change in alerts.evaluate(7 * S)] == [False]


def test_lag_that_went_away_in_between_starts_anew() -> None:
    alerts = rules()
    for at, lag in ((1, 200), (3, 0), (4, 200)):
        alerts.saw_services([ServiceCondition("bars", True, lag_records=lag)], at * S)
    assert alerts.evaluate(7 * S) == []


def test_restart_neither_raises_twice_nor_forgets_to_clear() -> None:
    alerts = rules()
    alerts.adopt(make.an_alert("market_data_stale"))
    assert alerts.evaluate(11 * S) == []
    alerts.saw_market(12 * S)
    (cleared,) = alerts.evaluate(12 * S)
    assert not cleared.is_raised


def test_alerts_of_others_are_left_alone() -> None:
    alerts = rules()
    alerts.adopt(make.an_alert("orders_mismatch", service="execution"))
    assert alerts.raised == frozenset()
    assert alerts.evaluate(S) == []


def test_same_observations_give_the_same_alerts() -> None:
    def run() -> list[object]:
        alerts = rules()
        alerts.saw_services([ServiceCondition("risk", False), ServiceCondition("bars", False)], S)
        return list(alerts.evaluate(20 * S))

    assert run() == run()
