"""`perpflow status` and `perpflow doctor`: what runs, how far it is behind, and what this machine has."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from libs.bus.api import BusError
from libs.domain.instruments import DEFAULT_INSTRUMENT
from libs.runtime.configuration import Configuration, read_configuration
from libs.runtime.errors import BadInput
from libs.runtime.lag import read_lags
from libs.runtime.metrics import is_alive, processes_of, read_announcement
from libs.runtime.placement import service_of
from libs.runtime.platform_bus import open_platform_bus
from libs.runtime.settings import PlatformSettings, load_settings
from libs.store.errors import StoreError
from services.console.accounts import UNKNOWN, AccountRow, describe_positions, read_accounts
from services.console.bus_session import has_folder
from services.console.containers import examine_compose, is_container
from services.console.drain import GROUPS
from services.console.placing import placement_of
from services.console.running import is_running
from services.console.session import SessionDescription, read_session, sessions_root
from services.console.session_bus import open_session_bus
from services.console.store_access import open_configured


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One process. `lag` is in records, None for services that read no group; `metrics_port` None until announced."""

    service: str
    pid: int | None
    state: str
    restarts: int
    lag: int | None
    metrics_port: int | None


def read_status(session: SessionDescription, lags: Mapping[str, int]) -> list[ServiceStatus]:
    """Return the processes of a session as they are now, with what each group lags behind where that is known."""
    supervised = read_announcement(session.run_dir / "supervisor.json")
    is_supervised = is_alive(supervised.get("pid"))
    rows = []
    for name, facts in processes_of(supervised).items():
        announced = read_announcement(session.run_dir / f"{name}.json")
        pid = facts.get("pid")
        state = str(facts.get("state", "unknown"))
        if pid is not None and not is_alive(pid):
            pid, state = None, "restarting" if is_supervised else "dead"
        port = announced.get("metrics_port", announced.get("port")) if announced.get("pid") == pid else None
        rows.append(ServiceStatus(name, pid, state, int(facts.get("restarts", 0)), lags.get(service_of(name)), port))
    return rows


def describe_sessions(
    chosen: Sequence[Path | SessionDescription],
) -> tuple[list[dict[str, Any]], BadInput | BusError | None]:
    """Return what `status` says of each session that can be read, given as its folder or itself, and
    the first error met.

    Which processes live is known without the bus; the accounts are None then.
    """
    described: list[dict[str, Any]] = []
    first: BadInput | BusError | None = None
    for each in chosen:
        try:
            session = each if isinstance(each, SessionDescription) else read_session(each)
        except BadInput as error:
            first = first or error
            continue
        facts, problem = _describe(session)
        described.append(facts)
        first = first or problem
    return described, first


def _describe(session: SessionDescription) -> tuple[dict[str, Any], BusError | None]:
    accounts: list[AccountRow] | None = None
    lags: Mapping[str, int] = {}
    problem: BusError | None = None
    try:
        accounts = read_accounts(session)
        with open_session_bus(session) as bus:
            lags = read_lags(bus, GROUPS, placement=placement_of(session))
    except BusError as error:
        problem = error
    said = read_announcement(session.run_dir / "supervisor.json").get("bus")
    is_here = has_folder(session)
    # Of processes elsewhere the bus tells how far each group is.
    services = (
        read_status(session, lags)
        if is_here
        else [ServiceStatus(name, None, "-", 0, lag, None) for name, lag in lags.items()]
    )
    return {
        "session": session.name,
        "market": session.market,
        "mode": session.mode,
        "is_running": is_running(session.folder) if is_here else None,
        "bus": said or ("ok" if problem is None else str(problem)),
        "services": as_rows(services),
        "accounts": accounts,
    }, problem


