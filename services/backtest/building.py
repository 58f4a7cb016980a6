"""Builds the services' cores from their own settings, with what the options of a run change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from libs.domain.bars import TIMEFRAMES
from libs.indicators.feature_set import FeatureSet
from libs.indicators.feature_sets import DEFAULT_FEATURE_SET, load_feature_set
from libs.runtime.errors import BadInput
from libs.runtime.handler import inputs_of
from libs.runtime.settings import load_settings
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import Stage
from services.bars.building import build_core as build_bars
from services.bars.core import BarsCore
from services.bars.inputs import INPUTS as BARS_INPUTS
from services.bars.settings import BarsSettings
from services.execution.building import build_core as build_execution
from services.execution.core import ExecutionCore
from services.execution.inputs import INPUTS as EXECUTION_INPUTS
from services.execution.settings import ExecutionSettings
from services.features.core import FeaturesCore
from services.features.inputs import INPUTS as FEATURES_INPUTS
from services.features.settings import FeaturesSettings
from services.inference.core import InferenceCore, ManifestError, ScoredModel
from services.inference.inputs import INPUTS as INFERENCE_INPUTS
from services.inference.onnx import load_models
from services.inference.settings import InferenceSettings
from services.risk.building import build_core as build_risk
from services.risk.core import RiskCore
from services.risk.inputs import INPUTS as RISK_INPUTS
from services.risk.settings import RiskSettings
from services.strategy.core import StrategyCore
from services.strategy.inputs import INPUTS as STRATEGY_INPUTS
from services.strategy.loading import build_strategy_core
from services.strategy.settings import StrategySettings

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class Stages:
    """The cores of a run, what they were built from, and what was left out and why."""

    stages: tuple[Stage, ...]
    bars: BarsCore
    strategy: StrategyCore
    risk: RiskCore
    execution: ExecutionCore
    execution_settings: ExecutionSettings
    parameters: dict[str, Any]
    notes: tuple[str, ...]


def build_stages(options: BacktestOptions, timeframe: str, *, is_simulated: bool = False) -> Stages:
    """Build what the run needs: features and models only where a strategy handles forecasts or digests are wanted.

    Where no model is named the simulated market has the starter, which was trained on it, and any other has none. On
    bars longer than the model's the run goes without forecasts. Raises `BadInput`.
    """
    instruments = {"instruments": (options.instrument,)}
    balance = options.starting_balance_usdt
    execution = _settings(
        ExecutionSettings,
        options,
        {**instruments, **({} if balance is None else {"starting_balance_usdt": balance})},
    )
    risk = _settings(RiskSettings, options, {**instruments, "account": execution.account})
    strategy = _strategy_settings(options, timeframe, execution.account)
    risk_core, execution_core = build_risk(risk), build_execution(execution)
    strategy_core = build_strategy_core(strategy)
    bars_core = build_bars(_settings(BarsSettings, options, {}))
    stages = [
        Stage("bars", bars_core, BARS_INPUTS),
        Stage("strategy", strategy_core, inputs_of(strategy_core, STRATEGY_INPUTS)),
        Stage("risk", risk_core, RISK_INPUTS),
        Stage("execution", execution_core, EXECUTION_INPUTS),
    ]
    notes: list[str] = []
    if options.digests or strategy_core.handles("on_forecast"):
        models = _load_models(options, timeframe, notes, is_simulated=is_simulated)
        stages.append(Stage("features", FeaturesCore(*_feature_sets(options, models, timeframe)), FEATURES_INPUTS))
        if models:
            stages.append(Stage("inference", InferenceCore(models), INFERENCE_INPUTS))
    parameters = {
        "strategies": [choice.model_dump(mode="json") for choice in strategy.strategies],
        "execution": execution.model_dump(mode="json", exclude=_NOT_OF_A_BACKTEST),
        "risk": risk.model_dump(mode="json", exclude={"halt", "kill_switch_file"}),
    }
    return Stages(
        tuple(stages), bars_core, strategy_core, risk_core, execution_core, execution, parameters, tuple(notes)
    )


_NOT_OF_A_BACKTEST = {"mode", "api_key", "api_secret", "rest_url", "stream_url", "venue_speed"}


def _strategy_settings(options: BacktestOptions, timeframe: str, account: str) -> StrategySettings:
    settings = load_settings(StrategySettings, options.environment)
    chosen = options.strategies or settings.strategies
    return _settings(
        StrategySettings,
        options,
        {"instruments": (options.instrument,), "account": account, "timeframe": timeframe, "strategies": chosen},
    )


def _feature_sets(options: BacktestOptions, models: Sequence[ScoredModel], timeframe: str) -> list[FeatureSet]:
    """Return the sets that the settings name, else those that the models read, else the default one."""
    settings = _settings(FeaturesSettings, options, {})
    if "feature_sets" in settings.model_fields_set:
        return settings.load()
    read = [(one.manifest.feature_set, one.manifest.timeframe) for one in models]
    return [load_feature_set(*one) for one in dict.fromkeys(read or [(DEFAULT_FEATURE_SET, timeframe)])]


def _load_models(
    options: BacktestOptions, timeframe: str, notes: list[str], *, is_simulated: bool
) -> list[ScoredModel]:
    overrides: dict[str, Any] = {"market": "simulated"} if is_simulated else {}
    if options.champion is not None:
        overrides["champion"] = options.champion
    if options.models_dir is not None:
        overrides["models_dir"] = options.models_dir
    settings = _settings(InferenceSettings, options, overrides)
    try:
        models = load_models(settings.models_dir, settings.champion_in_force, settings.shadows)
    except ManifestError as error:
        raise BadInput(str(error)) from error
    if not models:
        notes.append(
            "no model is named, so the run goes without forecasts: train one with perpflow train-models --input BARS "
            "and name it with --model NAME/VERSION"
        )
    for model in models:
        manifest = model.manifest
        if TIMEFRAMES[manifest.timeframe] < TIMEFRAMES[timeframe]:
            notes.append(
                f"model {manifest.model_id} reads {manifest.timeframe} bars and the input has {timeframe} bars: "
                "the run goes without forecasts; train a model on such bars and name it with --model"
            )
            return []
    return models


def _settings(kind: type[SettingsT], options: BacktestOptions, overrides: Mapping[str, Any]) -> SettingsT:
    read = load_settings(kind, options.environment)
    service = str(kind.model_config["env_prefix"]).split("_")[1].lower()
    given = {name: getattr(read, name) for name in kind.model_fields}
    try:
        return kind(**{**given, **options.settings.get(service, {}), **overrides})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()
        )
        raise BadInput(f"{kind.__name__}: {problems}") from error
