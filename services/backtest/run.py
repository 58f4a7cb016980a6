"""Runs a market through the services' cores and returns what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from libs.domain.instruments import UnknownInstrument, find_instrument
from libs.domain.market import ClockTick, ExchangeBar
from libs.runtime.errors import BadInput
from libs.runtime.source import DeadInput
from services.backtest.building import build_stages
from services.backtest.inputs import MarketInput, bar_length_ns
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import DeadEvent, Pipeline
from services.backtest.recorder import RunRecord, RunRecorder

_SHOWN_ERRORS = 20


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
    market: MarketInput, options: BacktestOptions, progress: Callable[[int], None] = lambda _: None
) -> BacktestResult:
    """Run the market through the cores; `progress` hears the market time (ns) now and then. Raises `BadInput`.

    The same input and settings give the same result, digests included.
    """
    try:
        find_instrument(options.instrument)
    except UnknownInstrument as error:
        raise BadInput(str(error)) from error
    timeframe = market.timeframe or "1m"
    step_ns = bar_length_ns(timeframe)
    built = build_stages(options, timeframe)
    recorder = RunRecorder(options.instrument, timeframe, with_digests=options.digests)
    pipeline = Pipeline(built.stages, recorder.observe, trade_from=options.trade_from)
    input_errors: list[str] = []
    dead_inputs = started_at = ended_at = 0
    heard_at = 0
    for event in market.events:
        if isinstance(event, DeadInput):
            dead_inputs += 1
            if len(input_errors) < _SHOWN_ERRORS:
                input_errors.append(f"{event.source}:{event.position}: {event.reason}")
            continue
        if options.until is not None and event.event_time >= options.until:
            break
        if not (isinstance(event, ExchangeBar) and event.is_history):
            started_at = started_at or _start_of(event)
            ended_at = max(ended_at, event.event_time)
        pipeline.feed(event)
        if isinstance(event, ClockTick | ExchangeBar) and event.event_time >= heard_at + step_ns:
            heard_at = event.event_time
            progress(event.event_time)
    if not started_at:
        raise BadInput("the input holds no market event before the end that was asked for; check the file and --to")
    start = max(started_at, options.trade_from)
    if start >= ended_at:
        raise BadInput("the input ends before --from; nothing could be traded")
    record = recorder.finish()
    record.counts["dead_inputs"] = dead_inputs
    return BacktestResult(
        description=dict(market.description),
        parameters=built.parameters,
        start=start,
        end=ended_at,
        record=record,
        digests=recorder.digests(),
        dead=pipeline.dead,
        input_errors=input_errors,
        notes=list(built.notes),
    )


def _start_of(event: object) -> int:
    # A bar covers its time from its open on; anything else is an instant.
    if isinstance(event, ExchangeBar):
        return event.open_time
    return int(getattr(event, "event_time", 0))
