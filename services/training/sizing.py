"""Position sizes learnt by reinforcement, against the five sizing rules, in a world of our own matching and margin.

At each decision the side is the forecast's; the agent or a rule chooses how large. Orders fill in the paper venue at
the next open with its fees and slippage; bars know no funding. Where the equity at a bar's worst price falls below the
maintenance margin of the position's bracket it is liquidated and the walk is over. The reward is the log return of the
equity. PPO: Schulman et al., Proximal Policy Optimization Algorithms, 2017, by stable-baselines3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt

from libs.domain.accounts import Position
from libs.domain.instruments import find_instrument
from libs.domain.market import ExchangeBar, Side
from libs.domain.numbers import from_e8, round_down_to_step, to_e8
from libs.domain.orders import OrderType, PlaceOrder, ReportKind, TimeInForce
from libs.margin.default_brackets import find_brackets
from libs.margin.requirements import maintenance_margin, notional_of
from libs.matching import LatencyModel, MatchingTerms, PaperVenue
from libs.portfolio.model_scores import chance_of_mean
from libs.runtime.errors import BadInput
from libs.sizing.rules import SizeQuestion, size_by_all_rules
from libs.venues.frames import kline_event_id
from services.training.core.bars import BarTable
from services.training.core.examples import TooFewBars
from services.training.core.splits import split_calibration
from services.training.evaluation import Progress
from services.training.fitting import fit_model
from services.training.market_data import TrainingBars
from services.training.training import CALIBRATION_SHARE, TrainingOptions, choose_model, find_examples, make_sample

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Policy: TypeAlias = Callable[["SizingEnvironment"], float]
"""Returns the leverage of the next position, 0 for none; what is above the most is held to it."""

OBSERVED = 7
_ACCOUNT = "sizing"
_LEAST_REWARD = -5.0


@dataclass(frozen=True, slots=True)
class SizingMarket:
    """Bars with what was forecast at each: probabilities (bars, 3), expected return and volatility over the horizon in
    bps, NaN where there was no forecast. A decision is made every `horizon` bars."""

    instrument: str
    bars: tuple[ExchangeBar, ...]
    probabilities: Floats
    expected_bps: Floats
    deviation_bps: Floats
    horizon: int

    def part(self, first: int, end: int) -> SizingMarket:
        """Return a stretch of it."""
        return replace(
            self,
            bars=self.bars[first:end],
            probabilities=self.probabilities[first:end],
            expected_bps=self.expected_bps[first:end],
            deviation_bps=self.deviation_bps[first:end],
        )


@dataclass(frozen=True, slots=True)
class SizingTerms:
    """What all sizes are under: the account's start, the most leverage, and what the rules ask for."""

    balance_usdt: Decimal = Decimal(10_000)
    max_leverage: Decimal = Decimal(3)
    slippage_bps: Decimal = Decimal(1)
    fraction: Decimal = Decimal(1)
    target_volatility: Decimal = Decimal("0.01")
    risk_fraction: Decimal = Decimal("0.01")
    stop_deviations: float = 2.0
    kelly_share: float = 0.5
    margin_fraction: Decimal = Decimal("0.5")
    min_liquidation_distance: Decimal = Decimal("0.2")


