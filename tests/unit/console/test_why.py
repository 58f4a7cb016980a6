"""Why an order passed or was stopped, and why nothing was asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.bus.api import NewRecord, TopicSpec
from libs.bus.memory import MemoryBus
from libs.domain.control import ControlState, TradingState
from libs.domain.events import Event
from libs.domain.orders import CheckResult, OrderApproved, OrderEvent, OrderRefused, Origin, verdict_id_of
from libs.domain.state import describe_state
from libs.runtime.errors import BadInput
from libs.wire import encode, topics
from services.console.explain_commands import is_time
from services.console.session import SessionDescription
from services.console.session_events import SessionEvents
from services.console.why import explain_order, explain_time
from services.strategy.loading import build_strategy_core
from services.strategy.settings import StrategyChoice, StrategySettings
from tests.kit.builders import a_bar, a_forecast, an_account, an_intent
from tests.kit.golden import examples

BAR = a_bar()
FORECAST = a_forecast(up=0.35, flat=0.33, down=0.32, confidence=0.2)
INTENT = an_intent(cause_ids=(FORECAST.event_id,), reason="up it goes")
CHECKS = (
    CheckResult("account", True, "paper", "paper"),
    CheckResult("order_notional_usdt", True, "400", "<= 5000"),
    CheckResult("intent_age_ms", True, "90000", "<= 120000"),
)
APPROVED = OrderApproved(
    verdict_id_of(INTENT.event_id), INTENT.event_time, INTENT.account, INTENT.instrument, INTENT.event_id, INTENT,
    Origin.STRATEGY, 1, CHECKS,
)  # fmt: skip
ORDER = next(event for event in examples().values() if isinstance(event, OrderEvent))
HALTED = next(event for event in examples().values() if isinstance(event, ControlState))
SESSION = SessionDescription(
    name="s", folder=Path("/none"), market="simulated", mode="paper", seed=7, speed=1.0, instrument=BAR.instrument,
    bus="memory:s", topic_prefix="", clickhouse="", clickhouse_database="",
)  # fmt: skip


def session_of(*given: Event) -> SessionEvents:
    bus = MemoryBus(secrets.token_hex(4))
    bus.create_topics(TopicSpec(name) for name in topics.TOPICS)
    producer = bus.producer("test")
    producer.begin()
    producer.send(NewRecord(one.topic, one.key, one.payload) for one in map(encode, given))
    producer.commit()
    return SessionEvents(bus)


def state_after(*given: Event, choices: Iterable[str] = ("forecast_threshold",)) -> dict[str, Any]:
    settings = StrategySettings(strategies=tuple(StrategyChoice(path=path) for path in choices))
    core = build_strategy_core(settings)
    for event in given:
        core.handle(event)
    described = describe_state(core.snapshot())
    assert described is not None
    state: dict[str, Any] = described["state"]
    return state


def test_an_approved_order_names_the_limits_it_came_nearest_to() -> None:
    order = replace(ORDER, intent_id=INTENT.event_id)
    events = session_of(FORECAST, INTENT, APPROVED, order)
    for name in (order.client_order_id, order.venue_order_id, INTENT.event_id, APPROVED.event_id):
        found = explain_order(events, name)
        assert found.verdict == "approved"
        assert [check.name for check in found.checks] == ["intent_age_ms", "order_notional_usdt", "account"]
        assert found.checks[0].used == 0.75
        assert "nearest their limits: intent_age_ms 90000 (<= 120000)" in found.reasons[0]
        assert found.chain[0] == "asked because up it goes"
        assert found.chain[1].startswith("forecast up 0.350")
        assert order.client_order_id in found.chain[2]


def test_a_refused_intent_names_the_check_that_stopped_it() -> None:
    checks = (*CHECKS[:2], CheckResult("intent_age_ms", False, "240000", "<= 120000"))
    refused = OrderRefused(
        APPROVED.event_id, INTENT.event_time, INTENT.account, INTENT.instrument, INTENT.event_id, INTENT, 1,
        ("intent_age_ms is 240000, must be <= 120000",), checks,
    )  # fmt: skip
    found = explain_order(session_of(INTENT, refused), INTENT.event_id)
    assert (found.verdict, found.reasons) == ("refused", ["intent_age_ms is 240000, must be <= 120000"])
    assert (found.checks[0].name, found.checks[0].has_passed, found.checks[0].used) == ("intent_age_ms", False, 2.0)


def test_an_unknown_order_is_refused_with_some_that_exist() -> None:
    with pytest.raises(
        BadInput, match=f"no order or intent 'pf-x' in this session; the last intents are {INTENT.event_id}"
    ):
        explain_order(session_of(INTENT), "pf-x")


def test_a_time_without_an_intent_names_the_threshold_that_was_not_reached() -> None:
    state = state_after(an_account(), BAR, FORECAST)
    found = explain_time(session_of(BAR, FORECAST), SESSION, FORECAST.event_time, state)
    assert [one.verdict for one in found] == ["nothing asked for"]
    assert found[0].reasons == ["forecast_threshold: probability 0.350 is below enter_probability 0.4"]
    assert found[0].chain[0].startswith("forecast up 0.350")


def test_a_time_within_a_halt_says_so() -> None:
    halted = replace(HALTED, state=TradingState.HALTED, reason="by hand", event_time=BAR.event_time)
    found = explain_time(session_of(BAR, halted), SESSION, BAR.event_time, state_after(an_account(), BAR))
    assert found[0].reasons[0] == "trading was halted: by hand"
    assert "no forecast of a champion had arrived" in found[0].reasons[1]


def test_a_time_with_an_intent_explains_it() -> None:
    intent = replace(INTENT, event_time=BAR.event_time)
    approved = replace(APPROVED, intent=intent, event_time=BAR.event_time)
    found = explain_time(session_of(BAR, intent, approved), SESSION, BAR.event_time, state_after(BAR))
    assert [one.verdict for one in found] == ["approved"]


def test_a_time_before_any_bar_is_refused() -> None:
    with pytest.raises(BadInput, match="no bar had closed by then"):
        explain_time(session_of(BAR), SESSION, BAR.event_time - 1, state_after())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-01-01", True), ("2026-01-01T10:00", True), ("pf-3x7q2m5k", False), ("12345678", False)],
)
def test_a_time_is_told_from_an_order(text: str, expected: bool) -> None:
    assert is_time(text) is expected
