"""Asks every service how it is: the run folder says who runs and where, each service's metrics say the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from libs.clock import SYSTEM_CLOCK, Clock
from libs.runtime.metrics import is_alive, processes_of, read_announcement
from services.monitoring.core import ServiceCondition
from services.monitoring.rows import Row

_WINDOW = 15
# The order in which events flow; anything else follows by name.
_ORDER = (
    *("ingestion", "exchange", "bars", "features", "inference", "strategy", "risk", "execution", "chain", "outbox"),
    "recorder",
)
_FEED_METRICS = frozenset(
    {
        "perpflow_message_age_seconds",
        "perpflow_stream_reconnects_total",
        "perpflow_clock_offset_seconds",
        "perpflow_book_levels",
    }
)
_IS_UP = {"running": True, **dict.fromkeys(("not ready", "hung", "down", "failed", "restarting"), False)}
_ENDED = frozenset({"finished", "stopping", "stopped", "restarting", "failed", "hung"})


@dataclass(slots=True)
class FeedReading:
    """How a live feed of an instrument is; what is not known is absent. Ages in s are by kind, levels by side."""

    ages_s: dict[str, float] = field(default_factory=dict)
    reconnects: int = 0
    clock_offset_s: float | None = None
    book_levels: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at a service's metrics gave; `hop_buckets` maps an upper bound in seconds to a cumulative count."""

    at_s: float
    records_in: float = 0.0
    records_out: float = 0.0
    lag_records: float = 0.0
    dead_letters: float = 0.0
    hop_buckets: Mapping[float, float] = field(default_factory=dict)
    missing_dependencies: tuple[str, ...] = ()
    feeds: Mapping[str, FeedReading] = field(default_factory=dict)


def read_metrics(text: str, at_s: float) -> Reading:
    """Read the metrics of the runtime from Prometheus's text form, summed over topics. Raises `ValueError`."""
    sums = {"in": 0.0, "out": 0.0, "lag": 0.0, "dead": 0.0}
    names = {
        "perpflow_records_in_total": "in",
        "perpflow_records_out_total": "out",
        "perpflow_lag_records": "lag",
        "perpflow_dead_letters_total": "dead",
    }
    buckets: dict[float, float] = {}
    missing: list[str] = []
    feeds: dict[str, FeedReading] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in names:
                sums[names[sample.name]] += sample.value
            elif sample.name == "perpflow_dependency_up" and not sample.value:
                missing.append(sample.labels["dependency"])
            elif sample.name == "perpflow_hop_latency_seconds_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
            elif sample.name in _FEED_METRICS:
                _note_feed(feeds.setdefault(sample.labels["instrument"], FeedReading()), sample)
    return Reading(at_s, sums["in"], sums["out"], sums["lag"], sums["dead"], buckets, tuple(missing), feeds)


def _note_feed(feed: FeedReading, sample: Sample) -> None:
    match sample.name:
        case "perpflow_message_age_seconds":
            feed.ages_s[sample.labels["kind"]] = sample.value
        case "perpflow_stream_reconnects_total":
            feed.reconnects += int(sample.value)
        case "perpflow_clock_offset_seconds":
            feed.clock_offset_s = sample.value
        case _:
            feed.book_levels[sample.labels["side"]] = int(sample.value)


def quantile_ms(older: Mapping[float, float], newer: Mapping[float, float], share: float) -> float | None:
    """Estimate a quantile in ms of what a histogram gained, linear within a bucket as Prometheus does; None if nothing.

    Beyond the last finite bound the answer is that bound.
    """
    gained = [(bound, count - older.get(bound, 0.0)) for bound, count in sorted(newer.items())]
    if not gained or gained[-1][1] <= 0:
        return None
    wanted = gained[-1][1] * share
    lower_bound, lower_count = 0.0, 0.0
    for bound, count in gained:
        if count >= wanted:
            if bound == float("inf"):
                return lower_bound * 1000
            inside = count - lower_count
            part = (wanted - lower_count) / inside if inside > 0 else 1.0
            return (lower_bound + (bound - lower_bound) * part) * 1000
        lower_bound, lower_count = bound, count
    return None


def feed_row(instrument: str, feed: FeedReading) -> Row:
    """Return the page's row of a feed: its subscription that has been silent longest first."""
    kind = max(feed.ages_s, key=feed.ages_s.__getitem__, default=None)
    return {
        "instrument": instrument,
        "oldest_kind": kind,
        "ages_s": {name: round(age_s, 1) for name, age_s in sorted(feed.ages_s.items())},
        "reconnects": feed.reconnects,
        "clock_offset_ms": None if feed.clock_offset_s is None else round(feed.clock_offset_s * 1000),
        "bid_levels": feed.book_levels.get("bids"),
        "ask_levels": feed.book_levels.get("asks"),
    }


@dataclass(slots=True)
class _Known:
    pid: int | None = None
    changes: int = 0
    readings: deque[Reading] = field(default_factory=lambda: deque(maxlen=_WINDOW))


