"""Passes the trades, quotes and book changes of a market of ticks between which nothing is decided, in compiled loops.

The pipeline handles clock ticks, marks and whatever is rarer, and a trade, quote or change of the book when it closes a
bar, lets a command arrive, fills an order or makes an account state due. All others change prices, the book, the places
of resting orders in their queues and the bar in the making, which the cores take over at once by the very steps that
they take for one event. So there is one engine, as with `quiet_bars.py`; the tests hold both ways equal to the bit.
"""

from __future__ import annotations

import numpy as np

from libs.domain.market_columns import DELTA, TRADE, MarketColumns, look_over
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import Pipeline
from services.backtest.recorder import RunRecorder
from services.bars.core import BarsCore
from services.bars.core.trades import MAX_NOTIONAL
from services.execution.core import ExecutionCore
from services.risk.core import RiskCore
from services.strategy.core import StrategyCore

_CLOCK = frozenset({"clock_tick"})
_SAFE_NOTIONAL = 0.999 * MAX_NOTIONAL


class QuietEvents:
    """Runs columns of events through a pipeline and its cores; `can_run` says whether a run may go this way."""

    def __init__(
        self,
        instrument: str,
        pipeline: Pipeline,
        recorder: RunRecorder,
        *,
        bars: BarsCore,
        risk: RiskCore,
        execution: ExecutionCore,
    ) -> None:
        self._instrument = instrument
        self._pipeline = pipeline
        self._recorder = recorder
        self._bars = bars
        self._risk = risk
        self._execution = execution

    @staticmethod
    def can_run(strategy: StrategyCore, options: BacktestOptions) -> bool:
        """Whether no strategy handles trades, quotes or books, and nobody asked for digests."""
        return options.fast and not options.digests and strategy.market_kinds <= _CLOCK

    def run(self, columns: MarketColumns) -> None:
        """Run events behind those that were run before."""
        # Where bars would refuse a trade, and where the loop stops, an event is handled by itself.
        is_wild = (columns.kinds == TRADE) & (
            columns.values[:, 0].astype(np.float64) * columns.values[:, 1] > _SAFE_NOTIONAL
        )
        stops = np.append(np.flatnonzero((columns.kinds > DELTA) | is_wild), len(columns))
        place = 0
        for stop in stops.tolist():
            while place < stop:
                passed = self._pass(columns, place, stop)
                if passed == place:
                    self._pipeline.feed(columns.event(place))
                    passed += 1
                place = passed
            if stop < len(columns):
                self._pipeline.feed(columns.event(stop))
                place = stop + 1

    def _pass(self, columns: MarketColumns, begin: int, end: int) -> int:
        """Pass what can be passed from a place on; return where that ends."""
        deadline = self._bars.deadline(self._instrument)
        if not deadline or columns.times[begin] >= deadline:
            return begin
        opened = self._bars.opened(self._instrument)
        end = self._execution.pass_events(columns, begin, end, bound=deadline, opened=opened)
        if end > begin:
            self._bars.pass_events(columns, begin, end)
            time, is_quoted = self._risk.price_source(self._instrument)
            passed = look_over(columns, begin, end, time, is_quoted=is_quoted)
            if passed.priced >= 0:
                self._risk.handle(columns.event(passed.priced))
            self._risk.pass_time(passed.latest_price_time)
            self._execution.note_passed(columns, passed)
            self._recorder.pass_events(passed.trades, passed.quotes, passed.deltas)
        return end
