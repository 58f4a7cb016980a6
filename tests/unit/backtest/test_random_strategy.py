"""A strategy that decides by nothing loses its costs and nothing else, within what chance allows."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Sequence
from decimal import Decimal

import pytest

from libs.domain.bars import Bar
from services.backtest.inputs import open_recording
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.report import build_report
from services.backtest.run import run_backtest
from services.strategy import AccountView, Strategy, TargetPosition
from tests.unit.backtest.test_oracle import BARS, BTC, ORACLE


class Coin(Strategy):
    """Takes a side every ten bars by a digest of the bar's name, which no price knows."""

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        if bar.open_time // (bar.close_time - bar.open_time) % 10:
            return ()
        side = 1 if hashlib.sha256(bar.event_id.encode()).digest()[0] % 2 else -1
        return (TargetPosition(bar.instrument, Decimal(0), "the coin fell", quantity=Decimal(side)),)


@pytest.mark.slow
@pytest.mark.skipif(not BARS.is_file(), reason=f"no recorded bars at {BARS}; set PERPFLOW_SHARED")
def test_strategy_of_chance_loses_its_costs_and_nothing_else() -> None:
    market = open_recording(BARS, instrument=BTC, history=None, history_bars=0)
    assert market.columns is not None
    options = BacktestOptions(
        BTC,
        strategies=parse_strategies(["tests.unit.backtest.test_random_strategy:Coin"]),
        starting_balance_usdt=Decimal(1_000_000),
        settings=parse_settings(ORACLE),
        until=int(market.columns.open_time[6000]),
    )
    report = build_report(run_backtest(market, options))
    trips = report["round_trips"]
    gross = [float(trip["pnl_usdt"]) + float(trip["fees_usdt"]) for trip in trips]
    assert len(gross) > 200
    error = statistics.stdev(gross) * math.sqrt(len(gross))
    assert abs(sum(gross)) < 3 * error
    costs = Decimal(report["fees_usdt"]) + Decimal(report["funding_usdt"])
    assert Decimal(report["pnl_usdt"]) == Decimal(report["gross_pnl_usdt"]) - costs
    assert float(report["pnl_usdt"]) < 0
