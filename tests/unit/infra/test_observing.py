"""Prometheus rules and Grafana dashboards speak of what exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from libs.wire.topics import TOPICS
from services.console.plan import RUNNABLE_SERVICES
from tests.unit.infra.files import INFRA, ROOT, find_tool, read_yaml, run_tool
from tests.unit.infra.test_alert_rules import declared_metrics

DASHBOARDS = sorted((INFRA / "grafana" / "dashboards").glob("*.json"))
PROMETHEUS = INFRA / "prometheus"


def exported_metrics() -> set[str]:
    endings = ("", "_total", "_bucket", "_sum", "_count")
    return {name + ending for name in declared_metrics() for ending in endings}


def recorded_rules() -> set[str]:
    rules = read_yaml(PROMETHEUS / "rules.yml")
    return {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}


def test_prometheus_accepts_its_configuration() -> None:
    run_tool(find_tool("promtool", "apt-get install prometheus"), "check", "config", PROMETHEUS / "prometheus.yml")


def test_every_service_is_scraped() -> None:
    jobs = read_yaml(PROMETHEUS / "prometheus.yml")["scrape_configs"]
    targets = {target.partition(":")[0] for target in jobs[0]["static_configs"][0]["targets"]}
    assert targets == set(RUNNABLE_SERVICES)


@pytest.mark.slow
@pytest.mark.parametrize("path", [PROMETHEUS / "rules.yml", *DASHBOARDS], ids=lambda path: path.name)
def test_metrics_that_are_asked_for_exist(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"\bperpflow_[a-z_]+", text)) <= exported_metrics()
    assert set(re.findall(r"\bperpflow:[a-z_0-9:]+", text)) <= recorded_rules()


@pytest.mark.parametrize("path", [PROMETHEUS / "rules.yml", *DASHBOARDS], ids=lambda path: path.name)
def test_topics_that_are_asked_for_exist(path: Path) -> None:
    assert set(re.findall(r'topic=\\?"([^"\\]+)', path.read_text())) <= TOPICS.keys()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_has_one_place_for_each_panel(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    assert dashboard["uid"] == f"perpflow-{path.stem}"
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, panel["title"]
        assert max(x for x, _ in own) < 24, panel["title"]
        cells |= own


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_uses_data_sources_that_are_provisioned(path: Path) -> None:
    sources = read_yaml(INFRA / "grafana" / "provisioning" / "datasources" / "perpflow.yaml")["datasources"]
    known = {(source["type"], source["uid"]) for source in sources}
    for panel in json.loads(path.read_text())["panels"]:
        assert (panel["datasource"]["type"], panel["datasource"]["uid"]) in known


def test_queries_name_tables_and_columns_that_exist() -> None:
    schema = "\n".join(path.read_text() for path in sorted((ROOT / "libs" / "store" / "migrations").glob("*.sql")))
    tables = {
        name: set(re.findall(r"^\s+([a-z_]+) [A-Z]", body, re.MULTILINE))
        for name, body in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)\n\((.*?)\n\)", schema, re.DOTALL)
    }
    queries = [
        target["rawSql"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
        if "rawSql" in target
    ]
    assert queries
    for query in queries:
        table = re.search(r"FROM (\w+)", query)
        assert table is not None and table[1] in tables
        aliases = set(re.findall(r"AS (\w+)", query))
        functions = {"toFloat64", "arraySum"}
        words = set(re.findall(r"\b[a-z_]{3,}\b", re.sub(r"'[^']*'|\$__\w+", "", query)))
        assert words - aliases - functions - {table[1]} <= tables[table[1]], query


def test_alertmanager_takes_its_file() -> None:
    run_tool(
        find_tool("amtool", "apt-get install prometheus-alertmanager"),
        "check-config",
        INFRA / "alertmanager" / "alertmanager.yml",
    )


def test_prometheus_hands_its_alerts_to_the_alertmanager_of_the_compose_file() -> None:
    (manager,) = read_yaml(INFRA / "prometheus" / "prometheus.yml")["alerting"]["alertmanagers"]
    ((name, _, port),) = [target.partition(":") for target in manager["static_configs"][0]["targets"]]
    service = read_yaml(ROOT / "docker-compose.yml")["services"][name]
    assert any(each.endswith(f":{port}") for each in service["ports"])


def test_inhibited_alerts_exist() -> None:
    raised = {
        rule["alert"]
        for group in read_yaml(INFRA / "prometheus" / "rules.yml")["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    text = (INFRA / "alertmanager" / "alertmanager.yml").read_text()
    named = {name for quoted in re.findall(r'alertname=~?"([^"]+)"', text) for name in quoted.split("|")}
    assert named and named <= raised
