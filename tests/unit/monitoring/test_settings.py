"""Settings of the page."""

from __future__ import annotations

import pytest

from libs.runtime.errors import BadInput
from libs.runtime.settings import load_settings
from services.monitoring.settings import MonitoringSettings


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("trade.example", False)],
)
def test_loopback_is_told_from_a_network(host: str, expected: bool) -> None:
    assert MonitoringSettings(host=host).is_loopback is expected


def test_bad_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_MONITORING_PORT", "70000")
    with pytest.raises(BadInput, match="PERPFLOW_MONITORING_PORT='70000'"):
        load_settings(MonitoringSettings)


def test_address_without_scheme_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_MONITORING_SERVICE_URLS", '{"bars": "bars:9000"}')
    with pytest.raises(BadInput, match="http://bars:9000"):
        load_settings(MonitoringSettings)
