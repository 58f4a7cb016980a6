"""A session's market out of ClickHouse: the same run, to the digests, as over what was recorded."""

from __future__ import annotations

import time

import pytest

from libs.domain.events import DeadInput
from libs.store import Store, StoredRow
from libs.wire.topics import MARKET_EVENTS
from services.backtest.inputs import open_simulation
from services.backtest.options import BacktestOptions
from services.backtest.run import run_backtest
from services.console.recorded_market import open_store_market

BTC = "BTCUSDT.BINANCE"


@pytest.mark.slow
def test_run_over_tables_has_the_digests_of_the_run_over_their_source(store: Store) -> None:
    events = list(open_simulation(7, minutes=2, history_bars=50).events)
    now_ms = time.time_ns() // 1_000_000
    rows = [
        StoredRow(0, 3 * offset, BTC.encode(), now_ms, event)
        for offset, event in enumerate(events)
        if not isinstance(event, DeadInput)
    ]
    assert len(rows) == len(events)
    for first in range(0, len(rows), 1000):
        store.insert(MARKET_EVENTS, rows[first : first + 1000])
    options = BacktestOptions(BTC, digests=True)
    recorded = run_backtest(open_store_market(store, BTC, origin="the tables"), options)
    made = run_backtest(open_simulation(7, minutes=2, history_bars=50), options)
    assert recorded.digests["market_events"] == made.digests["market_events"]
    assert {name: recorded.digests[name] for name in ("bars", "vectors")} == {
        name: made.digests[name] for name in ("bars", "vectors")
    }
