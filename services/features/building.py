"""Builds the core of features from its settings."""

from __future__ import annotations

from libs.indicators.warm import compile_stream
from services.features.core import FeaturesCore
from services.features.settings import FeaturesSettings


def build_core(settings: FeaturesSettings) -> FeaturesCore:
    """Make the core that the settings describe, its indicators compiled: the first bar must not wait for that."""
    compile_stream()
    return FeaturesCore(*settings.load())
