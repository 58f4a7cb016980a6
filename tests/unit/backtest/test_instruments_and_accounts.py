"""Several instruments and accounts in one run: as a session decides, and each account as if it were alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest

from libs.domain.events import DeadInput, Event
from libs.domain.market import ClockTick, MarketEvent
from libs.runtime.errors import BadInput
from libs.wire import encode, topics
from services.backtest.inputs import MarketInput, merge_markets, open_simulation
from services.backtest.options import AccountChoice, BacktestOptions, parse_strategies
from services.backtest.report import build_report
from services.backtest.run import BacktestResult, run_accounts, run_backtest
from tests.kit.chain import a_bus, a_chain, publish, published, run_dry
from tests.kit.market_strategy import PATH

BTC, ETH = "BTCUSDT.BINANCE", "ETHUSDT.BINANCE"
STRATEGIES = parse_strategies([PATH])
SWIFT = {"PERPFLOW_STRATEGY_STRATEGIES": json.dumps([{"path": PATH, "parameters": {"every": 25}}])}


@cache
def tape(instrument: str) -> Sequence[MarketEvent]:
    market = open_simulation(7 + (instrument == ETH), minutes=2, history_bars=5, instrument=instrument)
    return [event for event in market.events if not isinstance(event, DeadInput)]


def a_market(*instruments: str) -> MarketInput:
    return merge_markets(
        [MarketInput({"source": "simulated", "instrument": name}, "", iter(tape(name))) for name in instruments]
    )


def events_of(*instruments: str) -> Sequence[MarketEvent]:
    return [event for event in a_market(*instruments).events if not isinstance(event, DeadInput)]


def what_happened(result: BacktestResult) -> object:
    record = result.record
    return (result.start, result.end, record.fills, record.equity, record.prices, record.refusals, result.parameters)


def test_markets_are_merged_by_time_and_each_keeps_its_own_order() -> None:
    merged = events_of(BTC, ETH)
    for name in (BTC, ETH):
        assert [event for event in merged if event.instrument == name] == tape(name)
    ticks = [event.event_time for event in merged if isinstance(event, ClockTick)]
    assert ticks == sorted(ticks)
    assert len({event.event_id for event in merged}) == len(merged)


def test_a_run_of_two_instruments_decides_what_a_fused_session_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []

    def listen(event: Event) -> None:
        encoded = encode(event)
        if encoded.topic == topics.INTENTS:
            made.append(encoded.payload)

    result = run_backtest(a_market(BTC, ETH), BacktestOptions(BTC, STRATEGIES, further=(ETH,)), listen=listen)
    assert {fill.instrument for fill in result.record.fills} == {BTC, ETH}
    monkeypatch.setenv("PERPFLOW_STRATEGY_STRATEGIES", json.dumps([{"path": PATH}]))
    with a_bus() as bus:
        publish(bus, events_of(BTC, ETH))
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        assert published(bus)[topics.INTENTS] == made


def test_the_report_of_two_instruments_keeps_their_trips_apart() -> None:
    report = build_report(run_backtest(a_market(BTC, ETH), BacktestOptions(BTC, STRATEGIES, further=(ETH,))))
    trips = report["round_trips"]
    assert (
        {trip["instrument"] for trip in trips}
        == {BTC, ETH}
        == {row["name"] for row in report["attribution"]["instrument"]}
    )
    assert all(0.9 < float(trip["exit_price"]) / float(trip["entry_price"]) < 1.1 for trip in trips)
    assert len(report["fills_shown"]) < report["fills"]
    assert any("the first of 2 instruments" in caveat for caveat in report["caveats"])


def test_each_account_does_what_it_does_alone() -> None:
    alpha, beta = AccountChoice("alpha", (BTC, ETH)), AccountChoice("beta", (ETH,), SWIFT)
    options = BacktestOptions(BTC, further=(ETH,), environment={}, accounts=(alpha, beta))
    together = run_accounts(a_market(BTC, ETH), options)
    assert list(together) == ["alpha", "beta"]
    for choice in (alpha, beta):
        result = run_backtest(a_market(BTC, ETH), replace(options, accounts=(choice,)))
        assert what_happened(together[choice.name]) == what_happened(result)
    assert {fill.instrument for fill in together["beta"].record.fills} == {ETH}


def test_ticks_and_bars_are_not_one_market() -> None:
    with pytest.raises(BadInput, match="must be alike"):
        merge_markets([a_market(BTC), replace(a_market(ETH), timeframe="5m")])
