"""What inference reads."""

from __future__ import annotations

from libs.runtime.handler import Input

INPUTS = (Input("control.commands.v1"), Input("features.vectors.v1"))
