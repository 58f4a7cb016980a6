"""Waiting until every service has handled everything."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from libs.bus.api import Bus, BusLost, BusUnavailable
from libs.clock import SYSTEM_CLOCK, Clock, Deadline
from libs.runtime.lag import read_lags
from libs.runtime.placement import ONE_PARTITION, Placement
from libs.wire.topics import OUTBOX, OUTBOX_INPUTS, VENUE_CALLS, journal_topic

UNENDING = frozenset({VENUE_CALLS, OUTBOX_INPUTS, journal_topic(OUTBOX)})
"""What the outbox writes for as long as it runs, whatever the market does: talk with the venue, and its journal."""
GROUPS = ("bars", "features", "inference", "strategy", "risk", "execution", "recorder")
_QUIET_S = 0.4
_LOOK_EVERY_S = 0.1


def wait_until_drained(
    bus: Bus,
    groups: Sequence[str],
    watch: Callable[[], None],
    on_lags: Callable[[Mapping[str, int]], None],
    on_outage: Callable[[BusUnavailable], None],
    timeout_s: float,
    leaving_out: Collection[str] = (),
    placement: Placement = ONE_PARTITION,
    clock: Clock = SYSTEM_CLOCK,
) -> bool:
    """Wait until no group has anything left to read for a moment, but in `leaving_out`; False when it took too long.

    `watch` is called all the while, to keep the processes alive. While the bus does not answer it waits for it, and
    tells `on_outage` why; what is left to read is not known then. Raises `BusLost` where the bus will not come back.
    """
    quiet_since: float | None = None
    for _ in Deadline(timeout_s, clock).attempts(_LOOK_EVERY_S):
        watch()
        lags = _lags_or_outage(bus, groups, leaving_out, placement, on_outage)
        if lags is None:
            quiet_since = None
            continue
        on_lags(lags)
        now = clock.monotonic_s()
        if any(lags.values()):
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since >= _QUIET_S:
            return True
    return False


def _lags_or_outage(
    bus: Bus,
    groups: Sequence[str],
    leaving_out: Collection[str],
    placement: Placement,
    on_outage: Callable[[BusUnavailable], None],
) -> Mapping[str, int] | None:
    try:
        # First, for its answer comes soon: the others wait half a minute, in which nobody would watch the processes.
        bus.ping()
        return read_lags(bus, groups, leaving_out, placement)
    except BusLost:
        raise
    except BusUnavailable as error:
        on_outage(error)
        return None
