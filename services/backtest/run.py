"""Runs a market through the services' cores and returns what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from libs.domain.control import ControlCommand
from libs.domain.events import DeadInput, Event
from libs.domain.instruments import UnknownInstrument, find_instrument
from libs.domain.market import ClockTick, ExchangeBar, MarketEvent
from libs.domain.market_columns import CHUNK, MarketColumns, columns_of
from libs.runtime.errors import BadInput
from services.backtest.bar_account import BarAccount
from services.backtest.building import AccountStages, build_stages
from services.backtest.columns import BarColumns
from services.backtest.inputs import MarketInput, bar_length_ns, merge_commands
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import DeadEvent, Pipeline
from services.backtest.quiet_bars import QuietBars
from services.backtest.quiet_events import QuietEvents
from services.backtest.quiet_trades import QuietTrades
from services.backtest.recorder import RunRecord, RunRecorder
from services.backtest.trade_columns import TradeColumns, TradeFile
from services.bars.core import BarsCore

_SHOWN_ERRORS = 20
EventT = TypeVar("EventT", bound=MarketEvent | ControlCommand)


@dataclass(slots=True)
class BacktestResult:
    """A finished run: where its market came from, its parameters, the period its measures cover, what happened."""

    description: dict[str, Any]
    parameters: dict[str, Any]
    start: int
    end: int
    record: RunRecord
    digests: dict[str, str] = field(default_factory=dict)
    dead: list[DeadEvent] = field(default_factory=list)
    input_errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def run_backtest(
    market: MarketInput,
    options: BacktestOptions,
    progress: Callable[[int], None] = lambda _: None,
    listen: Callable[[Event], None] | None = None,
) -> BacktestResult:
    """Run the market through the cores of one account; `progress` gets the market time (ns) now and then, `listen`
    every event of the run. Raises `BadInput`.

    The same input and settings give the same result, digests included.
    """
    (result,) = run_accounts(market, options, progress, listen).values()
    return result


def run_accounts(
    market: MarketInput,
    options: BacktestOptions,
    progress: Callable[[int], None] = lambda _: None,
    listen: Callable[[Event], None] | None = None,
) -> dict[str, BacktestResult]:
    """Run the market through the cores of every account, as `run_backtest` does for one; return a result for each.

    Digests are of all accounts together.
    """
    try:
        for instrument in options.instruments:
            find_instrument(instrument)
    except UnknownInstrument as error:
        raise BadInput(str(error)) from error
    timeframe = market.timeframe or "1m"
    step_ns = bar_length_ns(timeframe)
    built = build_stages(options, timeframe, is_simulated=market.description.get("source") == "simulated")
    is_alone = len(built.accounts) == 1
    recorders = [
        RunRecorder(
            one.instruments,
            timeframe,
            with_digests=options.digests and is_alone,
            account="" if is_alone else one.account,
        )
        for one in built.accounts
    ]
    observers: list[Callable[[Event], None]] = [recorder.observe for recorder in recorders]
    digester = recorders[0]
    if options.digests and not is_alone:
        digester = RunRecorder(options.instruments, timeframe, with_digests=True)
        observers.append(digester.observe)
    if listen is not None:
        observers.append(listen)
    pipeline = Pipeline(built.stages, _all(observers), trade_from=options.trade_from)
    feed = _Feed(pipeline, options, step_ns, progress)
    columns, trades = market.columns, market.trades
    only = built.accounts[0]
    is_free = is_alone and not options.further and not market.commands and listen is None
    if is_free and columns is not None and QuietBars.can_run(columns, only.strategy, options):
        feed.run_columns(columns, built.bars, only, digester)
    elif is_free and trades is not None and QuietTrades.can_run(trades, only.strategy, options):
        feed.run_trades(trades, built.bars, only, digester)
    elif is_free and QuietEvents.can_run(only.strategy, options):
        feed.run_chunks(market, built.bars, only, digester)
    else:
        feed.run_events(merge_commands(market.events, market.commands))
    started_at, ended_at = feed.started_at, feed.ended_at
    if not started_at:
        raise BadInput("the input holds no market event before the end that was asked for; check the file and --to")
    start = max(started_at, options.trade_from)
    if start >= ended_at:
        raise BadInput("the input ends before --from; nothing could be traded")
    results: dict[str, BacktestResult] = {}
    for one, recorder in zip(built.accounts, recorders, strict=True):
        record = recorder.finish()
        record.counts["dead_inputs"] = feed.dead_inputs
        described = {} if is_alone else {"account": one.account}
        results[one.account] = BacktestResult(
            description={**market.description, **described},
            parameters=one.parameters,
            start=start,
            end=ended_at,
            record=record,
            digests=digester.digests(),
            dead=pipeline.dead,
            input_errors=feed.input_errors,
            notes=list(built.notes),
        )
    return results


def _all(observers: Sequence[Callable[[Event], None]]) -> Callable[[Event], None]:
    if len(observers) == 1:
        return observers[0]

    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe


def find_period(market: MarketInput, options: BacktestOptions) -> tuple[int, int]:
    """Return the first and last time (ns) that a run over the market would cover. Raises `BadInput`."""
    columns = market.columns
    if columns is not None:
        start, end = int(columns.open_time[0]), int(columns.open_time[-1]) + columns.length_ns
    else:
        times = [
            event.event_time
            for event in market.events
            if not isinstance(event, DeadInput) and not (isinstance(event, ExchangeBar) and event.is_history)
        ]
        start, end = min(times, default=0), max(times, default=0)
    start, end = max(start, options.trade_from), end if options.until is None else min(end, options.until)
    if start >= end:
        raise BadInput("the input holds nothing between --from and --to")
    return start, end


def open_bars(
    columns: BarColumns,
    pipeline: Pipeline,
    recorder: RunRecorder,
    bars: BarsCore,
    built: AccountStages,
    trade_from: int,
) -> QuietBars:
    """Return what runs a market of bars through cores, its account kept apart where that can be."""
    account = None
    if BarAccount.can_serve(columns, built.execution_settings, built.strategy):
        account = BarAccount(
            columns,
            find_instrument(columns.instrument),
            built.execution_settings,
            recorder,
            execution=built.execution,
            risk=built.risk,
            strategy=built.strategy,
        )
    return QuietBars(
        columns,
        pipeline,
        recorder,
        bars=bars,
        risk=built.risk,
        execution=built.execution,
        strategy=built.strategy,
        account=account,
        trade_from=trade_from,
    )


class _Feed:
    """Feeds a market to the pipeline up to the end asked for, and knows its first and last time."""

    def __init__(
        self, pipeline: Pipeline, options: BacktestOptions, step_ns: int, progress: Callable[[int], None]
    ) -> None:
        self._pipeline = pipeline
        self._options = options
        self._step_ns = step_ns
        self._progress = progress
        self.started_at = self.ended_at = self.dead_inputs = 0
        self.input_errors: list[str] = []

    def run_columns(self, columns: BarColumns, bars: BarsCore, built: AccountStages, recorder: RunRecorder) -> None:
        """Run a market of bars, passing those between which nothing is decided."""
        until = self._options.until
        count = len(columns)
        if until is not None:
            count = int(np.searchsorted(columns.open_time + columns.length_ns, until))
        if not count:
            return
        self.started_at = int(columns.open_time[0])
        self.ended_at = int(columns.open_time[count - 1]) + columns.length_ns
        quiet = open_bars(columns, self._pipeline, recorder, bars, built, self._options.trade_from)
        quiet.run(count, self._progress)

    def run_trades(
        self, trades: TradeColumns | TradeFile, bars: BarsCore, built: AccountStages, recorder: RunRecorder
    ) -> None:
        """Run a market of trades, passing those between which nothing is decided."""
        until, begin = self._options.until, 0
        for columns in trades.parts():
            count = len(columns) if until is None else int(np.searchsorted(columns.times, until))
            if not count:
                return
            if not begin:
                self.started_at = int(columns.times[0])
            self.ended_at = int(columns.times[count - 1])
            quiet = QuietTrades(
                columns,
                self._pipeline,
                recorder,
                bars=bars,
                risk=built.risk,
                execution=built.execution,
                strategy=built.strategy,
            )
            quiet.run(begin, count, self._progress)
            if until is not None:
                self.ended_at = max(self.ended_at, quiet.feed_last_tick(count, until))
            if count < len(columns):
                return
            begin = 1

    def run_chunks(self, market: MarketInput, bars: BarsCore, built: AccountStages, recorder: RunRecorder) -> None:
        """Run a market of ticks, passing the events between which nothing is decided."""
        instrument = self._options.instrument
        quiet = QuietEvents(instrument, self._pipeline, recorder, bars=bars, risk=built.risk, execution=built.execution)
        prepared = market.prepared
        for columns in self._make_chunks(market.events) if prepared is None else self._until_end(prepared.chunks()):
            quiet.run(columns)
            self._progress(self.ended_at)

    def _make_chunks(self, events: Iterable[MarketEvent | DeadInput]) -> Iterator[MarketColumns]:
        live: Iterator[MarketEvent] = self._live(events)
        while some := list(islice(live, CHUNK)):
            yield columns_of(self._options.instrument, some)

    def _until_end(self, chunks: Iterable[MarketColumns]) -> Iterator[MarketColumns]:
        """Yield columns up to the end asked for; note the times, as `_live` does."""
        until = self._options.until
        for whole in chunks:
            columns = whole
            if until is not None and len(behind := np.flatnonzero(whole.times >= until)):
                columns = whole.before(int(behind[0]))
            for place in range(len(columns) if not self.started_at else 0):
                event = columns.event(place)
                if not (isinstance(event, ExchangeBar) and event.is_history):
                    self.started_at = _start_of(event)
                    break
            if self.started_at and len(columns):
                self.ended_at = max(self.ended_at, int(columns.times.max()))
            yield columns
            if len(columns) < len(whole):
                return

    def run_events(self, events: Iterable[MarketEvent | ControlCommand | DeadInput]) -> None:
        """Run a market event by event."""
        heard_at = 0
        for event in self._live(events):
            self._pipeline.feed(event)
            if isinstance(event, ClockTick | ExchangeBar) and event.event_time >= heard_at + self._step_ns:
                heard_at = event.event_time
                self._progress(event.event_time)

    def _live(self, events: Iterable[EventT | DeadInput]) -> Iterator[EventT]:
        """Yield the events up to the end asked for; note the times and what could not be read."""
        for event in events:
            if isinstance(event, DeadInput):
                self.dead_inputs += 1
                if len(self.input_errors) < _SHOWN_ERRORS:
                    self.input_errors.append(f"{event.source}:{event.position}: {event.reason}")
                continue
            if self._options.until is not None and event.event_time >= self._options.until:
                return
            if not (isinstance(event, ExchangeBar) and event.is_history):
                self.started_at = self.started_at or _start_of(event)
                self.ended_at = max(self.ended_at, event.event_time)
            yield event


def _start_of(event: object) -> int:
    # A bar covers its time from its open on; anything else is an instant.
    if isinstance(event, ExchangeBar):
        return event.open_time
    return int(getattr(event, "event_time", 0))
