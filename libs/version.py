"""The version of perpflow, which follows SemVer (a test keeps it equal to the distribution's), and this build of it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

VERSION = "0.1.0"
_ROOT = Path(__file__).parents[1]


@cache
def build_id() -> str:
    """Return the version with a hash of the code that is installed: any changed line of it is another build."""
    digest = hashlib.sha256()
    for room in ("libs", "services"):
        for path in sorted((_ROOT / room).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{VERSION}+{digest.hexdigest()[:12]}"
