"""What `perpflow up` starts: the processes of a session and the environment each one gets."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from libs.runtime.child import child_command
from libs.runtime.configuration import CONFIG_VARIABLE
from libs.runtime.errors import BadInput
from libs.runtime.placement import replica_name
from libs.runtime.settings import CHAIN, SERVICE_NAMES, PlatformSettings, StoreSettings, service_prefix, variables_of
from libs.wire.topics import CORE_SERVICES, OUTBOX
from services.console.placing import placement_of
from services.console.session import SessionDescription

# Every service that runs spread, each with an image of its own.
RUNNABLE_SERVICES = tuple(name for name in SERVICE_NAMES if name != CHAIN)
SPREAD, FUSED = "spread", "fused"
LAYOUTS = (SPREAD, FUSED)
# Fused on paper, where nothing but this session's own orders is at stake; spread where a venue takes them. A session
# that goes on keeps its layout.
AUTO_LAYOUT = "auto"
CHAIN_ACCOUNTS_VARIABLE = f"{service_prefix(CHAIN)}ACCOUNTS"
REPLICA_VARIABLE = variables_of(PlatformSettings)["replica"]
ONLINE_SERVICES = tuple(name for name in RUNNABLE_SERVICES if name != "exchange")
# The variables of the caller's environment that a Python process needs to run; secrets are never among them.
_INHERITED = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"}
    | {"NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)
# The way out of this network, whose address may hold a password: for those who go out.
_PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
_GO_OUT = frozenset({"ingestion", OUTBOX, "features"})
RECORDER = "recorder"


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


def default_layout(mode: str, scale: Mapping[str, int]) -> str:
    """Return the layout of a new session for which none was asked."""
    return FUSED if mode == "paper" and not scale.keys() & set(CORE_SERVICES) else SPREAD


def check_scale(layout: str, scale: Mapping[str, int]) -> None:
    """Raise `BadInput` where replicas are asked for of what a layout does not have."""
    there = (*((CHAIN,) if layout == FUSED else CORE_SERVICES), RECORDER)
    for service in scale:
        if service not in there:
            raise BadInput(f"--layout {layout} has no {service} to scale; it has {', '.join(there)}")


def service_command(service: str) -> tuple[str, ...]:
    """Return the command that runs a service, or execution's outbox, in a process of its own."""
    module = "services.execution.outbox" if service == OUTBOX else f"services.{service}.main"
    return child_command(module)


def answers(url: str) -> bool:
    """Whether a GET is answered with 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def base_environment(*, goes_out: bool = False) -> dict[str, str]:
    """Return what any Python process needs of this one's environment."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith("LC_") or (goes_out and name.upper() in _PROXIES)
    }


def process_environment(
    session: SessionDescription, service: str, secrets: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """Return the environment of one service: its own settings, the platform's, and of `secrets` its own alone.

    The outbox has execution's settings, and the venue's key instead of it; a chain has the settings of its cores, and
    none of their secrets.
    """
    platform = frozenset(variables_of(PlatformSettings).values())
    store = frozenset(variables_of(StoreSettings).values())
    read = {OUTBOX: ("execution",), CHAIN: (CHAIN, *CORE_SERVICES)}.get(service, (service,))
    prefixes = tuple(service_prefix(each) for each in read)
    withheld = {name for name in secrets if service in ("execution", CHAIN) and name.startswith(prefixes)}
    own = {
        name: value
        for name, value in {**session.environment, **secrets}.items()
        if name not in withheld
        and (name.startswith(prefixes) or name in platform or (service == RECORDER and name in store))
    }
    reached = {
        "PERPFLOW_CLICKHOUSE": session.clickhouse,
        "PERPFLOW_CLICKHOUSE_DATABASE": session.clickhouse_database,
        "PERPFLOW_CLICKHOUSE_USER": session.clickhouse_user,
    }
    return {
        **base_environment(goes_out=service in _GO_OUT),
        **own,
        **(reached if service == RECORDER else {}),
        "PERPFLOW_BUS": session.bus,
        "PERPFLOW_TOPIC_PREFIX": session.topic_prefix,
        "PERPFLOW_RUN_DIR": str(session.run_dir),
        # The session has taken what the file says.
        CONFIG_VARIABLE: "",
        "PYTHONUNBUFFERED": "1",
        # Two cores carry ten processes: libraries that start a thread per core only get in each other's way.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }


def plan_processes(
    session: SessionDescription,
    secrets: Mapping[str, str],
    *,
    has_exchange: bool,
    is_bounded: bool,
    scale: Mapping[str, int] = MappingProxyType({}),
    exchanges: Sequence[Mapping[str, str]] = (),
) -> list[ProcessSpec]:
    """List the processes of a session, replicas as `scale` says, the readers before those who write, so that little has
    to be caught up. `exchanges` are the settings of simulated exchanges beside the first.

    Raises `BadInput` where `scale` names what the session's layout does not have, or more chains than can be.
    """
    placement = placement_of(session)
    check_scale(session.layout, scale)

    def spec(name: str, *, ends_by_itself: bool = False) -> ProcessSpec:
        return ProcessSpec(name, service_command(name), process_environment(session, name, secrets), ends_by_itself)

    outbox = [] if session.mode == "paper" else [OUTBOX]
    cores = [CHAIN] if session.layout == FUSED else reversed(CORE_SERVICES)
    order = ("recorder", "monitoring", *outbox, *cores)
    is_shared = placement.partitions > 1
    specs = [spec(name) for name in (["exchange"] if has_exchange else [])]
    for number, own in enumerate(exchanges, 1):
        environment = {**process_environment(session, "exchange", secrets), **own, REPLICA_VARIABLE: str(number)}
        specs.append(ProcessSpec(replica_name("exchange", number), service_command("exchange"), environment))
    for service in order:
        if service == CHAIN and scale.get(CHAIN, 1) > 1:
            for number, accounts in enumerate(placement.split_accounts(scale[CHAIN])):
                own = {REPLICA_VARIABLE: str(number), CHAIN_ACCOUNTS_VARIABLE: json.dumps(accounts)}
                environment = {**process_environment(session, CHAIN, secrets), **own}
                specs.append(ProcessSpec(replica_name(CHAIN, number), service_command(CHAIN), environment))
            continue
        if not (service in scale or (is_shared and service in CORE_SERVICES)):
            specs.append(spec(service))
            continue
        for number in range(scale.get(service, 1)):
            environment = {**process_environment(session, service, secrets), REPLICA_VARIABLE: str(number)}
            specs.append(ProcessSpec(replica_name(service, number), service_command(service), environment))
    specs.append(spec("ingestion", ends_by_itself=is_bounded))
    return specs
