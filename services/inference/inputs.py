"""What inference reads."""

from __future__ import annotations

from libs.runtime.handler import Input

INPUTS = (Input("features.vectors.v1"),)
