"""One way to wait for something with a limit: on the monotonic clock, which does not jump."""

from __future__ import annotations

import time
from collections.abc import Iterator


class Deadline:
    """A moment some seconds from its making."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, 0 once it has passed."""
        return max(0.0, self._at - time.monotonic())

    @property
    def left_ms(self) -> int:
        """Milliseconds left, rounded up, 0 once it has passed."""
        return -int(-self.left_s * 1000 // 1)

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self._at

    def attempts(self, every_s: float) -> Iterator[None]:
        """Yield at once, then every so often until it has passed, and once more after: the last look counts."""
        while True:
            is_last = self.is_over
            yield
            if is_last:
                return
            time.sleep(min(every_s, self.left_s))
