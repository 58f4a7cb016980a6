"""Runs the platform in containers through what an operator may meet: `python -m tests.compose.run --help`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from libs.clock import SYSTEM_CLOCK
from services.console.plan import ONLINE_SERVICES
from tests.compose.stack import ROOT, Stack, StackError, run
from tests.kit.waiting import eventually

# Old records go after a minute instead of days, and snapshots come often enough for that.
_SETTINGS = """
[platform]
snapshot_every_s = 20

[platform.accounts.paper]
partition = 0
instruments = ["BTCUSDT.BINANCE"]

[recorder]
retention_every_s = 15
retention_max_age_s = 45
"""
_IMAGES = (*ONLINE_SERVICES, "exchange", "cli")
_SLOW_S = 300.0
# Megabytes that a service's image may have, without packages that compute and with them; `cli` has all of them.
_PLAIN_MB, _NUMERIC_MB = 200, 450


class Drill:
    """The steps, in order; each leaves the platform running for the next. `facts` is what was measured."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.facts: dict[str, Any] = {}

    def build(self) -> None:
        """Build every image and note its size."""
        started = SYSTEM_CLOCK.monotonic_s()
        for name in _IMAGES:
            self.stack.say(f"building {name}")
            self.stack.compose("build", "-q", name, timeout_s=3600)
        self.facts["build_s"] = round(SYSTEM_CLOCK.monotonic_s() - started)
        sizes = {
            name: int(run(("docker", "image", "inspect", "-f", "{{.Size}}", f"perpflow/{name}"))) for name in _IMAGES
        }
        self.facts["image_mb"] = {name: round(size / 1e6) for name, size in sizes.items()}
        self.stack.say(f"image sizes, MB: {self.facts['image_mb']}")
        over = {name: mb for name, mb in self.facts["image_mb"].items() if name != "cli" and mb > _limit_mb(name)}
        assert not over, f"images of more megabytes than they may have: {over}"
        for name in _IMAGES:
            done = subprocess.run(
                ("docker", "run", "--rm", "--entrypoint", "python", f"perpflow/{name}", "-m", "pip", "--version"),
                capture_output=True,
                check=False,
            )
            assert done.returncode != 0, f"perpflow/{name} has a pip"

    def reproduce(self) -> None:
        """Build an image twice from nothing: every file has the same content."""
        found = set()
        for _ in range(2):
            image = run(
                (
                    *("docker", "build", "-q", "--no-cache", "-f", "infra/docker/Dockerfile"),
                    *("--build-arg", "SERVICE=risk", "."),
                ),
                timeout_s=1800,
            ).strip()
            script = "find /app /opt /usr/local/bin -type f -exec sha256sum {} + | sort | sha256sum"
            found.add(run(("docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", script)))
        assert len(found) == 1, found
        self.stack.say("an image that is built twice holds the same bytes")

    def first_fill(self) -> None:
        """Start everything; time the first price and the first fill."""
        stack = self.stack
        code, out = stack.cli("users", "add", "drill", "--role", "operator", "--token")
        assert code == 0, out
        stack.keep_token(out.strip())
        stack.free_ports()
        started = SYSTEM_CLOCK.monotonic_s()
        stack.up()
        self.facts["up_s"] = round(SYSTEM_CLOCK.monotonic_s() - started, 1)
        eventually(lambda: stack.state().get("fills") is not None, within_s=_SLOW_S, every_s=0.5)
        self.facts["page_s"] = round(SYSTEM_CLOCK.monotonic_s() - started, 1)
        stack.say(f"the page answers after {self.facts['page_s']} s")
        eventually(lambda: stack.state()["fills"], within_s=2 * _SLOW_S, every_s=0.5)
        self.facts["first_fill_s"] = round(SYSTEM_CLOCK.monotonic_s() - started, 1)
        stack.say(f"first fill after {self.facts['first_fill_s']} s")
        self.facts["start_s"] = {
            name: round(seconds, 1)
            for name in (*ONLINE_SERVICES, "exchange")
            if (seconds := self._start_s(name)) is not None
        }
        stack.say(f"seconds from a container's start to its service's word that it is ready: {self.facts['start_s']}")
        self._all_healthy()

    def _start_s(self, service: str) -> float | None:
        from datetime import datetime

        (container, *_) = self.stack.containers(service)
        began = datetime.fromisoformat(self.stack.inspect(container)["State"]["StartedAt"][:26] + "+00:00")
        for line in self.stack.logs(container, "-t"):
            at, _, text = line.partition(" ")
            if '"ready"' in text or '"running"' in text:
                return (datetime.fromisoformat(at[:26] + "+00:00") - began).total_seconds()
        return None

    def verify(self) -> None:
        """Replay what the topics hold, compare them with the tables, and check what must hold of every order.

        The market stands still meanwhile: replay reads inputs that a running service may not have answered yet.
        """
        self.stack.compose("stop", "ingestion")
        eventually(lambda: not any(self._lags()), within_s=_SLOW_S, every_s=2)
        answer = self.stack.cli_json("replay", "--verify", timeout_s=1800)
        assert answer["is_identical"], answer
        outputs = sum(each["outputs"] for each in answer["services"])
        checked = self.stack.cli_json("check", timeout_s=900)
        assert checked["is_good"], checked
        self.stack.say(
            f"replay: {outputs:,} outputs byte-identical; check: {sum(checked['topics'].values()):,} records in "
            f"topics and tables, {checked['orders']} orders, {checked['fills']} fills"
        )
        self.stack.compose("start", "ingestion")
        self.facts.setdefault("verified", []).append({"outputs": outputs, "fills": checked["fills"]})

    def _lags(self) -> list[int]:
        """Return what each group has still to read."""
        return [row["lag"] or 0 for row in self.stack.cli_json("status")["services"]]

    def kill(self) -> None:
        """Kill the program of each container once; it is started again and goes on."""
        for service in (*ONLINE_SERVICES, "exchange"):
            before = self.stack.restarts(service)
            self.stack.signal(service, "KILL")
            eventually(lambda s=service, b=before: self.stack.restarts(s) > b, within_s=_SLOW_S, every_s=0.5)
        self._all_healthy()
        self._goes_on("after each of them was killed")

    def logs(self) -> None:
        """Every line of every service is JSON that names its service, those of the libraries it uses too."""
        count = 0
        for service in (*ONLINE_SERVICES, "exchange"):
            for container in self.stack.containers(service):
                for line in self.stack.logs(container):
                    assert '"service"' in line and isinstance(json.loads(line), dict), f"{service}: {line}"
                    count += 1
        self.stack.say(f"{count} lines of log, all JSON")

    def hang(self) -> None:
        """Stop a program without ending it: its health check does, and its restart policy starts it again."""
        before = self.stack.restarts("strategy")
        self.stack.signal("strategy", "STOP")
        started = SYSTEM_CLOCK.monotonic_s()
        eventually(lambda: self.stack.restarts("strategy") > before, within_s=_SLOW_S, every_s=1)
        self.facts["hung_restarted_s"] = round(SYSTEM_CLOCK.monotonic_s() - started)
        self._all_healthy()
        self._goes_on(f"a hung service was ended and started again after {self.facts['hung_restarted_s']} s")

    def servers(self) -> None:
        """Kill the broker, then the store; services wait and go on."""
        for server in ("kafka", "clickhouse"):
            (container,) = self.stack.containers(server)
            run(("docker", "kill", container))
            run(("docker", "start", container))
            self._all_healthy()
            self._goes_on(f"after {server} was killed")

    def retention(self) -> None:
        """Wait until the topics' first records are gone, and snapshots and journals with them."""

        def has_passed() -> bool:
            first = self.stack.cli_json("check")["first_offsets"]
            return any(name.startswith("market.events") for name in first) and any(
                name.startswith("journal.") for name in first
            )

        eventually(has_passed, within_s=2 * _SLOW_S, every_s=10)
        self.stack.say("records have passed retention, journals too")

    def down_up(self) -> None:
        """Remove every container and start again on the same volumes."""
        orders = self.stack.cli_json("check")["orders"]
        self.stack.compose("down", timeout_s=600)
        started = SYSTEM_CLOCK.monotonic_s()
        self.stack.up()
        self._all_healthy()
        self.facts["warm_up_s"] = round(SYSTEM_CLOCK.monotonic_s() - started, 1)
        assert self.stack.cli_json("check")["orders"] >= orders
        self._goes_on(f"down and up again, all healthy after {self.facts['warm_up_s']} s")

    def halt(self) -> None:
        """Halt and resume by the command line, which knows nothing but the bus."""
        (account,) = self.stack.cli_json("halt", "--reason", "drill")["accounts"]
        assert account["state"] == "HALTED", account
        (shown,) = self.stack.cli_json("status")["accounts"]
        assert shown["trading_state"] == "HALTED", shown
        self.stack.cli_json("resume", "--yes")
        (shown,) = self.stack.cli_json("status")["accounts"]
        assert shown["trading_state"] == "ACTIVE", shown
        seen = {row["name"]: row["is_good"] for row in self.stack.cli_json("doctor")}
        assert seen["bus"] and seen["clickhouse"] and seen["container"], seen
        order = self.stack.state()["fills"][0]["client_order_id"]
        steps = {link["step"] for link in self.stack.cli_json("trace", order)}
        assert {"order", "command", "verdict", "intent"} <= steps, steps
        self.stack.say(f"halted, resumed and traced ({', '.join(sorted(steps))}) by the bus alone")

    def scale(self) -> None:
        """Share two partitions of a service out to two replicas."""
        self.stack.up("--scale", "bars=2")
        self._all_healthy()
        numbers = {
            line.removeprefix("PERPFLOW_REPLICA=")
            for container in self.stack.containers("bars")
            for line in self._environment(container)
            if line.startswith("PERPFLOW_REPLICA=")
        }
        assert numbers == {"0", "1"}, numbers
        self._goes_on("bars has two replicas, 0 and 1")

    def _environment(self, container: str) -> list[str]:
        script = (
            "for each in /proc/[0-9]*; do grep -qz '^services\\.' $each/cmdline && tr '\\0' '\\n' <$each/environ; done"
        )
        return run(("docker", "exec", container, "sh", "-c", script), check=False).splitlines()

    def restore(self) -> None:
        """Back everything up, remove it with its volumes, restore it into new ones, and go on."""
        stack, folder = self.stack, self.stack.folder / "backup"
        run((str(ROOT / "infra/docker/backup"), str(folder), *stack.words), timeout_s=900)
        self.facts["backup_mb"] = round(sum(each.stat().st_size for each in folder.glob("*.tar")) / 1e6)
        stack.compose("down", "-v", timeout_s=600)
        run((str(ROOT / "infra/docker/restore"), str(folder), *stack.words), timeout_s=900)
        stack.up()
        self._all_healthy()
        self._goes_on(f"restored from a backup of {self.facts['backup_mb']} MB into new volumes")

    def _all_healthy(self) -> None:
        eventually(lambda: not self.stack.unwell(), within_s=2 * _SLOW_S, every_s=0.5)

    def _goes_on(self, text: str) -> None:
        """Wait until a forecast comes of market time after now: the whole chain has moved."""

        def newest() -> int:
            forecasts = self.stack.state().get("forecasts") or {}
            return max((each["latest"]["time_ms"] for each in forecasts.values()), default=0)

        before = newest()
        eventually(lambda: newest() > before, within_s=_SLOW_S, every_s=1)
        self.stack.say(text)

    def remove(self) -> None:
        """Remove containers, networks and volumes."""
        self.stack.close()


