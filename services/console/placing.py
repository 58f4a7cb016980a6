"""Reads where a session's instruments and accounts go from the command line, and keeps it with the session."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from libs.domain.instruments import INSTRUMENTS, UnknownInstrument, find_instrument
from libs.portfolio.model_scores import model_account
from libs.runtime.configuration import Configuration
from libs.runtime.errors import BadInput
from libs.runtime.placement import AccountPlacement, Placement, place_evenly
from libs.runtime.platform_bus import session_placement
from libs.runtime.settings import CHAIN, PlatformSettings, load_settings, service_prefix
from libs.wire.topics import CORE_SERVICES
from services.console.session import SessionDescription

_ACCOUNT_TABLES = ("strategy", "risk", "execution")
_MOST_REPLICAS = 64
_SCALABLE = (*CORE_SERVICES, CHAIN, "recorder")


def parse_instruments(text: str, market: str = "") -> tuple[str, ...]:
    """Read ``A,B,...``; of a recorded market also what can be read and not traded.

    Raises `BadInput` for one that is not known or named twice.
    """
    # Images without the clients of venues read placements too.
    from libs.venues.registry import UnknownVenue, make_recording_decoder

    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        try:
            if market.startswith("recorded:"):
                make_recording_decoder(name)
            else:
                find_instrument(name)
        except (UnknownInstrument, UnknownVenue) as error:
            raise BadInput(str(error)) from error
    if not names or len(set(names)) < len(names):
        raise BadInput(f"--instruments {text!r} names none, or one twice; write A,B,...")
    return names


def traded_of(instruments: Sequence[str]) -> tuple[str, ...]:
    """Return those whose trading rules are known; the others are market data alone."""
    return tuple(name for name in instruments if name in INSTRUMENTS)


def parse_scale(texts: Iterable[str]) -> dict[str, int]:
    """Read ``SERVICE=N`` as replicas by service. Raises `BadInput`."""
    scale: dict[str, int] = {}
    for text in texts:
        service, _, number = text.partition("=")
        if service == "ingestion":
            raise BadInput(
                f"--scale {text!r}: ingestion is one process, whose feeds share a venue's limits of requests and one "
                "cursor; run a session for each group of instruments where one process is not enough"
            )
        if service not in _SCALABLE or not number.isdecimal() or not 1 <= int(number) <= _MOST_REPLICAS:
            raise BadInput(
                f"--scale {text!r} is not SERVICE=N with N from 1 to {_MOST_REPLICAS} and a service of "
                f"{', '.join(_SCALABLE)}"
            )
        scale[service] = int(number)
    return scale


def make_placement(instruments: Sequence[str], accounts: str, partitions: int) -> Placement:
    """Place instruments and accounts one after the other.

    `accounts` is ``A,B,...``, each of which trades under the services' own settings every instrument that can be
    traded, or the path of a TOML file with a table for each: its `instruments`, and tables `strategy`, `risk` and
    `execution` of settings. Raises `BadInput`.
    """
    described = read_accounts(accounts, traded_of(instruments))
    if len(described) > partitions:
        raise BadInput(
            f"{len(described)} accounts need as many partitions, and --partitions is {partitions}; give more"
        )
    placed = {
        name: AccountPlacement(number, names, settings)
        for number, (name, (names, settings)) in enumerate(described.items())
    }
    if partitions == 1 and not placed:
        return Placement()
    return Placement(partitions, place_evenly(instruments, partitions), placed)


def place_models(
    placement: Placement,
    models: Sequence[str],
    account: str,
    instruments: Sequence[str],
    before: Placement | None = None,
) -> Placement:
    """Return the placement with a paper account for each model, NAME/VERSION, that trades its forecasts alone.

    `account` is the one of a session that places none. `before` is the placement of the session as it ran last: its
    partitions stay, a model keeps its own, and no other account gets one that was a model's. Raises `BadInput` where
    that leaves too few.
    """
    accounts = dict(placement.accounts) or {account: AccountPlacement(0, tuple(instruments))}
    kept = {} if before is None else {name: each.partition for name, each in before.accounts.items()}
    taken = {each.partition for each in accounts.values()} | set(kept.values())
    free = (number for number in itertools.count() if number not in taken)
    for model in models:
        name = model_account(model.partition("/")[2])
        variables = {f"{service_prefix(service)}MODEL": model for service in ("strategy", "risk")}
        place = kept[name] if name in kept else next(free)
        accounts[name] = AccountPlacement(place, tuple(instruments), variables)
    needed = max(each.partition for each in accounts.values()) + 1
    partitions = max(placement.partitions, needed)
    if before is not None:
        if before.partitions < partitions:
            raise BadInput(
                f"the session has {before.partitions} partitions, fixed when it began, and an account for each of "
                f"{', '.join(models)} needs {partitions}; go on under another name (--session NAME), with --partitions "
                "larger than needed now where more models are to come"
            )
        partitions = before.partitions
    placed = {name: placement.instrument_partition(name) for name in instruments}
    return Placement(partitions, placed, accounts)


def read_accounts(text: str, instruments: Sequence[str]) -> dict[str, tuple[tuple[str, ...], dict[str, str]]]:
    """Read ``A,B,...`` or a TOML file, as `make_placement` does: what each account trades, and its own variables."""
    if text and not instruments:
        raise BadInput(f"--accounts {text} have nothing to trade: every instrument is market data alone")
    if not text.endswith(".toml"):
        names = [name.strip() for name in text.split(",") if name.strip()]
        if len(set(names)) < len(names):
            raise BadInput(f"--accounts {text!r} names one twice")
        return {name: (tuple(instruments), {}) for name in names}
    try:
        tables = tomllib.loads(Path(text).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"--accounts {text} cannot be read: {error}") from error
    return {name: _read_account(text, name, table, instruments) for name, table in tables.items()}


def _read_account(
    file: str, name: str, table: Any, instruments: Sequence[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    if not isinstance(table, Mapping):
        raise BadInput(f"--accounts {file}: {name} is no table; write [{name}]")
    unknown = table.keys() - {"instruments", *_ACCOUNT_TABLES}
    if unknown:
        raise BadInput(
            f"--accounts {file}: [{name}] has {', '.join(sorted(unknown))}; known are instruments, "
            f"{', '.join(_ACCOUNT_TABLES)}"
        )
    for inner in _ACCOUNT_TABLES:
        if not isinstance(table.get(inner, {}), Mapping):
            raise BadInput(f"--accounts {file}: [{name}] has {inner} that is no table; write [{name}.{inner}]")
    named = table.get("instruments", instruments)
    if not isinstance(named, Sequence) or isinstance(named, str):
        raise BadInput(f'--accounts {file}: [{name}] has instruments that are no list; write instruments = ["A", "B"]')
    traded = tuple(named)
    strangers = [each for each in traded if each not in instruments]
    if strangers or not traded:
        raise BadInput(
            f"--accounts {file}: [{name}] trades {', '.join(map(str, strangers)) or 'nothing'}; the session has "
            f"{', '.join(instruments)}"
        )
    settings: dict[str, str] = {}
    for service in _ACCOUNT_TABLES:
        for field, value in table.get(service, {}).items():
            text = value if isinstance(value, str) else json.dumps(value)
            settings[f"{service_prefix(service)}{field}".upper()] = text
    return traded, settings


def placement_variables(placement: Placement) -> dict[str, str]:
    """Return the variables that give every service of a session its placement; none for one partition."""
    if placement == Placement():
        return {}
    return {
        "PERPFLOW_PARTITIONS": str(placement.partitions),
        "PERPFLOW_INSTRUMENTS": json.dumps(dict(placement.instruments)),
        "PERPFLOW_ACCOUNTS": json.dumps({name: asdict(account) for name, account in placement.accounts.items()}),
    }


def placement_of(session: SessionDescription) -> Placement:
    """Return the placement that a session keeps. Raises `BadInput` where it is damaged."""
    names = ("PERPFLOW_PARTITIONS", "PERPFLOW_INSTRUMENTS", "PERPFLOW_ACCOUNTS")
    kept = {name: session.environment[name] for name in names if name in session.environment}
    return session_placement(load_settings(PlatformSettings, Configuration(kept)))
