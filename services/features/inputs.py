"""What features reads."""

from __future__ import annotations

from libs.runtime.handler import Input

INPUTS = (Input("bars.closed.v1"),)
