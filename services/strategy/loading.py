"""Finds strategies by name or dotted path and builds them with their parameters."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from libs.domain.instruments import UnknownInstrument, find_instrument
from libs.runtime.errors import BadInput
from services.strategy.core import Strategy, StrategyCore
from services.strategy.core.ema_cross import EmaCross
from services.strategy.core.forecast_threshold import ForecastThreshold
from services.strategy.settings import StrategySettings

SHIPPED: Mapping[str, type[Strategy]] = {"ema_cross": EmaCross, "forecast_threshold": ForecastThreshold}


class StrategyFault(BadInput):
    """A strategy cannot be hosted; the message names it, the fault and the mend."""


def build_strategy(path: str, parameters: Mapping[str, Any]) -> Strategy:
    """Build a shipped strategy by name or one of the user's by ``package.module:Class``. Raises `StrategyFault`."""
    kind = SHIPPED.get(path) or _import(path)
    try:
        strategy = kind(**parameters)
    except (TypeError, ValueError) as fault:
        raise StrategyFault(f"strategy {path} does not take its parameters: {fault}") from fault
    missing = [
        name
        for name in ("name", "on_bar", "on_forecast", "on_account", "snapshot", "restore")
        if not hasattr(strategy, name)
    ]
    if missing:
        raise StrategyFault(f"strategy {path} lacks {', '.join(missing)}; see services.strategy.Strategy")
    return strategy


def build_strategy_core(settings: StrategySettings, strategies: Iterable[Strategy] = ()) -> StrategyCore:
    """Build the core with the strategies of the settings and any others given. Raises `StrategyFault`."""
    hosted = [*(build_strategy(choice.path, choice.parameters) for choice in settings.strategies), *strategies]
    try:
        return StrategyCore(
            account=settings.account,
            strategies=hosted,
            instruments={name: find_instrument(name) for name in settings.instruments},
            timeframe=settings.timeframe,
        )
    except (UnknownInstrument, ValueError) as fault:
        raise StrategyFault(str(fault)) from fault


def _import(path: str) -> type[Strategy]:
    module_name, _, class_name = path.partition(":")
    if not module_name or not class_name:
        raise StrategyFault(
            f"no strategy {path!r}; write package.module:Class or one of those shipped: {', '.join(sorted(SHIPPED))}"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as fault:
        raise StrategyFault(
            f"strategy {path}: cannot import {module_name} ({fault}); is it installed or on PYTHONPATH?"
        ) from fault
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        raise StrategyFault(f"strategy {path}: module {module_name} has no class {class_name}")
    return kind
