"""What a backtest is asked to do, and how its options are read from text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import orjson

from libs.runtime.errors import BadInput
from services.strategy.settings import StrategyChoice

CONFIGURED_SERVICES = ("bars", "features", "inference", "strategy", "risk", "execution")


@dataclass(frozen=True, slots=True)
class AccountChoice:
    """An account of a run: what it trades, and variables of strategy, risk and execution that it alone has."""

    name: str
    instruments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """What to run. None leaves a setting as the service's own environment has it. Times are ns.

    `further` are instruments besides the first. Without `accounts` there is one, as the settings name it.

    `settings` change settings of services for this run alone, by service and name. With `digests` every stage runs and
    every event is encoded for its digest; without, only what the run's strategies, model and report need is computed.
    With `fast` the stretches between decisions are passed in compiled loops where that decides nothing differently.
    `environment` holds the variables that settings are read from, None for this process's.
    """

    instrument: str
    strategies: tuple[StrategyChoice, ...] = ()
    champion: str | None = None
    shadows: tuple[str, ...] | None = None
    models_dir: str | None = None
    starting_balance_usdt: Decimal | None = None
    trade_from: int = 0
    until: int | None = None
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    digests: bool = False
    fast: bool = True
    environment: Mapping[str, str] | None = None
    further: tuple[str, ...] = ()
    accounts: tuple[AccountChoice, ...] = ()

    @property
    def instruments(self) -> tuple[str, ...]:
        """Every instrument of the run."""
        return (self.instrument, *self.further)


def parse_strategies(texts: Sequence[str]) -> tuple[StrategyChoice, ...]:
    """Read ``NAME``, ``package.module:Class`` or either with ``={"parameter": value}``. Raises `BadInput`."""
    chosen = []
    for text in texts:
        path, has_parameters, parameters = text.partition("=")
        try:
            values = orjson.loads(parameters) if has_parameters else {}
        except orjson.JSONDecodeError as error:
            raise BadInput(f"--strategy {text!r}: parameters are not JSON ({error}); write {path}={{...}}") from error
        if not isinstance(values, dict) or not path:
            raise BadInput(f"--strategy {text!r}: write NAME or NAME={{...}} with a JSON object of parameters")
        chosen.append(StrategyChoice(path=path, parameters=values))
    return tuple(chosen)


def parse_settings(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read ``SERVICE.SETTING=VALUE`` texts, such as ``risk.max_leverage=2``. Raises `BadInput`."""
    changed: dict[str, dict[str, str]] = {}
    for text in texts:
        name, has_value, value = text.partition("=")
        service, _, setting = name.partition(".")
        if not has_value or not setting or service not in CONFIGURED_SERVICES:
            raise BadInput(
                f"--set {text!r}: write SERVICE.SETTING=VALUE, such as risk.max_leverage=2, "
                f"with a service of {', '.join(CONFIGURED_SERVICES)}"
            )
        changed.setdefault(service, {})[setting] = value
    return changed
