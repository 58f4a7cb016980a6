"""Control: what people and monitors command, the state that results, alerts, and who did what.

A command has a scope: one account, or all of them (`*`). Each scope holds trading back by itself, and the strictest
hold is in force. A command tightens its own scope, and only RESUME of the same scope relaxes it again: resuming an
account lifts no halt of all accounts, and resuming all lifts no halt of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias


class ControlAction(IntEnum):
    """HALT stops new orders and cancels open ones; REDUCE lets only reductions through; FLATTEN halts and closes."""

    HALT = 1
    RESUME = 2
    REDUCE = 3
    FLATTEN = 4
    SET_LIMITS = 5
    PROMOTE_MODEL = 6


class TradingState(IntEnum):
    """What the gate lets through."""

    ACTIVE = 1
    REDUCING = 2
    HALTED = 3


class Severity(IntEnum):
    """How soon a person must look."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


ALL_ACCOUNTS = "*"

_STATE_AFTER = {
    ControlAction.HALT: TradingState.HALTED,
    ControlAction.FLATTEN: TradingState.HALTED,
    ControlAction.REDUCE: TradingState.REDUCING,
}


@dataclass(frozen=True, slots=True)
class Hold:
    """What holds the trading of one scope back, never ACTIVE, and why. `is_flattening` while positions are closed."""

    state: TradingState
    reason: str
    is_flattening: bool = False


@dataclass(frozen=True, slots=True)
class TradingControl:
    """The holds on one account by scope: its own name and `*`. A scope without one is ACTIVE."""

    holds: Mapping[str, Hold] = field(default_factory=dict)

    @property
    def state(self) -> TradingState:
        """The strictest state in force."""
        if not self.holds:
            return TradingState.ACTIVE
        return max(hold.state for hold in self.holds.values())

    @property
    def in_force(self) -> tuple[str, Hold] | None:
        """The strictest hold and its scope, the older one where two are equally strict; None while ACTIVE."""
        return max(self.holds.items(), key=lambda entry: entry[1].state, default=None)

    @property
    def is_flattening(self) -> bool:
        """Whether any scope has its positions closed."""
        return bool(self.holds) and any(hold.is_flattening for hold in self.holds.values())

    def tighten(self, scope: str, hold: Hold) -> TradingControl:
        """Return the control with a hold on a scope; one that is stricter already stays, and so does flattening."""
        held = self.holds.get(scope)
        if held is not None:
            if hold.state < held.state:
                return self
            hold = Hold(hold.state, hold.reason, hold.is_flattening or held.is_flattening)
        return TradingControl({**self.holds, scope: hold})

    def resume(self, scope: str) -> TradingControl:
        """Return the control without the hold on a scope."""
        return TradingControl({name: hold for name, hold in self.holds.items() if name != scope})

    def rename(self, scope: str, to: str) -> TradingControl:
        """Return the control with a scope under another name."""
        return TradingControl({to if name == scope else name: hold for name, hold in self.holds.items()})

    def obey(self, command: ControlCommand) -> TradingControl:
        """Return the control after a command of one of its scopes; those that do not concern trading change nothing."""
        if command.action is ControlAction.RESUME:
            return self.resume(command.account)
        hold = hold_of(command)
        return self if hold is None else self.tighten(command.account, hold)


def hold_of(command: ControlCommand) -> Hold | None:
    """Return the hold that a command puts on its scope, None where it puts none."""
    state = _STATE_AFTER.get(command.action)
    if state is None:
        return None
    return Hold(state, describe_command(command), is_flattening=command.action is ControlAction.FLATTEN)


def describe_command(command: ControlCommand) -> str:
    """Say who commanded what and why."""
    return f"{command.action.name} by {command.issued_by}: {command.reason}"


@dataclass(frozen=True, slots=True)
class ControlCommand:
    """A command to an account or to all (`account` ``*``). `arguments` are the limits to set or the model's name."""

    event_id: str
    event_time: int
    account: str
    action: ControlAction
    issued_by: str
    reason: str
    arguments: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ControlState:
    """The trading state in force and the limits' version, after `cause_id`."""

    event_id: str
    event_time: int
    account: str
    state: TradingState
    reason: str
    limits_version: int
    limits: dict[str, str]
    cause_id: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert raised or cleared; `name` is stable so that raise and clear meet."""

    event_id: str
    event_time: int
    service: str
    name: str
    severity: Severity
    is_raised: bool
    message: str


class AuditOutcome(IntEnum):
    """Whether an action was carried out."""

    DONE = 1
    REFUSED = 2


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, when and from where.

    `target` is an account, or the user who is signed out; `command_id` the control command that it led to. Either is
    empty where there is none.
    """

    event_id: str
    event_time: int
    service: str
    actor: str
    role: str
    action: str
    target: str
    outcome: AuditOutcome
    source_address: str
    detail: str
    command_id: str


ControlMessage: TypeAlias = ControlCommand | ControlState | Alert | AuditEntry
