"""Every alert rule fires when it must and only then, and leads to the runbook; every metric has its alert."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.unit.infra.files import INFRA, ROOT, find_tool, read_yaml, run_tool, yaml

RULES_FILE = INFRA / "prometheus" / "rules.yml"
RUNBOOK = ROOT / "docs" / "alerts.md"


@dataclass(frozen=True)
class Case:
    """Series by 15 s steps: those that fire the alert at `at` with `labels`, and those that must not."""

    firing: dict[str, str]
    at: str
    quiet: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)


BARS = {"service": "bars"}
RECORDER = {"service": "recorder"}
MARKET = 'perpflow_records_out_total{service="ingestion",topic="market.events.v1"}'
DEAD = 'perpflow_dead_letters_total{service="bars",topic="market.events.v1"}'
GAP = 'perpflow_gaps_total{service="ingestion",kind="trades",state="late"}'
FILLED_GAP = 'perpflow_gaps_total{service="ingestion",kind="trades",state="filled"}'
COMMITS = 'perpflow_transactions_total{service="execution"}'
PSI = 'perpflow_input_psi{{service="inference",model="btc",input="{}"}}'
REFUSED = 'perpflow_page_sign_ins_total{service="monitoring",outcome="refused"}'


def slow(metric: str, bound: str) -> dict[str, str]:
    """A histogram whose every observation is above `bound`."""
    name = f"perpflow_{metric}_bucket"
    steps = {bound: "0x60", "10": "0+100x60", "+Inf": "0+100x60"}
    return {f'{name}{{service="bars",le="{each}"}}': values for each, values in steps.items()}


def quick(metric: str) -> dict[str, str]:
    name = f"perpflow_{metric}_bucket"
    return {f'{name}{{service="bars",le="0.01"}}': "0+100x60", f'{name}{{service="bars",le="+Inf"}}': "0+100x60"}


CASES: dict[str, list[Case]] = {
    "ServiceDown": [
        Case(
            {'up{job="perpflow",instance="bars"}': "1 1 0x20"},
            "90s",
            {'up{job="perpflow",instance="bars"}': "1 0 1x20"},
            {"job": "perpflow", "instance": "bars"},
        )
    ],
    "ServiceHung": [
        Case(
            {'perpflow_heartbeat_age_seconds{service="bars"}': "0 15+15x20"},
            "2m",
            {'perpflow_heartbeat_age_seconds{service="bars"}': "0.3x20"},
            BARS,
        )
    ],
    "ServiceNotReady": [
        Case({'perpflow_ready{service="bars"}': "0x20"}, "4m", {'perpflow_ready{service="bars"}': "0 0 1x20"}, BARS)
    ],
    "DependencyDown": [
        Case(
            {'perpflow_dependency_up{service="bars",dependency="bus"}': "1 0x20"},
            "90s",
            {'perpflow_dependency_up{service="bars",dependency="bus"}': "1 0 1x20"},
            {**BARS, "dependency": "bus"},
        )
    ],
    "StoreDown": [
        Case(
            {'perpflow_store_up{service="recorder"}': "1 0x20"},
            "2m",
            {'perpflow_store_up{service="recorder"}': "1 0 1x20"},
            RECORDER,
        )
    ],
    "RowsWaitForStore": [
        Case(
            {'perpflow_buffered_rows{service="recorder"}': "150000x20"},
            "2m",
            {'perpflow_buffered_rows{service="recorder"}': "5000x20"},
            RECORDER,
        )
    ],
    "MarketDataStale": [
        Case({MARKET: "0+100x4 400x30"}, "4m", {MARKET: "0+100x30"}),
        # Data that never came: no series at all.
        Case({'up{job="perpflow",instance="ingestion"}': "1x20"}, "1m", {MARKET: "0+100x30"}),
    ],
    "DeadLetters": [
        # The first one there ever was: the series is born at 1.
        Case({DEAD: "_x6 1x20"}, "2m", {DEAD: "1x60"}, {**BARS, "topic": "market.events.v1"}),
        Case({DEAD: "3x30 4x8"}, "8m", {DEAD: "3x60"}, {**BARS, "topic": "market.events.v1"}),
    ],
    "TradesMissing": [
        Case({GAP: "_x6 1x20"}, "2m", {FILLED_GAP: "1x60"}, {"service": "ingestion", "state": "late"}),
        Case({GAP: "3x30 4x8"}, "8m", {FILLED_GAP: "3x30 4x8"}, {"service": "ingestion", "state": "late"}),
    ],
    "SubscriptionSilent": [
        Case(
            {'perpflow_message_age_seconds{service="ingestion",instrument="B",kind="trade"}': "0 15+15x20"},
            "3m",
            {'perpflow_message_age_seconds{service="ingestion",instrument="B",kind="trade"}': "2x20"},
            {"instrument": "B", "kind": "trade"},
        )
    ],
    "StreamUnstable": [
        Case(
            {'perpflow_stream_reconnects_total{service="ingestion",instrument="B",stream="market"}': "0+1x40"},
            "8m",
            {'perpflow_stream_reconnects_total{service="ingestion",instrument="B",stream="market"}': "0x20 1x20"},
            {"instrument": "B", "stream": "market"},
        )
    ],
    "ClockOffset": [
        Case(
            {'perpflow_clock_offset_seconds{service="ingestion",instrument="B"}': "-1.5x20"},
            "4m",
            {'perpflow_clock_offset_seconds{service="ingestion",instrument="B"}': "0.2x20"},
            {"instrument": "B"},
        )
    ],
    "BookUnknown": [
        Case(
            {'perpflow_book_levels{service="ingestion",instrument="B",side="bids"}': "1000 0x20"},
            "3m",
            {'perpflow_book_levels{service="ingestion",instrument="B",side="bids"}': "1000 0 1000x20"},
            {"instrument": "B"},
        )
    ],
    "ConsumerLag": [
        Case(
            {'perpflow_lag_records{service="recorder",topic="market.events.v1"}': "30000x20"},
            "2m",
            {'perpflow_lag_records{service="recorder",topic="market.events.v1"}': "200x20"},
            RECORDER,
        )
    ],
    "SlowHop": [Case(slow("hop_latency_seconds", "0.5"), "10m", quick("hop_latency_seconds"), BARS)],
    "SlowCommit": [Case(slow("commit_seconds", "1"), "10m", quick("commit_seconds"), BARS)],
    "SlowHandling": [Case(slow("handle_seconds", "1"), "10m", quick("handle_seconds"), BARS)],
    "NoTransactions": [
        Case({MARKET: "0+100x40", COMMITS: "7x40"}, "8m", {MARKET: "0+100x40", COMMITS: "0+5x40"}),
        # It never committed anything: no series at all.
        Case({MARKET: "0+100x40"}, "8m", {MARKET: "0+100x40", COMMITS: "0+5x40"}),
    ],
    "LogOverSize": [
        Case(
            {'perpflow_log_over_bytes{service="recorder"}': "5000x40"},
            "7m",
            {'perpflow_log_over_bytes{service="recorder"}': "5000 0x40"},
            RECORDER,
        )
    ],
    "RetentionFails": [
        Case(
            {'perpflow_retention_failures_total{service="recorder"}': "_x6 1x20"},
            "2m",
            {'perpflow_retention_failures_total{service="recorder"}': "1x400"},
            RECORDER,
        )
    ],
    "RetentionHeld": [
        Case(
            {'perpflow_retention_held_partitions{service="recorder"}': "2x1600"},
            "380m",
            {'perpflow_retention_held_partitions{service="recorder"}': "2x20 0x1600"},
            RECORDER,
        )
    ],
    "SignInsRefused": [Case({REFUSED: "0+2x20"}, "4m", {REFUSED: "0 1 2 2x20"})],
    "PageNearlyFull": [
        Case(
            {'perpflow_page_streams{instance="monitoring"}': "30x40"},
            "8m",
            {'perpflow_page_streams{instance="monitoring"}': "3x40"},
            {"instance": "monitoring"},
        )
    ],
    "ModelInputsMoved": [
        Case(
            {PSI.format(1): "0.5x1600", PSI.format(2): "0.3x1600", PSI.format(3): "0.1x1600"},
            "380m",
            {PSI.format(1): "0.5x1600", PSI.format(2): "0.1x1600", PSI.format(3): "0.1x1600"},
            {"model": "btc"},
        )
    ],
    "ModelDrifted": [
        Case(
            {'perpflow_model_drifts_total{service="monitoring",model="btc",kind="calibration"}': "0x10 1x20"},
            "5m",
            {'perpflow_model_drifts_total{service="monitoring",model="btc",kind="calibration"}': "3x30"},
            {"model": "btc", "kind": "calibration"},
        )
    ],
}
# Eval times at which the quiet series are looked at; late, so that what has long been there counts as old.
QUIET_AT = {"DeadLetters": "8m", "RetentionFails": "90m", "RetentionHeld": "380m"}
LONG = {"ModelInputsMoved", "RetentionFails", "RetentionHeld"}

NEEDS_NO_ALERT = {
    "perpflow_records_in": "a rate to look at; silence shows in MarketDataStale and ConsumerLag",
    "perpflow_duplicates": "repeats are dropped by design, at-least-once producers make them",
    "perpflow_build_info": "says which version runs",
    "perpflow_page_commands": "counts what the audit topic tells by name",
    "perpflow_tasks_owned": "says where a task runs; one that runs nowhere shows in ConsumerLag",
    "perpflow_tasks_taken": "a takeover is how a task goes on, and shows in ServiceDown where a process has gone",
    "perpflow_retention_passes": "failed passes have their own counter",
    "perpflow_retention_removed": "counts what is meant to go",
    "perpflow_input_ks": "the same drift as perpflow_input_psi by another measure, to look at beside it",
    "perpflow_model_mean": "says where a model's streams are; that they moved is counted by perpflow_model_drifts",
    "perpflow_model_seconds": "says which model takes how long; a slow one shows in SlowHandling and ConsumerLag",
}


def alert_rules() -> dict[str, dict[str, Any]]:
    groups = read_yaml(RULES_FILE)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def expected(rule: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    """What promtool must see: the rule's labels, and its annotations with the labels filled in."""
    told = {
        name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
        for name, text in rule["annotations"].items()
    }
    return {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": told}


def series(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": steps} for name, steps in values.items()]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_rule_fires_when_it_must_and_only_then(name: str, tmp_path: Path) -> None:
    promtool = find_tool("promtool", "apt-get install prometheus")
    tests = []
    for case in CASES[name]:
        alerts = [expected(alert_rules()[name], case.labels)]
        for values, at, wanted in ((case.firing, case.at, alerts), (case.quiet, QUIET_AT.get(name, case.at), [])):
            look = {"eval_time": at, "alertname": name, "exp_alerts": wanted}
            tests.append({"interval": "15s", "input_series": series(values), "alert_rule_test": [look]})
    path = tmp_path / "test.yml"
    # Each evaluation runs every rule: over hours one a minute says the same.
    every = "1m" if name in LONG else "15s"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES_FILE)], "evaluation_interval": every, "tests": tests}))
    run_tool(promtool, "test", "rules", path)


