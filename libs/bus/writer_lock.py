"""Who holds a lock on a file: Linux lists it, so that a holder that hangs can be named and ended."""

from __future__ import annotations

from pathlib import Path

_LOCKS = Path("/proc/locks")


def writer_lock_path(bus_file: Path) -> Path:
    """Return the lock that writers of a SQLite bus queue on."""
    return Path(f"{bus_file}-writer")


def find_lock_holder(path: Path) -> int | None:
    """Return the process that holds a `flock` on a file; None where nobody does or the system does not tell."""
    try:
        inode = path.stat().st_ino
        lines = _LOCKS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # 1: FLOCK  ADVISORY  WRITE 4711 08:01:123456 0 EOF; those who wait have an arrow after the number (proc(5)).
        words = line.split()
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return int(words[4]) or None
    return None


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal and has not gone on (Linux)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] in ("T", "t")
