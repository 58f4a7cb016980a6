"""Every panel's query runs against a real Prometheus and the store of a running session, and shows something.

Grafana itself is not run: what is asked here is what it would ask, with its macros filled in.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.store.store import Store
from tests.kit.platform import Platform, trading_platform
from tests.kit.waiting import eventually
from tests.unit.infra.files import INFRA, find_tool, yaml

DASHBOARDS = sorted((INFRA / "grafana" / "dashboards").glob("*.json"))
PANELS = [(path.stem, panel) for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
# A panel that may be empty says why in its description.
EXCUSE = re.compile(r"\bempty (while|until)\b", re.IGNORECASE)

pytestmark = pytest.mark.timeout(900)


class Observed:
    """A session that trades, and the Prometheus that scrapes it."""

    def __init__(self, prometheus_url: str, store: Store) -> None:
        self._client = httpx.Client(base_url=prometheus_url, trust_env=False, timeout=20)
        self._store = store

    def rows(self, target: dict[str, Any]) -> int:
        """Run a panel's query and return how many series or rows it has."""
        if "expr" in target:
            answer = self._client.get("/api/v1/query", params={"query": target["expr"]}).json()
            assert answer["status"] == "success", answer
            return len(answer["data"]["result"])
        text = re.sub(
            r"\$__timeFilter\((\w+)\)",
            r"\1 BETWEEN toDateTime(0) AND toDateTime('2100-01-01 00:00:00')",
            target["rawSql"],
        )
        assert "$__" not in text, "fill in this macro of Grafana's in the test"
        return len(self._store.query(text))

    def close(self) -> None:
        self._client.close()


@contextmanager
def scraping(folder: Path, run_dir: Path) -> Iterator[str]:
    """Run Prometheus over every process that announced a metrics port, with the rules of the repository."""
    prometheus = find_tool("prometheus", "apt-get install prometheus")
    targets = []
    for path in sorted(run_dir.glob("*.json")):
        facts = json.loads(path.read_text())
        if facts.get("metrics_port"):
            address = f"127.0.0.1:{facts['metrics_port']}"
            targets.append({"targets": [address], "labels": {"instance": facts["service"]}})
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(INFRA / "prometheus" / "rules.yml")],
        "scrape_configs": [{"job_name": "perpflow", "static_configs": targets}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    log = folder / "prometheus.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(lambda: _address_in(log), within_s=120)
            yield f"http://{_address_in(log)}"
        finally:
            process.terminate()
            process.wait(60)


def _address_in(log: Path) -> str:
    found = re.search(r"Listening on.*?address=(127\.0\.0\.1:\d+)", log.read_text())
    return found[1] if found else ""


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    folder = tmp_path_factory.mktemp("dashboards")
    platform = trading_platform(folder)
    find_tool("prometheus", "apt-get install prometheus")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "services.console", "up", "--port", "0", "--market", "simulated", "--seed", "7"),
            *("--speed", "60", "--session", "dashboards", "--layout", "spread"),
        ],
        cwd=folder,
        env=platform.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    session = folder / "var" / "sessions" / "dashboards"
    try:
        eventually(lambda: _is_running(platform), within_s=240)
        facts = json.loads((session / "session.json").read_text())
        password = (session / "clickhouse.password").read_text().strip()
        store = Store(facts["clickhouse"], facts["clickhouse_database"], user="perpflow", password=password)
        with store, scraping(folder, session / "run") as url:
            seen = Observed(url, store)
            # A fill is the last thing that a session's tables get.
            eventually(lambda: store.query("SELECT 1 FROM order_events WHERE last_quantity > 0"), within_s=240)
            yield seen
            seen.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(240)


def _is_running(platform: Platform) -> bool:
    states = platform.status()
    return bool(states) and all(each["state"] in ("running", "finished") for each in states.values())


@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=[f"{name}-{panel['title']}" for name, panel in PANELS])
def test_panel_shows_something_or_says_why_not(observed: Observed, dashboard: str, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        if EXCUSE.search(panel["description"]):
            observed.rows(target)
        else:
            eventually(lambda target=target: observed.rows(target), within_s=120)
