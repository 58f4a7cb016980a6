"""The engine for one instrument, bar by bar: memory, the row and vector buffers, and the clock of each timeframe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from libs.domain.bars import Bar
from libs.domain.state import ArrayOf
from libs.indicators.arrays import Row, Values
from libs.indicators.columns import ROW_WIDTH
from libs.indicators.engine import advance
from libs.indicators.feature_set import FeatureSetError
from libs.indicators.program import Program
from libs.indicators.rows import BarError, bar_row, check_bar


@dataclass(frozen=True, slots=True)
class FeatureStreamState:
    """The close time (ns) of each timeframe's last bar, and the program's memory."""

    closed: tuple[int, ...]
    memory: Annotated[Values, ArrayOf("<f8")]


class FeatureStream:
    """Feeds bars of all timeframes to a program and reads the latest vector.

    Restoring what `state` returned and going on gives the same bits as never having stopped.
    """

    __slots__ = ("_closed", "_index", "_latest", "_memory", "_out", "_program", "_row", "known_count")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._index = {name: number for number, name in enumerate(program.timeframes)}
        self._memory = program.memory.copy()
        self._row = np.empty(ROW_WIDTH)
        self._out = np.full(len(program.feature_set), np.nan)
        self._closed = [0] * len(program.timeframes)
        self._latest = 0
        self.known_count = 0

    def take(self, bar: Bar) -> bool:
        """Advance by a bar; True when it was a new bar of the base timeframe, whose vector may now be read.

        A bar that was seen before, or of a timeframe the set does not use, changes nothing. BarError, raised before
        anything changes, for a bar that no market prints and for one that would let a vector see the future.
        """
        number = self._index.get(bar.timeframe)
        if number is None or bar.close_time <= self._closed[number]:
            return False
        check_bar(bar)
        if number == 0 and bar.close_time < self._latest:
            later = self._program.timeframes[self._closed.index(self._latest)]
            raise BarError(
                f"{bar.event_id}: a {later} bar that closes later was taken before it, so its vector would know the"
                f" future; feed bars in order of close time"
            )
        self.take_row(bar_row(bar, self._row), bar.timeframe)
        self._closed[number] = bar.close_time
        self._latest = max(self._latest, bar.close_time)
        return number == 0

    def take_row(self, row: Row, timeframe: str) -> None:
        """Advance by a row of shape (ROW_WIDTH,) that is known to be good; KeyError for a timeframe not in the set."""
        self.known_count = advance(self._program.code, self._memory, row, self._index[timeframe], self._out)

    @property
    def values(self) -> Values:
        """The latest vector, shape (features,); overwritten by the next bar."""
        return self._out

    def state(self) -> FeatureStreamState:
        """Return what is kept: it is this stream's own memory, not a copy."""
        return FeatureStreamState(tuple(self._closed), self._memory)

    def restore(self, state: FeatureStreamState) -> None:
        """Take over what was kept; FeatureSetError where its size is not this program's."""
        kept, needed = (len(state.closed), state.memory.shape), (len(self._closed), self._memory.shape)
        if kept != needed:
            raise FeatureSetError(
                f"a kept state of {kept[0]} timeframes and {kept[1][0]} numbers does not fit"
                f" {self._program.feature_set.name}, which takes {needed[0]} and {needed[1][0]}; delete the snapshot"
                " and let history warm the features up"
            )
        self._closed = list(state.closed)
        self._latest = max(self._closed)
        self._memory[:] = state.memory
