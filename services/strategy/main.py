"""Runs strategy as a service: bars, forecasts, verdicts, orders and accounts in, order intents out."""

from __future__ import annotations

from libs.runtime.service import CoreService
from services.strategy.inputs import INPUTS
from services.strategy.loading import build_strategy_core
from services.strategy.settings import StrategySettings

SERVICE = CoreService(
    name="strategy",
    inputs=INPUTS,
    settings_type=StrategySettings,
    build_core=build_strategy_core,
)


def main() -> int:
    """Run until asked to stop; return the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
