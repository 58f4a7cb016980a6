"""Log files of processes, bounded in size and age: full ones are renamed NAME.log.1, .2 and so on, the oldest goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from libs.clock import SYSTEM_CLOCK, Clock

_LOOK_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class LogLimits:
    """When a file is full, how many full ones are kept, and for how long."""

    max_bytes: int = 20_000_000
    files: int = 5
    max_age_s: float = 14 * 86_400.0


class LogFile:
    """One log. `write` raises `OSError` where the disk does not take it, and works again once it does."""

    def __init__(self, path: Path, limits: LogLimits, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._path = path
        self._limits = limits
        self._file: BinaryIO | None = None
        self._size = 0
        self._looked_at = float("-inf")

    def write(self, line: bytes) -> None:
        """Append a line."""
        if self._file is None:
            self._file = self._path.open("ab")
            self._size = self._file.tell()
        if self._size and self._size + len(line) > self._limits.max_bytes:
            self._rotate()
        self._file.write(line)
        self._file.flush()
        self._size += len(line)
        now = self._clock.monotonic_s()
        if now - self._looked_at > _LOOK_EVERY_S:
            self._looked_at = now
            self._remove_old()

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        for number in range(self._limits.files, 0, -1):
            older = self._full(number - 1) if number > 1 else self._path
            if older.exists():
                older.replace(self._full(number))
        self._file = self._path.open("ab")
        self._size = 0

    def _remove_old(self) -> None:
        oldest = self._clock.now_ns() / 1e9 - self._limits.max_age_s
        for path in self._path.parent.glob(f"{self._path.name}.*"):
            number = path.name.removeprefix(f"{self._path.name}.")
            if number.isdecimal() and (int(number) > self._limits.files or path.stat().st_mtime < oldest):
                path.unlink(missing_ok=True)

    def _full(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
