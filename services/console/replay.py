"""`perpflow replay`: every service's core again, over what a session recorded."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import orjson

from libs.bus.api import BusError
from libs.runtime.configuration import read_configuration
from libs.runtime.errors import EXIT_BAD_INPUT, EXIT_CHECK_FAILED, EXIT_OK, BadInput, DependencyUnavailable
from libs.runtime.placement import Task
from libs.runtime.settings import PlatformSettings
from libs.wire.topics import CORE_SERVICES, CORES
from services.console.placing import placement_of
from services.console.plan import process_environment, service_command
from services.console.registry import secret_variables
from services.console.session import SessionDescription

_SHOWN_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class ServiceReplay:
    """What replaying one task of a service found. `difference` is None when every output was byte-identical.

    `verified_from` is None where it was replayed from its beginning, else the wall time of the snapshot it began at and
    the offsets of its inputs: what lies before has passed retention.
    """

    service: str
    inputs: int
    outputs: int
    counts: dict[str, int]
    difference: dict[str, Any] | None
    verified_from: dict[str, Any] | None


def verify_session(session: SessionDescription) -> list[ServiceReplay]:
    """Replay the cores of a session in processes of their own, two at a time.

    Raises `BadInput` where a service refuses its recorded settings, `BusError` where there is nothing left to start
    from, `DependencyUnavailable` where the bus is gone.
    """
    # Paper trading has no outbox.
    services = CORE_SERVICES if session.mode == "paper" else CORES
    placement = placement_of(session)
    tasks = [task for service in services for task in placement.tasks(service)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda task: ServiceReplay(**_ask(session, task, "verify", {})), tasks))


def state_at(session: SessionDescription, service: str, at: int) -> list[dict[str, Any]]:
    """Return the state of each task of a service at a market time (ns). Raises as `verify_session`."""
    if service not in CORES:
        raise BadInput(f"no core {service!r}; there are {', '.join(CORES)}")
    return [_ask(session, task, "state", {}, str(at)) for task in placement_of(session).tasks(service)]


def rehearse(session: SessionDescription) -> list[dict[str, Any]]:
    """Replay the cores of a session as this build has them and compare what they decide with what they decided.

    Raises as `verify_session`.
    """
    placement = placement_of(session)
    tasks = [task for service in CORE_SERVICES for task in placement.tasks(service)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return list(pool.map(lambda task: _ask(session, task, "compare", {}), tasks))


def _ask(session: SessionDescription, task: Task, word: str, overrides: dict[str, str], *arguments: str) -> Any:
    service = task.service
    # A core needs no secret; opening the bus may.
    given = read_configuration().variables
    secrets = {name: given[name] for name in secret_variables({"platform": PlatformSettings}) if name in given}
    done = subprocess.run(
        [*service_command(service), word, *arguments, str(task.partition)],
        env={**process_environment(session, service, secrets), **overrides, "PERPFLOW_LOG_FORMAT": "json"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode in (EXIT_OK, EXIT_CHECK_FAILED) and done.stdout.strip():
        return orjson.loads(done.stdout)
    text = f"{task.name} cannot be replayed (exit code {done.returncode}): {_last_reason(done.stderr)}"
    if done.returncode == EXIT_BAD_INPUT:
        raise BadInput(text)
    if done.returncode == EXIT_CHECK_FAILED:
        raise BusError(text)
    raise DependencyUnavailable(text)


def _last_reason(stderr: bytes) -> str:
    lines = stderr.strip().splitlines()
    if not lines:
        return "no word of why"
    try:
        entry = orjson.loads(lines[-1])
    except orjson.JSONDecodeError:
        return lines[-1].decode(errors="replace")
    return str(entry.get("reason") or entry.get("exception") or entry.get("event"))


def parse_what_if(change: str) -> tuple[str, dict[str, str]]:
    """Read ``risk.max_leverage=2`` as a service and the variable that overrides it. Raises `BadInput`."""
    name, equals, value = change.partition("=")
    service, point, setting = name.partition(".")
    if not (equals and point and service in CORE_SERVICES and setting):
        raise BadInput(f"{change!r} is not SERVICE.SETTING=VALUE with a service of {', '.join(CORE_SERVICES)}")
    return service, {f"PERPFLOW_{service.upper()}_{setting.upper()}": value}


def what_if(session: SessionDescription, change: str) -> dict[str, Any]:
    """Replay one service under a changed setting and return which of its decisions change, as counts and examples.

    An account that has that setting of its own keeps it.
    """
    service, overrides = parse_what_if(change)
    answers = [_ask(session, task, "compare", overrides) for task in placement_of(session).tasks(service)]
    answer: dict[str, Any] = answers[0]
    for other in answers[1:]:
        answer |= {name: answer[name] + other[name] for name in ("inputs", "agreed", "changed", "missing", "added")}
        answer["examples"] = [*answer["examples"], *other["examples"]][:_SHOWN_EXAMPLES]
        answer["compared_from"] = answer["compared_from"] or other["compared_from"]
    answer["service"] = service
    return answer
