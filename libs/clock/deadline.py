"""One way to wait for something with a limit."""

from __future__ import annotations

import math
from collections.abc import Iterator

from libs.clock.clock import SYSTEM_CLOCK, Clock


class Deadline:
    """A moment some seconds from its making, by a clock that does not jump."""

    def __init__(self, seconds: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self.seconds = seconds
        self._clock = clock
        self._at = clock.monotonic_s() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, 0 once it has passed."""
        return max(0.0, self._at - self._clock.monotonic_s())

    @property
    def left_ms(self) -> int:
        """Milliseconds left, rounded up, 0 once it has passed."""
        return math.ceil(self.left_s * 1000)

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return self._clock.monotonic_s() >= self._at

    def attempts(self, every_s: float) -> Iterator[None]:
        """Yield at once, then every so often until it has passed, and once more after: the last look counts."""
        while True:
            is_last = self.is_over
            yield
            if is_last:
                return
            # A clock moves in whole ns: the last wait must not be too short to move it.
            self._clock.sleep(min(every_s, self.left_s + 1e-9))
