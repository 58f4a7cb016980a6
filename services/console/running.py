"""Which sessions run on this machine, whatever folder each was started from.

Every session leaves its folder's path in one place of its user (``~/.local/state/perpflow/sessions``), so that
`perpflow halt` reaches it from anywhere. A session runs while its supervisor or one of its processes lives.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from libs.runtime.metrics import is_alive, processes_of, read_announcement
from services.console.session import DESCRIPTION, SessionDescription, sessions_root


def registry() -> Path:
    """Return the folder that names the sessions of this user (``XDG_STATE_HOME`` moves it). Raises `RuntimeError`
    where the user has no home.
    """
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "perpflow" / "sessions"


def register_session(session: SessionDescription) -> str:
    """Leave word of a session; return why that cannot be done, empty where it was."""
    folder = session.folder.resolve()
    try:
        entries = registry()
        entries.mkdir(mode=0o700, parents=True, exist_ok=True)
        # By the path: two folders may have sessions of one name.
        name = f"{session.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
        draft = entries / f".{name}"
        draft.write_bytes(os.fsencode(folder))
        draft.replace(entries / name)
    except (OSError, RuntimeError) as error:
        return str(error)
    return ""


def is_running(folder: Path) -> bool:
    """Whether the supervisor or any process of the session in a folder lives."""
    supervised = read_announcement(folder / "run" / "supervisor.json")
    pids = [supervised.get("pid"), *(facts.get("pid") for facts in processes_of(supervised).values())]
    return any(_is_ours(pid) for pid in pids)


def _is_ours(pid: object) -> bool:
    if not is_alive(pid):
        return False
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        # Not Linux, or gone meanwhile: better one session too many than one that nobody halts.
        return is_alive(pid)
    # After a crash another program may have the number. A process that is being reaped has no command line.
    return any(word in command for word in (b"perpflow", b"services.", b"infra.local"))


def running_folders() -> list[Path]:
    """Return the folders of the sessions that run, the newest first, and forget those that are gone."""
    folders = {path.parent.resolve() for path in sessions_root().glob(f"*/{DESCRIPTION}")} | set(_registered())
    running = [folder for folder in folders if is_running(folder)]
    return sorted(running, key=lambda folder: (-_started(folder), str(folder)))


def _registered() -> Iterator[Path]:
    try:
        entries = sorted(registry().glob("[!.]*"))
    except RuntimeError:
        return
    for entry in entries:
        try:
            folder = Path(os.fsdecode(entry.read_bytes()))
        except FileNotFoundError:
            continue
        if folder.is_dir():
            yield folder
        else:
            entry.unlink(missing_ok=True)


def _started(folder: Path) -> float:
    try:
        return (folder / DESCRIPTION).stat().st_mtime
    except FileNotFoundError:
        return 0.0
