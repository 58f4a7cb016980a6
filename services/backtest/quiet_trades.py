"""Passes the trades and clock ticks of a market of trades between which nothing is decided, in compiled loops.

The pipeline handles a trade or a tick, as any event, when it closes a bar, when an order is on its way or open, when a
UTC day begins, and when equity comes near a limit. All others change only prices, the bar in the making, the equity and
its peak, which the cores then take over at once: bars loop the very step that the stream calls. So there is one engine,
as with `quiet_bars.py`, and the tests hold both ways equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from libs.domain.market import Trade
from libs.domain.numbers import NANOSECONDS
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import Pipeline
from services.backtest.quiet_bars import equity_at, first_near_limit
from services.backtest.recorder import RunRecorder
from services.backtest.trade_columns import TradeColumns, TradeFile
from services.bars.core import BarsCore
from services.execution.core import ExecutionCore
from services.risk.core import RiskCore
from services.strategy.core import StrategyCore

_DAY_NS = 86_400 * NANOSECONDS
_MOST = 65_536
_ASKED = 4_096
_WORTH_PASSING = 3


class _DueState(NamedTuple):
    """An account state that the market's move alone makes: at the trade of a place or the tick before it."""

    place: int
    event_time: int
    price_e8: int


class _Stretch(NamedTuple):
    """Trades up to `end`, ticks up to `end_tick` (in the list of ticks), and the account states among them."""

    end: int
    end_tick: int
    states: tuple[_DueState, ...]


