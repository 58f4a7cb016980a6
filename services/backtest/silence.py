"""Asks the strategies of a recorded session why they asked for nothing, from the state that they had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from libs.domain.bars import Bar
from libs.domain.forecasts import Forecast
from libs.runtime.configuration import Configuration
from libs.runtime.settings import load_settings
from services.strategy.loading import build_strategy
from services.strategy.settings import StrategySettings


def read_timeframe(environment: Mapping[str, str]) -> str:
    """Return the timeframe on which a session's strategies decide. Raises `BadInput`."""
    return load_settings(StrategySettings, Configuration(environment)).timeframe


def explain_strategies(
    environment: Mapping[str, str], states: Mapping[str, Any], bar: Bar, forecast: Forecast | None
) -> Iterator[str]:
    """Yield what each strategy of a session says of a bar and the forecast before it, given its kept state.

    Raises `BadInput` where one cannot be built any more.
    """
    settings = load_settings(StrategySettings, Configuration(environment))
    for choice in settings.strategies:
        strategy = build_strategy(choice.path, choice.parameters, settings.timeframe)
        if strategy.name not in states:
            continue
        strategy.restore(states[strategy.name])
        explain = getattr(strategy, "explain", None)
        if explain is None:
            yield f"{strategy.name} gives no reason (it has no method explain); its state is {states[strategy.name]}"
        elif text := explain(bar, forecast):
            yield f"{strategy.name}: {text}"
