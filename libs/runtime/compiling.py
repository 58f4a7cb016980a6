"""Compiling has a budget of its own: while numba compiles in this process, it counts as waiting, not as hung."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

COMPILING_BUDGET_S = 240.0


@contextmanager
def declared_compiling(waiting: Callable[[float], AbstractContextManager[None]]) -> Iterator[None]:
    """Enter `waiting(COMPILING_BUDGET_S)` around every compilation while the block lasts.

    A kernel is compiled at its first call where the compiled ones on disk are of an older source. A process that never
    loaded numba compiles nothing.
    """
    if "numba" not in sys.modules:
        yield
        return
    from numba.core import event

    class Declare(event.Listener):  # type: ignore[misc]
        """Kernels call kernels: only the outermost compilation counts."""

        def __init__(self) -> None:
            self._depth = 0
            self._entered: AbstractContextManager[None] | None = None

        def on_start(self, _event: event.Event) -> None:
            self._depth += 1
            if self._depth == 1:
                self._entered = waiting(COMPILING_BUDGET_S)
                self._entered.__enter__()

        def on_end(self, _event: event.Event) -> None:
            self._depth -= 1
            if self._depth == 0 and self._entered is not None:
                self._entered.__exit__(None, None, None)
                self._entered = None

    with event.install_listener("numba:compile", Declare()):
        yield
