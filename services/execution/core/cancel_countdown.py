"""The dead-man switch: the venue's countdown that cancels open orders, re-armed only while everything is healthy. Pure.

No process has to be alive for it to act: the one that would re-arm it is dead, hung, halted or in doubt, and the venue
cancels.
Protective stops rest apart from ordinary orders at the venue and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SETTINGS_PER_COUNTDOWN = 6


@dataclass(slots=True)
class CancelCountdown:
    """When the countdown must be set again and when it runs out, in ns of the venue's clock.

    It is looked after six times before it would run out. `errors` say why it was not set at the last time; `is_alerted`
    when it was said that it ran out.
    """

    next_time: int = 0
    runs_out_at: int = 0
    errors: tuple[str, ...] = ()
    is_alerted: bool = False

    def is_due(self, now: int, countdown_ns: int) -> bool:
        """Whether it must be looked after. Further ahead than an interval only a clock put back can leave it."""
        return not 0 < self.next_time - now <= countdown_ns // SETTINGS_PER_COUNTDOWN

    def look_after(self, now: int, countdown_ns: int, errors: Sequence[str]) -> bool:
        """Note the errors found, and return whether there are none, so that the countdown may be set again."""
        self.next_time = now + countdown_ns // SETTINGS_PER_COUNTDOWN
        self.runs_out_at = self.runs_out_at or now + countdown_ns
        self.errors = tuple(errors)
        return not errors

    def has_run_out(self, now: int) -> bool:
        """Whether the venue may have cancelled by now, also where the countdown was never set."""
        return 0 < self.runs_out_at <= now
