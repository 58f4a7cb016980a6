"""Persists the account across restarts: every request that changes it, and periodic snapshots of it.

A request is on disk before it is executed and answered; a line torn by a kill was never answered and is truncated.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from libs.runtime.errors import BadInput

JOURNAL = "exchange-orders.jsonl"
SNAPSHOT = "exchange-account.snapshot"


class Journal:
    """One line per request, `{"ms", "request", "sent"}`, after a first line that identifies the session."""

    def __init__(self, run_dir: Path, facts: dict[str, Any]) -> None:
        """Open or create the journal of a session; another session's is renamed and kept.

        Raises `BadInput` naming the line that cannot be read.
        """
        self._path = run_dir / JOURNAL
        self.snapshot_path = run_dir / SNAPSHOT
        self.entries: list[dict[str, Any]] = []
        run_dir.mkdir(parents=True, exist_ok=True)
        if self._path.is_file() and not self._read(facts):
            self._rename_other()
        is_new = not self._path.is_file()
        self._file = self._path.open("ab")
        if is_new:
            self._write(facts)
            _sync_directory(run_dir)
        self.count = len(self.entries)

    def append(self, now_ms: int, request: str, sent: dict[str, str]) -> None:
        """Write a request so that not even a power cut loses it."""
        self._write({"ms": now_ms, "request": request, "sent": sent})
        self.count += 1

    def save_snapshot(self, facts: dict[str, Any], account: bytes) -> None:
        """Keep the account, a line of its own JSON, and the facts beside it, as they are after the requests so far."""
        draft = self.snapshot_path.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(orjson.dumps({**facts, "count": self.count}) + b"\n" + account)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.snapshot_path)

    def load_snapshot(self) -> tuple[dict[str, Any], bytes] | None:
        """Return the last snapshot, its facts with the `count` of requests in it; None before the first."""
        if not self.snapshot_path.is_file():
            return None
        facts, _, account = self.snapshot_path.read_bytes().partition(b"\n")
        return orjson.loads(facts), account

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, facts: dict[str, Any]) -> bool:
        """Read the requests of this session; False where the file is another session's."""
        text = self._path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            with self._path.open("r+b") as file:
                file.truncate(whole)
                os.fsync(file.fileno())
        lines = text[:whole].splitlines()
        for number, line in enumerate(lines, start=1):
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise BadInput(
                    f"{self._path}: line {number} is not JSON ({error}); fix the line, or move the file away together "
                    f"with {SNAPSHOT} to start with a new account"
                ) from error
            if number == 1:
                if entry != facts:
                    return False
            else:
                self.entries.append(entry)
        return bool(lines)

    def _rename_other(self) -> None:
        number = 1
        while (kept := self._path.with_suffix(f".{number}.jsonl")).exists():
            number += 1
        self._path.replace(kept)
        self.snapshot_path.unlink(missing_ok=True)

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(entry) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _sync_directory(path: Path) -> None:
    """Make a new file's name as durable as its contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