def test_every_rule_has_a_test() -> None:
    assert set(CASES) == set(alert_rules())


def anchors() -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", sorted(CASES))
def test_rule_leads_to_a_section_of_the_runbook(name: str) -> None:
    page, _, anchor = alert_rules()[name]["annotations"]["runbook"].partition("#")
    assert ROOT / page == RUNBOOK
    assert anchor == name.lower()
    assert anchor in anchors()


@cache
def declared_metrics() -> frozenset[str]:
    """Every metric that libs and services declare."""
    found = set()
    for folder in ("libs", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            if '"perpflow_' not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                    first = node.args[0]
                    is_metric = node.func.id.removesuffix("MetricFamily") in ("Counter", "Gauge", "Histogram")
                    if is_metric and isinstance(first, ast.Constant) and str(first.value).startswith("perpflow_"):
                        found.add(str(first.value))
    return frozenset(found)


@pytest.mark.slow
def test_every_metric_that_means_trouble_has_an_alert() -> None:
    groups = read_yaml(RULES_FILE)["groups"]
    recorded = {rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule}
    asked = " ".join(rule["expr"] for rule in alert_rules().values())
    asked += " ".join(expression for name, expression in recorded.items() if name in asked)
    metrics = declared_metrics()
    assert len(metrics) > 15
    without = {name for name in metrics if not re.search(rf"\b{name}(_total|_bucket)?\b", asked)}
    assert without == set(NEEDS_NO_ALERT), "give the metric a rule in rules.yml, or say in this test why it needs none"
