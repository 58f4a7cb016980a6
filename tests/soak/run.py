"""Runs a session for long and lets everything happen to it: `python -m tests.soak.run --minutes 60 --seed 3`.

Retention every 20 s, random kill -9, random hangs (SIGSTOP), a second session beside the first. It fails (exit code 1)
where the session does not end whole, cannot be replayed, or needs ever more memory, file handles or disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.console.durations import parse_duration_s
from tests.kit.platform import Platform

FORCED = {
    "PERPFLOW_RECORDER_RETENTION_EVERY_S": "20",
    "PERPFLOW_RECORDER_RETENTION_MAX_AGE_S": "20",
    "PERPFLOW_SNAPSHOT_EVERY_S": "10",
}
MAIN, SECOND = "soak", "soak-beside"
KILLED = (
    "ingestion",
    "bars",
    "features",
    "inference",
    "strategy",
    "risk",
    "execution",
    "recorder",
    "exchange",
    "monitoring",
    "chain",
)
STOPPED = ("bars", "features", "inference", "strategy", "risk", "execution", "recorder", "chain")
SAMPLE_EVERY_S = 5.0
HANG_S = 8.0
# Growth that is noise: a sample may fall before or after a checkpoint, a merge, a retention pass.
_TOLERANCE = 1.35
_MEMORY_SLACK = 40 << 20
_DISK_SLACK = 64 << 20
_HANDLE_SLACK = 16


@dataclass(slots=True)
class Samples:
    """Memory and file handles by process, disk by part of the session's folder; one number a sample."""

    memory: dict[str, list[int]] = field(default_factory=dict)
    handles: dict[str, list[int]] = field(default_factory=dict)
    disk: dict[str, list[int]] = field(default_factory=dict)

    def note(self, session: Path, pids: dict[str, int]) -> None:
        """Take a sample."""
        for name, pid in pids.items():
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                handles = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            except (FileNotFoundError, ProcessLookupError):
                continue
            self.memory.setdefault(name, []).append(pages * os.sysconf("SC_PAGE_SIZE"))
            self.handles.setdefault(name, []).append(handles)
        for name, size in _sizes(session).items():
            self.disk.setdefault(name, []).append(size)

    def find_growth(self) -> list[str]:
        """Say what needs more at the end than in the middle."""
        return [
            *_growing("memory", self.memory, _MEMORY_SLACK),
            *_growing("file handles", self.handles, _HANDLE_SLACK),
            *_growing("disk", {"bus": self.disk.get("bus", [])}, _DISK_SLACK),
        ]


def _sizes(session: Path) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    # Files come and go meanwhile; `os.walk` passes over folders that went.
    for folder, _, names in os.walk(session):
        for name in names:
            path = Path(folder) / name
            part = path.relative_to(session).parts[0]
            with contextlib.suppress(FileNotFoundError):
                sizes["bus" if part.startswith("bus.db") else part] += path.lstat().st_size
    return dict(sizes)


def _growing(what: str, series: dict[str, list[int]], slack: int) -> Iterator[str]:
    for name, values in series.items():
        if len(values) < 24:
            continue
        third = len(values) // 3
        middle, last = statistics.median(values[third : 2 * third]), statistics.median(values[2 * third :])
        if last > middle * _TOLERANCE + slack:
            yield f"{what} of {name} grows: {middle:,.0f} in the middle, {last:,.0f} at the end"


@dataclass(slots=True)
class Mishaps:
    """What was done to the session."""

    kills: Counter[str] = field(default_factory=Counter)
    hangs: Counter[str] = field(default_factory=Counter)
    beside: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)