class ServiceProbe:
    """Looks at all services when told to; blocking, with a short time limit for each."""

    def __init__(
        self,
        run_dir: Path | None,
        service_urls: Mapping[str, str],
        clock: Clock = SYSTEM_CLOCK,
        *,
        timeout_s: float = 1.0,
    ) -> None:
        self._clock = clock
        self._run_dir = run_dir
        self._urls = dict(service_urls)
        self._known: dict[str, _Known] = {}
        self._ended: set[str] = set()
        self._client = httpx.Client(timeout=timeout_s, trust_env=False)

    def look(self) -> tuple[list[Row], list[ServiceCondition]]:
        """Return a row for the page and a condition for the alerts, for each service, in the order of the flow."""
        announced = dict(self._announced())
        names = sorted(announced.keys() | self._urls.keys(), key=lambda name: (_rank(name), name))
        rows: list[Row] = []
        conditions: list[ServiceCondition] = []
        for name in names:
            row = self._look_at(name, announced.get(name, {}))
            rows.append(row)
            state = row["state"]
            if state in _ENDED or state == "down":
                self._ended.add(name)
            else:
                self._ended.discard(name)
            conditions.append(
                ServiceCondition(
                    name,
                    _IS_UP.get(state),
                    state == "finished",
                    int(row["lag_records"] or 0),
                    row["detail"],
                    self._missing(name, state),
                )
            )
        return rows, conditions

    def feeds(self) -> list[Row]:
        """Return a row for each live feed, as the last look found it."""
        found: dict[str, FeedReading] = {}
        for name, known in self._known.items():
            if known.readings and name not in self._ended:
                found |= known.readings[-1].feeds
        return [feed_row(instrument, found[instrument]) for instrument in sorted(found)]

    def _missing(self, name: str, state: str) -> tuple[str, ...]:
        readings = self._known[name].readings
        is_read = readings and state not in _ENDED and state not in ("down", "finished")
        return readings[-1].missing_dependencies if is_read else ()

    def close(self) -> None:
        """Free the connections."""
        self._client.close()

    def _announced(self) -> Iterable[tuple[str, dict[str, Any]]]:
        if self._run_dir is None or not self._run_dir.is_dir():
            return
        announced = {}
        for path in sorted(self._run_dir.glob("*.json")):
            facts = read_announcement(path)
            if isinstance(facts.get("service"), str):
                announced[facts["service"]] = facts
        for name, known in processes_of(read_announcement(self._run_dir / "supervisor.json")).items():
            # What a process said of itself counts only while it is the one that the supervisor keeps.
            said = announced.get(name, {})
            is_current = known.get("pid") in (None, said.get("pid"))
            announced[name] = {"service": name, **(said if is_current else {}), **known}
        yield from announced.items()

    def _look_at(self, name: str, facts: Mapping[str, Any]) -> Row:
        known = self._known.setdefault(name, _Known())
        said = facts.get("pid")
        pid = said if isinstance(said, int) else None
        if pid is not None and known.pid is not None and pid != known.pid:
            known.changes += 1
            known.readings.clear()
        known.pid = pid if pid is not None else known.pid
        state = str(facts.get("state") or "running")
        detail = str(facts.get("detail") or "")
        base = self._urls.get(name)
        if base is None and facts.get("metrics_port"):
            base = f"http://127.0.0.1:{facts['metrics_port']}"
        if state not in _ENDED:
            if pid is not None and not is_alive(pid):
                state, detail = "down", f"process {pid} is gone"
            elif base is not None:
                problem = self._scrape(base, known)
                if problem and state == "running":
                    state, detail = "down", problem
                elif state == "running" and known.readings[-1].missing_dependencies:
                    missing = " and ".join(known.readings[-1].missing_dependencies)
                    state, detail = "not ready", f"its {missing} does not answer"
        row: Row = {
            "service": name,
            "state": state,
            "detail": detail,
            "pid": pid,
            "restarts": facts["restarts"] if isinstance(facts.get("restarts"), int) else known.changes,
            **_measures(known.readings if state in ("running", "not ready") else ()),
        }
        return row

    def _scrape(self, base: str, known: _Known) -> str:
        try:
            answer = self._client.get(f"{base.rstrip('/')}/metrics")
            answer.raise_for_status()
            known.readings.append(read_metrics(answer.text, self._clock.monotonic_s()))
        except httpx.HTTPError as error:
            return f"its metrics at {base} do not answer: {type(error).__name__}"
        except ValueError as error:
            return f"its metrics at {base} cannot be read: {error}"
        return ""


def _rank(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _measures(readings: Sequence[Reading]) -> Row:
    empty: Row = dict.fromkeys(
        ("in_per_s", "out_per_s", "lag_records", "dead_letters", "hop_p50_ms", "hop_p99_ms"), None
    )
    if not readings:
        return empty
    newest, oldest = readings[-1], readings[0]
    row: Row = {**empty, "lag_records": int(newest.lag_records), "dead_letters": int(newest.dead_letters)}
    elapsed_s = newest.at_s - oldest.at_s
    if elapsed_s > 0:
        row["in_per_s"] = round(max(0.0, newest.records_in - oldest.records_in) / elapsed_s, 2)
        row["out_per_s"] = round(max(0.0, newest.records_out - oldest.records_out) / elapsed_s, 2)
    for name, share in (("hop_p50_ms", 0.5), ("hop_p99_ms", 0.99)):
        value = quantile_ms(oldest.hop_buckets, newest.hop_buckets, share)
        row[name] = None if value is None else round(value, 2)
    return row
