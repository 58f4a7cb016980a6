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
from libs.domain.numbers import from_e8
from libs.runtime.errors import BadInput
from services.backtest.inputs import open_recording, open_simulation
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.report import build_report, write_report
from services.backtest.run import BacktestResult, run_backtest
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
    options.setdefault("digests", True)
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


@pytest.mark.slow
def test_simulated_market_is_traded_end_to_end(six_minutes: BacktestResult) -> None:
    report = build_report(six_minutes)
    assert report["fills"] > 0
    assert report["counts"]["forecasts"] == 6
    assert report["counts"]["intents"] == report["counts"]["verdicts"]
    assert (report["counts"]["dead_events"], report["counts"]["dead_inputs"], report["dead_events"]) == (0, 0, [])


@pytest.mark.slow
def test_same_seed_gives_the_same_report_and_digests(six_minutes: BacktestResult) -> None:
    assert build_report(simulated()) == build_report(six_minutes)


def test_profit_is_what_fills_and_the_open_position_make(six_minutes: BacktestResult) -> None:
    report, record = build_report(six_minutes), six_minutes.record
    position, wallet = Decimal(0), Decimal(0)
    for fill in record.fills:
        position += fill.side.sign * fill.quantity
        wallet += fill.realised_pnl - fill.fee
    assert from_e8(record.equity.position_e8[-1]) == position
    assert from_e8(record.equity.wallet_e8[-1] - record.equity.wallet_e8[0]) == wallet - record.funding_paid
    assert Decimal(report["fees_usdt"]) == sum(fill.fee for fill in record.fills)
    assert Decimal(report["pnl_usdt"]) == from_e8(record.equity.equity_e8[-1]) - 10_000
    assert Decimal(report["gross_pnl_usdt"]) == Decimal(report["pnl_usdt"]) + Decimal(report["fees_usdt"])


def test_measures_cover_the_market_and_not_its_history(six_minutes: BacktestResult) -> None:
    assert six_minutes.start >= START
    report = build_report(six_minutes)
    assert (report["grid"], report["grid_returns"]) == ("1m", 7)


@pytest.mark.slow
def test_nothing_is_traded_before_the_time_asked_for() -> None:
    late = simulated(trade_from=START + 4 * MINUTE)
    assert late.record.fills
    assert all(fill.event_time >= START + 4 * MINUTE for fill in late.record.fills)
    assert late.start == START + 4 * MINUTE


@pytest.mark.slow
def test_run_ends_at_the_time_asked_for() -> None:
    short = simulated(until=START + 3 * MINUTE)
    assert short.end < START + 3 * MINUTE


@pytest.mark.slow
def test_end_before_the_first_event_is_refused() -> None:
    with pytest.raises(BadInput, match="check the file and --to"):
        simulated(until=START - MINUTE)


@pytest.mark.slow
def test_starting_balance_is_what_was_asked_for() -> None:
    result = simulated(minutes=1, starting_balance_usdt=Decimal(500))
    assert build_report(result)["starting_equity_usdt"] == "500.00000000"


@pytest.mark.slow
def test_strategies_are_those_asked_for() -> None:
    alone = simulated(strategies=(StrategyChoice(path="forecast_threshold", parameters={"min_confidence": 1.0}),))
    assert alone.record.fills == []


