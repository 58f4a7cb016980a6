"""The backtest job: builds the services' cores from their own settings and runs a market through them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from libs.domain.accounts import AccountState
from libs.domain.events import Event
from libs.domain.instruments import UnknownInstrument, find_instrument
from libs.domain.market import ClockTick, ExchangeBar
from libs.domain.orders import OrderEvent, OrderIntent, OrderRefused, OrderStatus
from libs.indicators.feature_sets import load_feature_set
from libs.runtime.errors import BadInput
from libs.runtime.settings import load_settings
from libs.runtime.source import DeadInput
from libs.wire import encode, topics
from services.backtest.inputs import MarketInput, bar_length_ns
from services.backtest.measures import (
    EquityPoint,
    Fill,
    RoundTrip,
    Tape,
    exposure_share,
    max_drawdown,
    points_from,
    round_trips,
    sample_equity,
    sharpe_ratio,
)
from services.backtest.pipeline import DeadEvent, Pipeline, Stage
from services.bars import main as bars
from services.execution import main as execution
from services.execution.settings import ExecutionSettings
from services.features import main as features
from services.features.core import FeaturesCore
from services.features.settings import FeaturesSettings
from services.inference import main as inference
from services.inference.core import InferenceCore, ManifestFault
from services.inference.onnx import load_models
from services.inference.settings import InferenceSettings
from services.risk import main as risk
from services.risk.settings import RiskSettings
from services.strategy import main as strategy
from services.strategy.loading import build_strategy_core
from services.strategy.settings import StrategyChoice, StrategySettings

DIGESTED = {
    topics.MARKET_EVENTS: "market_events",
    topics.BARS_CLOSED: "bars",
    topics.FEATURE_VECTORS: "vectors",
    topics.FORECASTS: "forecasts",
    topics.INTENTS: "intents",
    topics.VERDICTS: "verdicts",
    topics.ORDERS: "orders",
}
_SHOWN_FAULTS = 20

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """What to run. None leaves a setting as the service's own environment has it. Times are ns."""

    instrument: str
    strategies: tuple[StrategyChoice, ...] = ()
    champion: str | None = None
    models_dir: str | None = None
    starting_balance_usdt: Decimal | None = None
    trade_from: int = 0
    until: int | None = None


@dataclass(slots=True)
class BacktestResult:
    """What happened, as values; `services.backtest.report` writes it down."""

    description: dict[str, Any]
    step_ns: int
    started_at: int = 0
    ended_at: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    digests: dict[str, str] = field(default_factory=dict)
    points: list[EquityPoint] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    trades: list[RoundTrip] = field(default_factory=list)
    has_open_trade: bool = False
    funding_paid: Decimal = Decimal(0)
    refusals: Counter[str] = field(default_factory=Counter)
    dead: list[DeadEvent] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def starting_equity(self) -> Decimal:
        """Equity before the first fill."""
        return self.points[0].equity if self.points else Decimal(0)

    @property
    def final_equity(self) -> Decimal:
        """Equity at the end, open positions at their mark."""
        return self.points[-1].equity if self.points else Decimal(0)

    def summary(self) -> dict[str, Any]:
        """Return the measures: money as decimal strings, ratios as numbers, None where they are not defined."""
        pnl = self.final_equity - self.starting_equity
        fees = sum((fill.fee for fill in self.fills), Decimal(0))
        turnover = sum((fill.quantity * fill.price for fill in self.fills), Decimal(0))
        drawdown_share, drawdown = max_drawdown(self.points)
        equity = sample_equity(self.points, self.step_ns)
        won = [trade for trade in self.trades if trade.pnl > 0]
        gained = sum((trade.pnl for trade in won), Decimal(0))
        lost = -sum((trade.pnl for trade in self.trades if trade.pnl <= 0), Decimal(0))
        start = self.starting_equity
        return {
            "starting_equity_usdt": _money(start),
            "final_equity_usdt": _money(self.final_equity),
            "pnl_usdt": _money(pnl),
            "return": float(pnl / start) if start else 0.0,
            "fees_usdt": _money(fees),
            "funding_usdt": _money(self.funding_paid),
            "trades": len(self.trades),
            "has_open_trade": self.has_open_trade,
            "fills": len(self.fills),
            "hit_rate": len(won) / len(self.trades) if self.trades else None,
            "profit_factor": float(gained / lost) if lost else None,
            "average_trade_usdt": _money((gained - lost) / len(self.trades)) if self.trades else None,
            "sharpe": sharpe_ratio(equity, self.step_ns),
            "sharpe_samples": max(0, len(equity) - 1),
            "max_drawdown": drawdown_share,
            "max_drawdown_usdt": _money(drawdown),
            "turnover_usdt": _money(turnover),
            "turnover": float(turnover / start) if start else 0.0,
            "exposure_share": exposure_share(self.points),
        }