def _limit_mb(service: str) -> int:
    locked = (ROOT / "infra" / "locks" / f"{service}.txt").read_text()
    return _NUMERIC_MB if "\nnumpy==" in locked else _PLAIN_MB


_STEPS = (
    *("build", "reproduce", "first_fill", "verify", "kill", "logs", "hang", "servers", "retention", "verify"),
    *("down_up", "halt", "scale", "restore", "verify", "remove"),
)


def main() -> int:
    """Run the steps; 0 when all held or no engine is here."""
    parser = argparse.ArgumentParser(prog="python -m tests.compose.run", description=__doc__)
    parser.add_argument("--speed", type=float, default=10.0, help="market seconds per second")
    parser.add_argument("--partitions", type=int, default=2)
    parser.add_argument("--steps", default=",".join(_STEPS).replace("_", "-"), help="which of the steps, in order")
    parser.add_argument(
        "--folder",
        type=Path,
        help="keep the project's files here and its containers, and go on with it where it is there",
    )
    given = parser.parse_args()
    steps = [step.replace("-", "_") for step in given.steps.split(",")]
    unknown = set(steps) - set(_STEPS)
    if unknown:
        parser.error(f"unknown steps {', '.join(sorted(unknown))}; there are {', '.join(dict.fromkeys(_STEPS))}")
    checked = subprocess.run([ROOT / "infra/docker/check-compose"], capture_output=True, text=True, check=False)
    if checked.returncode != 0:
        print(f"skipped: {checked.stderr.strip()}")
        return 0
    print(checked.stdout.strip())
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="perpflow-compose-"))
    stack = Stack(folder.resolve(), speed=given.speed, partitions=given.partitions, settings=_SETTINGS)
    left_out = ", ".join(stack.left_out) or "none"
    print(f"project {stack.project}; left out, for their images cannot be had here: {left_out}")
    failed = _run(Drill(stack), steps)
    if failed:
        print(f"FAILED at {failed}", file=sys.stderr)
    if given.folder is not None:
        print(f"left: docker compose {' '.join(stack.words)} ...; remove it by --steps remove", file=sys.stderr)
        return 1 if failed else 0
    if failed:
        print(
            stack.compose("ps", "-a", check=False), stack.compose("logs", "--tail", "15", check=False), file=sys.stderr
        )
    stack.close()
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def _run(drill: Drill, steps: Sequence[str]) -> str:
    """Run steps; return what failed, empty where nothing did. Facts go on from those of an earlier run."""
    facts_file = drill.stack.folder / "facts.json"
    if facts_file.exists():
        drill.facts.update(json.loads(facts_file.read_text()))
    failed = ""
    for step in steps:
        drill.stack.say(f"== {step.replace('_', ' ')}")
        work: Callable[[], None] = getattr(drill, step)
        started = SYSTEM_CLOCK.monotonic_s()
        try:
            work()
        except (AssertionError, StackError, KeyError, ValueError, subprocess.TimeoutExpired) as error:
            failed = f"{step}: {type(error).__name__}: {error}"
            break
        took = drill.facts.setdefault("steps_s", {}).setdefault(step, [])
        took.append(round(SYSTEM_CLOCK.monotonic_s() - started))
        facts_file.write_text(json.dumps(drill.facts))
    (ROOT / "var").mkdir(exist_ok=True)
    (ROOT / "var" / "compose-test.json").write_text(json.dumps(drill.facts, indent=2) + "\n")
    print(json.dumps(drill.facts, indent=2))
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
