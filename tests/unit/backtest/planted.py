"""Strategies with planted mistakes, each of one kind."""

from __future__ import annotations

import importlib
import random
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import ClassVar

import numpy as np

from libs.domain.bars import Bar
from services.strategy import AccountView, Strategy, TargetPosition, state


def turn(bar: Bar, side: int) -> Sequence[TargetPosition]:
    return (TargetPosition(bar.instrument, Decimal(300) * side, "planted"),)


class KnowsTheFuture(Strategy):
    """Remembers every close in the class, so that the next run knows what comes."""

    closes: ClassVar[dict[int, int]] = {}

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        self.closes[bar.close_time] = bar.close_e8
        following = self.closes.get(bar.close_time + bar.close_time - bar.open_time, bar.close_e8)
        return turn(bar, 1 if following > bar.close_e8 else -1)


class Forgets(Strategy):
    """Counts bars in something that is not declared as state."""

    def start(self) -> None:
        self.counts = {"bars": 0}

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        self.counts["bars"] += 1
        return turn(bar, 1 if self.counts["bars"] // 5 % 2 else -1)


class LooksAtTheClock(Strategy):
    """Turns by the wall clock's day."""

    bars: int = state(0)

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        self.bars += 1
        return turn(bar, 1 if (time.time() // 86_400 + self.bars // 3) % 2 else -1)


class Gambles(Strategy):
    """Turns by chance."""

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        return turn(bar, 1 if random.random() > 0.5 else -1)


class ReadsAFile(Strategy):
    """Looks something up in a file."""

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        return turn(bar, len(Path("/etc/hostname").read_text()) % 2 * 2 - 1)


class Assigns(Strategy):
    """Assigns what it has not declared."""

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        self.last_close = bar.close_e8
        return ()


class ReadsInCompiledCode(Strategy):
    """Reads a file in a way that no audit hook hears of."""

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        return turn(bar, int(np.fromfile("/etc/hostname", np.uint8)[0]) % 2 * 2 - 1)


class ImportsLate(Strategy):
    """Imports a module when it is first called, which opens that module's file."""

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        sys.modules.pop("this", None)
        with redirect_stdout(StringIO()):
            importlib.import_module("this")
        return turn(bar, 1)