@pytest.mark.slow
def test_settings_of_the_services_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_RISK_MAX_ORDER_NOTIONAL_USDT", "150")
    refused = simulated()
    assert refused.record.fills == []
    assert any("order_notional" in name for name in refused.record.failed_checks), refused.record.refusals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instrument": "DOGEUSDT.BINANCE"}, "unknown instrument 'DOGEUSDT.BINANCE'"),
        ({"champion": "absent"}, "no model 'absent'"),
        ({"strategies": (StrategyChoice(path="absent"),)}, "no strategy 'absent'"),
        ({"starting_balance_usdt": Decimal(-1)}, "starting_balance_usdt"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        simulated(minutes=1, **options)


@pytest.mark.slow
def test_bars_are_traded_without_quotes(tmp_path: Path) -> None:
    market = open_recording(bars_file(tmp_path / "bars.parquet"), instrument=BTC, history=None, history_bars=0)
    result = run_backtest(market, BacktestOptions(BTC, champion="starter"))
    assert len(result.record.fills) > 5
    assert result.record.counts["inference.forecasts.v1"] == 400
    assert not result.record.failed_checks["market_data_age_ms"]


@pytest.mark.slow
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
    assert result.record.counts["market.events.v1"] >= len(trades)
    assert result.record.fills
    assert result.dead == []


@pytest.mark.slow
def test_bars_of_a_timeframe_the_model_does_not_know_run_without_forecasts(tmp_path: Path) -> None:
    bars = generate_history(11, minutes=600)
    times = pa.array([START + place * 5 * MINUTE for place in range(600)], type=pa.timestamp("ns", tz="UTC"))
    path = bars_file(tmp_path / "bars.parquet", minutes=len(bars), open_time=times)
    market = open_recording(path, instrument=BTC, history=None, history_bars=0)
    result = run_backtest(market, BacktestOptions(BTC, champion="starter"))
    assert "reads 1m bars and the input has 5m bars" in result.notes[0]
    assert result.record.counts["inference.forecasts.v1"] == 0
    assert result.record.fills


def test_recording_runs_without_forecasts_where_no_model_is_named(tmp_path: Path) -> None:
    market = open_recording(bars_file(tmp_path / "bars.parquet"), instrument=BTC, history=None, history_bars=0)
    result = run_backtest(market, BacktestOptions(BTC))
    assert result.record.counts["inference.forecasts.v1"] == 0
    assert "train one with perpflow train-models" in result.notes[0]


@pytest.mark.slow
def test_faulty_rows_are_said_and_the_rest_is_run(tmp_path: Path) -> None:
    bars = generate_history(11, minutes=400)
    close = [bar.close_e8 / 1e8 for bar in bars]
    close[100] = -1.0
    market = open_recording(
        bars_file(tmp_path / "bars.parquet", close=close), instrument=BTC, history=None, history_bars=0
    )
    report = build_report(run_backtest(market, BacktestOptions(BTC)))
    assert report["counts"]["dead_inputs"] == 1
    assert "row 101" in report["input_errors"][0]


def test_report_is_written_as_json_and_as_a_page_without_outside_parts(
    six_minutes: BacktestResult, tmp_path: Path
) -> None:
    report = write_report(six_minutes, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    low, middle, high = report["chance"]["paths"]["profit"]
    assert low < middle < high
    assert "What chance could have made of it" in (tmp_path / "out" / "report.html").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "createChart" in page
    for outside in ("<link", " src=", "fetch(", "import("):
        assert outside not in page


def test_page_escapes_what_it_shows(six_minutes: BacktestResult, tmp_path: Path) -> None:
    hostile = dataclasses.replace(six_minutes, description={"name": "<script>alert(1)</script>"}, notes=["<b>"])
    write_report(hostile, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<p><b></p>" not in page


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("ema_cross", StrategyChoice(path="ema_cross")),
        ('ema_cross={"fast_bars": 2}', StrategyChoice(path="ema_cross", parameters={"fast_bars": 2})),
    ],
)
def test_strategy_is_named_with_or_without_parameters(text: str, choice: StrategyChoice) -> None:
    assert parse_strategies([text]) == (choice,)


@pytest.mark.parametrize("text", ["ema_cross={", "ema_cross=[1]", '={"a": 1}'])
def test_strategy_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--strategy"):
        parse_strategies([text])


@pytest.mark.slow
def test_simulated_market_and_its_recording_are_the_same_market(tmp_path: Path) -> None:
    tape = SimulatedMarket(7)
    lines = [line for _ in range(3) for line in format_lines(tape.next_minute())]
    recording = tmp_path / "capture.ns-jsonl"
    recording.write_text("\n".join(line.rstrip("\n") for line in lines) + "\n")
    recorded = run_backtest(
        open_recording(recording, instrument=BTC, history=None, history_bars=0),
        BacktestOptions(BTC, champion="starter", until=END, digests=True),
    )
    made = run_backtest(
        open_simulation(7, minutes=3, history_bars=0),
        BacktestOptions(BTC, champion="starter", until=END, digests=True),
    )
    assert recorded.digests == made.digests
    assert made.record.counts["bars.closed.v1"] == 2


@pytest.mark.slow
@pytest.mark.skipif(not CAPTURE.is_file(), reason=f"no recorded capture at {CAPTURE}; set PERPFLOW_SHARED")
def test_recorded_capture_is_traded(tmp_path: Path) -> None:
    cut = tmp_path / "capture.ns-jsonl"
    with gzip.open(CAPTURE, "rb") as whole:
        cut.write_bytes(b"".join(islice(whole, 40_000)))
    market = open_recording(cut, instrument=BTC, history=KLINES, history_bars=300)
    result = run_backtest(market, BacktestOptions(BTC, champion="starter"))
    assert (result.record.counts["dead_inputs"], result.dead) == (0, [])
    assert result.record.counts["inference.forecasts.v1"] > 0
    assert result.record.fills


@pytest.mark.slow
def test_only_what_the_run_needs_is_computed() -> None:
    lean = simulated(strategies=(StrategyChoice(path="ema_cross"),), digests=False)
    whole = simulated(strategies=(StrategyChoice(path="ema_cross"),))
    assert lean.digests == {}
    assert lean.record.counts["features.vectors.v1"] == 0
    assert whole.record.counts["features.vectors.v1"] > 0
    assert lean.record.fills == whole.record.fills
    assert lean.record.equity == whole.record.equity


@pytest.mark.slow
def test_halt_is_said_first_and_measures_cover_the_time_after_it(tmp_path: Path) -> None:
    bars = bars_file(tmp_path / "bars.parquet", minutes=900)
    result = run_backtest(
        open_recording(bars, instrument=BTC, history=None, history_bars=0),
        BacktestOptions(
            BTC,
            strategies=(StrategyChoice(path="ema_cross"),),
            settings=parse_settings(["risk.soft_drawdown_fraction=0.0001", "risk.hard_drawdown_fraction=0.0002"]),
        ),
    )
    report = write_report(result, tmp_path)
    halted = report["halted"]
    assert next(iter(report)) == "halted"
    assert "passes the" in halted["reason"]
    assert halted["share_of_period_left"] > 0.5
    assert Decimal(halted["equity_usdt"]) < 10_000
    assert report["period"]["days"] == pytest.approx(900 / 1440)
    assert report["grid_returns"] == 900
    assert report["exposure_share"] < 0.5
    page = (tmp_path / "report.html").read_text()
    assert page.index("Risk stopped new positions") < page.index("Sharpe, yearly")


@pytest.mark.parametrize("text", ["risk.max_leverage", "max_leverage=2", "monitoring.port=1", "risk.=2"])
def test_setting_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"write SERVICE\.SETTING=VALUE"):
        parse_settings([text])


@pytest.mark.slow
def test_setting_that_a_service_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="max_leverag"):
        simulated(minutes=1, settings=parse_settings(["risk.max_leverag=2"]))
