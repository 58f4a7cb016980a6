"""Waiting until every service has handled everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from libs.bus.api import Bus
from libs.runtime.lag import read_lags

GROUPS = ("bars", "features", "inference", "strategy", "risk", "execution", "recorder")
_QUIET_S = 0.4


def wait_until_drained(
    bus: Bus,
    groups: Sequence[str],
    watch: Callable[[], None],
    on_lags: Callable[[Mapping[str, int]], None],
    timeout_s: float,
) -> bool:
    """Wait until no group has anything left to read for a moment; False when it took too long.

    `watch` is called all the while, to keep the processes alive.
    """
    deadline = time.monotonic() + timeout_s
    quiet_since: float | None = None
    while time.monotonic() < deadline:
        watch()
        lags = read_lags(bus, groups)
        on_lags(lags)
        now = time.monotonic()
        if any(lags.values()):
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since >= _QUIET_S:
            return True
        time.sleep(0.1)
    return False