class SizingEnvironment(gymnasium.Env):  # type: ignore[misc]
    """A walk through a market: observation of `OBSERVED` numbers, action in [0, 1] of the most leverage."""

    def __init__(self, market: SizingMarket, terms: SizingTerms) -> None:
        rules, brackets = find_instrument(market.instrument), find_brackets(market.instrument)
        if brackets is None:
            raise BadInput(f"no leverage brackets for {market.instrument}; add them to its venue's listing")
        if len(market.bars) < 2 * market.horizon + 2:
            raise BadInput(f"{len(market.bars)} bars are too few for two decisions of {market.horizon} bars")
        self.observation_space = gymnasium.spaces.Box(-10.0, 10.0, (OBSERVED,), np.float32)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.market, self.terms, self.brackets = market, terms, brackets
        self._rules = rules
        self._start()

    def _start(self) -> None:
        self._venue = PaperVenue(
            _ACCOUNT,
            [self._rules],
            latency=LatencyModel(order_ns=0, cancel_ns=0),
            terms=MatchingTerms(slippage_bps=self.terms.slippage_bps),
        )
        self.place = 0
        self._orders = 0
        self._asked = 1
        self._position = Position(self.market.instrument)
        self._wallet = self._peak = self.terms.balance_usdt
        self._venue.handle(self.market.bars[0])

    @property
    def equity(self) -> Decimal:
        """The account at the last close."""
        return self._equity_at(self.close)

    @property
    def close(self) -> Decimal:
        """The last close."""
        return from_e8(self.market.bars[self.place].close_e8)

    @property
    def side(self) -> int:
        """What the forecast says: 1 up, -1 down, 0 where there is none."""
        down, _, up = self.market.probabilities[self.place]
        return 0 if not math.isfinite(down + up) or down == up else (1 if up > down else -1)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Singles, dict[str, Any]]:
        """Begin at the first bar with the balance that the terms say."""
        super().reset(seed=seed, options=options)
        self._start()
        return self._observe(), {}

    def step(self, action: Singles) -> tuple[Singles, float, bool, bool, dict[str, Any]]:
        """Take the action's share of the most leverage on the forecast's side, and hold it for one horizon."""
        leverage = min(1.0, max(0.0, float(np.asarray(action).reshape(-1)[0]))) * float(self.terms.max_leverage)
        reward, is_over = self.hold(leverage)
        is_last = self.place + self.market.horizon >= len(self.market.bars)
        return self._observe(), reward, is_over, is_last and not is_over, {}

    def hold(self, leverage: float) -> tuple[float, bool]:
        """Hold a leverage for one horizon; return the log return of the equity and whether it was liquidated."""
        before = self.equity
        capped = min(Decimal(f"{max(0.0, leverage):.6f}"), self.terms.max_leverage)
        self._ask(round_down_to_step(before * capped / self.close, self._rules.step_size) * self.side)
        for _ in range(self.market.horizon):
            if self.place + 1 >= len(self.market.bars):
                break
            self.place += 1
            self._take(self.market.bars[self.place])
            if self._is_liquidated(self.market.bars[self.place]):
                self._wallet, self._position = Decimal(0), Position(self.market.instrument)
                return _LEAST_REWARD, True
        after = self.equity
        self._peak = max(self._peak, after)
        return max(_LEAST_REWARD, math.log(float(after / before))) if after > 0 else _LEAST_REWARD, after <= 0

    def _ask(self, wanted: Decimal) -> None:
        change = wanted - self._position.quantity
        if not change or (abs(change) * self.close < self._rules.min_notional and wanted):
            return
        self._orders += 1
        self._asked = 1 if change > 0 else -1
        order_id = f"{_ACCOUNT}-{self._orders}"
        self._fill(
            self._venue.handle(
                PlaceOrder(
                    f"place/{order_id}",
                    self.market.bars[self.place].event_time,
                    _ACCOUNT,
                    self.market.instrument,
                    order_id,
                    order_id,
                    order_id,
                    Side.BUY if change > 0 else Side.SELL,
                    OrderType.MARKET,
                    abs(change),
                    TimeInForce.GTC,
                    reduce_only=not wanted,
                )
            )
        )

    def _take(self, bar: ExchangeBar) -> None:
        self._fill(self._venue.handle(bar))

    def _fill(self, reports: list[Any]) -> None:
        for report in reports:
            if report.kind is ReportKind.FILL:
                signed = report.last_quantity * self._asked
                self._position, realised = self._position.apply_fill(signed, report.last_price, report.fee)
                self._wallet += realised - report.fee

    def _equity_at(self, price: Decimal) -> Decimal:
        held = self._position
        return self._wallet + (price - held.entry_price) * held.quantity

    def _is_liquidated(self, bar: ExchangeBar) -> bool:
        held = self._position
        if not held.quantity:
            return False
        worst = from_e8(bar.low_e8 if held.quantity > 0 else bar.high_e8)
        return self._equity_at(worst) < maintenance_margin(notional_of(held.quantity, worst), self.brackets)

    def _observe(self) -> Singles:
        market, place = self.market, self.place
        held = self._position.quantity * self.close / max(self.equity, Decimal(1))
        numbers = [
            *market.probabilities[place],
            market.expected_bps[place] / 10.0,
            market.deviation_bps[place] / 100.0,
            float(held) / float(self.terms.max_leverage),
            float(self.equity / self._peak) - 1.0,
        ]
        return np.clip(np.nan_to_num(np.array(numbers, np.float32)), -10.0, 10.0)