def run_backtest(
    market: MarketInput, options: BacktestOptions, progress: Callable[[int], None] = lambda _: None
) -> BacktestResult:
    """Run the market through the cores; `progress` hears the market time (ns) now and then. Raises `BadInput`.

    The same input and settings give the same result, digests included.
    """
    try:
        find_instrument(options.instrument)
    except UnknownInstrument as fault:
        raise BadInput(str(fault)) from fault
    step_ns = bar_length_ns(market.timeframe)
    result = BacktestResult(dict(market.description), step_ns)
    stages = build_stages(options, market.timeframe or "1m", result.notes)
    tape = Tape(options.instrument)
    recorder = _Recorder(result, tape)
    pipeline = Pipeline(stages, recorder.observe, trade_from=options.trade_from)
    heard_at = 0
    for event in market.events:
        if isinstance(event, DeadInput):
            result.counts["dead_inputs"] += 1
            if len(result.faults) < _SHOWN_FAULTS:
                result.faults.append(f"{event.source}:{event.position}: {event.reason}")
            continue
        if options.until is not None and event.event_time >= options.until:
            break
        if not (isinstance(event, ExchangeBar) and event.is_history):
            result.started_at = result.started_at or event.event_time
            result.ended_at = max(result.ended_at, event.event_time)
        pipeline.feed(event)
        if isinstance(event, ClockTick | ExchangeBar) and event.event_time >= heard_at + step_ns:
            heard_at = event.event_time
            progress(event.event_time)
    if not result.started_at:
        raise BadInput("the input holds no market event before the end that was asked for; check the file and --to")
    result.digests = recorder.digests()
    result.points = points_from(tape.points, result.started_at)
    result.fills, result.funding_paid = tape.fills, tape.funding_paid
    result.trades, result.has_open_trade = round_trips(tape.fills)
    result.dead = pipeline.dead
    return result


def build_stages(options: BacktestOptions, timeframe: str, notes: list[str]) -> list[Stage]:
    """Build the cores from their services' settings, with what the options change; `notes` hears what is left out.

    On bars of another timeframe than the model's the run goes without forecasts.
    """
    instruments = {"instruments": (options.instrument,)}
    balance = options.starting_balance_usdt
    account = load_settings(ExecutionSettings).account
    stages = [
        Stage("bars", bars.build_core(load_settings(bars.SERVICE.settings_type)), bars.SERVICE.inputs),
        Stage("features", _features_core(timeframe), features.SERVICE.inputs),
        Stage(
            "strategy",
            build_strategy_core(_strategy_settings(options, timeframe, account)),
            strategy.SERVICE.inputs,
        ),
        Stage(
            "risk",
            risk.SERVICE.build_core(_settings(RiskSettings, {**instruments, "account": account})),
            risk.SERVICE.inputs,
        ),
        Stage(
            "execution",
            execution.SERVICE.build_core(
                _settings(
                    ExecutionSettings,
                    {**instruments, **({} if balance is None else {"starting_balance_usdt": balance})},
                )
            ),
            execution.SERVICE.inputs,
        ),
    ]
    core = _inference_core(options, timeframe, notes)
    if core is not None:
        stages.append(Stage("inference", core, inference.SERVICE.inputs))
    return stages


