"""What `perpflow doctor` says of containers: whether this is one, and whether this machine can run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST_COMPOSE = (2, 24)
_TIMEOUT_S = 10.0


def is_container() -> bool:
    """Whether this process runs in a container of Docker, Podman or Kubernetes."""
    marks = (Path("/.dockerenv"), Path("/run/.containerenv"))
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(mark.exists() for mark in marks)


def examine_compose() -> tuple[bool, str]:
    """Return whether `docker compose up` can work here, and what is there or what to do in words."""
    wanted = ".".join(map(str, OLDEST_COMPOSE))
    if shutil.which("docker") is None:
        return False, f"no docker; `perpflow up` needs none, docker-compose.yml needs Compose {wanted} or later"
    said = _ask("docker", "compose", "version", "--short")
    if said is None:
        old = _ask("docker-compose", "version", "--short")
        return False, f"docker-compose {old or 'is missing'}; install the plugin docker-compose {wanted} or later"
    found = tuple(int(number) for number in re.findall(r"\d+", said)[:2])
    if found < OLDEST_COMPOSE:
        return False, f"Compose {said} is too old; install {wanted} or later"
    engine = _ask("docker", "version", "-f", "{{.Server.Version}}")
    if engine is None:
        return False, f"Compose {said}, but the engine does not answer; start it or set DOCKER_HOST"
    return True, f"Compose {said}, engine {engine}"


def _ask(*command: str) -> str | None:
    """Return what a command prints, None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().removeprefix("v") if done.returncode == 0 and done.stdout.strip() else None
