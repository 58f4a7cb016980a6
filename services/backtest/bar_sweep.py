"""Runs many choices of a compiled strategy's parameters over one market of bars: a choice takes two compiled loops.

One computes the positions that the strategy wants at all bars, the other is `bar_loop.advance`, the very account that a
single run has, from where no choice has asked for anything yet. A choice about which the loop cannot be certain is run
through the engine. Measures are those of `summary`, of the same equity points and fills.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from libs.domain.numbers import SCALE, from_e8
from libs.indicators.compiling import compiled_loop
from services.backtest import bar_loop as loop
from services.backtest.bar_account import BarAccount, ChoiceRun
from services.backtest.building import build_stages
from services.backtest.columns import BarColumns
from services.backtest.equity import clip
from services.backtest.pipeline import Pipeline
from services.backtest.quiet_bars import QuietBars
from services.backtest.recorder import RunRecorder
from services.backtest.returns import (
    Floats,
    annual_return,
    choose_grid,
    find_drawdown,
    sample,
    sharpe_ratio,
    simple_returns,
    sortino_ratio,
)
from services.backtest.run import open_bars
from services.backtest.summary import money
from services.strategy.core.compiled import HOLD, CompiledStrategy, to_numbers
from services.strategy.loading import build_strategy
from services.strategy.settings import StrategyChoice

if TYPE_CHECKING:
    from services.backtest.sweep import SweepPlan

_FIRST_BARS = 1_000
RETURNS = 512
"""Of how many equal steps of the period a choice's returns are kept."""


class BarSweep:
    """A market of bars on which choices of a plan's parameters run; `open` says whether they can."""

    def __init__(self, plan: SweepPlan, columns: BarColumns, account: BarAccount, recorder: RunRecorder) -> None:
        self._plan = plan
        self._account = account
        self._instrument = columns.instrument
        self._numbers = to_numbers(
            columns.open_e8, columns.high_e8, columns.low_e8, columns.close_e8, columns.volume_e8
        )
        closes = columns.open_time + columns.length_ns
        self._is_learning = closes < plan.options.trade_from
        self._start = max(int(columns.open_time[0]), plan.options.trade_from)
        self._end = int(closes[-1])
        self._grid = choose_grid(self._start, self._end)
        self._steps = np.linspace(self._start, self._end, RETURNS + 1).astype(np.int64)
        known = recorder.record.equity
        self._known = np.array(known.times, np.int64), np.array(known.equity_e8, np.int64)

    @staticmethod
    def open(plan: SweepPlan, parameters: Mapping[str, Any]) -> BarSweep | None:
        """Return the market of a plan with the account where no choice has asked yet; None where it must be run
        otherwise. `parameters` are any of the choices. Raises `BadInput`.
        """
        choice = StrategyChoice(path=plan.strategy.path, parameters={**plan.strategy.parameters, **parameters})
        options = replace(plan.options, strategies=(choice,))
        columns = plan.market.open().columns
        if columns is None or options.further or options.accounts:
            return None
        if options.until is not None:
            columns = columns.slice(0, int(np.searchsorted(columns.open_time + columns.length_ns, options.until)))
        built = build_stages(options, columns.timeframe)
        (only,) = built.accounts
        if not len(columns) or only.strategy.compiled is None or not QuietBars.can_run(columns, only.strategy, options):
            return None
        recorder = RunRecorder(only.instruments, columns.timeframe, with_digests=False)
        pipeline = Pipeline(built.stages, recorder.observe, trade_from=options.trade_from)
        quiet = open_bars(columns, pipeline, recorder, built.bars, only, options.trade_from)
        account = quiet.begin(min(len(columns) - 1, _FIRST_BARS))
        return None if account is None else BarSweep(plan, columns, account, recorder)

    def fork(self) -> BarSweep:
        """Return the same for another thread."""
        other = object.__new__(BarSweep)
        other.__dict__.update(self.__dict__)
        other._account = self._account.fork()
        return other

    def run(self, parameters: Mapping[str, Any]) -> tuple[dict[str, Any], list[float]] | None:
        """Return a choice's measures and the returns of equal steps; None where the engine must run it.

        Raises `BadInput` for parameters that the strategy does not take.
        """
        given = {**self._plan.strategy.parameters, **parameters}
        strategy = build_strategy(self._plan.strategy.path, given, self._account.timeframe)
        if not isinstance(strategy, CompiledStrategy):
            return None
        targets = strategy.targets_of(self._instrument, self._numbers)
        targets[self._is_learning] = HOLD
        run = self._account.run_choice(self._account.round_targets(targets))
        return None if run is None else self._measure(run)

    def _measure(self, run: ChoiceRun) -> tuple[dict[str, Any], list[float]]:
        known, rows = len(self._known[0]), run.rows
        times, equity = np.empty(known + rows.shape[1], np.int64), np.empty(known + rows.shape[1], np.int64)
        times[:known], equity[:known] = self._known
        count = known + _take_states(rows, times[known:], equity[known:])
        times, equity = clip(times[:count], self._start, self._end, equity[:count])
        first, last = from_e8(int(equity[0])), from_e8(int(equity[-1]))
        levels = sample(times, equity, self._grid.times)
        gained = simple_returns(levels)
        on_grid = find_drawdown(self._grid.times, levels)
        annual = annual_return(gained, self._grid.per_year)
        trips = np.zeros(_TRIP_WIDTH)
        whole = np.zeros(_WHOLE_WIDTH, np.int64)
        _measure_fills(run.fills, run.times, self._start, self._end, whole, trips)
        trades, profit, loss = int(whole[_COUNT]), trips[_GAINED] / SCALE, trips[_LOST] / SCALE
        turnover = from_e8(int(whole[_TURNOVER])) + Decimal(int(whole[_TURNOVER_REST])).scaleb(-16)
        measures: dict[str, Any] = {
            "pnl_usdt": money(last - first),
            "return": float((last - first) / first) if first else 0.0,
            "fees_usdt": money(from_e8(int(whole[_FEES]))),
            "sharpe": sharpe_ratio(gained, self._grid.per_year),
            "sortino": sortino_ratio(gained, self._grid.per_year),
            "calmar": annual / on_grid.share if annual is not None and on_grid.share else None,
            "max_drawdown": _deepest_share(equity),
            "trades": trades,
            "win_rate": int(whole[_WON]) / trades if trades else None,
            "profit_factor": float(profit / loss) if loss else None,
            "expectancy_usdt": f"{(profit - loss) / trades:.8f}" if trades else None,
            "exposure_share": int(whole[_HELD_NS]) / (self._end - self._start),
            "turnover": float(turnover / first) if first else 0.0,
        }
        returns: Floats = simple_returns(sample(times, equity, self._steps))
        return measures, returns.tolist()


