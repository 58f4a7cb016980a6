"""Control of running sessions: send halt, reduce, flatten or resume to each of their accounts and see it confirmed.

A command is durable once it is sent, and execution obeys it by itself; what is waited for is risk's answer. Refuses
accounts that no session knows and sessions that do not run.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from libs.bus.api import Bus, BusError, TopicPartition
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Deadline, Entropy
from libs.domain.control import (
    ALL_ACCOUNTS,
    ControlAction,
    ControlCommand,
    ControlState,
    TradingState,
)
from libs.runtime.control_commands import TOKEN_BYTES, append_commands
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.runtime.records import read_range
from libs.wire.topics import CONTROL_STATES
from services.console.accounts import AccountRow, read_accounts, read_event
from services.console.bus_session import find_bus_session
from services.console.running import running_folders
from services.console.session import SessionDescription, demand_bus, load_session, read_session
from services.console.session_bus import open_session_bus

CONFIRM_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.02
_SERVICE = "console"
_ALLOWED = {
    ControlAction.HALT: {TradingState.HALTED},
    ControlAction.FLATTEN: {TradingState.HALTED},
    ControlAction.REDUCE: {TradingState.REDUCING, TradingState.HALTED},
    ControlAction.RESUME: {TradingState.ACTIVE},
}


@dataclass(frozen=True, slots=True)
class ControlTarget:
    """A session to command: the scopes that the commands go to, and the accounts that have to confirm."""

    session: SessionDescription
    scopes: tuple[str, ...]
    accounts: tuple[AccountRow, ...]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What became of a command for one account. `is_done` when risk confirmed the state that was asked for."""

    session: str
    account: str
    is_done: bool
    state: str
    reason: str


def find_targets(session: str | None, account: str | None) -> tuple[list[ControlTarget], list[Confirmation]]:
    """Return the running sessions to command, all or the named one, and what cannot be commanded with the reason.

    Where none runs on this machine and settings name a bus, it is the session on that bus. Without an account the scope
    is all accounts. Raises `BadInput` for an account that none of them knows, `DependencyUnavailable` where none runs.
    """
    targets: list[ControlTarget] = []
    failed: list[Confirmation] = []
    known: set[str] = set()
    for each in _chosen(session):
        try:
            found = each if isinstance(each, SessionDescription) else read_session(each)
            demand_bus(found)
            rows = read_accounts(found)
        except (BadInput, BusError) as error:
            failed.append(Confirmation(each.name, account or ALL_ACCOUNTS, False, "unknown", str(error)))
            continue
        names = {row.account for row in rows}
        known |= names
        if account is None or account == ALL_ACCOUNTS:
            targets.append(ControlTarget(found, (ALL_ACCOUNTS,), tuple(rows)))
        elif account in names:
            targets.append(ControlTarget(found, (account,), tuple(row for row in rows if row.account == account)))
    if not targets and not failed:
        raise BadInput(f"unknown account {account!r}; known: {', '.join(sorted(known)) or 'none'}, or * for all")
    return targets, failed


def _chosen(name: str | None) -> Sequence[Path | SessionDescription]:
    folders = running_folders()
    if name is None:
        if not folders and (on_bus := find_bus_session()) is not None:
            return [on_bus]
        if not folders:
            raise DependencyUnavailable("no session is running on this machine; start one with `perpflow up`")
        return folders
    chosen = [folder for folder in folders if folder.name == name]
    if not chosen:
        load_session(name)
        raise DependencyUnavailable(
            f"session {name} is not running, so nothing was sent; running: "
            f"{', '.join(folder.name for folder in folders) or 'none'}"
        )
    return chosen


def with_scopes_that_hold(target: ControlTarget) -> ControlTarget:
    """Return the target with every scope that may hold its accounts: all accounts, then each that is not ACTIVE."""
    held = (row.account for row in target.accounts if row.trading_state != TradingState.ACTIVE.name)
    return ControlTarget(target.session, (ALL_ACCOUNTS, *held), target.accounts)


def command_all(targets: Sequence[ControlTarget], action: ControlAction, reason: str) -> list[Confirmation]:
    """Send a command to every target at once, so that a session that hangs holds up no other, and wait for risk."""
    if not targets:
        return []
    with ThreadPoolExecutor(len(targets), thread_name_prefix="control") as pool:
        answers = pool.map(lambda target: _command(target, action, reason), targets)
        return [confirmation for answer in answers for confirmation in answer]


def _command(target: ControlTarget, action: ControlAction, reason: str) -> list[Confirmation]:
    session = target.session
    try:
        with open_session_bus(session) as bus:
            partitions = [
                TopicPartition(CONTROL_STATES, number) for number in range(bus.topics().get(CONTROL_STATES, 0))
            ]
            before = bus.end_offsets(partitions)
            commands = send_commands(bus, action, target.scopes, reason, actor=name_of_user())
            # The last command that concerns an account is the one whose state counts.
            awaited = {
                row.account: next(each.event_id for each in reversed(commands) if each.account in (row.account, "*"))
                for row in target.accounts
            }
            states = _wait_for_states(bus, before, awaited)
    except BusError as error:
        return [Confirmation(session.name, row.account, False, "unknown", str(error)) for row in target.accounts]
    return [_confirm(session.name, name, action, states.get(name)) for name in awaited]


def _confirm(session: str, account: str, action: ControlAction, state: ControlState | None) -> Confirmation:
    if state is None:
        reason = (
            f"{action.name} is written and execution obeys it by itself, but risk has not confirmed it within "
            f"{CONFIRM_WITHIN_S:g} s; look at `perpflow status`"
        )
        return Confirmation(session, account, False, "unconfirmed", reason)
    return Confirmation(session, account, state.state in _ALLOWED[action], state.state.name, state.reason)


def name_of_user() -> str:
    """Return the operating system's name of who runs this, or the number where it has no name for it."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def send_commands(
    bus: Bus,
    action: ControlAction,
    scopes: Sequence[str],
    reason: str,
    *,
    actor: str,
    clock: Clock = SYSTEM_CLOCK,
    entropy: Entropy = SYSTEM_ENTROPY,
    arguments: Mapping[str, str] = MappingProxyType({}),
) -> list[ControlCommand]:
    """Append a command for each scope, with its audit entry, in one transaction and return the commands.

    They are durable when this returns.
    """
    now = clock.now_ns()
    commands = [
        ControlCommand(
            f"control/{_SERVICE}/{entropy.token_hex(TOKEN_BYTES)}", now, scope, action, _SERVICE, reason, {**arguments}
        )
        for scope in scopes
    ]
    append_commands(bus, _SERVICE, commands, actor=actor, source_address="local", clock=clock, entropy=entropy)
    return commands


def _wait_for_states(
    bus: Bus, before: Mapping[TopicPartition, int], awaited: Mapping[str, str]
) -> dict[str, ControlState]:
    """Return by account the newest state since the awaited commands were handled; those not handled are left out."""
    handled: set[str] = set()
    states: dict[str, ControlState] = {}
    position = dict(before)
    for _ in Deadline(CONFIRM_WITHIN_S).attempts(_LOOK_EVERY_S):
        ends = bus.end_offsets(position)
        for at, end in ends.items():
            for record in read_range(bus, at.topic, at.partition, position[at], end):
                state = read_event(record)
                if not isinstance(state, ControlState):
                    continue
                if awaited.get(state.account) == state.cause_id:
                    handled.add(state.account)
                if state.account in handled:
                    states[state.account] = state
            position[at] = end
        if handled >= awaited.keys():
            break
    return states
