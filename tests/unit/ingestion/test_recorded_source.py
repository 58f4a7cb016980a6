"""Recorded files play the same events however they are read, and what is wrong with them is said."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.domain.events import DeadInput
from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, ExchangeBar, MarkPrice, Trade
from libs.runtime.errors import BadInput
from services.bars.core import BarsCore
from services.ingestion.feed import Pacer
from services.ingestion.recorded import RecordedSource
from tests.kit.builders import BTC
from tests.unit.ingestion.builders import START_MS, open_recorded, read_all, read_resuming, trade_line, write_capture
from tests.unit.ingestion.shared import shared_market


def _write_klines(path: Path, minutes: range, step_ms: int = 60_000, **columns: list[float]) -> Path:
    times = [datetime.fromtimestamp((START_MS + minute * step_ms) / 1000, UTC) for minute in minutes]
    flat = [60_000.5 for _ in minutes]
    data = {"open": flat, "high": flat, "low": flat, "close": flat, "volume": flat, **columns}
    table = pa.table({"open_time": pa.array(times, pa.timestamp("ms", tz="UTC")), **data})
    pq.write_table(table, path)
    return path


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    lines = [trade_line(number, number * 300) for number in range(1, 201)]
    return write_capture(tmp_path / "one.ns-jsonl.gz", lines)


def test_resuming_anywhere_gives_the_same_stream(capture: Path) -> None:
    whole = read_all(open_recorded(capture))
    assert read_resuming(capture, 37) == whole
    assert len(whole) == 200 + 60


def test_a_recording_of_another_market_is_refused_by_name_and_read_under_its_own(tmp_path: Path) -> None:
    of_spot = [trade_line(number, number * 300).replace(b'"m":', b'"M":true,"m":') for number in range(1, 4)]
    path = write_capture(tmp_path / "spot.ns-jsonl.gz", of_spot)
    with pytest.raises(BadInput, match=r"is of BINANCE_SPOT, not of BINANCE; name the instrument BTCUSDT.BINANCE_SPOT"):
        open_recorded(path)
    trades = [event for event in read_all(open_recorded(path, "BTCUSDT.BINANCE_SPOT")) if isinstance(event, Trade)]
    assert [trade.instrument for trade in trades] == ["BTCUSDT.BINANCE_SPOT"] * 3
    with pytest.raises(BadInput, match=r"is of BINANCE, not of BINANCE_SPOT"):
        open_recorded(write_capture(tmp_path / "perpetual.ns-jsonl.gz", [trade_line(1, 300)]), "BTCUSDT.BINANCE_SPOT")


def test_a_file_of_another_market_behind_the_first_is_refused_when_it_is_reached(tmp_path: Path) -> None:
    lines = [trade_line(number, number * 300) for number in range(1, 4)]
    write_capture(tmp_path / "1.ns-jsonl.gz", lines[:2])
    write_capture(tmp_path / "2.ns-jsonl.gz", [lines[2].replace(b'"m":', b'"M":true,"m":')])
    source = open_recorded(tmp_path)
    with pytest.raises(BadInput, match=r"2.ns-jsonl.gz is of BINANCE_SPOT"):
        read_all(source)


def test_a_cursor_of_the_build_before_goes_on(capture: Path) -> None:
    whole = read_all(open_recorded(capture))
    source = open_recorded(capture)
    out = list(source.read(37, 100))
    cursor = source.cursor()
    assert cursor.count(b'"join_minute"') == 1
    older = cursor.replace(b'"version":5', b'"version":3').replace(b'"join_minute"', b'"seam_open"')
    source = RecordedSource(capture, instrument=BTC, pacer=Pacer(0))
    source.open(older)
    while not source.is_finished:
        out += source.read(37, 100)
    assert out == whole


def test_cursor_of_other_files_is_refused(capture: Path, tmp_path: Path) -> None:
    cursor = open_recorded(capture).cursor()
    other = write_capture(tmp_path / "other.ns-jsonl", [trade_line(1, 0)])
    with pytest.raises(BadInput, match="start a new session"):
        RecordedSource(other, instrument=BTC, pacer=Pacer(0)).open(cursor)


def test_broken_lines_are_put_aside_with_their_number_and_nothing_else_is_lost(tmp_path: Path) -> None:
    lines = [
        trade_line(1, 0),
        b'1767225600000000000 {"e":"trade"\n',
        trade_line(2, 10, price="-5"),
        b"\xff\xfe nonsense\n",
        trade_line(3, 20),
    ]
    out = read_all(open_recorded(write_capture(tmp_path / "broken.ns-jsonl", lines)))
    dead = [item for item in out if isinstance(item, DeadInput)]
    assert [item.position for item in dead] == [2, 3, 4]
    assert "not JSON" in dead[0].reason
    assert "negative" in dead[1].reason
    assert dead[2].payload == b"\xff\xfe nonsense"
    assert [item.venue_trade_id for item in out if isinstance(item, Trade)] == [1, 3]


def test_truncated_gzip_is_put_aside_and_the_next_file_follows(tmp_path: Path) -> None:
    first = write_capture(tmp_path / "a.ns-jsonl.gz", [trade_line(number, number) for number in range(1, 500)])
    first.write_bytes(first.read_bytes()[:-200])
    write_capture(tmp_path / "b.ns-jsonl.gz", [trade_line(1000, 5000)])
    out = read_all(open_recorded(tmp_path))
    dead = [item for item in out if isinstance(item, DeadInput)]
    assert len(dead) == 1
    assert "gzip stream is broken" in dead[0].reason
    assert [item for item in out if isinstance(item, Trade)][-1].venue_trade_id == 1000


def test_unknown_symbol_is_refused_naming_those_there_are(capture: Path) -> None:
    with pytest.raises(BadInput, match=r"unknown symbol ETHUSDT.*has BTCUSDT"):
        open_recorded(capture, "ETHUSDT.BINANCE")


@pytest.mark.parametrize(("name", "body"), [("none.jsonl", b""), ("junk.jsonl", b"junk\n")])
def test_file_without_any_event_is_refused(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(BadInput, match="has no event of BTCUSDT"):
        open_recorded(tmp_path / name)


def test_missing_path_and_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        RecordedSource(tmp_path / "nowhere", instrument=BTC, pacer=Pacer(0))
    with pytest.raises(BadInput, match="holds no recording"):
        RecordedSource(tmp_path, instrument=BTC, pacer=Pacer(0))


def test_plain_frames_are_received_when_the_venue_sent_them(tmp_path: Path) -> None:
    frame = trade_line(1, 250).split(b" ", 1)[1]
    (trade,) = read_all(open_recorded(write_capture(tmp_path / "plain.jsonl", [frame])))
    assert isinstance(trade, Trade)
    assert trade.received_time == (START_MS + 250) * 1_000_000


def test_cryptofeed_lines_with_headers_and_rest_answers_are_read(tmp_path: Path) -> None:
    seconds = START_MS // 1000
    frame = trade_line(1, 250).split(b" ", 1)[1].strip().decode()
    answer = '{"lastUpdateId":9,"bids":[["1","1"]],"asks":[["2","1"]]}'
    lines = [
        f"wss://fstream.binance.com/stream?streams=btcusdt@trade <-> {seconds}.5",
        f"{seconds}.25: {frame}",
        f"https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000 -> {seconds}.5: {answer}",
        f"https://fapi.binance.com/fapi/v1/depth?symbol=SUSHIUSDT&limit=1000 -> {seconds}.5: {answer}",
        'configuration: {"trades":[]}',
        "",
    ]
    path = write_capture(tmp_path / "feed.gz", ["\n".join(lines).encode()])
    out = read_all(open_recorded(path))
    assert [type(event) for event in out] == [Trade, DepthSnapshot]
    assert out[0].received_time == START_MS * 1_000_000 + 250_000_000


def test_speed_changes_when_and_never_what(capture: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pacer = Pacer(10, monotonic=lambda: now[0], sleep=sleep)
    source = RecordedSource(capture, instrument=BTC, pacer=pacer)
    source.open(None)
    assert read_all(source) == read_all(open_recorded(capture))
    assert now[0] == pytest.approx(199 * 0.3 / 10)


def test_read_gives_up_after_its_timeout(capture: Path) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    source = RecordedSource(capture, instrument=BTC, pacer=Pacer(0.001, monotonic=lambda: now[0], sleep=sleep))
    source.open(None)
    assert len(source.read(10, 250)) == 1
    assert source.read(10, 250) == []
    assert now[0] == pytest.approx(0.25)


def test_history_and_join_minute_come_from_klines(tmp_path: Path, capture: Path) -> None:
    history = _write_klines(tmp_path / "klines.parquet", range(-5, 2))
    events = read_all(open_recorded(capture, history=history, history_bars=3))
    bars = [event for event in events if isinstance(event, ExchangeBar)]
    assert events[:3] == bars[:3]
    assert [(bar.open_time // 1_000_000 - START_MS) // 60_000 for bar in bars] == [-3, -2, -1, 0]
    assert all(bar.is_history for bar in bars)


def test_history_that_does_not_reach_the_recording_is_refused(tmp_path: Path, capture: Path) -> None:
    history = _write_klines(tmp_path / "klines.parquet", range(-500, -400))
    with pytest.raises(BadInput, match="give klines that reach up to it"):
        open_recorded(capture, history=history, history_bars=100)


def test_history_of_another_step_is_refused(tmp_path: Path, capture: Path) -> None:
    history = _write_klines(tmp_path / "klines.parquet", range(-5, 2), step_ms=300_000)
    with pytest.raises(BadInput, match="has 5m klines; history needs 1m"):
        open_recorded(capture, history=history)


def test_kline_file_is_a_market_of_bars(tmp_path: Path) -> None:
    path = _write_klines(tmp_path / "klines.parquet", range(4), quote_volume=[1.5] * 4, trades=[3.0] * 4)
    bars = [event for event in read_all(open_recorded(path)) if isinstance(event, ExchangeBar)]
    assert [bar.quote_volume_e8 for bar in bars] == [150_000_000] * 4
    assert not any(bar.is_history for bar in bars)


def test_senseless_kline_rows_are_put_aside(tmp_path: Path) -> None:
    volume = [1.0, -1.0, float("nan"), 1.0]
    path = _write_klines(tmp_path / "klines.parquet", range(4), volume=volume)
    out = read_all(open_recorded(path))
    assert [item.position for item in out if isinstance(item, DeadInput)] == [2, 3]
    assert len([item for item in out if isinstance(item, ExchangeBar)]) == 2


def test_parquet_of_another_kind_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "odd.parquet")
    with pytest.raises(BadInput, match="klines need open_time"):
        open_recorded(tmp_path / "odd.parquet")


@pytest.mark.slow
def test_futures_capture_plays_whole() -> None:
    path = shared_market() / "capture" / "binance_um_BTCUSDT_20240808.ns-jsonl.gz"
    events = read_all(open_recorded(path), 5000)
    kinds = {
        kind: sum(type(event) is kind for event in events) for kind in (Trade, BestQuote, DepthDelta, DepthSnapshot)
    }
    assert kinds == {Trade: 21313, BestQuote: 66089, DepthDelta: 6547, DepthSnapshot: 1}
    snapshot = next(index for index, event in enumerate(events) if isinstance(event, DepthSnapshot))
    first = events[snapshot + 1]
    assert isinstance(first, DepthDelta)
    assert first.first_update_id <= 5123107852948 <= first.final_update_id
    assert len({event.event_id for event in events if not isinstance(event, DeadInput)}) == len(events)


def test_mark_price_capture_of_2026_plays() -> None:
    path = shared_market() / "capture" / "binance_um_BTCUSDT_markprice_20260930.jsonl"
    assert sum(isinstance(event, MarkPrice) for event in read_all(open_recorded(path))) == 10


BYBIT_FRAMES = Path(__file__).resolve().parents[2] / "data" / "bybit_frames.jsonl"


def test_a_capture_of_another_venue_is_read_by_that_venues_decoder_and_resumes_anywhere() -> None:
    instrument = "BTCUSDT.BYBIT"
    whole = read_all(open_recorded(BYBIT_FRAMES, instrument))
    assert {type(event) for event in whole} >= {Trade, DepthSnapshot, DepthDelta, BestQuote, MarkPrice}
    assert not [event for event in whole if isinstance(event, DeadInput)]
    assert len([event for event in whole if isinstance(event, Trade)]) == 2
    source = open_recorded(BYBIT_FRAMES, instrument)
    out = list(source.read(1, 100))
    while not source.is_finished:
        # What a ticker's change says depends on the frames before it.
        cursor = source.cursor()
        source.close()
        source = RecordedSource(BYBIT_FRAMES, instrument=instrument, pacer=Pacer(0))
        source.open(cursor)
        out += source.read(1, 100)
    assert out == whole


def test_unnumbered_trades_are_new_by_their_id(tmp_path: Path) -> None:
    lines = [line for line in BYBIT_FRAMES.read_bytes().splitlines(keepends=True) if b"publicTrade" in line]
    again = write_capture(tmp_path / "twice.jsonl", lines * 2)
    assert len([event for event in read_all(open_recorded(again, "BTCUSDT.BYBIT")) if isinstance(event, Trade)]) == 2


def test_recorded_captures_of_bybit_give_books_and_marks() -> None:
    folder = shared_market() / "capture"
    book = read_all(open_recorded(folder / "bybit_linear_XRPUSDT_orderbook500_20241201.jsonl.gz", "XRPUSDT.BYBIT"))
    deltas = [event for event in book if isinstance(event, DepthDelta)]
    assert len(deltas) == 49
    assert all(right.previous_final_update_id == left.final_update_id for left, right in pairwise(deltas))
    ticker = read_all(open_recorded(folder / "bybit_linear_BTCUSDT_tickers_20260930.jsonl", "BTCUSDT.BYBIT"))
    assert {type(event) for event in ticker} >= {BestQuote, MarkPrice}
    assert not [event for event in (*book, *ticker) if isinstance(event, DeadInput)]


def test_bars_of_recorded_klines_of_bybit_equal_them() -> None:
    path = shared_market() / "ohlcv" / "bybit_linear_BTCUSDT_5m_20250924_20260331.parquet"
    source = open_recorded(path, "BTCUSDT.BYBIT")
    core = BarsCore()
    klines = [event for event in source.read(600, 1000) if isinstance(event, ExchangeBar)]
    bars = [bar for kline in klines for bar in core.handle(kline) if bar.timeframe == "5m"]
    fields = ("open_time", "open_e8", "high_e8", "low_e8", "close_e8", "volume_e8")
    assert [[getattr(bar, name) for name in fields] for bar in bars] == [
        [getattr(kline, name) for name in fields] for kline in klines
    ]
    assert len(bars) > 250
