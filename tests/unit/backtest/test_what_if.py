"""Two runs over one market, compared by what they decided."""

from __future__ import annotations

import pytest

from libs.domain.market import Side
from services.backtest.inputs import open_simulation
from services.backtest.options import BacktestOptions
from services.backtest.run import run_backtest
from services.backtest.what_if import Decisions, compare_runs
from tests.kit.builders import an_account, an_intent

BTC = "BTCUSDT.BINANCE"
STRATEGY = '[{"path": "ema_cross", "parameters": {"fast_bars": 2, "slow_bars": 3, "warm_up_bars": 2}}]'


def decide(*intents: object, equity: str = "10000") -> Decisions:
    decisions = Decisions()
    for intent in intents:
        decisions.see(intent)  # type: ignore[arg-type]
    decisions.see(an_account(balance=equity))
    return decisions


def test_decisions_stay_change_fall_away_or_are_new() -> None:
    before = decide(an_intent(1), an_intent(2), an_intent(3))
    after = decide(an_intent(1), an_intent(2, side=Side.SELL), an_intent(4), equity="10010")
    found = compare_runs(before, after)
    assert [found[name] for name in ("agreed", "changed", "missing", "added")] == [1, 1, 1, 1]
    assert found["equity_difference_usdt"] == "10"
    assert [example["before"] for example in found["examples"]] == [
        "asked for BUY 0.01 BTCUSDT.BINANCE", "nothing", "asked for BUY 0.01 BTCUSDT.BINANCE"
    ]  # fmt: skip


@pytest.mark.slow
def test_a_changed_limit_is_followed_through_the_venue() -> None:
    runs = []
    for limit in ("5000", "100"):
        environment = {
            "PERPFLOW_STRATEGY_STRATEGIES": STRATEGY, "PERPFLOW_RISK_MAX_ORDER_NOTIONAL_USDT": limit
        }  # fmt: skip
        decisions = Decisions()
        market = open_simulation(7, minutes=6, history_bars=10)
        run_backtest(market, BacktestOptions(BTC, environment=environment), listen=decisions.see)
        runs.append(decisions)
    before, after = runs
    assert before.fills and not before.refused
    assert after.refused and not after.fills
    found = compare_runs(before, after)
    # What was filled is not, and what then was held is not closed: the later decisions differ too.
    assert found["missing"] > 0 and found["added"] > 0
    assert found["after"]["final_equity_usdt"] == "10000"
