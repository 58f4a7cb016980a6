"""The services of a simulation: the cores that run in production, built from settings that let a small market trade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from libs.runtime.metrics import ServiceMetrics
from services.bars.building import build_core as build_bars
from services.bars.inputs import INPUTS as BARS_INPUTS
from services.bars.settings import BarsSettings
from services.execution.building import build_core as build_execution
from services.execution.inputs import INPUTS as EXECUTION_INPUTS
from services.execution.settings import ExecutionSettings
from services.risk.building import build_core as build_risk
from services.risk.core.limits import RiskLimits
from services.risk.inputs import INPUTS as RISK_INPUTS
from services.risk.settings import RiskSettings
from services.simulation.market import INSTRUMENTS
from services.simulation.world import SimulatedService
from services.strategy.inputs import INPUTS as STRATEGY_INPUTS
from services.strategy.loading import build_strategy_core
from services.strategy.settings import StrategyChoice, StrategySettings

# The scheduler may leave a service behind by the whole market: what is old by the market's clock must still trade.
_AGES_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Platform:
    """What every session of a run shares: services, limits, the balance it starts with, metrics nobody reads."""

    services: Sequence[SimulatedService]
    limits: RiskLimits
    starting_balance_usdt: Decimal
    metrics: dict[str, ServiceMetrics]


def build_platform() -> Platform:
    """Build the services once; each instance in a session gets a fresh core."""
    bars_settings = BarsSettings(timeframes=("1m", "5m"))
    strategy_settings = StrategySettings(
        instruments=INSTRUMENTS,
        strategies=(
            StrategyChoice(path="ema_cross", parameters={"fast_bars": 1, "slow_bars": 2, "notional_usdt": "500"}),
        ),
    )
    risk_settings = RiskSettings(
        instruments=INSTRUMENTS,
        max_intent_age_ms=_AGES_MS,
        max_market_data_age_ms=_AGES_MS,
        max_clock_skew_ms=_AGES_MS,
        max_consecutive_losses=1_000,
    )
    execution_settings = ExecutionSettings(instruments=INSTRUMENTS)
    services = (
        SimulatedService("bars", BARS_INPUTS, partial(build_bars, bars_settings)),
        SimulatedService("strategy", STRATEGY_INPUTS, partial(build_strategy_core, strategy_settings)),
        SimulatedService("risk", RISK_INPUTS, partial(build_risk, risk_settings)),
        SimulatedService("execution", EXECUTION_INPUTS, partial(build_execution, execution_settings)),
    )
    return Platform(
        services=services,
        limits=risk_settings.limits(),
        starting_balance_usdt=execution_settings.starting_balance_usdt,
        metrics={service.name: ServiceMetrics(service.name) for service in services},
    )
