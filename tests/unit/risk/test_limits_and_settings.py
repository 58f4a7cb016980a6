"""Limits, the settings they come from, the building of the gate, the kill switch beside it."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path

import pytest

from libs.domain.control import ControlAction, ControlCommand
from libs.runtime.errors import BadInput
from libs.runtime.settings import PlatformSettings, load_settings
from services.risk.building import build_core
from services.risk.core.limits import LIMIT_KINDS, LimitError, RiskLimits, read_limit, write_limit
from services.risk.kill_switch import HALT_VARIABLE, check_kill_switch, find_halt_reason, kill_command
from services.risk.settings import RiskSettings
from tests.kit.builders import an_account


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HALT_VARIABLE, raising=False)


def test_defaults_are_what_the_documentation_says() -> None:
    limits = RiskLimits()
    assert limits.max_leverage == 3
    assert limits.allow_quote_as_mark
    assert limits.soft_drawdown_fraction < limits.hard_drawdown_fraction


def test_every_limit_survives_being_written_and_read() -> None:
    limits = RiskLimits()
    assert limits.with_changes(limits.as_strings()) == limits
    assert set(limits.as_strings()) == {field.name for field in dataclasses.fields(RiskLimits)} == set(LIMIT_KINDS)
    assert write_limit(True) == "true" and write_limit(False) == "false"
    assert write_limit(Decimal("0.10")) == "0.1"
    assert read_limit("allow_quote_as_mark", "false") is False
    assert read_limit("max_open_orders", "3.0") == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("max_leverge", "1", "unknown limit 'max_leverge'; known: max_order_notional_usdt"),
        ("max_leverage", "much", "max_leverage: 'much' is not a number"),
        ("max_leverage", "NaN", "max_leverage: NaN is not a finite number"),
        ("max_leverage", "Infinity", "max_leverage: Infinity is not a finite number"),
        ("max_leverage", "0.99", r"max_leverage: 0\.99 is below 1"),
        ("max_order_notional_usdt", "-1", "max_order_notional_usdt: -1 is negative"),
        ("max_open_orders", "1.5", r"max_open_orders: '1\.5' is not a whole number"),
        ("max_open_orders", "NaN", "max_open_orders: 'NaN' is not a whole number"),
        ("max_open_orders", "-1", "max_open_orders: -1 is negative"),
        ("allow_quote_as_mark", "yes", "allow_quote_as_mark: 'yes' must be true or false"),
        ("soft_drawdown_fraction", "0.21", r"soft_drawdown_fraction: 0\.21 exceeds hard_drawdown_fraction 0\.20"),
        ("volatility_warmup_bars", "0", "volatility_warmup_bars: 0"),
        ("max_daily_loss_fraction", "1", "max_daily_loss_fraction: 1 must be below 1"),
        ("stop_loss_fraction", "1", "stop_loss_fraction: 1 must be below 1"),
        ("min_liquidation_distance", "1", "min_liquidation_distance: 1"),
        ("max_price_deviation", "1", "max_price_deviation: 1"),
        ("break_even_trigger_fraction", "2", "break_even_trigger_fraction: 2"),
        ("trailing_stop_fraction", "0.0009", r"trailing_stop_fraction: 0\.0009 lies outside"),
        ("trailing_stop_fraction", "0.11", r"trailing_stop_fraction: 0\.11 lies outside"),
    ],
)
def test_impossible_limits_are_refused_by_name(name: str, text: str, message: str) -> None:
    with pytest.raises(LimitError, match=message):
        RiskLimits().with_changes({name: text})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_leverage", "1"),
        ("max_order_notional_usdt", "0"),
        ("soft_drawdown_fraction", "0.20"),
        ("volatility_warmup_bars", "1"),
        ("trailing_stop_fraction", "0.001"),
        ("trailing_stop_fraction", "0.1"),
        ("trailing_stop_fraction", "0"),
        ("max_daily_loss_fraction", "0.999"),
    ],
)
def test_limits_at_the_edge_of_what_is_possible_are_taken(name: str, text: str) -> None:
    assert getattr(RiskLimits().with_changes({name: text}), name) == Decimal(text)


def test_a_limit_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(LimitError, match="max_open_orders: True must be a int"):
        RiskLimits(max_open_orders=True)
    with pytest.raises(LimitError, match="max_leverage: 3 must be a Decimal"):
        RiskLimits(max_leverage=3)  # type: ignore[arg-type]


def test_settings_have_every_limit_with_its_default() -> None:
    assert load_settings(RiskSettings, {}).limits() == RiskLimits()
    assert set(LIMIT_KINDS) <= set(RiskSettings.model_fields)


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_RISK_MAX_LEVERAGE", "2.5")
    monkeypatch.setenv("PERPFLOW_RISK_ALLOW_QUOTE_AS_MARK", "false")
    monkeypatch.setenv("PERPFLOW_RISK_INSTRUMENTS", '["BTCUSDT.BINANCE"]')
    settings = load_settings(RiskSettings)
    assert settings.limits() == RiskLimits(max_leverage=Decimal("2.5"), allow_quote_as_mark=False)
    core = build_core(settings)
    (state,) = core.handle(an_account())
    assert state.account == "paper"
    assert core.limits.max_leverage == Decimal("2.5")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PERPFLOW_RISK_MAX_LEVERGE", "2", "PERPFLOW_RISK_MAX_LEVERGE"),
        ("PERPFLOW_RISK_MAX_LEVERAGE", "NaN", "PERPFLOW_RISK_MAX_LEVERAGE"),
        ("PERPFLOW_RISK_MAX_LEVERAGE", "-1", "max_leverage: -1 is negative"),
        ("PERPFLOW_RISK_MAX_OPEN_ORDERS", "1.5", "PERPFLOW_RISK_MAX_OPEN_ORDERS"),
    ],
)
def test_impossible_settings_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=message):
        load_settings(RiskSettings)


@pytest.mark.parametrize("instrument", ["DOGEUSDT.BINANCE", "BTCUSDT"])
def test_instruments_without_rules_are_refused(instrument: str) -> None:
    with pytest.raises(BadInput, match="PERPFLOW_RISK_INSTRUMENTS"):
        build_core(RiskSettings(instruments=(instrument,)))


# --- kill switch ---------------------------------------------------------------------------------------------------


def test_nothing_asks_for_a_halt_by_default(tmp_path: Path) -> None:
    assert find_halt_reason("", {}) == ""
    assert find_halt_reason(str(tmp_path / "halt"), {}) == ""
    assert check_kill_switch("paper", 1, "", {}) is None


@pytest.mark.parametrize("value", ["1", "true", "yes", "on", "HALT", "anything"])
def test_the_variable_halts(value: str) -> None:
    command = check_kill_switch("paper", 7, "", {HALT_VARIABLE: value})
    assert command is not None
    assert command == ControlCommand(
        command.event_id,
        7,
        "paper",
        ControlAction.HALT,
        "kill switch",
        f"environment variable {HALT_VARIABLE} is {value!r}",
    )


@pytest.mark.parametrize("value", ["", " ", "0", "false", "No", "OFF"])
def test_the_variable_switched_off_does_not_halt(value: str) -> None:
    assert find_halt_reason("", {HALT_VARIABLE: value}) == ""


def test_the_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HALT_VARIABLE, "1")
    assert HALT_VARIABLE in find_halt_reason("")


def test_anything_at_the_path_halts_even_a_broken_link(tmp_path: Path) -> None:
    path = tmp_path / "halt"
    path.symlink_to(tmp_path / "nowhere")
    assert "is there" in find_halt_reason(str(path), {})
    path.unlink()
    path.mkdir()
    assert "is there" in find_halt_reason(str(path), {})


def test_a_path_that_cannot_be_looked_at_halts(tmp_path: Path) -> None:
    blocking = tmp_path / "file"
    blocking.write_text("")
    assert "cannot be looked at" in find_halt_reason(str(blocking / "halt"), {})


def test_a_folder_that_is_not_there_halts_because_nobody_could_put_the_file_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    reason = find_halt_reason(str(folder / "halt"), {})
    assert reason.startswith(f"the folder of kill switch file {folder / 'halt'} cannot be looked at: No such file")
    assert f"create {folder} or correct PERPFLOW_RISK_KILL_SWITCH_FILE" in reason
    folder.mkdir()
    assert find_halt_reason(str(folder / "halt"), {}) == ""


def test_kill_command_is_a_halt_of_one_account() -> None:
    command = kill_command("paper", 3, "because")
    assert (command.account, command.action, command.reason) == ("paper", ControlAction.HALT, "because")
    assert command.event_id.startswith("kill/paper/3/")


def test_two_halts_at_one_time_are_two_commands() -> None:
    assert len({kill_command("paper", 3, "a clock that stands still").event_id for _ in range(3)}) == 3


def test_platform_settings_leave_the_risk_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HALT_VARIABLE, "1")
    assert load_settings(PlatformSettings)
    assert load_settings(RiskSettings).halt == "1"
