"""One project of docker compose for a test: its own name, secrets, ports, volumes, all gone afterwards."""

from __future__ import annotations

import functools
import hashlib
import json
import resource
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.clock import SYSTEM_CLOCK
from libs.runtime.listening import ReservedPort

ROOT = Path(__file__).resolve().parents[2]
# Started where their images are here or can be pulled.
OPTIONAL = ("prometheus", "alertmanager", "grafana")
_PORTS = ("PAGE", "PROMETHEUS", "ALERTMANAGER", "GRAFANA")
_PULL_S = 90.0
_FILES_FOR_CLICKHOUSE = 262_144


class StackError(Exception):
    """A command of docker failed; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine lists it. `is_well`: it runs, and is healthy where it has a check."""

    container_id: str
    service: str
    is_well: bool


class Stack:
    """A project, described in a folder; one that describes a project already is taken up again."""

    def __init__(self, folder: Path, *, speed: float, partitions: int, settings: str) -> None:
        self.folder = folder
        self.project = folder.name.lower()
        self._started = SYSTEM_CLOCK.monotonic_s()
        self._reserved: list[ReservedPort] = []
        if not (folder / "env").exists():
            self._describe(speed, partitions, settings)
        variables = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines())
        self.page = f"http://127.0.0.1:{variables['PAGE_PORT']}"
        self.words = ["-p", self.project, "--env-file", str(folder / "env"), "-f", str(ROOT / "docker-compose.yml")]
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < _FILES_FOR_CLICKHOUSE:
            # The engine may raise no limit above its own.
            (folder / "limits.yml").write_text("services: {clickhouse: {ulimits: !reset null}}\n")
            self.words += ["-f", str(folder / "limits.yml")]
        self.left_out = tuple(name for name in OPTIONAL if not self._has_image(name))

    def _describe(self, speed: float, partitions: int, settings: str) -> None:
        self._reserved = [ReservedPort() for _ in _PORTS]
        secrets_folder = self.folder / "secrets"
        secrets_folder.mkdir(mode=0o700)
        for name in ("clickhouse_password", "grafana_password"):
            (secrets_folder / name).write_text(secrets.token_hex(24))
            (secrets_folder / name).chmod(0o444)
        (self.folder / "perpflow.toml").write_text(settings)
        password = (secrets_folder / "clickhouse_password").read_bytes()
        variables = {
            "COMPOSE_PROFILES": "simulated",
            "SPEED": f"{speed:g}",
            "PARTITIONS": str(partitions),
            "SECRETS": str(secrets_folder),
            "SETTINGS_FILE": str(self.folder / "perpflow.toml"),
            "CLICKHOUSE_PASSWORD_SHA256": hashlib.sha256(password).hexdigest(),
            **{f"{name}_PORT": str(port.number) for name, port in zip(_PORTS, self._reserved, strict=True)},
        }
        (self.folder / "env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))

    def say(self, text: str) -> None:
        """Print a line for whoever waits."""
        print(f"{self.elapsed_s():6.0f} s  {text}", flush=True)

    def elapsed_s(self) -> float:
        """Return the seconds since this was made."""
        return SYSTEM_CLOCK.monotonic_s() - self._started

    @property
    def token(self) -> str:
        """The page's token of the drill's user; empty where it has none yet."""
        path = self.folder / "token"
        return path.read_text() if path.exists() else ""

    def keep_token(self, token: str) -> None:
        """Keep the token for this run and those that take the project up."""
        (self.folder / "token").write_text(token)

    def free_ports(self) -> None:
        """Let go of the ports, for the containers to take."""
        for port in self._reserved:
            port.close()

    def compose(self, *words: str, given: str | None = None, timeout_s: float = 600.0, check: bool = True) -> str:
        """Run `docker compose` and return what it printed. Raises `StackError`."""
        return run(("docker", "compose", *self.words, *words), given=given, timeout_s=timeout_s, check=check)

    @functools.cache  # noqa: B019 - a stack lives as long as its process
    def services(self) -> list[str]:
        """Return the services that are started: all of the profile whose images are here."""
        return [name for name in self.compose("config", "--services").split() if name not in self.left_out]

    def up(self, *more: str) -> None:
        """Start everything."""
        self.compose("up", "-d", "--no-build", *more, *self.services(), timeout_s=900)

    def cli(self, *words: str, given: str | None = None, timeout_s: float = 600.0) -> tuple[int, str]:
        """Run the command line in a container of its own; return its exit code and what it printed, log lines apart."""
        command = ("docker", "compose", *self.words, "run", "--rm", "-T", "cli", *words)
        done = subprocess.run(
            command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        lines = done.stderr.splitlines(keepends=True)
        sys.stderr.write("".join(lines[-20:] if done.returncode else [each for each in lines if "perpflow:" in each]))
        sys.stderr.flush()
        return done.returncode, done.stdout

    def cli_json(self, *words: str, timeout_s: float = 600.0) -> Any:
        """Run the command line with --json and return what it says. Raises `StackError`."""
        code, out = self.cli(*words, "--json", timeout_s=timeout_s)
        if code != 0:
            raise StackError(f"perpflow {' '.join(words)} ended with {code}: {out[-2000:]}")
        return json.loads(out)

    def state(self) -> dict[str, Any]:
        """Return what the page shows; empty where it does not answer."""
        request = urllib.request.Request(f"{self.page}/api/state", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                facts: dict[str, Any] = json.load(answer)
        except (OSError, ValueError):
            return {}
        return facts

    def look(self) -> list[Container]:
        """Return the project's containers, in one question to the engine."""
        mine = (f"label=com.docker.compose.project={self.project}", "label=com.docker.compose.oneoff=False")
        shape = '{{.ID}}\t{{.Label "com.docker.compose.service"}}\t{{.State}}\t{{.Status}}'
        listed = run(("docker", "ps", "-a", "--no-trunc", *(f"--filter={each}" for each in mine), "--format", shape))
        rows = [line.split("\t") for line in listed.splitlines()]
        return [
            Container(number, service, state == "running" and "(" not in status.replace("(healthy)", ""))
            for number, service, state, status in rows
        ]

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers."""
        return [each.container_id for each in self.look() if each.service == service]

    def unwell(self) -> list[str]:
        """Return the services that do not run, or are not healthy, in any of their containers."""
        seen = self.look()
        well = {each.service for each in seen} - {each.service for each in seen if not each.is_well}
        return sorted(set(self.services()) - well - {"topics"})

    def inspect(self, container: str) -> dict[str, Any]:
        """Return what the engine knows of a container."""
        (facts,) = json.loads(run(("docker", "inspect", container)))
        return dict(facts)

    def logs(self, container: str, *more: str) -> list[str]:
        """Return the lines that a container wrote, of both its outputs."""
        done = subprocess.run(("docker", "logs", *more, container), capture_output=True, text=True, check=True)
        return (done.stdout + done.stderr).splitlines()

    def restarts(self, service: str) -> int:
        """Return how often the containers of a service were started again by their restart policy."""
        return sum(int(self.inspect(each)["RestartCount"]) for each in self.containers(service))

    def signal(self, service: str, signal: str) -> None:
        """Send a signal to a service's program from inside its first container, where process 1 is another."""
        (container, *_) = self.containers(service)
        script = (
            "for each in /proc/[0-9]*; do grep -qz '^services\\.' $each/cmdline 2>/dev/null "
            f"&& kill -{signal} ${{each#/proc/}} && exit 0; done; exit 1"
        )
        run(("docker", "exec", container, "sh", "-c", script))

    def close(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("--profile", "*", "down", "-v", "--remove-orphans", "-t", "10", check=False)

    def _has_image(self, service: str) -> bool:
        config = json.loads(run(("docker", "compose", *self.words, "config", "--format", "json")))
        image = config["services"][service]["image"]
        if subprocess.run(("docker", "image", "inspect", image), capture_output=True, check=False).returncode == 0:
            return True
        try:
            pulled = subprocess.run(("docker", "pull", "-q", image), capture_output=True, timeout=_PULL_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        return pulled.returncode == 0


def run(command: Sequence[str], *, given: str | None = None, timeout_s: float = 600.0, check: bool = True) -> str:
    """Run a command in the root of the checkout; return its output. Raises `StackError`."""
    done = subprocess.run(
        command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    if check and done.returncode != 0:
        raise StackError(f"{' '.join(command[:2])} ... {' '.join(command[-4:])}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout
