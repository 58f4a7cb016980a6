"""The kill switch's file and environment variable, turned into a HALT command.

Shell-side: it looks at the file system and the environment, and the caller hands in the time. On any doubt (the
file's folder cannot be read, or is not there) it halts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from libs.clock import SYSTEM_ENTROPY, Entropy
from libs.domain.control import ControlAction, ControlCommand

HALT_VARIABLE = "PERPFLOW_RISK_HALT"
_OFF = frozenset({"", "0", "false", "no", "off"})


def find_halt_reason(kill_switch_file: str, environment: Mapping[str, str] | None = None) -> str:
    """Return why trading must halt, "" where nothing asks for it.

    Anything in the variable `PERPFLOW_RISK_HALT` but 0, false, no and off halts; so does anything at the file's path,
    and a path that cannot be looked at: in a folder that is not there nobody could ever put the file.
    """
    variables = os.environ if environment is None else environment
    asked = variables.get(HALT_VARIABLE, "").strip()
    if asked.lower() not in _OFF:
        return f"environment variable {HALT_VARIABLE} is {asked!r}"
    if not kill_switch_file:
        return ""
    path = Path(kill_switch_file)
    try:
        path.lstat()
    except FileNotFoundError:
        return _find_folder_error(path)
    except OSError as error:
        return f"kill switch file {path} cannot be looked at: {error.strerror}"
    return f"kill switch file {path} is there"


def _find_folder_error(path: Path) -> str:
    try:
        path.parent.stat()
    except OSError as error:
        return (
            f"the folder of kill switch file {path} cannot be looked at: {error.strerror}; create {path.parent} or "
            "correct PERPFLOW_RISK_KILL_SWITCH_FILE"
        )
    return ""


def kill_command(account: str, event_time: int, reason: str, entropy: Entropy = SYSTEM_ENTROPY) -> ControlCommand:
    """Return the HALT command of a kill switch; `event_time` in ns since epoch UTC. Each is a command of its own."""
    return ControlCommand(
        # A second HALT at the same time, of a clock that stands still, must not pass for a repeat of the first.
        event_id=f"kill/{account}/{event_time}/{entropy.token_hex(4)}",
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