@compiled_loop
def _take_states(rows: loop.Ints, times: loop.Ints, equity: loop.Ints) -> int:
    """Gather time and equity of the bars that have a state of the account; return how many they are."""
    count = 0
    for at in range(rows.shape[1]):
        if rows[loop.HAS_STATE, at]:
            times[count], equity[count] = rows[loop.TIME, at], rows[loop.EQUITY, at]
            count += 1
    return count


@compiled_loop
def _deepest_share(equity: loop.Ints) -> float:
    """Return the deepest fall as a share of its peak, as `find_drawdown` does."""
    peak = deepest = 0.0
    for at in range(len(equity)):
        level = equity[at] / SCALE
        peak = level if at == 0 else max(peak, level)
        if peak > 0.0:
            deepest = max(deepest, (peak - level) / peak)
    return deepest


_COUNT, _WON, _HELD_NS, _TURNOVER, _TURNOVER_REST, _FEES, _WHOLE_WIDTH = range(7)
_GAINED, _LOST, _TRIP_WIDTH = range(3)


@compiled_loop
def _measure_fills(
    fills: loop.Ints, bar_times: loop.Ints, start: int, end: int, whole: loop.Ints, trips: loop.Floats
) -> None:
    """Sum fills that begin flat, as `round_trips` does: closed trips net of their fees in 1e-8, time held, turnover."""
    held, since, pnl = 0, start, 0.0
    for at in range(len(fills)):
        signed, price, fee = fills[at, loop.SIGNED], fills[at, loop.PRICE], fills[at, loop.FEE]
        now = min(max(bar_times[fills[at, loop.PLACE]], start), end)
        size = abs(signed)
        if held:
            whole[_HELD_NS] += now - since
        since = now
        traded, rest = loop.gain_of(size, 0, price)
        whole[_TURNOVER] += traded
        whole[_TURNOVER_REST] += rest
        whole[_FEES] += fee
        is_opposite = held != 0 and (signed > 0) != (held > 0)
        closing = min(size, abs(held)) if is_opposite else 0
        share = fee if closing == size else fee * (closing / size)
        if is_opposite:
            pnl += fills[at, loop.PROFIT] - share
            if closing == abs(held):
                whole[_COUNT] += 1
                if pnl > 0.0:
                    whole[_WON] += 1
                    trips[_GAINED] += pnl
                else:
                    trips[_LOST] -= pnl
                pnl = 0.0
        if size > closing:
            pnl -= fee - share
        held += signed
    if held:
        whole[_HELD_NS] += end - since
