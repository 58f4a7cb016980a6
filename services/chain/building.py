"""Builds the cores of a chain, each from its own service's settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic_settings import BaseSettings

from libs.runtime.chain import ChainedCore
from libs.runtime.placement import Placement, Task
from libs.runtime.service import CoreService
from services.bars.building import build_core as build_bars
from services.bars.inputs import INPUTS as BARS_INPUTS
from services.bars.settings import BarsSettings
from services.execution.building import build_core as build_execution
from services.execution.inputs import INPUTS as EXECUTION_INPUTS
from services.execution.settings import ExecutionSettings
from services.features.building import build_core as build_features
from services.features.inputs import INPUTS as FEATURES_INPUTS
from services.features.settings import FeaturesSettings
from services.inference.building import build_core as build_inference
from services.inference.inputs import INPUTS as INFERENCE_INPUTS
from services.inference.settings import InferenceSettings
from services.inference.watching import COLLECTORS
from services.risk.building import build_core as build_risk
from services.risk.inputs import INPUTS as RISK_INPUTS
from services.risk.settings import RiskSettings
from services.strategy.inputs import INPUTS as STRATEGY_INPUTS
from services.strategy.loading import build_strategy_core
from services.strategy.settings import StrategySettings

SERVICES: dict[str, CoreService[Any]] = {
    service.name: service
    for service in (
        CoreService("bars", BARS_INPUTS, BarsSettings, build_bars),
        CoreService("features", FEATURES_INPUTS, FeaturesSettings, build_features),
        CoreService("inference", INFERENCE_INPUTS, InferenceSettings, build_inference, COLLECTORS),
        CoreService("strategy", STRATEGY_INPUTS, StrategySettings, build_strategy_core),
        CoreService("risk", RISK_INPUTS, RiskSettings, build_risk),
        CoreService("execution", EXECUTION_INPUTS, ExecutionSettings, build_execution),
    )
}
"""What a chain is made of."""


def load_task_settings(placement: Placement, task: Task) -> BaseSettings:
    """Return the settings of a task, as the service of that name reads them."""
    settings: BaseSettings = SERVICES[task.service].load_settings(placement, task)
    return settings


def build_cores(placement: Placement, tasks: Iterable[Task]) -> list[ChainedCore]:
    """Build the core of each task. Raises `BadInput` where its service would."""
    return [
        ChainedCore(task, service.build_core(load_task_settings(placement, task)), service.inputs)
        for task in tasks
        for service in [SERVICES[task.service]]
    ]
