"""The engine for one instrument, bar by bar: memory, the row and vector buffers, and the clock of each timeframe."""

from __future__ import annotations

import numpy as np

from libs.domain.bars import Bar
from libs.indicators.arrays import Row, Values
from libs.indicators.columns import ROW_WIDTH
from libs.indicators.engine import advance
from libs.indicators.feature_set import FeatureSetError
from libs.indicators.program import Program
from libs.indicators.rows import BarFault, bar_row, check_bar


class FeatureStream:
    """Feeds bars of all timeframes to a program and reads the latest vector.

    `snapshot` is the memory's bytes with the close time of each timeframe before them; restoring it and going on gives
    the same bits as never having stopped.
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

        A bar that was seen before, or of a timeframe the set does not use, changes nothing. BarFault, raised before
        anything changes, for a bar that no market prints and for one that would let a vector see the future.
        """
        number = self._index.get(bar.timeframe)
        if number is None or bar.close_time <= self._closed[number]:
            return False
        check_bar(bar)
        if number == 0 and bar.close_time < self._latest:
            later = self._program.timeframes[self._closed.index(self._latest)]
            raise BarFault(
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

    def snapshot(self) -> bytes:
        """The whole state as bytes."""
        return np.array(self._closed, dtype="<i8").tobytes() + self._memory.astype("<f8").tobytes()

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; FeatureSetError where its size is not this program's."""
        clocks = 8 * len(self._closed)
        if len(state) != clocks + self._memory.nbytes:
            raise FeatureSetError(
                f"a snapshot of {len(state)} bytes does not fit {self._program.feature_set.name}, whose state takes"
                f" {clocks + self._memory.nbytes}; delete the snapshot and let history warm the features up"
            )
        self._closed = np.frombuffer(state[:clocks], dtype="<i8").tolist()
        self._latest = max(self._closed)
        self._memory[:] = np.frombuffer(state[clocks:], dtype="<f8")
