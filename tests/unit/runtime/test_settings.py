"""Settings: every error is named with its variable and its fix; secrets never reach a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.runtime.errors import BadInput
from libs.runtime.log import mask_secrets, mask_text
from libs.runtime.settings import PlatformSettings, StoreSettings, load_settings


class GateSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PERPFLOW_GATE_")

    max_leverage: float = Field(3.0, gt=0, le=125)


def test_defaults_need_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERPFLOW_BUS", raising=False)
    assert load_settings(PlatformSettings, {}).bus == "sqlite:var/bus.db"


def test_a_bad_value_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_GATE_MAX_LEVERAGE", "lots")
    with pytest.raises(BadInput, match=r"PERPFLOW_GATE_MAX_LEVERAGE='lots'.*valid number"):
        load_settings(GateSettings)


def test_a_value_out_of_range_is_named_with_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_GATE_MAX_LEVERAGE", "400")
    with pytest.raises(BadInput, match=r"PERPFLOW_GATE_MAX_LEVERAGE='400'.*less than or equal to 125"):
        load_settings(GateSettings)


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_GATE_MAX_LEVERGE", "2")
    with pytest.raises(
        BadInput, match="unknown setting PERPFLOW_GATE_MAX_LEVERGE; did you mean PERPFLOW_GATE_MAX_LEVERAGE"
    ):
        load_settings(GateSettings)


def test_secrets_are_masked_by_name_and_inside_text() -> None:
    event = mask_secrets(
        None, "info", {"event": "call", "api_key": "abc", "url": "https://u:pw@host/x?signature=ff&a=1"}
    )
    assert event["api_key"] == "***"
    assert event["url"] == "https://u:***@host/x?signature=***&a=1"
    assert mask_text("listenKey=secretvalue and more") == "listenKey=*** and more"


def test_a_secret_may_come_from_a_file_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "clickhouse_password"
    file.write_text("from a file, not the environment\n")
    settings = load_settings(StoreSettings, {"PERPFLOW_CLICKHOUSE_PASSWORD_FILE": str(file)})
    assert settings.clickhouse_password.get_secret_value() == "from a file, not the environment"
    assert "from a file" not in mask_text("it says from a file, not the environment")


def test_a_secrets_file_of_another_model_is_no_unknown_setting(tmp_path: Path) -> None:
    given = {"PERPFLOW_CLICKHOUSE_PASSWORD_FILE": str(tmp_path / "none")}
    assert load_settings(PlatformSettings, given).replica is None


def test_a_secrets_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"PERPFLOW_CLICKHOUSE_PASSWORD_FILE=.*none cannot be read"):
        load_settings(StoreSettings, {"PERPFLOW_CLICKHOUSE_PASSWORD_FILE": str(tmp_path / "none")})


def test_a_secret_and_its_file_together_are_refused(tmp_path: Path) -> None:
    both = {"PERPFLOW_CLICKHOUSE_PASSWORD": "long enough a secret", "PERPFLOW_CLICKHOUSE_PASSWORD_FILE": "/x"}
    with pytest.raises(BadInput, match="are both set; unset one"):
        load_settings(StoreSettings, both)
