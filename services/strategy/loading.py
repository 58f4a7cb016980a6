"""Finds strategies by name or dotted path and builds them with their parameters."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from libs.domain.instruments import UnknownInstrument, find_instrument
from libs.runtime.errors import BadInput
from services.strategy.core import HANDLERS, HostedStrategy, Strategy, StrategyCore, handles
from services.strategy.core.ema_cross import EmaCross
from services.strategy.core.forecast_threshold import ForecastThreshold
from services.strategy.settings import StrategySettings

SHIPPED: Mapping[str, type[Strategy]] = {
    "ema_cross": EmaCross,
    "forecast_threshold": ForecastThreshold,
}


SHIPPED_COMPILED: Mapping[str, str] = {
    "compiled_ema_cross": "services.strategy.core.compiled_ema_cross:CompiledEmaCross"
}
"""Those that need numba, which nothing else of this service does."""


class StrategyError(BadInput):
    """A strategy cannot be hosted; the message names it, what is wrong and how to fix it."""


def build_strategy(path: str, parameters: Mapping[str, Any], timeframe: str = "") -> HostedStrategy:
    """Build a shipped strategy by name or one of the user's by ``package.module:Class``. Raises `StrategyError`.

    `timeframe` is that of a strategy whose parameters do not say one.
    """
    kind = find_strategy(path)
    values = dict(parameters)
    if timeframe and issubclass(kind, Strategy):
        values.setdefault("timeframe", timeframe)
    try:
        strategy: HostedStrategy = kind(**values)
    except (TypeError, ValueError) as error:
        raise StrategyError(f"strategy {path} does not take its parameters: {error}") from error
    except Exception as error:
        raise StrategyError(f"strategy {path} cannot be built: {_describe(error)}") from error
    missing = [name for name in ("name", "snapshot", "restore") if not hasattr(strategy, name)]
    if missing:
        raise StrategyError(f"strategy {path} lacks {', '.join(missing)}; derive it from services.strategy.Strategy")
    if not any(handles(strategy, handler) for handler in HANDLERS):
        raise StrategyError(f"strategy {path} handles nothing; give it one of {', '.join(HANDLERS)}")
    if handles(strategy, "on_timer") and not getattr(strategy, "timer_s", 0):
        raise StrategyError(f"strategy {path} has on_timer but no period; give it timer_s above 0")
    return strategy


def build_strategy_core(settings: StrategySettings, strategies: Iterable[HostedStrategy] = ()) -> StrategyCore:
    """Build the core with the strategies of the settings and any others given. Raises `StrategyError`."""
    hosted = [
        *(build_strategy(choice.path, choice.parameters, settings.timeframe) for choice in settings.strategies),
        *strategies,
    ]
    try:
        return StrategyCore(
            account=settings.account,
            strategies=hosted,
            instruments={name: find_instrument(name) for name in settings.instruments},
            timeframe=settings.timeframe,
            model=settings.model,
        )
    except (UnknownInstrument, ValueError) as error:
        raise StrategyError(str(error)) from error


def find_strategy(path: str) -> type[Any]:
    """Return the class of a shipped strategy or of one of the user's. Raises `StrategyError`."""
    return SHIPPED.get(path) or import_strategy(SHIPPED_COMPILED.get(path, path))


def import_strategy(path: str) -> type[Any]:
    """Import the class that ``package.module:Class`` names. Raises `StrategyError`."""
    module_name, _, class_name = path.partition(":")
    if not module_name or not class_name:
        shipped = ", ".join(sorted((*SHIPPED, *SHIPPED_COMPILED)))
        raise StrategyError(f"no strategy {path!r}; write package.module:Class or one of those shipped: {shipped}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise StrategyError(
            f"strategy {path}: cannot import {module_name} ({error}); is it installed or on PYTHONPATH?"
        ) from error
    except Exception as error:
        raise StrategyError(f"strategy {path}: {module_name} fails when it is imported: {_describe(error)}") from error
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        raise StrategyError(f"strategy {path}: module {module_name} has no class {class_name}")
    return kind


def _describe(error: Exception) -> str:
    """Say what went wrong and in which line of which file, without a traceback."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{place.filename}, line {place.lineno}: {type(error).__name__}: {error}"
