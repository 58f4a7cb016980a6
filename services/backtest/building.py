"""Builds the services' cores from their own settings, with what the options of a run change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from libs.domain.bars import TIMEFRAMES
from libs.domain.validation import place_of
from libs.indicators.feature_set import FeatureSet
from libs.indicators.feature_sets import DEFAULT_FEATURE_SET, load_feature_set
from libs.runtime.configuration import read_configuration
from libs.runtime.errors import BadInput
from libs.runtime.handler import inputs_of
from libs.runtime.settings import load_settings
from services.backtest.options import AccountChoice, BacktestOptions
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
class AccountStages:
    """The cores of one account and what they were built from."""

    account: str
    instruments: tuple[str, ...]
    strategy: StrategyCore
    risk: RiskCore
    execution: ExecutionCore
    execution_settings: ExecutionSettings
    parameters: dict[str, Any]

    def stages(self, *, is_alone: bool) -> tuple[Stage, ...]:
        """Return them as stages; unless it is alone an account is given only what concerns it."""
        account, traded = ("", frozenset[str]()) if is_alone else (self.account, frozenset(self.instruments))
        return (
            Stage("strategy", self.strategy, inputs_of(self.strategy, STRATEGY_INPUTS), account, traded),
            Stage("risk", self.risk, RISK_INPUTS, account, traded),
            Stage("execution", self.execution, EXECUTION_INPUTS, account, traded),
        )


@dataclass(frozen=True, slots=True)
class Stages:
    """The cores of a run, those of each account, and what was left out and why."""

    stages: tuple[Stage, ...]
    bars: BarsCore
    accounts: tuple[AccountStages, ...]
    notes: tuple[str, ...]


def build_stages(options: BacktestOptions, timeframe: str, *, is_simulated: bool = False) -> Stages:
    """Build what the run needs: features and models only where a strategy handles forecasts or digests are wanted.

    Where no model is named the simulated market has the starter, which was trained on it, and any other has none. On
    bars longer than the model's the run goes without forecasts. Raises `BadInput`.
    """
    accounts = tuple(
        _build_account(options, timeframe, choice)
        for choice in options.accounts or (AccountChoice("", options.instruments),)
    )
    bars_core = build_bars(_settings(BarsSettings, options, {}))
    stages = [
        Stage("bars", bars_core, BARS_INPUTS),
        *(stage for account in accounts for stage in account.stages(is_alone=not options.accounts)),
    ]
    notes: list[str] = []
    if options.digests or any(account.strategy.handles("on_forecast") for account in accounts):
        models = _load_models(options, timeframe, notes, is_simulated=is_simulated)
        stages.append(Stage("features", FeaturesCore(*_feature_sets(options, models, timeframe)), FEATURES_INPUTS))
        if models:
            stages.append(Stage("inference", InferenceCore(models), INFERENCE_INPUTS))
    return Stages(tuple(stages), bars_core, accounts, tuple(notes))


def _build_account(options: BacktestOptions, timeframe: str, choice: AccountChoice) -> AccountStages:
    if choice.variables:
        given = read_configuration().variables if options.environment is None else options.environment
        options = replace(options, environment={**given, **choice.variables})
    balance = options.starting_balance_usdt
    named = {"account": choice.name} if choice.name else {}
    execution = _settings(
        ExecutionSettings,
        options,
        {
            "instruments": choice.instruments,
            **named,
            **({} if balance is None else {"starting_balance_usdt": balance}),
        },
    )
    risk = _settings(RiskSettings, options, {"instruments": choice.instruments, "account": execution.account})
    strategy = _strategy_settings(options, timeframe, execution.account, choice.instruments)
    parameters = {
        "strategies": [chosen.model_dump(mode="json") for chosen in strategy.strategies],
        "execution": execution.model_dump(mode="json", exclude=_NOT_OF_A_BACKTEST),
        "risk": risk.model_dump(mode="json", exclude={"halt", "kill_switch_file"}),
    }
    return AccountStages(
        execution.account,
        choice.instruments,
        build_strategy_core(strategy),
        build_risk(risk),
        build_execution(execution),
        execution,
        parameters,
    )


_NOT_OF_A_BACKTEST = {"mode", "api_key", "api_secret", "rest_url", "stream_url", "venue_speed"}


def _strategy_settings(
    options: BacktestOptions, timeframe: str, account: str, instruments: tuple[str, ...]
) -> StrategySettings:
    settings = load_settings(StrategySettings, options.environment)
    chosen = options.strategies or settings.strategies
    return _settings(
        StrategySettings,
        options,
        {"instruments": instruments, "account": account, "timeframe": timeframe, "strategies": chosen},
    )


def _feature_sets(options: BacktestOptions, models: Sequence[ScoredModel], timeframe: str) -> list[FeatureSet]:
    """Return the sets that the settings name, else those that the models read, else the default one."""
    named = load_settings(FeaturesSettings, options.environment).model_fields_set
    if "feature_sets" in named or "feature_sets" in options.settings.get("features", {}):
        return _settings(FeaturesSettings, options, {}).load()
    read = [(one.manifest.feature_set, one.manifest.timeframe) for one in models]
    return [load_feature_set(*one) for one in dict.fromkeys(read or [(DEFAULT_FEATURE_SET, timeframe)])]


def _load_models(
    options: BacktestOptions, timeframe: str, notes: list[str], *, is_simulated: bool
) -> list[ScoredModel]:
    overrides: dict[str, Any] = {"market": "simulated"} if is_simulated else {}
    if options.champion is not None:
        overrides["champion"] = options.champion
    if options.shadows is not None:
        overrides["shadows"] = options.shadows
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
        problems = "; ".join(f"{place_of(problem['loc'])}: {problem['msg']}" for problem in error.errors())
        raise BadInput(f"{kind.__name__}: {problems}") from error
