"""Confines this process with Linux's Landlock: files outside of its folders and new TCP connections are refused.

It is the last of three layers, under the statement policy and the engine's grants. A kernel without Landlock runs
without it, which the log says. Constants are those of linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_LOG = logging.getLogger(__name__)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_RIGHTS_ABI_1 = (1 << 13) - 1
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_NET_CONNECT_TCP = 1 << 1
_READING = _EXECUTE | _READ_FILE | _READ_DIR
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache")
# ClickHouse asks the kernel for memory and processors. Of /proc/self the environment is left out.
_KERNEL = (
    *("/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/sys", "/sys/fs/cgroup", "/sys/devices/system"),
    # Without it the library looks for its contents behind the environment, which Python has moved, and crashes by what
    # lies there.
    "/proc/self/auxv",
    *("/proc/self/maps", "/proc/self/statm", "/proc/self/stat", "/proc/self/status", "/proc/self/cgroup"),
    *("/proc/self/mounts", "/proc/self/mountinfo"),
)
_DEVICES = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64), ("handled_access_net", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def confine(own_folders: Iterable[Path]) -> bool:
    """Confine this process and what it starts to `own_folders` (created here); whether the kernel could.

    Call it before any thread is started: Landlock binds the calling thread and its descendants.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION) if sys.platform.startswith("linux") else -1
    if version < 1:
        _LOG.warning("this kernel has no Landlock; the engine's grants and the statement policy stand alone")
        return False
    handled = _RIGHTS_ABI_1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attr = _RulesetAttr(handled, _NET_CONNECT_TCP if version >= 4 else 0)
    ruleset = _check(libc.syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.sizeof(attr), 0))
    try:
        for folder in own_folders:
            folder.mkdir(parents=True, exist_ok=True)
            _allow(libc, ruleset, folder, handled & ~_EXECUTE)
        for path in (*map(Path, _SYSTEM), *map(Path, _KERNEL), *_python_folders()):
            _allow(libc, ruleset, path, handled & _READING)
        for path in map(Path, _DEVICES):
            _allow(libc, ruleset, path, _READ_FILE | _WRITE_FILE)
        _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        _check(libc.syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _python_folders() -> set[Path]:
    own = Path(__file__).resolve().parents[3]
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return {Path(path) for path in paths} | {own / "infra", own / "libs"}


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not path.is_dir():
            access &= _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
        attr = _PathBeneathAttr(access, descriptor)
        _check(libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(attr), 0))
    finally:
        os.close(descriptor)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock refused: {os.strerror(number)}")
    return int(result)
