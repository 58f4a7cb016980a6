"""The dead-man switch at the venue: a countdown that cancels open orders, wound up only while everything is healthy.

Nobody has to be alive for it to act: whoever would wind it up is dead, hung, halted or in doubt, and the venue cancels.
Protective stops rest in another book at the venue and stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from libs.venues.api import TradingVenue
from libs.venues.errors import VenueError

WINDINGS_PER_COUNTDOWN = 6


class DeadManSwitch:
    """Winds the countdown of each instrument six times before it would run out.

    `find_faults` returns why it must not be wound, one phrase each; it is asked before every winding. Times are ns of
    the venue's clock.
    """

    def __init__(
        self,
        venue: TradingVenue,
        instruments: Sequence[str],
        countdown_ns: int,
        find_faults: Callable[[], Sequence[str]],
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._venue = venue
        self._instruments = instruments
        self._countdown_ns = countdown_ns
        self._find_faults = find_faults
        self._logger = logger
        self._next_look = 0
        self._runs_out_at = 0
        self._faults: tuple[str, ...] = ()

    def has_run_out(self, now: int) -> bool:
        """Whether the venue may have cancelled by now, also where the countdown was never wound."""
        return 0 < self._runs_out_at <= now

    @property
    def faults(self) -> tuple[str, ...]:
        """Why it was not wound at the last look, empty where it was."""
        return self._faults

    def step(self, now: int) -> None:
        """Look after it if that is due."""
        interval = self._countdown_ns // WINDINGS_PER_COUNTDOWN
        if 0 < self._next_look - now <= interval:
            # Further ahead than that only a clock put back can leave it.
            return
        self._next_look = now + interval
        self._runs_out_at = self._runs_out_at or now + self._countdown_ns
        before = self._faults
        self._faults = tuple(self._find_faults()) or self._wind(now)
        if self._faults and self._faults != before:
            self._logger.warning("dead-man switch not wound", reason="; ".join(self._faults))
        elif before and not self._faults:
            self._logger.info("dead-man switch wound again")

    def _wind(self, now: int) -> tuple[str, ...]:
        try:
            for instrument in self._instruments:
                self._venue.set_cancel_countdown(instrument, self._countdown_ns // 10**6)
        except VenueError as error:
            return (f"the venue did not take it: {error}",)
        self._runs_out_at = now + self._countdown_ns
        return ()
