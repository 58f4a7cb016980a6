"""Passes the trades and clock ticks of a market of trades between which nothing is decided, in compiled loops.

The pipeline handles a trade or a tick, as any event, when it closes a bar, when an account state is due, when an order
is on its way or open, when a UTC day begins, and when equity comes near a limit. All others change only prices, the bar
in the making and the peak of equity, which the cores then take over at once: bars loop the very step that the stream
calls. So there is one engine, as with `quiet_bars.py`, and the tests hold both ways equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from libs.domain.market import Trade
from libs.domain.numbers import NANOSECONDS
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import Pipeline
from services.backtest.quiet_bars import equity_at, first_near_limit
from services.backtest.recorder import RunRecorder
from services.backtest.trade_columns import TradeColumns
from services.bars.core import BarsCore
from services.execution.core import ExecutionCore
from services.risk.core import RiskCore
from services.strategy.core import StrategyCore

_DAY_NS = 86_400 * NANOSECONDS
_MOST = 65_536
_ASKED = 4_096
_WORTH_PASSING = 3


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

    @staticmethod
    def can_run(columns: TradeColumns | None, strategy: StrategyCore, options: BacktestOptions) -> bool:
        """Whether trades are all of the market that strategies handle and nobody asked for digests."""
        return (
            options.fast
            and not options.digests
            and columns is not None
            and columns.instrument == options.instrument
            and not strategy.handles_market_but_trades
        )

    def run(self, count: int, progress: Callable[[int], None]) -> None:
        """Run the first `count` trades, each behind its tick."""
        columns = self._columns
        ticks = columns.ticks.tolist()
        next_tick = 0
        place = 0
        while place < count:
            end, end_tick = self._find_end(place, count, next_tick) if self._asked is None else (place, next_tick)
            if end > place and self._asks:
                end = self._ask(place, end)
                end_tick = int(np.searchsorted(columns.ticks, end))
            elif end - place < _WORTH_PASSING:
                end = place
            if end == place:
                if next_tick < len(ticks) and ticks[next_tick] == place:
                    next_tick += 1
                    self._pipeline.feed(columns.tick(place))
                asked, self._asked = self._asked, None
                self._pipeline.feed(columns.trade(place) if asked is None else asked)
                place += 1
                continue
            self._pass(place, end, columns.ticks[next_tick:end_tick])
            place, next_tick = end, end_tick
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

    def _find_end(self, place: int, count: int, next_tick: int) -> tuple[int, int]:
        """Return up to which trade, and tick, nothing is decided; the place itself where it must be handled."""
        columns = self._columns
        instrument = columns.instrument
        if not self._execution.is_quiet_between_trades(instrument) or not self._risk.is_quiet(instrument):
            return place, next_tick
        now = int(columns.times[place])
        due = self._execution.next_account_time
        bound = min(self._bars.deadline(instrument), (int(columns.times[place - 1]) // _DAY_NS + 1) * _DAY_NS)
        bound = bound if due is None else min(bound, due)
        if now >= bound:
            return place, next_tick
        last = min(count, place + _MOST)
        end = place + int(np.searchsorted(columns.times[place:last], bound))
        end_tick = int(np.searchsorted(columns.ticks, end))
        held = self._execution.held(instrument)
        if held.quantity and end_tick > next_tick:
            # A tick knows the trade before it.
            prices = columns.price_e8[columns.ticks[next_tick:end_tick] - 1]
            equity = equity_at(prices, self._execution.wallet_balance, held.quantity, held.entry_price)
            near = first_near_limit(equity, self._risk)
            if near < len(equity):
                end_tick = next_tick + near
                end = int(columns.ticks[end_tick])
        return end, end_tick

    def _pass(self, place: int, end: int, ticks: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        columns = self._columns
        instrument, last_time, last_e8 = columns.instrument, int(columns.times[end - 1]), int(columns.price_e8[end - 1])
        self._bars.pass_trades(
            instrument,
            columns.times[place:end],
            columns.price_e8[place:end],
            columns.quantity_e8[place:end],
            columns.is_buyer_maker[place:end],
        )
        self._execution.pass_trades(instrument, last_time, last_e8)
        if self._asks:
            self._strategy.pass_trades(instrument, last_e8)
        known = columns.price_e8[ticks - 1]
        extremes = (int(known.min()), int(known.max())) if len(ticks) else ()
        self._risk.pass_trades(instrument, last_time, last_e8, extremes)
        self._recorder.pass_trades(end - place, len(ticks))
