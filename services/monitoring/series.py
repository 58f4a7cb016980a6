"""Bounded series for charts that can tell a reader what is new since it last asked. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Point: TypeAlias = tuple[int | float, ...]
"""A time in ms since epoch UTC, then numbers to draw."""


class ChartSeries:
    """Points in time order, at most `limit` of them, the oldest dropped first.

    `generation` changes whenever anything but an append happened; a reader that holds another generation gets
    all points again. Dropping the oldest is no change: readers keep the same limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.generation = 0
        self._points: list[Point] = []
        self._appended = 0

    def __len__(self) -> int:
        return len(self._points)

    @property
    def points(self) -> Sequence[Point]:
        """All points, the oldest first."""
        return self._points

    @property
    def appended(self) -> int:
        """How many points were ever appended; the cursor for `since`."""
        return self._appended

    def put(self, point: Point) -> bool:
        """Append a point, or correct or insert an earlier one by its time; return whether anything changed."""
        points = self._points
        if not points or point[0] > points[-1][0]:
            points.append(point)
            self._appended += 1
            if len(points) > self.limit:
                del points[0]
            return True
        at = next(index for index in range(len(points) - 1, -2, -1) if index < 0 or points[index][0] <= point[0])
        if at >= 0 and points[at][0] == point[0]:
            if points[at] == point:
                return False
            points[at] = point
        elif at < 0 and len(points) >= self.limit:
            return False
        else:
            points.insert(at + 1, point)
            del points[: max(0, len(points) - self.limit)]
        self.generation += 1
        return True

    def since(self, generation: int, appended: int) -> Sequence[Point] | None:
        """Return the points appended since, or None when the reader must take all of them."""
        missing = self._appended - appended
        if generation != self.generation or missing < 0 or missing > len(self._points):
            return None
        return self._points[len(self._points) - missing :] if missing else ()


class ThinningChartSeries(ChartSeries):
    """A series over unbounded time: when full, every second point goes and the least distance in time doubles."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._least_gap_ms: int | float = 0

    def put(self, point: Point) -> bool:
        """Append a point unless it is nearer to the last one than the resolution reached so far."""
        points = self._points
        if points and point[0] < points[-1][0] + max(1, self._least_gap_ms):
            return False
        points.append(point)
        self._appended += 1
        if len(points) > self.limit:
            self._points = points[::2]
            span = self._points[-1][0] - self._points[0][0]
            self._least_gap_ms = span / len(self._points)
            self.generation += 1
        return True
