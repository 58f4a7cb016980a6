"""The view model of the page."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import orjson
import pytest

from libs.domain.accounts import Position
from libs.domain.control import AuditEntry, AuditOutcome, TradingState
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.market import Side
from libs.domain.orders import OrderStatus
from services.monitoring.dashboard import ORDER_LIMIT, Cursor, Dashboard
from services.monitoring.rows import row_of
from tests.unit.monitoring import builders as make
from tests.unit.monitoring.builders import ACCOUNT, BTC, MINUTE, SECOND, START


def test_empty_dashboard_says_that_nothing_is_known() -> None:
    state = Dashboard({"market": "simulated"}).state()
    assert state["session"] == {"market": "simulated"}
    assert state["feed"] == {"is_connected": False, "message": "Connecting to the bus"}
    assert state["clock"] == {"market_time_ms": None}
    assert state["orders"] == state["fills"] == state["refusals"] == state["alerts"] == []


def test_reader_gets_only_the_sections_that_changed() -> None:
    dashboard = Dashboard()
    cursor = Cursor()
    dashboard.changes(cursor)
    dashboard.handle(make.a_control_state())
    assert list(dashboard.changes(cursor)) == ["control"]
    assert dashboard.changes(cursor) == {}


def test_two_readers_do_not_take_from_each_other() -> None:
    dashboard = Dashboard()
    first, second = Cursor(), Cursor()
    dashboard.changes(first)
    dashboard.changes(second)
    dashboard.handle(make.a_bar(0))
    assert "bars" in dashboard.changes(first)
    assert "bars" in dashboard.changes(second)


def test_bars_travel_as_what_was_appended() -> None:
    dashboard = Dashboard()
    cursor = Cursor()
    dashboard.handle(make.a_bar(0, 61_800.5))
    whole = dashboard.changes(cursor)["bars"][BTC]
    assert whole["is_whole"]
    assert whole["points"] == [(START // 10**6, 61_800.5, 61_800.5, 61_800.5, 61_800.5, 12.0)]
    dashboard.handle(make.a_bar(1))
    patch = dashboard.changes(cursor)["bars"][BTC]
    assert not patch["is_whole"]
    assert len(patch["points"]) == 1


def test_longer_bars_are_not_drawn_twice() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.a_bar(0, timeframe="5m", close_time=START + 5 * MINUTE))
    assert dashboard.state()["bars"] == {}


def test_history_and_seam_bars_may_come_late() -> None:
    dashboard = Dashboard()
    for minute in (0, 2, 1):
        dashboard.handle(make.a_bar(minute, is_history=minute == 1))
    times = [point[0] for point in dashboard.state()["bars"][BTC]["points"]]
    assert times == sorted(times) and len(times) == 3


def test_forming_bar_and_its_volume_follow_the_trades_of_its_minute() -> None:
    dashboard = Dashboard()
    for second, price in ((0, 100.0), (10, 104.0), (20, 99.0), (30, 101.0)):
        dashboard.handle(make.a_trade(event_time=START + second * SECOND, price_e8=make.e8(price)))
    market = dashboard.state()["market"][BTC]
    assert market["last"] == 101.0
    assert market["forming"] == [START // 10**6, 100.0, 104.0, 99.0, 101.0, 0.2]
    dashboard.handle(make.a_trade(event_time=START + MINUTE, price_e8=make.e8(102.0)))
    assert dashboard.state()["market"][BTC]["forming"] == [(START + MINUTE) // 10**6, 102.0, 102.0, 102.0, 102.0, 0.05]


def test_market_clock_never_runs_backward() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.a_tick(START + 5 * SECOND))
    dashboard.handle(make.a_tick(START + 3 * SECOND))
    assert dashboard.state()["clock"] == {"market_time_ms": (START + 5 * SECOND) // 10**6}


def test_mark_and_quote_are_shown_with_funding() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.a_mark(price=61_799.5))
    dashboard.handle(make.a_quote(price=61_800.0))
    market = dashboard.state()["market"][BTC]
    assert (market["mark"], market["bid"], market["ask"]) == (61_799.5, 61_800.0, 61_800.1)
    assert market["funding_rate"] == 0.0001


def test_account_shows_position_and_leverage() -> None:
    held = Position(BTC, Decimal("-0.5"), Decimal("60000"), Decimal("62000"), Decimal("12.5"), Decimal("3"))
    dashboard = Dashboard()
    dashboard.handle(make.an_account(equity="10000", positions=(held,)))
    row = dashboard.state()["accounts"][ACCOUNT]
    assert row["notional"] == "31000"
    assert row["leverage"] == 3.1
    assert row["positions"][0]["unrealised_pnl"] == "-1000"


def test_realised_pnl_is_shown_after_fees_and_funding_too() -> None:
    costs = {"realised_pnl": Decimal("12.5"), "fees_paid": Decimal("3"), "funding_paid": Decimal("-0.25")}
    dashboard = Dashboard()
    dashboard.handle(make.an_account(positions=(Position(BTC, **costs),)))
    (row,) = dashboard.state()["accounts"][ACCOUNT]["positions"]
    assert (row["realised_pnl"], row["net_pnl"]) == ("12.5", "9.75")


def test_leverage_of_an_account_without_equity_is_unknown() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.an_account(equity="-5"))
    assert dashboard.state()["accounts"][ACCOUNT]["leverage"] is None


def test_older_account_state_does_not_replace_a_newer_one() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.an_account(2, START + SECOND, "10010"))
    dashboard.handle(make.an_account(1, START, "10000"))
    assert dashboard.state()["accounts"][ACCOUNT]["equity"] == "10010"


def test_champion_and_shadow_forecasts_are_kept_apart() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.a_forecast(1))
    dashboard.handle(make.a_forecast(1, model_name="challenger", role=ModelRole.SHADOW))
    shown = dashboard.state()["forecasts"][BTC]
    assert shown["latest"]["model_name"] == "starter"
    assert [row["model_name"] for row in shown["shadows"]] == ["challenger"]
    assert len(shown["history"]) == 1


def test_models_are_shown_with_what_their_accounts_came_to() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.a_forecast(1))
    dashboard.handle(make.a_forecast(1, model_name="challenger", model_version="2", role=ModelRole.SHADOW))
    for hour, equity in enumerate(("10000", "10000", "10010", "10010")):
        dashboard.handle(make.an_account(hour + 1, START + hour * 60 * MINUTE, account="model-1"))
        dashboard.handle(make.an_account(hour + 1, START + hour * 60 * MINUTE, equity, account="model-2"))
    champion, shadow = dashboard.state()["models"]
    assert (champion["model"], champion["role"], champion["net_bps"]) == ("starter/1", "CHAMPION", 0.0)
    assert (shadow["model"], shadow["role"], shadow["account"]) == ("challenger/2", "SHADOW", "model-2")
    assert (shadow["periods"], round(shadow["net_bps"], 6), shadow["samples"]) == (2, 10.0, 1)
    dashboard.handle(make.a_forecast(2, role=ModelRole.SHADOW))
    dashboard.handle(make.a_forecast(2, model_name="challenger", model_version="2"))
    assert [row["model"] for row in dashboard.state()["models"]] == ["challenger/2", "starter/1"]


def test_repeated_forecast_is_shown_once() -> None:
    dashboard = Dashboard()
    for _ in range(2):
        dashboard.handle(make.a_forecast(1))
    assert len(dashboard.state()["forecasts"][BTC]["history"]) == 1


def test_order_moves_to_the_top_with_its_latest_status() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.an_order_event("1", OrderStatus.SUBMITTING))
    dashboard.handle(make.an_order_event("2", OrderStatus.SUBMITTING))
    dashboard.handle(make.an_order_event("1", OrderStatus.CANCELLED, reason="by hand"))
    rows = dashboard.state()["orders"]
    assert [row["status"] for row in rows] == ["CANCELLED", "SUBMITTING"]
    assert rows[0]["reason"] == "by hand"


def test_open_orders_outlast_closed_ones() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.an_order_event("resting", OrderStatus.ACCEPTED))
    for number in range(ORDER_LIMIT + 10):
        dashboard.handle(make.an_order_event(str(number), OrderStatus.FILLED))
    rows = dashboard.state()["orders"]
    assert len(rows) == ORDER_LIMIT
    assert "ACCEPTED" in {row["status"] for row in rows}


def test_fill_is_listed_once_with_its_fee() -> None:
    dashboard = Dashboard()
    for _ in range(2):
        dashboard.handle(make.a_fill("1", "61800.1", Side.SELL, realised_pnl=Decimal("-1.5")))
    (row,) = dashboard.state()["fills"]
    assert (row["side"], row["last_price"], row["fee"], row["realised_pnl"]) == ("SELL", "61800.1", "0.618001", "-1.5")


def test_refusal_shows_reasons_and_only_the_failed_checks() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.a_refusal())
    (row,) = dashboard.state()["refusals"]
    assert row["reasons"] == ["leverage would be 3.42, the limit is 3"]
    assert row["checks"] == [{"name": "leverage", "has_passed": False, "value": "3.42", "limit": "3"}]


def test_alert_stands_until_it_is_cleared() -> None:
    dashboard = Dashboard()
    dashboard.handle(make.an_alert())
    assert len(dashboard.state()["alerts"]) == 1
    dashboard.handle(make.an_alert(is_raised=False))
    assert dashboard.state()["alerts"] == []


@pytest.mark.parametrize(
    ("own", "of_all", "expected"),
    [
        (TradingState.ACTIVE, TradingState.HALTED, "HALTED"),
        (TradingState.HALTED, TradingState.ACTIVE, "HALTED"),
        (TradingState.ACTIVE, TradingState.REDUCING, "REDUCING"),
    ],
)
def test_the_stricter_state_is_in_force(own: TradingState, of_all: TradingState, expected: str) -> None:
    dashboard = Dashboard()
    dashboard.handle(make.a_control_state(own))
    dashboard.handle(make.a_control_state(of_all, account="*"))
    row = dashboard.control_state_of(ACCOUNT)
    assert row is not None and row["state"] == expected


def test_state_is_unknown_until_risk_speaks() -> None:
    assert Dashboard().control_state_of(ACCOUNT) is None


def test_everything_shown_can_be_written_as_json() -> None:
    dashboard = Dashboard()
    for event in make.a_session(60):
        dashboard.handle(event)
    state = orjson.loads(orjson.dumps(dashboard.state()))
    assert len(state["bars"][BTC]["points"]) == 60
    assert state["fills"] and state["refusals"] and state["equity"][ACCOUNT]["points"]


def test_who_did_what_is_shown_newest_first() -> None:
    dashboard = Dashboard()
    for number, outcome in enumerate((AuditOutcome.REFUSED, AuditOutcome.DONE)):
        dashboard.handle(
            AuditEntry(
                *(f"audit/{number}", START + number * SECOND, "monitoring", "ada", "operator", "halt", "paper"),
                *(outcome, "10.0.0.7", "news", ""),
            )
        )
    newest, oldest = dashboard.state()["audit"]
    assert (newest["outcome"], oldest["outcome"]) == ("DONE", "REFUSED")
    assert (newest["actor"], newest["action"], newest["target"]) == ("ada", "halt", "paper")
    assert (newest["source_address"], newest["detail"]) == ("10.0.0.7", "news")


def test_a_row_follows_from_the_events_fields() -> None:
    row = row_of(make.a_forecast(1))
    names = {field.name for field in dataclasses.fields(Forecast)}
    assert row.keys() == names - {"event_time", "horizon_ns"} | {"time_ms", "horizon_ms"}
    assert (row["role"], row["expected_return_bps"]) == ("CHAMPION", 2.4)
    assert row_of(make.a_refusal())["intent"]["action"] == "PLACE"
