"""The configuration file: read beside the environment, checked whole, shown with secrets masked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs.runtime.configuration import read_configuration
from libs.runtime.errors import BadInput
from libs.runtime.settings import PlatformSettings, load_settings, secret_fields, variables_of
from services.console.config_commands import check, show
from services.console.registry import read_checked, secret_variables, settings_models
from services.risk.settings import RiskSettings


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERPFLOW_CONFIG", raising=False)
    return tmp_path


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "perpflow.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_every_service_has_its_table_and_every_setting_its_own_variable() -> None:
    models = settings_models()
    assert {"platform", "store", "console", "risk", "execution", "monitoring", "exchange"} <= models.keys()
    variables = [variable for kind in models.values() for variable in variables_of(kind).values()]
    assert len(variables) == len(set(variables))


def test_what_guards_access_is_declared_a_secret() -> None:
    suspects = ("password", "secret", "token", "api_key", "glassnode_key")
    for table, kind in settings_models().items():
        for name in kind.model_fields:
            if name.endswith(suspects) and not name.endswith("_file"):
                assert name in secret_fields(kind), f"{table}.{name} should be a SecretStr"


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(folder: Path) -> None:
    write(folder, '[risk]\nmax_leverage = 2.5\nmax_open_orders = 7\ninstruments = ["BTCUSDT.BINANCE"]\n')
    configuration = read_configuration({"PERPFLOW_RISK_MAX_OPEN_ORDERS": "9"})
    settings = load_settings(RiskSettings, configuration)
    assert str(settings.max_leverage) == "2.5"
    assert settings.max_open_orders == 9
    assert settings.instruments == ("BTCUSDT.BINANCE",)
    assert settings.account == "paper"


def test_values_come_from_the_environment_handed_in_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_LOG_LEVEL", "debug")
    assert load_settings(PlatformSettings, {}).log_level == "info"
    assert load_settings(PlatformSettings, {"PERPFLOW_LOG_LEVEL": "error"}).log_level == "error"
    assert load_settings(PlatformSettings).log_level == "debug"


def test_another_file_can_be_named_and_none_by_an_empty_name(folder: Path) -> None:
    write(folder, '[platform]\nlog_level = "error"\n')
    (folder / "other.toml").write_text('[platform]\nlog_level = "debug"\n')
    assert load_settings(PlatformSettings, read_configuration({})).log_level == "error"
    other = read_configuration({"PERPFLOW_CONFIG": "other.toml"})
    assert load_settings(PlatformSettings, other).log_level == "debug"
    assert load_settings(PlatformSettings, read_configuration({"PERPFLOW_CONFIG": ""})).log_level == "info"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[risk\n", "is not TOML"),
        ("max_leverage = 2\n", "max_leverage stands outside of a table"),
        ("[risk]\nmax_leverge = 2\n", r"\[risk\] max_leverge; did you mean PERPFLOW_RISK_MAX_LEVERAGE"),
        ("[riks]\nmax_leverage = 2\n", r"\[riks\] max_leverage; did you mean PERPFLOW_RISK_MAX_LEVERAGE"),
        ('[risk]\nmax_leverage = "lots"\n', r"\[risk\] max_leverage='lots'"),
        ("[risk]\nmax_leverage = -1\n", "max_leverage: -1 is negative"),
        ('[platform]\nbus = 5\nlog_level = "loud"\n', r"\[platform\] log_level='loud'"),
        ('[risk]\ninstruments = "BTCUSDT.BINANCE"\n', r"\[risk\] instruments='BTCUSDT.BINANCE': not JSON"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(folder: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check(write(folder, text))


def test_a_file_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.toml: no such file"):
        check(folder / "gone.toml")
    with pytest.raises(BadInput, match="correct PERPFLOW_CONFIG or unset it"):
        read_configuration({"PERPFLOW_CONFIG": "gone.toml"})


def test_a_secret_in_a_file_that_others_can_read_is_refused(folder: Path) -> None:
    text = '[execution]\napi_secret = "the-venues-secret"\n'
    with pytest.raises(BadInput, match="chmod 600") as caught:
        check(write(folder, text, 0o644))
    assert "the-venues-secret" not in str(caught.value)
    check(write(folder, text, 0o600))


def test_a_secret_too_short_to_be_masked_is_refused_without_being_shown() -> None:
    with pytest.raises(BadInput, match="PERPFLOW_CLICKHOUSE_PASSWORD has 3 characters") as caught:
        read_checked({"PERPFLOW_CLICKHOUSE_PASSWORD": "x9z"})
    assert "x9z" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PERPFLOW_BUSS", "PERPFLOW_BUS"),
        ("PERPFLOW_LOG_LEVLE", "PERPFLOW_LOG_LEVEL"),
        ("PERPFLOW_EXECUTION_APIKEY", "PERPFLOW_EXECUTION_API_KEY"),
        ("PERPFLOW_STRATGY_ACCOUNT", "PERPFLOW_STRATEGY_ACCOUNT"),
        ("perpflow_risk_max_leverge", "PERPFLOW_RISK_MAX_LEVERAGE"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_right_one(name: str, meant: str) -> None:
    with pytest.raises(BadInput, match=f"{name}; did you mean {meant}"):
        read_checked({name: "x"})


def test_a_process_refuses_a_variable_that_belongs_to_nobody() -> None:
    with pytest.raises(BadInput, match="PERPFLOW_RIKS_MAX_LEVERAGE; did you mean PERPFLOW_RISK_"):
        load_settings(PlatformSettings, {"PERPFLOW_RIKS_MAX_LEVERAGE": "2"})
    assert load_settings(PlatformSettings, {"PERPFLOW_RISK_MAX_LEVERAGE": "2", "PERPFLOW_SUPERVISOR_PID": "1"})


def test_what_is_shown_says_where_it_came_from_and_hides_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in secret_variables(settings_models()):
        monkeypatch.setenv(name, "marked-secret")
    monkeypatch.setenv("PERPFLOW_LOG_LEVEL", "debug")
    write(folder, "[risk]\nmax_leverage = 2.5\n")
    show(json=True)
    said = capsys.readouterr().out
    assert "marked-secret" not in said
    rows = {(row["table"], row["name"]): (row["value"], row["origin"]) for row in json.loads(said)}
    assert rows["risk", "max_leverage"] == ("2.5", "perpflow.toml [risk] max_leverage")
    assert rows["platform", "log_level"] == ("debug", "environment")
    assert rows["execution", "api_secret"] == ("***", "environment")
    assert rows["bars", "grace_ms"] == ("250", "default")
    show("risk", changed=True)
    assert capsys.readouterr().out.split()[:2] == ["risk.max_leverage", "2.5"]
    with pytest.raises(BadInput, match="no settings 'riks'"):
        show("riks")
