"""The services of a simulation: the cores that run in production, built from settings that let a small market trade."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

import orjson

from libs.runtime.settings import load_settings
from services.bars.building import build_core as build_bars
from services.bars.inputs import INPUTS as BARS_INPUTS
from services.bars.settings import BarsSettings
from services.execution.building import build_core as build_execution
from services.execution.core.outbox import OutboxCore
from services.execution.inputs import INPUTS as EXECUTION_INPUTS
from services.execution.settings import ExecutionSettings
from services.features.building import build_core as build_features
from services.features.inputs import INPUTS as FEATURES_INPUTS
from services.features.settings import FeaturesSettings
from services.inference.inputs import INPUTS as INFERENCE_INPUTS
from services.recorder.settings import RecorderSettings
from services.risk.building import build_core as build_risk
from services.risk.core.limits import RiskLimits
from services.risk.inputs import INPUTS as RISK_INPUTS
from services.risk.settings import RiskSettings
from services.simulation.exchange import OUTBOX_ACCESS, TERMS
from services.simulation.market import INSTRUMENTS
from services.simulation.models import FEATURE_SET, build_inference
from services.simulation.world import SimulatedService
from services.strategy.inputs import INPUTS as STRATEGY_INPUTS
from services.strategy.loading import build_strategy_core
from services.strategy.settings import StrategySettings

# The scheduler may leave a service behind by the whole market: what is old by the market's clock must still trade.
_AGES_MS = "86400000"


@dataclass(frozen=True, slots=True)
class Platform:
    """What sessions share: services, limits, the balance they start with, and, where orders go to a venue, its outbox.

    `outbox` makes its core, `None` where trading is on paper.
    """

    services: Sequence[SimulatedService]
    account: str
    instruments: Sequence[str]
    limits: RiskLimits
    starting_balance_usdt: Decimal
    recorder_settings: RecorderSettings
    outbox: Callable[[], OutboxCore] | None = None


def build_platform(*, at_venue: bool, has_model: bool) -> Platform:
    """Build the services once; each instance in a session gets a fresh core. The venue lists one instrument alone.

    With a model, features and inference run too, and a strategy trades the forecasts.
    """
    # Given in full as an environment, so that that of the simulating process changes nothing.
    traded = OUTBOX_ACCESS.instruments if at_venue else INSTRUMENTS
    instruments = orjson.dumps(traded).decode()
    strategies = [
        {"path": "ema_cross", "parameters": {"fast_bars": 1, "slow_bars": 2, "notional_usdt": "500"}},
        *([{"path": "forecast_threshold", "parameters": {"notional_usdt": "300"}}] if has_model else []),
    ]
    bars_settings = load_settings(BarsSettings, {"PERPFLOW_BARS_TIMEFRAMES": '["1m", "5m"]'})
    features_settings = load_settings(FeaturesSettings, {"PERPFLOW_FEATURES_FEATURE_SETS": f'["{FEATURE_SET}/1m"]'})
    strategy_settings = load_settings(
        StrategySettings,
        {
            "PERPFLOW_STRATEGY_INSTRUMENTS": instruments,
            "PERPFLOW_STRATEGY_STRATEGIES": orjson.dumps(strategies).decode(),
        },
    )
    risk_settings = load_settings(
        RiskSettings,
        {
            "PERPFLOW_RISK_INSTRUMENTS": instruments,
            "PERPFLOW_RISK_MAX_INTENT_AGE_MS": _AGES_MS,
            "PERPFLOW_RISK_MAX_MARKET_DATA_AGE_MS": _AGES_MS,
            "PERPFLOW_RISK_MAX_CLOCK_SKEW_MS": _AGES_MS,
            "PERPFLOW_RISK_MAX_CONSECUTIVE_LOSSES": "1000",
        },
    )
    execution_settings = load_settings(
        ExecutionSettings,
        {
            "PERPFLOW_EXECUTION_INSTRUMENTS": instruments,
            "PERPFLOW_EXECUTION_MODE": "testnet" if at_venue else "paper",
            "PERPFLOW_EXECUTION_LEVERAGE": str(OUTBOX_ACCESS.leverage),
            # A small market has few events a minute: not every one is to make an account state.
            "PERPFLOW_EXECUTION_ACCOUNT_INTERVAL_S": "30",
        },
    )
    recorder_settings = load_settings(
        RecorderSettings,
        {
            "PERPFLOW_RECORDER_BATCH_ROWS": "200",
            "PERPFLOW_RECORDER_POLL_MAX_RECORDS": "100",
            "PERPFLOW_RECORDER_MAX_BUFFERED_ROWS": "400",
            "PERPFLOW_RECORDER_RETRY_MAX_MS": "2000",
        },
    )
    modelled = (
        SimulatedService("features", FEATURES_INPUTS, partial(build_features, features_settings)),
        SimulatedService("inference", INFERENCE_INPUTS, build_inference),
    )
    services = (
        SimulatedService("bars", BARS_INPUTS, partial(build_bars, bars_settings)),
        *(modelled if has_model else ()),
        SimulatedService("strategy", STRATEGY_INPUTS, partial(build_strategy_core, strategy_settings)),
        SimulatedService("risk", RISK_INPUTS, partial(build_risk, risk_settings)),
        SimulatedService("execution", EXECUTION_INPUTS, partial(build_execution, execution_settings)),
    )
    return Platform(
        services=services,
        account=execution_settings.account,
        instruments=traded,
        limits=risk_settings.limits(),
        starting_balance_usdt=execution_settings.starting_balance_usdt,
        recorder_settings=recorder_settings,
        outbox=partial(OutboxCore, execution_settings.account, TERMS) if at_venue else None,
    )
