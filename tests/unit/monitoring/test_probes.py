"""Health of the services."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.metrics import ServiceMetrics
from services.monitoring.probes import ServiceProbe, quantile_ms, read_metrics


def write(run_dir: Path, name: str, **facts: Any) -> None:
    (run_dir / f"{name}.json").write_text(json.dumps(facts))


def a_dead_pid() -> int:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def look(run_dir: Path | None, **urls: str) -> list[dict[str, Any]]:
    probe = ServiceProbe(run_dir, urls)
    try:
        rows, _ = probe.look()
        return rows
    finally:
        probe.close()


def test_no_run_folder_is_no_services(tmp_path: Path) -> None:
    assert look(None) == look(tmp_path / "absent") == []


def test_services_are_listed_in_the_order_of_the_flow(tmp_path: Path) -> None:
    for name in ("risk", "archive", "ingestion", "bars"):
        write(tmp_path, name, service=name, pid=os.getpid(), state="running")
    assert [row["service"] for row in look(tmp_path)] == ["ingestion", "bars", "risk", "archive"]


def test_announced_process_that_is_gone_is_down(tmp_path: Path) -> None:
    pid = a_dead_pid()
    write(tmp_path, "bars", service="bars", pid=pid, state="running")
    (row,) = look(tmp_path)
    assert (row["state"], row["detail"]) == ("down", f"process {pid} is gone")


def test_finished_process_is_not_down(tmp_path: Path) -> None:
    write(tmp_path, "ingestion", service="ingestion", pid=a_dead_pid(), state="finished")
    probe = ServiceProbe(tmp_path, {})
    rows, conditions = probe.look()
    probe.close()
    assert rows[0]["state"] == "finished"
    assert conditions[0].is_finished


def test_supervisor_counts_restarts_and_overrules_the_dead(tmp_path: Path) -> None:
    write(tmp_path, "bars", service="bars", pid=a_dead_pid(), state="running", metrics_port=1)
    write(
        tmp_path, "supervisor", pid=os.getpid(), services={"bars": {"pid": None, "state": "restarting", "restarts": 2}}
    )
    (row,) = look(tmp_path)
    assert (row["state"], row["restarts"]) == ("restarting", 2)


def test_the_feeds_of_ingestion_are_rows_until_it_ends(tmp_path: Path) -> None:
    metrics = ServiceMetrics("ingestion")
    for kind, age_s in (("trade", 0.24), ("mark_price", 12.0)):
        metrics.message_age.labels("ingestion", "BTCUSDT.BINANCE", kind).set(age_s)
    metrics.reconnects.labels("ingestion", "BTCUSDT.BINANCE", "public").inc(2)
    metrics.reconnects.labels("ingestion", "BTCUSDT.BINANCE", "market").inc()
    metrics.clock_offset.labels("ingestion", "BTCUSDT.BINANCE").set(-0.0123)
    for side in ("bids", "asks"):
        metrics.book_levels.labels("ingestion", "BTCUSDT.BINANCE", side).set(1000)
    metrics.message_age.labels("ingestion", "XRPUSDT.BYBIT", "trade").set(1.0)
    server = HealthServer(ServiceHealth("ingestion", tmp_path, metrics), "127.0.0.1", 0)
    with server:
        write(tmp_path, "ingestion", service="ingestion", pid=os.getpid(), state="running", metrics_port=server.port)
        probe = ServiceProbe(tmp_path, {})
        assert probe.feeds() == []
        probe.look()
        first, second = probe.feeds()
        assert first == {
            "instrument": "BTCUSDT.BINANCE",
            "oldest_kind": "mark_price",
            "ages_s": {"mark_price": 12.0, "trade": 0.2},
            "reconnects": 3,
            "clock_offset_ms": -12,
            "bid_levels": 1000,
            "ask_levels": 1000,
        }
        assert (second["instrument"], second["clock_offset_ms"], second["bid_levels"]) == ("XRPUSDT.BYBIT", None, None)
    write(tmp_path, "ingestion", service="ingestion", pid=os.getpid(), state="finished")
    probe.look()
    assert probe.feeds() == []
    probe.close()


def test_file_in_the_making_is_left_for_the_next_look(tmp_path: Path) -> None:
    (tmp_path / "bars.json").write_text('{"service": "ba')
    assert look(tmp_path) == []


def test_metrics_of_a_running_service_are_read(tmp_path: Path) -> None:
    metrics = ServiceMetrics("bars")
    server = HealthServer(ServiceHealth("bars", tmp_path, metrics))
    try:
        metrics.lag.labels("bars", "market.events.v1").set(7)
        write(tmp_path, "bars", service="bars", pid=os.getpid(), state="running", metrics_port=server.port)
        probe = ServiceProbe(tmp_path, {})
        probe.look()
        metrics.records_in.labels("bars", "market.events.v1").inc(500)
        metrics.dead_letters.labels("bars", "market.events.v1").inc()
        for _ in range(100):
            metrics.hop_latency.labels("bars", "market.events.v1").observe(0.003)
        (row,), _ = probe.look()
        probe.close()
    finally:
        server.close()
    assert row["state"] == "running"
    assert row["lag_records"] == 7
    assert row["dead_letters"] == 1
    assert row["in_per_s"] > 0
    assert 2.0 <= row["hop_p50_ms"] <= 5.0


def test_dependency_that_does_not_answer_is_told_to_the_alerts(tmp_path: Path) -> None:
    def is_away() -> None:
        raise ConnectionError("refused")

    health = ServiceHealth("recorder", tmp_path, ServiceMetrics("recorder"))
    health.watch("store", is_away)
    health.ask()
    server = HealthServer(health)
    probe = ServiceProbe(tmp_path, {})
    try:
        write(tmp_path, "recorder", service="recorder", pid=os.getpid(), state="running", metrics_port=server.port)
        (row,), (condition,) = probe.look()
    finally:
        probe.close()
        server.close()
    assert (row["state"], row["detail"]) == ("not ready", "its store does not answer")
    assert condition.is_up is False and condition.missing == ("store",)


def test_service_that_does_not_answer_is_down_with_its_address() -> None:
    (row,) = look(None, bars="http://127.0.0.1:1")
    assert row["state"] == "down"
    assert "http://127.0.0.1:1 do not answer" in row["detail"]


@pytest.mark.parametrize(
    ("older", "newer", "share", "expected"),
    [
        ({}, {}, 0.5, None),
        ({0.1: 5.0, float("inf"): 5.0}, {0.1: 5.0, float("inf"): 5.0}, 0.5, None),
        ({}, {0.1: 10.0, 0.2: 10.0, float("inf"): 10.0}, 0.5, 50.0),
        ({}, {0.1: 0.0, 0.2: 10.0, float("inf"): 10.0}, 0.5, 150.0),
        ({}, {0.1: 0.0, 0.2: 0.0, float("inf"): 10.0}, 0.5, 200.0),
        ({0.1: 10.0, 0.3: 10.0, float("inf"): 10.0}, {0.1: 10.0, 0.3: 20.0, float("inf"): 20.0}, 0.5, 200.0),
    ],
)
def test_quantile_of_what_a_histogram_gained(
    older: dict[float, float], newer: dict[float, float], share: float, expected: float | None
) -> None:
    value = quantile_ms(older, newer, share)
    assert value == (None if expected is None else pytest.approx(expected))


def test_metrics_are_summed_over_topics() -> None:
    text = (
        "# TYPE perpflow_records_in counter\n"
        'perpflow_records_in_total{service="risk",topic="a"} 3\n'
        'perpflow_records_in_total{service="risk",topic="b"} 4\n'
    )
    assert read_metrics(text, 0.0).records_in == 7


def test_probe_can_be_used_from_another_thread(tmp_path: Path) -> None:
    write(tmp_path, "bars", service="bars", pid=os.getpid(), state="running")
    probe = ServiceProbe(tmp_path, {})
    seen: list[Any] = []
    thread = Thread(target=lambda: seen.append(probe.look()))
    thread.start()
    thread.join()
    probe.close()
    assert seen[0][0][0]["service"] == "bars"
