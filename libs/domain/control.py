"""Control: what people and monitors command, the state that results, alerts, and who did what."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


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
    """Who did what, when and from where. `command_id` is the control command that it led to, empty for none."""

    event_id: str
    event_time: int
    service: str
    actor: str
    role: str
    action: str
    account: str
    outcome: AuditOutcome
    source_address: str
    detail: str
    command_id: str