def _features_core(timeframe: str) -> FeaturesCore:
    settings = load_settings(FeaturesSettings)
    return FeaturesCore(load_feature_set(settings.feature_set, timeframe))


def _strategy_settings(options: BacktestOptions, timeframe: str, account: str) -> StrategySettings:
    settings = load_settings(StrategySettings)
    chosen = options.strategies or settings.strategies
    if timeframe != "1m":
        chosen = tuple(_on_timeframe(choice, timeframe) for choice in chosen)
    return _settings(
        StrategySettings,
        {"instruments": (options.instrument,), "account": account, "timeframe": timeframe, "strategies": chosen},
    )


def _on_timeframe(choice: StrategyChoice, timeframe: str) -> StrategyChoice:
    if choice.path != "ema_cross" or "timeframe" in choice.parameters:
        return choice
    return StrategyChoice(path=choice.path, parameters={**choice.parameters, "timeframe": timeframe})


def _inference_core(options: BacktestOptions, timeframe: str, notes: list[str]) -> InferenceCore | None:
    overrides: dict[str, Any] = {}
    if options.champion is not None:
        overrides["champion"] = options.champion
    if options.models_dir is not None:
        overrides["models_dir"] = options.models_dir
    settings = _settings(InferenceSettings, overrides)
    try:
        models = load_models(settings.models_dir, settings.champion, settings.shadows)
        manifest = models[0].manifest
        if manifest.timeframe != timeframe:
            notes.append(
                f"model {manifest.model_id} reads {manifest.timeframe} bars and the input has {timeframe} bars: "
                "the run goes without forecasts; train a model on such bars and name it with --model"
            )
            return None
        return InferenceCore(models)
    except ManifestFault as fault:
        raise BadInput(str(fault)) from fault


def _settings(kind: type[SettingsT], overrides: Mapping[str, Any]) -> SettingsT:
    load_settings(kind)
    try:
        return kind(**overrides)
    except ValidationError as fault:
        told = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in fault.errors())
        raise BadInput(f"{kind.__name__}: {told}") from fault


class _Recorder:
    """Counts, digests and collects every event that passes."""

    def __init__(self, result: BacktestResult, tape: Tape) -> None:
        self._result = result
        self._tape = tape
        self._digests = {name: hashlib.sha256() for name in DIGESTED.values()}

    def observe(self, event: Event) -> None:
        encoded = encode(event)
        name = DIGESTED.get(encoded.topic)
        if name is not None:
            self._digests[name].update(encoded.payload)
        counts = self._result.counts
        counts[encoded.topic] += 1
        match event:
            case AccountState():
                self._tape.see_account(event)
            case OrderEvent():
                self._tape.see_order(event)
                if event.status is OrderStatus.SUBMITTING:
                    counts["orders_submitted"] += 1
            case OrderRefused():
                counts["refused"] += 1
                for check in event.checks:
                    if not check.has_passed:
                        self._result.refusals[check.name] += 1
            case OrderIntent():
                counts["intents"] += 1

    def digests(self) -> dict[str, str]:
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


def choices_of(texts: Sequence[str]) -> tuple[StrategyChoice, ...]:
    """Read ``NAME``, ``package.module:Class`` or either with ``={"parameter": value}``. Raises `BadInput`."""
    import orjson

    chosen = []
    for text in texts:
        path, has_parameters, parameters = text.partition("=")
        try:
            values = orjson.loads(parameters) if has_parameters else {}
        except orjson.JSONDecodeError as fault:
            raise BadInput(f"--strategy {text!r}: parameters are not JSON ({fault}); write {path}={{...}}") from fault
        if not isinstance(values, dict) or not path:
            raise BadInput(f"--strategy {text!r}: write NAME or NAME={{...}} with a JSON object of parameters")
        chosen.append(StrategyChoice(path=path, parameters=values))
    return tuple(chosen)


def _money(amount: Decimal) -> str:
    return f"{amount:.8f}"