class Soak:
    """One soak."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._chance = random.Random(options.seed)
        self._platform = Platform(folder, **FORCED, **_bus_of(options))
        self._session = folder / "var" / "sessions" / MAIN
        self._ended = threading.Event()
        self.samples = Samples()
        self.mishaps = Mishaps()

    def run(self) -> tuple[int, str, dict[str, Any]]:
        """Run the session to its end; return its exit code, its last words and its summary."""
        summary = self._platform.folder / "summary.json"
        words = self._platform.folder / "up.log"
        with words.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.console", *self._arguments(MAIN, self._options.span_s, summary)],
                cwd=self._platform.folder,
                env=self._platform.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            threads = [threading.Thread(target=each) for each in (self._sample, self._disturb, self._run_beside)]
            for thread in threads:
                thread.start()
            try:
                code = process.wait(timeout=self._options.timeout_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                code = process.wait(timeout=120)
            finally:
                self._ended.set()
                for thread in threads:
                    thread.join()
        facts = json.loads(summary.read_text()) if summary.exists() else {}
        return code, words.read_text(errors="replace"), facts

    def _arguments(self, session: str, span_s: float, summary: Path) -> list[str]:
        return [
            *("up", "--market", "simulated", "--seed", str(self._options.seed), "--speed", f"{self._options.speed:g}"),
            *("--span", f"{span_s:g}s", "--session", session, "--port", "0", "--summary", str(summary)),
            *("--layout", self._options.layout),
        ]

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            self.samples.note(self._session, self._pids())

    def _pids(self) -> dict[str, int]:
        try:
            status = json.loads((self._session / "run" / "supervisor.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        pids = {name: facts["pid"] for name, facts in status["services"].items() if facts["pid"] is not None}
        return {"supervisor": status["pid"], **pids}

    def _is_whole(self) -> bool:
        try:
            services = json.loads((self._session / "run" / "supervisor.json").read_text())["services"]
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return all(facts["state"] in ("running", "finished") for facts in services.values())

    def _disturb(self) -> None:
        """Kill or stop one process after the other, each once the last one's restart is over."""
        while not self._ended.wait(self._chance.uniform(*self._options.pause_s)):
            if not self._is_whole():
                continue
            if self._chance.random() < 0.75:
                self._kill(self._choose(KILLED))
            else:
                self._hang(self._choose(STOPPED))

    def _choose(self, names: tuple[str, ...]) -> str:
        there = self._pids()
        return self._chance.choice([name for name in names if name in there] or [names[0]])

    def _signal(self, name: str, number: int) -> bool:
        pid = self._pids().get(name)
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True

    def _kill(self, name: str) -> None:
        self.mishaps.kills[name] += self._signal(name, signal.SIGKILL)

    def _hang(self, name: str) -> None:
        pid = self._pids().get(name)
        if pid is None or not self._signal(name, signal.SIGSTOP):
            return
        self.mishaps.hangs[name] += 1
        self._ended.wait(HANG_S)
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            # It was found hung and killed meanwhile.
            return

    def _run_beside(self) -> None:
        """Start the same session again, which is refused, and short sessions of another name, which are not."""
        folder = self._platform.folder
        number = 0
        while not self._ended.wait(self._options.beside_every_s):
            number += 1
            again = self._platform.call(*self._arguments(MAIN, 60.0, folder / "again.json"), timeout_s=120)
            self.mishaps.refused.append(again.returncode)
            name = f"{SECOND}-{number}"
            done = self._platform.call(*self._arguments(name, 1_200.0, folder / f"{name}.json"), timeout_s=600)
            self.mishaps.beside.append(done.returncode)
            if done.returncode:
                sys.stderr.write(f"the session beside ended with {done.returncode}: {done.stderr[-2000:]}\n")
            else:
                shutil.rmtree(folder / "var" / "sessions" / name, ignore_errors=True)

    def count_rounds(self) -> Counter[str]:
        """Return how many retention passes there were, how many failed, and how many offsets they removed."""
        counts: Counter[str] = Counter()
        for line in (self._session / "logs" / "recorder.log").read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry.get("event") == "retention applied":
                counts["passes"] += 1
                counts["offsets removed"] += entry["removed"]
            elif str(entry.get("event", "")).startswith("retention failed"):
                counts["failed"] += 1
        return counts

    def verify(self) -> subprocess.CompletedProcess[str]:
        """Replay the session."""
        return self._platform.call("replay", "--verify", "--session", MAIN, timeout_s=3_600)


def _bus_of(options: argparse.Namespace) -> dict[str, str]:
    return {"PERPFLOW_BUS": f"kafka:{options.kafka}"} if options.kafka else {}


