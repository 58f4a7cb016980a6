"""One assumption changed at a time."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from services.backtest.options import BacktestOptions, parse_settings
from services.backtest.sensitivity import measure_sensitivity
from services.backtest.sweep import MarketSource, SweepPlan
from services.strategy.settings import StrategyChoice
from tests.unit.backtest.test_backtest_run import bars_file
from tests.unit.backtest.test_oracle import WIDE_LIMITS

BTC = "BTCUSDT.BINANCE"


def test_fees_and_slippage_cost_what_was_traded_times_their_rate(tmp_path: Path) -> None:
    market = MarketSource(BTC, str(bars_file(tmp_path / "bars.parquet")))
    wide = (*WIDE_LIMITS, "execution.bar_fill=close", "execution.slippage_bps=0", "execution.taker_fee_rate=0")
    settings = parse_settings(wide)
    cross = StrategyChoice(path="ema_cross", parameters={"fast_bars": 2, "slow_bars": 5, "quantity": "0.01"})
    plan = SweepPlan(market, BacktestOptions(BTC, settings=settings), cross, ())
    given = {"taker fee rate": ["0.001"], "slippage, bps": ["10"]}
    base, found = measure_sensitivity(plan, given, tmp_path / "out", workers=1)
    traded = Decimal(str(base.measures["turnover"])) * 10_000
    assert traded > 0
    for one in found:
        lost = Decimal(base.measures["pnl_usdt"]) - Decimal(one.point.measures["pnl_usdt"])
        # Prices of fills are on the tick.
        assert abs(lost - traded / 1000) < traded / 50_000, one.assumption
    assert [(one.assumption, one.value) for one in found] == [("taker fee rate", "0.001"), ("slippage, bps", "10")]
    again, _ = measure_sensitivity(plan, given, tmp_path / "out", workers=1)
    assert again == base
