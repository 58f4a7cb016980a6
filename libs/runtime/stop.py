"""SIGTERM and SIGINT ask a process to finish what it has in hand and stop; its supervisor's death ends it at once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

SUPERVISOR_VARIABLE = "PERPFLOW_SUPERVISOR_PID"
_PR_SET_PDEATHSIG = 1


def die_with_supervisor(environment: Mapping[str, str]) -> None:
    """Have the kernel kill this process when the supervisor that started it dies, however it dies (Linux).

    Killed, not asked to stop: nothing is lost by it, and a process that hangs or drains would not heed the question.
    """
    supervisor = environment.get(SUPERVISOR_VARIABLE)
    if supervisor is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(supervisor):
        # It died before this call.
        os.kill(os.getpid(), signal.SIGKILL)


class StopRequested(BaseException):
    """Raised inside `StopSignal.interrupting` when the process is asked to stop."""


class StopSignal:
    """Becomes true once the process was asked to stop."""

    def __init__(self) -> None:
        self._asked = False
        self._interrupts = False

    def install(self) -> StopSignal:
        """Listen for SIGTERM and SIGINT in the main thread."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        return self

    def ask(self) -> None:
        """Ask from inside the process."""
        self._asked = True

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Break off what is done inside, which must have no effects yet, with `StopRequested`."""
        if self._asked:
            raise StopRequested
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    def __bool__(self) -> bool:
        return self._asked

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._interrupts:
            self._interrupts = False
            raise StopRequested