@dataclass(frozen=True, slots=True)
class SizedWalk:
    """What sizes came to: log returns by decision, the worst drawdown, and whether the walk ended in liquidation."""

    returns: Floats
    drawdown: float
    is_liquidated: bool


@dataclass(frozen=True, slots=True)
class SizingResult:
    """An agent's walk beside the rules' over the same held-out market, and how likely each difference is by chance."""

    walks: Mapping[str, SizedWalk]
    p_values: Mapping[str, float]
    decisions_a_year: float

    @property
    def is_better(self) -> bool:
        """Whether the agent is better than every rule, by a significance of 0.05 shared among them."""
        return all(p < 0.05 / len(self.p_values) for p in self.p_values.values())

    def describe(self) -> dict[str, Any]:
        """Return it for a report."""
        return {
            "verdict": "better than every rule" if self.is_better else "not better than every rule",
            "walks": {
                name: {
                    "return": float(np.expm1(walk.returns.sum())),
                    "sharpe": _sharpe(walk.returns, self.decisions_a_year),
                    "drawdown": walk.drawdown,
                    "is_liquidated": walk.is_liquidated,
                    "decisions": len(walk.returns),
                    **({} if name not in self.p_values else {"p_agent_is_better": self.p_values[name]}),
                }
                for name, walk in self.walks.items()
            },
        }


def walk_with(market: SizingMarket, terms: SizingTerms, policy: Policy) -> SizedWalk:
    """Walk through a market with a policy."""
    environment = SizingEnvironment(market, terms)
    returns: list[float] = []
    is_over = False
    while not is_over and environment.place + market.horizon < len(market.bars):
        made, is_over = environment.hold(policy(environment))
        returns.append(made)
    path = np.exp(np.cumsum([0.0, *returns]))
    return SizedWalk(np.array(returns), float((1.0 - path / np.maximum.accumulate(path)).max()), is_over)


def size_by_rule(name: str, environment: SizingEnvironment) -> float:
    """Return the leverage that one of the five rules answers, as it would on a venue: from forecast and volatility."""
    market, terms, place = environment.market, environment.terms, environment.place
    deviation, side = float(market.deviation_bps[place]) / 1e4, environment.side
    equity, price = environment.equity, environment.close
    if not side or not deviation > 0.0 or equity <= 0:
        return 0.0
    down, _, up = market.probabilities[place]
    distance = Decimal(f"{min(0.9, terms.stop_deviations * deviation):.8f}")
    question = SizeQuestion(
        equity=equity,
        entry_price=price,
        stop_price=price * (1 - side * distance),
        brackets=environment.brackets,
        win_probability=float(max(down, up) / (down + up)),
        win_loss_ratio=1.0,
        kelly_share=terms.kelly_share,
        kelly_cap=terms.max_leverage,
        fraction=terms.fraction,
        target_volatility=terms.target_volatility,
        volatility=Decimal(f"{deviation:.8f}"),
        risk_fraction=terms.risk_fraction,
        fee_rate=Decimal("0.0005"),
        margin_fraction=terms.margin_fraction,
        leverage=terms.max_leverage,
        min_liquidation_distance=terms.min_liquidation_distance,
    )
    return float(size_by_all_rules(question)[name] / equity)


RULES = ("kelly", "fixed_fraction", "volatility_target", "risk_based", "leverage_adjusted")


