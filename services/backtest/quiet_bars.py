"""Passes the bars of a market of bars about which there is nothing to decide, without handling them one by one.

A strategy is given every bar. The pipeline handles a bar, as any event, when a strategy answers, when the position is
not the wanted one, when an order is on its way or open, when a UTC day begins, and when equity comes near a limit.
All others change only prices, the equity and its peak, which the cores then take over at once. Where orders fill at the
close, `BarAccount` also passes days' beginnings and the orders that clearly pass every check. So there is one engine:
what is passed is what it would have done nothing else about, and the tests hold both ways equal to the bit.

A compiled strategy's answers to all bars are computed first; the bars between those that must be handled are one loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from libs.domain.bars import Bar, bar_event_id
from libs.domain.market import ExchangeBar
from libs.domain.numbers import SCALE, to_e8
from services.backtest.bar_account import BarAccount
from services.backtest.bar_loop import equity_over
from services.backtest.columns import BarColumns, LazyBar
from services.backtest.equity import Ints
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import Pipeline
from services.backtest.recorder import RunRecorder
from services.bars.core import BarsCore
from services.execution.core import ExecutionCore
from services.ingestion.core.stream import Stream
from services.risk.core import RiskCore
from services.strategy.core import AccountView, StrategyCore
from services.strategy.core.compiled import HOLD, CompiledStrategy

_CHUNK = 256
_DAY_NS = 86_400 * 10**9
_NEAR = 1e-9
"""Equity within this share of a limit is left to exact arithmetic."""


class LazyAccountView(AccountView):
    """The account at a bar that is answered ahead: its equity is computed when a strategy looks at it."""

    __slots__ = ("_values",)
    _values: Callable[[], tuple[Decimal, Decimal]]

    def __init__(self, known: AccountView, value: Callable[[], tuple[Decimal, Decimal]]) -> None:
        object.__setattr__(self, "account", known.account)
        object.__setattr__(self, "positions", known.positions)
        object.__setattr__(self, "_values", value)

    @property
    def equity_usdt(self) -> Decimal:
        """Equity at the close of the bar."""
        return self._values()[0]

    @property
    def available_usdt(self) -> Decimal:
        """Balance available at the close of the bar."""
        return self._values()[1]


class BarView(AccountView):
    """The account at a bar as `BarAccount` knows it; equity and balance are computed when a strategy looks at them."""

    __slots__ = ("_place", "_source")
    _place: int
    _source: BarAccount

    @property
    def equity_usdt(self) -> Decimal:
        """Equity at the close of the bar."""
        return self._source.value_at(self._place)[0]

    @property
    def available_usdt(self) -> Decimal:
        """Balance available at the close of the bar."""
        return self._source.value_at(self._place)[1]


def _setter(kind: type, name: str) -> Callable[[Any, Any], None]:
    # A frozen value is made through these in half the time that its own `__init__` takes.
    setter: Callable[[Any, Any], None] = vars(kind)[name].__set__
    return setter


_SET_ACCOUNT, _SET_POSITIONS = _setter(AccountView, "account"), _setter(AccountView, "positions")
_SET_PLACE, _SET_SOURCE = _setter(BarView, "_place"), _setter(BarView, "_source")


class QuietBars:
    """Runs bars in columns through a pipeline and its cores; `can_run` says whether a run may go this way."""

    def __init__(
        self,
        columns: BarColumns,
        pipeline: Pipeline,
        recorder: RunRecorder,
        *,
        bars: BarsCore,
        risk: RiskCore,
        execution: ExecutionCore,
        strategy: StrategyCore,
        account: BarAccount | None,
        trade_from: int,
    ) -> None:
        self._columns = columns
        self._pipeline = pipeline
        self._recorder = recorder
        self._bars = bars
        # Longer bars are sums of minutes; of no other klines.
        self._has_longer_bars = columns.timeframe == "1m"
        self._risk = risk
        self._execution = execution
        self._strategy = strategy
        self._account = account
        self._trade_from = trade_from
        self._stream = Stream(columns.instrument)
        self._made: tuple[int, list[Bar]] = (0, [])
        self._close_times = columns.open_time + columns.length_ns

    @staticmethod
    def can_run(columns: BarColumns | None, strategy: StrategyCore, options: BacktestOptions) -> bool:
        """Whether bars are all that the strategies handle and nobody asked for digests."""
        return (
            options.fast
            and not options.digests
            and columns is not None
            and columns.instrument == options.instrument
            and strategy.handles_only_bars_of(columns.timeframe)
        )

    def run(self, count: int, progress: Callable[[int], None]) -> None:
        """Run the first `count` bars."""
        compiled = self._strategy.compiled if self._account is not None else None
        if compiled is not None and self._account is not None:
            self._run_compiled(compiled, self._account, count, progress)
        else:
            self._run_called(count, progress)
        if self._account is not None and self._account.is_begun:
            self._account.give_back()

    def begin(self, count: int) -> BarAccount | None:
        """Handle the first bars, to which nobody answers, until the account can be kept apart, and return it there.

        None where it never can within `count` bars.
        """
        account, (first, *_) = self._account, self._strategy.hosted
        for place in range(count if account is not None else 0):
            if account is not None and self._can_account(account, place):
                return account
            (bar,) = self._columns.bars(place, place + 1, self._trade_from)
            self._strategy.take_answer(bar, first.name, None)
            self._handle(bar, place)
        return None

    def _run_called(self, count: int, progress: Callable[[int], None]) -> None:
        place = 0
        while place < count:
            if self._account is not None and self._can_account(self._account, place):
                place = self._pass_account(self._account, place, count)
                progress(int(self._close_times[place - 1]))
                continue
            ahead = self._bars_from(place, count)
            bars = ahead[: self._next_day(place) - place]
            if not bars or not self._is_quiet():
                self._handle(ahead[0], place)
                place += 1
                continue
            passed = self._pass(bars, place)
            place += passed
            if passed < len(bars):
                self._handle(bars[passed], place)
                place += 1
            progress(int(self._close_times[place - 1]))

    def _can_account(self, account: BarAccount, place: int) -> bool:
        if account.is_begun:
            return True
        return self._is_quiet() and self._strategy.is_settled(self._columns.instrument) and account.begin(place)

    def _pass_account(self, account: BarAccount, place: int, count: int) -> int:
        """Ask strategies about some bars, and fill what they ask for; return the place of the next bar."""
        bars, strategy = self._bars_from(place, count), self._strategy
        end, at = place + len(bars), place
        stop, positions = account.find_stop(end), account.positions
        name, view_of = strategy.account, object.__new__
        while at < stop:
            bar = bars[at - place]
            view: BarView = view_of(BarView)
            _SET_ACCOUNT(view, name)
            _SET_POSITIONS(view, positions)
            _SET_PLACE(view, at)
            _SET_SOURCE(view, account)
            if strategy.answer_ahead(bar, view):
                if not self._order(account, bar, at):
                    stop = at
                    break
                stop, positions = account.find_stop(end), account.positions
            at += 1
        account.advance(stop)
        if stop == end:
            return end
        account.give_back()
        self._handle(bars[stop - place], stop)
        return stop + 1

    def _order(self, account: BarAccount, bar: Bar, place: int) -> bool:
        target = self._strategy.stand_ahead(bar, bar_event_id(bar.instrument, bar.timeframe, bar.open_time))
        if target is None or not account.advance(place):
            return False
        if not account.order(place, target, self._strategy.last_asker(bar.instrument)):
            return False
        self._strategy.settle_ahead(bar.instrument)
        return True

    def _run_compiled(
        self, strategy: CompiledStrategy, account: BarAccount, count: int, progress: Callable[[int], None]
    ) -> None:
        columns = self._columns
        targets = strategy.targets_over(
            columns.instrument,
            columns.open_e8[:count],
            columns.high_e8[:count],
            columns.low_e8[:count],
            columns.close_e8[:count],
            columns.volume_e8[:count],
        )
        targets[self._close_times[:count] < self._trade_from] = HOLD
        account.want_all(account.round_targets(targets))
        place = stood = 0
        while place < count:
            if self._can_account(account, place):
                account.advance(count)
                place = account.place
                account.give_back()
                stood = self._stand_last(strategy, targets, stood, place)
                progress(int(self._close_times[place - 1]))
                if place == count:
                    return
            (bar,) = columns.bars(place, place + 1, self._trade_from)
            target = None if targets[place] == HOLD else strategy.target_of(columns.instrument, int(targets[place]))
            self._strategy.take_answer(bar, strategy.name, target)
            self._handle(bar, place)
            place += 1
            stood = place

    def _stand_last(self, strategy: CompiledStrategy, targets: Ints, first: int, end: int) -> int:
        """Let the last target of bars that were not handled stand; return the end of those bars."""
        asked = np.flatnonzero(targets[first:end] != HOLD)
        if len(asked):
            columns, at = self._columns, first + int(asked[-1])
            cause_id = bar_event_id(columns.instrument, columns.timeframe, int(columns.open_time[at]))
            target = strategy.target_of(columns.instrument, int(targets[at]))
            self._strategy.stand(strategy.name, target, int(columns.close_e8[at]), cause_id)
        return end

    def _bars_from(self, place: int, count: int) -> list[Bar]:
        # Bars are made once, some at a time, however often a stretch of them is cut short.
        first, made = self._made
        if not first <= place < first + len(made):
            first, made = place, self._columns.bars(place, min(count, place + _CHUNK), self._trade_from)
            self._made = first, made
        return made[place - first :]

    def _is_quiet(self) -> bool:
        instrument = self._columns.instrument
        return self._execution.is_quiet(instrument) and self._risk.is_quiet(instrument)

    def _next_day(self, place: int) -> int:
        """Return the place of the next bar that closes in another UTC day than the one before `place`; itself if so."""
        day = int(self._close_times[place - 1]) // _DAY_NS
        return int(np.searchsorted(self._close_times, (day + 1) * _DAY_NS)) if place else 0

    def _pass(self, bars: list[Bar], place: int) -> int:
        """Ask strategies about bars until one must be handled; take those before it over; return how many they were."""
        strategy = self._strategy
        closes = self._columns.close_e8[place : place + len(bars)]
        held = self._execution.held(self._columns.instrument)
        equity = equity_at(closes, self._execution.wallet_balance, held.quantity, held.entry_price)
        last = first_near_limit(equity, self._risk) if held.quantity else len(equity)
        known = strategy.view()
        passed = 0
        while passed < last:
            bar = bars[passed]
            if strategy.answer_ahead(bar, self._view_at(known, bar.close_e8, is_held=bool(held.quantity))):
                break
            passed += 1
        if passed:
            self._take_over(bars[:passed], place, equity[:passed], held.quantity)
        return passed

    def _view_at(self, known: AccountView, close_e8: int, *, is_held: bool) -> AccountView:
        if not is_held:
            return known
        return LazyAccountView(known, lambda: self._execution.value_at(self._columns.instrument, close_e8))

    def _take_over(self, bars: list[Bar], place: int, equity: Ints, quantity: Decimal) -> None:
        last, passed = bars[-1], self._columns.slice(place, place + len(bars))
        self._execution.pass_bars(last.instrument, last.event_time, last.close_e8, last.volume_e8, len(bars))
        self._risk.pass_bars(
            last.instrument,
            last.timeframe,
            (passed.open_time + passed.length_ns).tolist(),
            passed.high_e8.tolist(),
            passed.low_e8.tolist(),
            passed.close_e8.tolist(),
        )
        self._strategy.pass_bars(last)
        longer = 0
        if self._has_longer_bars:
            for at in range(place, place + len(bars)):
                longer += len(self._bars.handle(self._columns.exchange_bar(at))) - 1
        held_equity = equity if quantity else None
        self._recorder.pass_bars(passed, longer, held_equity, self._execution.wallet_balance, quantity)

    def _handle(self, bar: Bar, place: int) -> None:
        if isinstance(bar, LazyBar):
            bar.complete()
        # History is for the strategies alone, and the pipeline says so to them.
        closed = replace(bar, is_history=False) if bar.is_history else bar
        for event in self._stream.accept(self._columns.exchange_bar(place)):
            if isinstance(event, ExchangeBar) and not self._has_longer_bars:
                self._pipeline.feed_bar(event, closed)
            else:
                self._pipeline.feed(event)


def first_near_limit(equity: Ints, risk: RiskCore) -> int:
    """Return the place of the first equity (1e-8) that comes near a limit of loss; their number where none does."""
    levels = equity / SCALE
    peaks = np.maximum(np.maximum.accumulate(levels), float(risk.peak_equity))
    floors = np.maximum(risk.equity_floor(), peaks * (1.0 - risk.drawdown_share()))
    near = np.flatnonzero(levels <= floors * (1.0 + _NEAR))
    return int(near[0]) if len(near) else len(equity)


def equity_at(closes: Ints, wallet: Decimal, quantity: Decimal, entry_price: Decimal) -> Ints:
    """Return the equity at closes, in 1e-8, rounded half-even as the ledger's is; exact in 64 bits."""
    return equity_over(closes, to_e8(wallet), to_e8(quantity), to_e8(entry_price))