def print_session(facts: Mapping[str, Any], console: Console) -> None:
    """Print what `describe_sessions` returned of one as two tables."""
    ended = " (not running)" if facts["is_running"] is False else ""
    table = Table(
        *("service", "pid", "state", "restarts", "lag", "metrics"), title=facts["session"] + ended, title_justify="left"
    )
    for row in facts["services"]:
        table.add_row(*("-" if cell is None else str(cell) for cell in row.values()))
    console.print(table)
    if facts["bus"] != "ok":
        console.print(f"bus: {facts['bus']}", style="bold red", markup=False, soft_wrap=True)
    if facts["accounts"] is None:
        console.print("accounts unknown: the bus does not answer")
        return
    table = Table("account", "trading", "reason", "equity", "position")
    for row in facts["accounts"]:
        equity = UNKNOWN if row.equity is None else row.equity
        table.add_row(row.account, row.trading_state, escape(row.reason), equity, describe_positions(row.positions))
    console.print(table)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `perpflow doctor` looked at. `is_needed` when `perpflow up` cannot do without."""

    name: str
    is_good: bool
    is_needed: bool
    detail: str


_MODULES = {
    "chdb": "the embedded ClickHouse (extra clickhouse)",
    "onnxruntime": "forecasts (extra inference)",
    "clickhouse_connect": "the store (extra recorder)",
    "fastapi": "the page (extra monitoring)",
    "confluent_kafka": "Kafka",
    "faust": "features on Kafka (extra features)",
    "torch": "training only (extra training)",
}


def examine() -> list[Finding]:
    """Look at the interpreter, the libraries, the disk, and whether the venue of the default instrument answers."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    findings = [Finding("python", sys.version_info >= (3, 11), True, version)]
    in_container = is_container()
    for module, purpose in _MODULES.items():
        is_there = module in sys.modules or importlib.util.find_spec(module) is not None
        is_needed = module == "confluent_kafka" or not (in_container or module in ("torch", "faust"))
        findings.append(Finding(module, is_there, is_needed, purpose))
    root = sessions_root()
    place = next((parent for parent in (root, *root.resolve().parents) if parent.exists()), Path("/"))
    free_gb = shutil.disk_usage(place).free / 1e9
    findings.append(Finding("disk", free_gb > 1.0, True, f"{free_gb:.1f} GB free for {root}"))
    is_writable = os.access(place, os.W_OK)
    findings.append(Finding("var", is_writable, True, f"{place} can{'' if is_writable else 'not'} be written"))
    findings.append(_reach_venue(DEFAULT_INSTRUMENT))
    findings += _reach_servers(read_configuration())
    if in_container:
        findings.append(Finding("container", True, False, "this is one: its image has one program and what that needs"))
    else:
        findings.append(Finding("containers", *_as_finding(examine_compose())))
    return findings


def _as_finding(answer: tuple[bool, str]) -> tuple[bool, bool, str]:
    is_good, detail = answer
    return is_good, False, detail


def _reach_servers(configuration: Configuration) -> Iterator[Finding]:
    """Ask the bus and the store, where settings name servers."""
    if configuration.variables.get("PERPFLOW_BUS", "").startswith("kafka:"):
        platform = load_settings(PlatformSettings, configuration)
        try:
            with open_platform_bus(platform) as bus:
                yield Finding("bus", True, True, f"{platform.bus} answers, {len(bus.topics())} topics")
        except BusError as error:
            yield Finding("bus", False, True, str(error))
    if configuration.variables.get("PERPFLOW_CLICKHOUSE"):
        with closing(open_configured(configuration)) as store:
            try:
                (row,) = store.query("SELECT version() AS version")
                yield Finding("clickhouse", True, True, f"{store.address} answers, version {row['version']}")
            except StoreError as error:
                yield Finding("clickhouse", False, True, str(error))


def _reach_venue(instrument: str) -> Finding:
    try:
        from libs.venues.registry import find_venue_of, is_answering
    except ModuleNotFoundError as error:
        return Finding("venue", False, False, f"not asked: {error.name} is not installed (extra ingestion)")
    name = find_venue_of(instrument).name.lower()
    if is_answering(instrument):
        return Finding(name, True, False, "answers; --market live will work")
    return Finding(name, False, False, "no answer; --market simulated and recorded work without")


def as_rows(rows: list[Any]) -> list[dict[str, Any]]:
    """Return dataclasses as dictionaries for --json."""
    return [asdict(row) for row in rows]