def train_agent(market: SizingMarket, terms: SizingTerms, steps: int, seed: int) -> Policy:
    """Train PPO on a market for so many decisions; return its policy, which draws nothing."""
    import torch
    from stable_baselines3 import PPO

    torch.set_num_threads(1)
    agent = PPO(
        "MlpPolicy",
        SizingEnvironment(market, terms),
        seed=seed,
        n_steps=256,
        batch_size=64,
        gamma=0.9,
        device="cpu",
        policy_kwargs={"net_arch": [32, 32]},
    )
    agent.learn(steps)

    def decide(environment: SizingEnvironment) -> float:
        action, _ = agent.predict(environment._observe(), deterministic=True)
        return float(np.clip(action[0], 0.0, 1.0)) * float(terms.max_leverage)

    return decide


def compare_sizes(train: SizingMarket, test: SizingMarket, terms: SizingTerms, steps: int, seed: int) -> SizingResult:
    """Train an agent on one market and hold it against the five rules on a later one."""
    agent = train_agent(train, terms, steps, seed)
    walks = {"ppo": walk_with(test, terms, agent)}
    walks |= {name: walk_with(test, terms, partial(size_by_rule, name)) for name in RULES}
    longest = max(len(walk.returns) for walk in walks.values())
    # A walk that ended in liquidation earns nothing afterwards.
    padded = {name: np.pad(walk.returns, (0, longest - len(walk.returns))) for name, walk in walks.items()}
    p_values = {name: chance_of_mean((padded["ppo"] - padded[name]).tolist()) for name in RULES}
    span_ns = test.bars[-1].event_time - test.bars[0].event_time
    return SizingResult(walks, p_values, longest / (span_ns / 3.15576e16))


def exchange_bars(table: BarTable, instrument: str) -> tuple[ExchangeBar, ...]:
    """Return a table's bars as the venue takes them."""
    columns = [_to_e8s(getattr(table, name)) for name in ("open", "high", "low", "close", "volume")]
    return tuple(
        ExchangeBar(
            instrument,
            kline_event_id(instrument, table.timeframe, opened),
            opened + table.step_ns,
            opened + table.step_ns,
            table.timeframe,
            opened,
            opened + table.step_ns,
            first,
            high,
            low,
            close,
            volume,
            None,
            None,
            None,
            is_history=False,
        )
        for opened, first, high, low, close, volume in zip(table.open_times.tolist(), *columns, strict=True)
    )


def _to_e8s(values: Floats) -> list[int]:
    return [to_e8(Decimal(f"{value:.8f}")) for value in values.tolist()]


def _sharpe(returns: Floats, a_year: float) -> float:
    deviation = float(returns.std())
    return float(returns.mean()) / deviation * math.sqrt(a_year) if deviation > 0.0 else 0.0


def learn_sizes(
    data: TrainingBars, options: TrainingOptions, terms: SizingTerms, instrument: str, steps: int, progress: Progress
) -> SizingResult:
    """Fit the options' model on the first half of the bars, train an agent on its forecasts of the third quarter, and
    hold it against the rules on the fourth. Raises `BadInput`.
    """
    bars, choice = data.table, choose_model(options)
    progress("features", 0, 3, math.nan)
    sample = make_sample(bars, options.feature_set, options.label)
    reach = options.label.reach(bars.step_ns)
    try:
        usable = find_examples(bars, sample, options.label, choice.window)
        half, three_quarters = (int(usable[len(usable) * quarters // 4]) for quarters in (2, 3))
        train, calibrate = split_calibration(usable[usable < half - reach], reach, CALIBRATION_SHARE)
        if not len(train) or not len(calibrate):
            raise TooFewBars("too few bars remain to train and calibrate on; give more bars")
        progress("model", 1, 3, math.nan)
        model = fit_model(sample, train, calibrate, choice)
    except ValueError as error:
        raise BadInput(str(error)) from error
    later = usable[usable >= half]
    probabilities, expected = np.full((len(bars), 3), np.nan), np.full(len(bars), np.nan)
    probabilities[later], expected[later] = model.forecast_bars(sample, later)
    market = SizingMarket(
        instrument,
        exchange_bars(bars, instrument),
        probabilities,
        expected,
        sample.labels.deviation_bps,
        options.label.horizon,
    )
    progress("agent", 2, 3, math.nan)
    result = compare_sizes(
        market.part(half, three_quarters - reach), market.part(three_quarters, len(bars)), terms, steps, options.seed
    )
    progress("agent", 3, 3, math.nan)
    return result
