"""A fused session, as a person runs it: its chain is killed, and it equals the backtest over its market still."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.kit.platform import SHARED, Platform, SessionOutcome, trading_platform

CAPTURE = SHARED / "data/market/capture/binance_um_BTCUSDT_20240808.ns-jsonl.gz"
HISTORY = SHARED / "data/market/ohlcv/binance_spot_BTCUSDT_1m_20240726_20240825.parquet"
SIMULATED = ("--market", "simulated", "--seed", "7", "--speed", "60", "--span", "10m")

pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_a_fused_session_whose_chain_is_killed_equals_the_backtest_over_its_market(tmp_path: Path) -> None:
    platform = trading_platform(tmp_path)
    outcome = platform.up(*SIMULATED, "--layout", "fused", kill=("chain", "chain", "recorder", "chain"))
    assert_equal_to_backtest(platform, outcome)
    assert outcome.summary["restarts"] >= 3


@pytest.mark.slow
@pytest.mark.skipif(not (CAPTURE.is_file() and HISTORY.is_file()), reason="../shared has no recorded market")
def test_fused_over_a_recorded_market_equals_the_backtest(tmp_path: Path) -> None:
    platform = trading_platform(tmp_path)
    recorded = ("--market", f"recorded:{CAPTURE}", "--history", str(HISTORY), "--speed", "20", "--span", "2m")
    outcome = platform.up(*recorded, "--layout", "fused", kill=("chain", "chain"))
    assert_equal_to_backtest(platform, outcome)


def assert_equal_to_backtest(platform: Platform, outcome: SessionOutcome) -> None:
    assert outcome.exit_code == 0, outcome.stderr[-3000:]
    summary = outcome.summary
    assert set(summary["invariants"].values()) == {0}
    assert summary["orders"] > 0
    assert summary["topics"] == summary["tables"]
    done = platform.call("backtest", "--session", summary["session"], "--digests", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digests"] == {**summary["digests"], **summary["decision_digests"]}
    replayed = platform.call("replay", "--verify", "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert {each["service"] for each in json.loads(replayed.stdout)["services"]} == {
        *("bars", "features", "inference", "strategy", "risk", "execution")
    }
