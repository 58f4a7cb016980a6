from __future__ import annotations

import dataclasses
import gzip
import json
import os
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.domain.market import Trade
from libs.runtime.errors import BadInput
from services.backtest.backtest import BacktestOptions, BacktestResult, choices_of, run_backtest
from services.backtest.inputs import open_recording, open_simulation
from services.backtest.report import report_of, write_report
from services.exchange.core import SimulatedMarket, generate_events, generate_history
from services.exchange.core.frames import format_lines
from services.strategy.settings import StrategyChoice
from tests.unit.backtest.builders import MINUTE, START

BTC = "BTCUSDT.BINANCE"
END = START + 3 * MINUTE - 10**9
SHARED = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[3] / ".." / "shared")).resolve()
CAPTURE = SHARED / "data/market/capture/binance_um_BTCUSDT_20240808.ns-jsonl.gz"
KLINES = SHARED / "data/market/ohlcv/binance_spot_BTCUSDT_1m_20240726_20240825.parquet"


def simulated(minutes: int = 6, **options: object) -> BacktestResult:
    market = open_simulation(7, minutes=minutes, history_bars=300)
    return run_backtest(market, dataclasses.replace(BacktestOptions(BTC), **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def six_minutes() -> BacktestResult:
    return simulated()


def bars_file(path: Path, minutes: int = 400, **changes: object) -> Path:
    bars = generate_history(11, minutes=minutes)
    columns: dict[str, object] = {
        "open_time": pa.array([bar.open_time for bar in bars], type=pa.timestamp("ns", tz="UTC")),
        **{name: [getattr(bar, f"{name}_e8") / 1e8 for bar in bars] for name in ("open", "high", "low", "close")},
        "volume": [bar.volume_e8 / 1e8 for bar in bars],
        "taker_buy_volume": [(bar.taker_buy_volume_e8 or 0) / 1e8 for bar in bars],
        **changes,
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_simulated_market_is_traded_end_to_end(six_minutes: BacktestResult) -> None:
    report = report_of(six_minutes)
    assert report["fills"] > 0
    assert report["counts"]["forecasts"] == 6
    assert report["counts"]["intents"] == report["counts"]["verdicts"]
    assert (report["counts"]["dead_events"], report["counts"]["dead_inputs"], report["dead_events"]) == (0, 0, [])


def test_same_seed_gives_the_same_report_and_digests(six_minutes: BacktestResult) -> None:
    assert report_of(simulated()) == report_of(six_minutes)


def test_profit_is_what_fills_and_the_open_position_make(six_minutes: BacktestResult) -> None:
    summary = six_minutes.summary()
    position, wallet = Decimal(0), Decimal(0)
    for fill in six_minutes.fills:
        position += fill.side.sign * fill.quantity
        wallet += fill.realised_pnl - fill.fee
    assert six_minutes.points[-1].position == position
    assert six_minutes.points[-1].wallet == six_minutes.points[0].wallet + wallet
    assert Decimal(summary["fees_usdt"]) == sum(fill.fee for fill in six_minutes.fills)
    assert Decimal(summary["pnl_usdt"]) == six_minutes.final_equity - six_minutes.starting_equity


def test_equity_curve_begins_with_the_market_and_not_with_its_history(six_minutes: BacktestResult) -> None:
    assert six_minutes.started_at >= START
    assert six_minutes.points[0].event_time == six_minutes.started_at
    assert six_minutes.summary()["sharpe_samples"] == 6


def test_nothing_is_traded_before_the_time_asked_for() -> None:
    late = simulated(trade_from=START + 4 * MINUTE)
    assert late.fills
    assert all(fill.event_time >= START + 4 * MINUTE for fill in late.fills)


def test_run_ends_at_the_time_asked_for() -> None:
    short = simulated(until=START + 3 * MINUTE)
    assert short.ended_at < START + 3 * MINUTE


def test_end_before_the_first_event_is_refused() -> None:
    with pytest.raises(BadInput, match="check the file and --to"):
        simulated(until=START - MINUTE)


def test_starting_balance_is_what_was_asked_for() -> None:
    assert simulated(minutes=1, starting_balance_usdt=Decimal(500)).starting_equity == 500


def test_strategies_are_those_asked_for() -> None:
    alone = simulated(strategies=(StrategyChoice(path="forecast_threshold", parameters={"min_confidence": 1.0}),))
    assert alone.fills == []


def test_settings_of_the_services_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_RISK_MAX_ORDER_NOTIONAL_USDT", "150")
    refused = simulated()
    assert refused.fills == []
    assert any("order_notional" in name for name in refused.refusals), refused.refusals


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"instrument": "DOGEUSDT.BINANCE"}, "unknown instrument 'DOGEUSDT.BINANCE'"),
        ({"champion": "absent"}, "no model 'absent'"),
        ({"strategies": (StrategyChoice(path="absent"),)}, "no strategy 'absent'"),
        ({"starting_balance_usdt": Decimal(-1)}, "starting_balance_usdt"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(options: dict[str, object], fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        simulated(minutes=1, **options)


def test_bars_are_traded_without_quotes(tmp_path: Path) -> None:
    market = open_recording(bars_file(tmp_path / "bars.parquet"), instrument=BTC, history=None, history_bars=0)
    result = run_backtest(market, BacktestOptions(BTC))
    assert len(result.fills) > 5
    assert result.counts["inference.forecasts.v1"] == 400
    assert not result.refusals["market_data_age_ms"]


def test_trades_alone_are_traded_without_quotes(tmp_path: Path) -> None:
    trades = [event for event in generate_events(7, minutes=5) if isinstance(event, Trade)]
    path = tmp_path / "trades.parquet"
    columns = {
        "time": pa.array([trade.event_time for trade in trades], type=pa.timestamp("ns", tz="UTC")),
        "price": [trade.price_e8 / 1e8 for trade in trades],
        "qty": [trade.quantity_e8 / 1e8 for trade in trades],
        "is_buyer_maker": [trade.is_buyer_maker for trade in trades],
        "id": [trade.venue_trade_id for trade in trades],
    }
    pq.write_table(pa.table(columns), path)
    market = open_recording(path, instrument=BTC, history=None, history_bars=0)
    result = run_backtest(market, BacktestOptions(BTC, strategies=(StrategyChoice(path="ema_cross"),)))
    assert result.counts["market.events.v1"] >= len(trades)
    assert result.fills
    assert result.dead == []


def test_bars_of_a_timeframe_the_model_does_not_know_run_without_forecasts(tmp_path: Path) -> None:
    bars = generate_history(11, minutes=600)
    times = pa.array([START + place * 5 * MINUTE for place in range(600)], type=pa.timestamp("ns", tz="UTC"))
    path = bars_file(tmp_path / "bars.parquet", minutes=len(bars), open_time=times)
    result = run_backtest(open_recording(path, instrument=BTC, history=None, history_bars=0), BacktestOptions(BTC))
    assert "reads 1m bars and the input has 5m bars" in result.notes[0]
    assert result.counts["inference.forecasts.v1"] == 0
    assert result.fills


def test_faulty_rows_are_said_and_the_rest_is_run(tmp_path: Path) -> None:
    bars = generate_history(11, minutes=400)
    close = [bar.close_e8 / 1e8 for bar in bars]
    close[100] = -1.0
    market = open_recording(
        bars_file(tmp_path / "bars.parquet", close=close), instrument=BTC, history=None, history_bars=0
    )
    report = report_of(run_backtest(market, BacktestOptions(BTC)))
    assert report["counts"]["dead_inputs"] == 1
    assert "row 101" in report["input_faults"][0]


def test_report_is_written_as_json_and_as_a_page_without_outside_parts(
    six_minutes: BacktestResult, tmp_path: Path
) -> None:
    report = write_report(six_minutes, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in page
    for outside in ("http://", "https://", "<script", "<link", "src="):
        assert outside not in page


def test_page_escapes_what_it_shows(six_minutes: BacktestResult, tmp_path: Path) -> None:
    hostile = dataclasses.replace(six_minutes, description={"name": "<script>alert(1)</script>"}, notes=["<b>"])
    write_report(hostile, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "<b></code>" not in page


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("ema_cross", StrategyChoice(path="ema_cross")),
        ('ema_cross={"fast_bars": 2}', StrategyChoice(path="ema_cross", parameters={"fast_bars": 2})),
    ],
)
def test_strategy_is_named_with_or_without_parameters(text: str, choice: StrategyChoice) -> None:
    assert choices_of([text]) == (choice,)


@pytest.mark.parametrize("text", ["ema_cross={", "ema_cross=[1]", '={"a": 1}'])
def test_strategy_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--strategy"):
        choices_of([text])


def test_simulated_market_and_its_recording_are_the_same_market(tmp_path: Path) -> None:
    tape = SimulatedMarket(7)
    lines = [line for _ in range(3) for line in format_lines(tape.next_minute())]
    recording = tmp_path / "capture.ns-jsonl"
    recording.write_text("\n".join(line.rstrip("\n") for line in lines) + "\n")
    recorded = run_backtest(
        open_recording(recording, instrument=BTC, history=None, history_bars=0), BacktestOptions(BTC, until=END)
    )
    made = run_backtest(open_simulation(7, minutes=3, history_bars=0), BacktestOptions(BTC, until=END))
    assert recorded.digests == made.digests
    assert made.counts["bars.closed.v1"] == 2


@pytest.mark.skipif(not CAPTURE.is_file(), reason=f"no recorded capture at {CAPTURE}; set PERPFLOW_SHARED")
def test_recorded_capture_is_traded(tmp_path: Path) -> None:
    cut = tmp_path / "capture.ns-jsonl"
    with gzip.open(CAPTURE, "rb") as whole:
        cut.write_bytes(b"".join(islice(whole, 40_000)))
    market = open_recording(cut, instrument=BTC, history=KLINES, history_bars=300)
    result = run_backtest(market, BacktestOptions(BTC))
    assert (result.counts["dead_inputs"], result.dead) == (0, [])
    assert result.counts["inference.forecasts.v1"] > 0
    assert result.fills
