"""Durations on the command line: a number and a unit."""

from __future__ import annotations

import re

from libs.runtime.errors import BadInput

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration_s(option: str, text: str) -> float:
    """Read ``90s``, ``30m``, ``2h`` or ``1d`` as seconds. Raises `BadInput` naming the option."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None or float(found[1]) <= 0:
        raise BadInput(f"{option} {text!r} is not a time above zero; write 60s, 30m, 2h or 1d")
    return float(found[1]) * _SECONDS[found[2]]