def judge(soak: Soak, code: int, words: str, summary: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Print what happened and return what is wrong with it."""
    rounds = soak.count_rounds()
    kills, hangs = sum(soak.mishaps.kills.values()), sum(soak.mishaps.hangs.values())
    wrong = []
    if code:
        wrong.append(f"the session ended with {code}: {words[-3000:]}")
    broken = {name: count for name, count in summary.get("invariants", {"no summary": 1}).items() if count}
    if broken:
        wrong.append(f"invariants broken: {broken}")
    if summary.get("topics") != summary.get("tables"):
        wrong.append(f"topics and tables differ: {summary.get('topics')} {summary.get('tables')}")
    if rounds["passes"] < options.least_rounds or rounds["failed"]:
        wrong.append(f"retention: {dict(rounds)}, at least {options.least_rounds} passes were due and none may fail")
    if kills < options.least_kills:
        wrong.append(f"only {kills} processes were killed, not {options.least_kills}")
    if any(soak.mishaps.beside):
        wrong.append(f"sessions beside ended with {soak.mishaps.beside}")
    if 0 in soak.mishaps.refused:
        wrong.append("a second start of the same session was not refused")
    wrong += soak.samples.find_growth()
    verified = soak.verify()
    print(verified.stdout)
    if verified.returncode:
        wrong.append(f"replay --verify ended with {verified.returncode}: {verified.stdout}{verified.stderr[-2000:]}")
    print(f"retention   {dict(rounds)}")
    print(f"kill -9     {kills}: {dict(soak.mishaps.kills)}")
    print(f"SIGSTOP     {hangs}: {dict(soak.mishaps.hangs)}")
    print(f"beside      {soak.mishaps.beside}, second starts refused with {soak.mishaps.refused}")
    names = ("market_events", "bars", "vectors", "forecasts", "intents", "orders", "fills", "restarts", "elapsed")
    print("session     " + ", ".join(f"{name} {summary.get(name)}" for name in names))
    print(f"first offsets {summary.get('first_offsets')}")
    for what, series, unit in (
        ("memory MiB", soak.samples.memory, 1 << 20),
        ("handles", soak.samples.handles, 1),
        ("disk MiB", soak.samples.disk, 1 << 20),
    ):
        for name, values in sorted(series.items()):
            print(f"{what:<11} {name:<12} {_quartiles(values, unit)}")
    return wrong


def _quartiles(values: list[int], unit: int) -> str:
    points = [values[min(len(values) - 1, len(values) * step // 4)] / unit for step in range(5)]
    return "start to end " + " ".join(f"{point:,.1f}" for point in points) + f"  highest {max(values) / unit:,.1f}"


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long, without --span")
    parser.add_argument("--span", help="market time instead: 26h")
    parser.add_argument("--speed", type=float, default=60.0, help="market seconds per second")
    parser.add_argument("--seed", type=int, default=3, help="of the market and of the mishaps")
    parser.add_argument("--layout", choices=("spread", "fused"), default="spread")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="run on this broker instead of the SQLite bus")
    parser.add_argument("--least-kills", type=int, default=5)
    parser.add_argument("--least-rounds", type=int, default=10)
    parser.add_argument("--pause", type=float, nargs=2, default=(15.0, 45.0), metavar=("LEAST", "MOST"), dest="pause_s")
    parser.add_argument("--beside-every", type=float, default=600.0, metavar="SECONDS", dest="beside_every_s")
    parser.add_argument("--keep", action="store_true", help="keep the folder")
    options = parser.parse_args()
    options.span_s = parse_duration_s("--span", options.span) if options.span else options.minutes * 60 * options.speed
    options.timeout_s = options.span_s / options.speed * 2 + 1_800
    return options


def main() -> int:
    """Run a soak; the answer is the exit code."""
    options = parse_options()
    folder = Path(tempfile.mkdtemp(prefix="perpflow-soak-"))
    print(f"soak of {options.span_s / 3600:g} h of market time at {options.speed:g}, in {folder}", flush=True)
    started = time.monotonic()
    soak = Soak(options, folder)
    wrong = judge(soak, *soak.run(), options)
    print(f"took {time.monotonic() - started:,.0f} s")
    for each in wrong:
        print(f"WRONG: {each}")
    if wrong or options.keep:
        print(f"kept {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
