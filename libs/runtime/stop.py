"""SIGTERM and SIGINT ask a process to finish what it has in hand and stop."""

from __future__ import annotations

import signal
from types import FrameType


class StopSignal:
    """Becomes true once the process was asked to stop."""

    def __init__(self) -> None:
        self._asked = False

    def install(self) -> StopSignal:
        """Listen for SIGTERM and SIGINT in the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        return self

    def ask(self) -> None:
        """Ask from inside the process."""
        self._asked = True

    def __bool__(self) -> bool:
        return self._asked

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
