"""Builds the core of bars from its settings."""

from __future__ import annotations

from services.bars.core import BarsCore
from services.bars.settings import BarsSettings


def build_core(settings: BarsSettings) -> BarsCore:
    """Make the core that the settings describe."""
    return BarsCore(settings.timeframes, settings.instruments, grace_ms=settings.grace_ms)
