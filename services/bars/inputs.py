"""What bars reads."""

from __future__ import annotations

from libs.runtime.handler import Input

INPUTS = (Input("market.events.v1"),)
