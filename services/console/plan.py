"""What `perpflow up` starts: the processes of a session and the environment each one gets."""

from __future__ import annotations

import os
import socket
import urllib.request
from dataclasses import dataclass

from libs.runtime.child import child_command
from libs.runtime.errors import DependencyUnavailable
from services.console.session import Session

# In the order in which events flow, so that the status table reads like the picture.
ONLINE_SERVICES = (
    "ingestion",
    "bars",
    "features",
    "inference",
    "strategy",
    "risk",
    "execution",
    "recorder",
    "monitoring",
)
RUNNABLE_SERVICES = (*ONLINE_SERVICES, "exchange")


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep alive. `ends_by_itself` when finishing with code 0 is its job.

    It is ready once it has announced so in the run folder, or, with `ready_url`, once that address answers.
    """

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    ends_by_itself: bool = False
    ready_url: str | None = None


def service_command(service: str) -> tuple[str, ...]:
    """Return the command that runs a service in a process of its own."""
    return child_command(f"services.{service}.main")


def free_port(wanted: int = 0, *, host: str = "127.0.0.1") -> int:
    """Return `wanted` if it can be bound, or any free port for 0. Raises `DependencyUnavailable` when it is busy."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise DependencyUnavailable(
                f"port {wanted} on {host} is busy ({error.strerror}); name another with --port, or 0 for any free one"
            ) from error
        return int(probe.getsockname()[1])


def preferred_port(preferred: int) -> int:
    """Return `preferred` if it is free, else any free port."""
    try:
        return free_port(preferred)
    except DependencyUnavailable:
        return free_port()


def answers(url: str) -> bool:
    """Whether a GET is answered with 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def process_environment(session: Session) -> dict[str, str]:
    """Return the environment of every process of a session."""
    return {
        **os.environ,
        **session.environment,
        "PERPFLOW_BUS": session.bus,
        "PERPFLOW_TOPIC_PREFIX": session.topic_prefix,
        "PERPFLOW_CLICKHOUSE": session.clickhouse,
        "PERPFLOW_CLICKHOUSE_DATABASE": session.clickhouse_database,
        "PERPFLOW_RUN_DIR": str(session.run_dir),
        "PYTHONUNBUFFERED": "1",
        # Two cores carry ten processes: libraries that start a thread per core only get in each other's way.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }


def plan_processes(session: Session, *, has_exchange: bool, is_bounded: bool) -> list[ProcessSpec]:
    """List the processes of a session, the readers before those who write, so that little has to be caught up."""
    environment = process_environment(session)
    order = ("recorder", "monitoring", "execution", "risk", "strategy", "inference", "features", "bars")
    specs = [ProcessSpec(name, service_command(name), environment) for name in order]
    if has_exchange:
        specs.insert(0, ProcessSpec("exchange", service_command("exchange"), environment))
    specs.append(ProcessSpec("ingestion", service_command("ingestion"), environment, ends_by_itself=is_bounded))
    return specs
