"""The kill switch's file and environment variable, turned into a HALT command.

Shell-side: it looks at the file system and the environment, and the caller hands in the time. On any doubt (the
file's folder cannot be read) it halts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from libs.domain.control import ControlAction, ControlCommand

HALT_VARIABLE = "PERPFLOW_RISK_HALT"
_OFF = frozenset({"", "0", "false", "no", "off"})


def find_halt_reason(kill_switch_file: str, environment: Mapping[str, str] | None = None) -> str:
    """Return why trading must halt, "" where nothing asks for it.

    Anything in the variable `PERPFLOW_RISK_HALT` but 0, false, no and off halts; so does anything at the file's path,
    and a path that cannot be looked at.
    """
    variables = os.environ if environment is None else environment
    asked = variables.get(HALT_VARIABLE, "").strip()
    if asked.lower() not in _OFF:
        return f"environment variable {HALT_VARIABLE} is {asked!r}"
    if not kill_switch_file:
        return ""
    try:
        Path(kill_switch_file).lstat()
    except FileNotFoundError:
        return ""
    except OSError as fault:
        return f"kill switch file {kill_switch_file} cannot be looked at: {fault.strerror}"
    return f"kill switch file {kill_switch_file} is there"


def kill_command(account: str, event_time: int, reason: str) -> ControlCommand:
    """Return the HALT command of a kill switch; `event_time` in ns since epoch UTC, one command per account and
    time.
    """
    return ControlCommand(
        event_id=f"kill/{account}/{event_time}",
        event_time=event_time,
        account=account,
        action=ControlAction.HALT,
        issued_by="kill switch",
        reason=reason,
    )


def check_kill_switch(
    account: str, event_time: int, kill_switch_file: str, environment: Mapping[str, str] | None = None
) -> ControlCommand | None:
    """Return the HALT command where file or variable asks for it, else None. Call it at least every 100 ms."""
    reason = find_halt_reason(kill_switch_file, environment)
    return kill_command(account, event_time, reason) if reason else None
