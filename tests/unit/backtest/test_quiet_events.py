"""Passing trades, quotes and books between decisions leaves every core as handling each does, to the byte."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pytest

from libs.domain.events import DeadInput
from libs.domain.market import BestQuote, DepthDelta, MarketEvent
from libs.domain.market_columns import DELTA, QUOTE, TRADE, columns_of
from libs.runtime.errors import BadInput
from services.backtest.building import build_stages
from services.backtest.inputs import open_recording, open_simulation
from services.backtest.market_file import write_market
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.pipeline import Pipeline
from services.backtest.quiet_events import QuietEvents
from services.backtest.recorder import RunRecorder
from services.backtest.run import run_backtest
from tests.kit.captures import simulated_capture
from tests.unit.backtest.test_oracle import WIDE_LIMITS

BTC = "BTCUSDT.BINANCE"
SHARED = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[3] / ".." / "shared")).resolve()
CAPTURES = SHARED / "data/market/capture"
CROSS = 'ema_cross={"fast_bars": 1, "slow_bars": 2, "warm_up_bars": 1, "quantity": "0.05"}'
SETTINGS: dict[str, Sequence[str]] = {
    "wide": WIDE_LIMITS,
    "no-latency": (*WIDE_LIMITS, "execution.latency_ms=0", "execution.account_interval_s=1"),
    "slow-orders": (*WIDE_LIMITS, "execution.latency_ms=1500"),
    "daily-loss": (*WIDE_LIMITS, "risk.max_daily_loss_fraction=0.00001", "risk.soft_drawdown_fraction=0.00001"),
    "stops": (*WIDE_LIMITS, "risk.stop_loss_fraction=0.001", "risk.take_profit_fraction=0.002"),
    "default-limits": (),
}


@cache
def simulated() -> tuple[MarketEvent, ...]:
    events = open_simulation(11, minutes=4, history_bars=5).events
    return tuple(event for event in events if not isinstance(event, DeadInput))


def without_quotes(events: Sequence[MarketEvent]) -> list[MarketEvent]:
    """Leave out the quotes of the first minutes, so that last prices stand for them until one comes."""
    half = len(events) // 2
    return [event for place, event in enumerate(events) if place > half or not isinstance(event, BestQuote)]


def options_of(settings: str, strategy: str = CROSS, **changes: Any) -> BacktestOptions:
    given = parse_settings(SETTINGS[settings])
    return BacktestOptions(BTC, strategies=parse_strategies([strategy]), settings=given, environment={}, **changes)


def run(events: Sequence[MarketEvent], options: BacktestOptions, chunk: int) -> tuple[Any, ...]:
    """Run events, passed in chunks or, with chunk 0, one by one; return all that is known at the end."""
    built = build_stages(options, "1m")
    only = built.accounts[0]
    recorder = RunRecorder((BTC,), "1m", with_digests=False)
    handled = 0

    def observe(event: Any) -> None:
        nonlocal handled
        handled += 1
        recorder.observe(event)

    pipeline = Pipeline(built.stages, observe, trade_from=options.trade_from)
    if chunk:
        quiet = QuietEvents(BTC, pipeline, recorder, bars=built.bars, risk=only.risk, execution=only.execution)
        left = iter(events)
        while some := list(islice(left, chunk)):
            quiet.run(columns_of(BTC, some))
    else:
        for event in events:
            pipeline.feed(event)
    states = {stage.name: stage.core.snapshot() for stage in built.stages}
    return states, recorder.finish(), pipeline.dead, handled


def assert_alike(events: Sequence[MarketEvent], options: BacktestOptions, chunk: int = 700) -> Any:
    *expected, all_handled = run(events, options, 0)
    *found, handled = run(events, options, chunk)
    assert found == expected
    assert handled < all_handled / 2
    return expected[1]


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_core_ends_alike_on_a_simulated_market(settings: str) -> None:
    record = assert_alike(simulated(), options_of(settings))
    assert record.fills or settings == "default-limits"


def test_every_core_ends_alike_where_quotes_begin_in_the_middle() -> None:
    assert_alike(without_quotes(simulated()), options_of("wide"))


def test_every_core_ends_alike_where_a_book_changes_last() -> None:
    events = simulated()
    times = [0, *accumulate((event.event_time for event in events), max)]
    last = max(at for at, event in enumerate(events) if isinstance(event, DepthDelta) and event.event_time > times[at])
    # Risk does not follow books, so what is the latest time to others is not to it.
    assert_alike(events[: last + 1], options_of("wide"))


def test_every_core_ends_alike_where_a_strategy_has_a_timer_and_trading_begins_later() -> None:
    times = [event.event_time for event in simulated()]
    options = options_of("wide", "tests.kit.market_strategy:Timed", trade_from=times[len(times) // 3])
    assert assert_alike(simulated(), options, chunk=5000).fills


def test_a_run_passes_by_itself_and_comes_out_as_the_plain_one() -> None:
    results = []
    for fast in (True, False):
        market = open_simulation(11, minutes=2, history_bars=5)
        results.append(run_backtest(market, options_of("wide", fast=fast)))
    assert results[0] == results[1]


def test_columns_give_every_event_again() -> None:
    events = simulated()
    columns = columns_of(BTC, events)
    assert [columns.event(place) for place in range(len(columns))] == list(events)
    assert {TRADE, QUOTE, DELTA} <= set(columns.kinds.tolist())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "instrument"),
    [
        ("binance_um_BTCUSDT_20240808.ns-jsonl.gz", BTC),
        ("binance_spot_BTCUSDT_20240808.ns-jsonl.gz", "BTCUSDT.BINANCE_SPOT"),
    ],
)
def test_every_core_ends_alike_on_a_recorded_capture(name: str, instrument: str) -> None:
    if not (CAPTURES / name).is_file():
        pytest.skip(f"no recorded capture {name} in {CAPTURES}")
    market = open_recording(CAPTURES / name, instrument=instrument, history=None, history_bars=0)
    # Spot is not traded; its flow is as good as any to compare both ways by.
    events = [replace(event, instrument=BTC) for event in market.events if not isinstance(event, DeadInput)]
    assert assert_alike(events, options_of("wide"), chunk=16_384).fills


def test_a_prepared_market_runs_as_the_recording_does(tmp_path: Path) -> None:
    capture = tmp_path / "market.jsonl"
    capture.write_text("\n".join([*simulated_capture(3, 4), "123 {broken"]) + "\n")
    market = open_recording(capture, instrument=BTC, history=None, history_bars=0)
    prepared = tmp_path / "some.market"
    count, dead = write_market(prepared, BTC, market.events, market.description)
    plain = open_recording(capture, instrument=BTC, history=None, history_bars=0)
    events = [event for event in plain.events if not isinstance(event, DeadInput)]
    opened = open_recording(prepared, instrument=BTC, history=None, history_bars=0)
    assert list(opened.events) == events
    assert (count, len(dead)) == (len(events), 1)
    for until in (None, events[len(events) // 2].event_time):
        results = []
        for path in (prepared, capture):
            opened = open_recording(path, instrument=BTC, history=None, history_bars=0)
            results.append(run_backtest(opened, options_of("wide", until=until)))
            results[-1].record.counts.pop("dead_inputs")
        assert results[0].record == results[1].record
        assert (results[0].start, results[0].end) == (results[1].start, results[1].end)
        assert results[0].record.fills or until


def test_what_is_no_prepared_market_is_refused_by_name(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.market"
    wrong.write_bytes(b"not an Arrow file")
    with pytest.raises(BadInput, match=r"wrong\.market is no file of perpflow prepare-market"):
        open_recording(wrong, instrument=BTC, history=None, history_bars=0)
    write_market(wrong, BTC, iter(simulated()[:10]), {"source": "simulated"})
    with pytest.raises(BadInput, match=r"is of BTCUSDT\.BINANCE, not of ETH"):
        open_recording(wrong, instrument="ETHUSDT.BINANCE", history=None, history_bars=0)
