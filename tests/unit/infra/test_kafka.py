"""The broker's settings and the job that creates the topics."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.kafka import create_topics
from libs.bus.open import open_bus
from libs.runtime.placement import Placement
from tests.unit.infra.files import INFRA


def test_job_creates_every_topic_and_may_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:{tmp_path / 'bus.db'}"
    monkeypatch.setenv("PERPFLOW_BUS", url)
    monkeypatch.setenv("PERPFLOW_TOPIC_PREFIX", "session-1.")
    assert create_topics.main() == 0
    assert create_topics.main() == 0
    with open_bus(url, prefix="session-1.") as bus:
        assert dict(bus.topics()) == {spec.name: spec.partitions for spec in Placement().topics()}


def test_job_says_that_the_bus_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PERPFLOW_BUS", f"sqlite:{tmp_path / 'file' / 'bus.db'}")
    assert create_topics.main() == 3


def test_broker_settings_allow_transactions_on_one_node_and_no_stray_topics() -> None:
    lines = (INFRA / "kafka" / "broker.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert settings["KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR"] == "1"
    assert settings["KAFKA_TRANSACTION_STATE_LOG_MIN_ISR"] == "1"
    assert all(name.startswith("KAFKA_") for name in settings)
