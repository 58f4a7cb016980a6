"""The pure part of bars."""

from services.bars.core.core import BarsCore

__all__ = ["BarsCore"]