class QuietTrades:
    """Runs trades in columns through a pipeline and its cores; `can_run` says whether a run may go this way."""

    def __init__(
        self,
        columns: TradeColumns,
        pipeline: Pipeline,
        recorder: RunRecorder,
        *,
        bars: BarsCore,
        risk: RiskCore,
        execution: ExecutionCore,
        strategy: StrategyCore,
    ) -> None:
        self._columns = columns
        self._pipeline = pipeline
        self._recorder = recorder
        self._bars = bars
        self._risk = risk
        self._execution = execution
        self._strategy = strategy
        self._asks = strategy.handles("on_trade")
        self._asked: Trade | None = None
        self._has_tick = np.zeros(len(columns), np.bool_)
        self._has_tick[columns.ticks] = True

    @staticmethod
    def can_run(columns: TradeColumns | TradeFile | None, strategy: StrategyCore, options: BacktestOptions) -> bool:
        """Whether trades are all of the market that strategies handle and nobody asked for digests."""
        return (
            options.fast
            and not options.digests
            and columns is not None
            and columns.instrument == options.instrument
            and not strategy.handles_market_but_trades
        )

    def run(self, begin: int, count: int, progress: Callable[[int], None]) -> None:
        """Run the trades of [`begin`, `count`), each behind its tick; those before were run already."""
        columns = self._columns
        ticks = columns.ticks.tolist()
        next_tick = 0
        place = begin
        while place < count:
            stretch = _Stretch(place, next_tick, ())
            if self._asked is None:
                stretch = self._find_stretch(place, count, next_tick)
            if stretch.end > place and self._asks:
                end = self._ask(place, stretch.end)
                stretch = _Stretch(end, int(np.searchsorted(columns.ticks, end)), ())
            if stretch.end == place or (stretch.end - place < _WORTH_PASSING and not self._asks):
                if next_tick < len(ticks) and ticks[next_tick] == place:
                    next_tick += 1
                    self._pipeline.feed(columns.tick(place))
                asked, self._asked = self._asked, None
                self._pipeline.feed(columns.trade(place) if asked is None else asked)
                place += 1
                continue
            self._pass(place, next_tick, stretch)
            place, next_tick = stretch.end, stretch.end_tick
            progress(int(columns.times[place - 1]))

    def _ask(self, place: int, end: int) -> int:
        """Ask strategies about trades until one must be handled; return its place, the end where there is none."""
        trades = self._columns.trades(place, min(end, place + _ASKED))
        passed, self._asked = self._strategy.answer_trades_ahead(trades)
        return place + passed

    def feed_last_tick(self, count: int, until: int) -> int:
        """Handle the tick that comes before the end asked for although its trade does not; return its time, else 0."""
        columns = self._columns
        if count == len(columns) or not np.any(columns.ticks == count):
            return 0
        tick = columns.tick(count)
        if tick.event_time >= until:
            return 0
        self._pipeline.feed(tick)
        return tick.event_time

    def _find_stretch(self, place: int, count: int, next_tick: int) -> _Stretch:
        """Return up to where nothing is decided: up to the place itself where it must be handled."""
        columns, execution = self._columns, self._execution
        instrument = columns.instrument
        nothing = _Stretch(place, next_tick, ())
        if not execution.is_quiet_between_trades(instrument) or not self._risk.is_quiet(instrument):
            return nothing
        due = execution.next_account_time
        bound = min(self._bars.deadline(instrument), (int(columns.times[place - 1]) // _DAY_NS + 1) * _DAY_NS)
        end = self._first_at(bound, place, min(count, place + _MOST))
        if due is None:
            return _Stretch(end, int(np.searchsorted(columns.ticks, end)), ())
        states = self._find_states(due, place, end)
        if self._asks:
            # What strategies see of the account must be what they would see.
            del states[1:]
        if states:
            # The last of them is handled, so that all the cores know the account as it is.
            end = states.pop().place
        prices = [state.price_e8 for state in states]
        held = execution.held(instrument)
        wallet = execution.wallet_balance
        equity = equity_at(np.array(prices, np.int64), wallet, held.quantity, held.entry_price)
        if first_near_limit(equity, self._risk) < len(equity):
            end, states = self._first_at(due, place, end), []
        end_tick = int(np.searchsorted(columns.ticks, end))
        # A tick knows the trade before it.
        at_ticks = columns.price_e8[columns.ticks[next_tick:end_tick] - 1]
        near = first_near_limit(equity_at(at_ticks, wallet, held.quantity, held.entry_price), self._risk)
        if near < len(at_ticks):
            end_tick = next_tick + near
            end = int(columns.ticks[end_tick])
            states = [state for state in states if state.place < end]
        return _Stretch(end, end_tick, tuple(states))

    def _first_at(self, event_time: int, place: int, end: int) -> int:
        return place + int(np.searchsorted(self._columns.times[place:end], event_time))

    def _find_states(self, due: int, place: int, end: int) -> list[_DueState]:
        """Return the account states that the market's move alone makes: at the first event after each interval."""
        columns, interval = self._columns, self._execution.account_interval_ns
        found: list[_DueState] = []
        while (place := self._first_at(due, place, end)) < end:
            event_time = int(columns.times[place])
            second = event_time // NANOSECONDS * NANOSECONDS
            is_tick = self._has_tick[place] and second >= due
            event_time = second if is_tick else event_time
            found.append(_DueState(place, event_time, int(columns.price_e8[place - is_tick])))
            due = event_time + interval
        return found

    def _pass(self, place: int, next_tick: int, stretch: _Stretch) -> None:
        columns, end = self._columns, stretch.end
        instrument, last_time, last_e8 = columns.instrument, int(columns.times[end - 1]), int(columns.price_e8[end - 1])
        self._bars.pass_trades(
            instrument,
            columns.times[place:end],
            columns.price_e8[place:end],
            columns.quantity_e8[place:end],
            columns.is_buyer_maker[place:end],
        )
        at_ticks = columns.price_e8[columns.ticks[next_tick : stretch.end_tick] - 1]
        self._recorder.pass_trades(end - place, len(at_ticks))
        seen = at_ticks.tolist()
        if stretch.states:
            times = np.array([state.event_time for state in stretch.states], np.int64)
            prices = np.array([state.price_e8 for state in stretch.states], np.int64)
            held, wallet = self._execution.held(instrument), self._execution.wallet_balance
            equity = equity_at(prices, wallet, held.quantity, held.entry_price)
            self._recorder.pass_states(times, equity, wallet, held.quantity)
            self._execution.pass_states(len(times), int(times[-1]))
            seen += prices.tolist()
        self._execution.pass_trades(instrument, last_time, last_e8)
        if self._asks:
            self._strategy.pass_trades(instrument, last_e8)
        self._risk.pass_trades(instrument, last_time, last_e8, (min(seen), max(seen)) if seen else ())
