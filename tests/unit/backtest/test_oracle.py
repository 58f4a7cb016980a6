"""A strategy whose result three other backtesters agree on, through the same cores that trade live.

EMA(10)/EMA(20) stop-and-reverse of 1 BTC on 143,900 bars, fills at the close, taker 0.05 %, no funding: 6,995 orders
and a final equity of 741,133.87 USDT in backtesting.py, vectorbt and nautilus_trader. Risk judges every order; its
limits are set wide.
"""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from services.backtest.inputs import open_recording
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.report import build_report
from services.backtest.run import run_backtest

BTC = "BTCUSDT.BINANCE"
SHARED = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[3] / ".." / "shared")).resolve()
BARS = SHARED / "data/market/ohlcv/binance_um_BTCUSDT_5m_20230101_20240514.parquet"
WIDE_LIMITS = (
    *(
        f"risk.max_{name}_usdt=1000000000"
        for name in ("order_notional", "position_notional", "instrument_exposure", "total_exposure")
    ),
    *(f"risk.{name}_fraction=0.99" for name in ("max_daily_loss", "soft_drawdown", "hard_drawdown")),
    "risk.max_consecutive_losses=1000000",
    "risk.max_volatility_ratio=1000000",
)
ORACLE = (*WIDE_LIMITS, "execution.bar_fill=close", "execution.slippage_bps=0", "execution.taker_fee_rate=0.0005")
STRATEGY = 'ema_cross={"fast_bars": 10, "slow_bars": 20, "warm_up_bars": 20, "quantity": "1"}'


@pytest.mark.slow
@pytest.mark.skipif(not BARS.is_file(), reason=f"no recorded bars at {BARS}; set PERPFLOW_SHARED")
@pytest.mark.timeout(1200)
def test_result_is_that_of_other_backtesters_to_the_cent() -> None:
    result = run_backtest(
        open_recording(BARS, instrument=BTC, history=None, history_bars=0),
        BacktestOptions(
            BTC,
            strategies=parse_strategies([STRATEGY]),
            starting_balance_usdt=Decimal(1_000_000),
            settings=parse_settings(ORACLE),
        ),
    )
    report = build_report(result)
    assert report["counts"]["orders"] == report["fills"] == 6995
    assert report["counts"]["refused"] == 0
    assert round(Decimal(report["final_equity_usdt"]), 2) == Decimal("741133.87")
