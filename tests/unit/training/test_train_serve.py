"""A model reads in service what it was trained on: the same recorded market by files and by the online cores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.domain.bars import TIMEFRAMES, Bar
from libs.domain.features import FeatureVector
from libs.domain.market import ExchangeBar, FundingSettled, MarketEvent, MarkPrice, OutsideReading
from libs.domain.numbers import NANOSECONDS
from libs.domain.readings import READING_SERIES, SETTLED_FUNDING_RATE
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.warm import compile_stream
from services.bars.core import BarsCore
from services.features.core import FeaturesCore
from services.training.core.features import compute_features
from services.training.market_data import read_bars
from services.training.published import PublishedFiles
from tests.kit.builders import BTC
from tests.unit.indicators.recorded import BTC_1H, BTC_1M, recorded_file

FUNDING = "funding/binance_um_BTCUSDT_funding_20190910_20250630.parquet"
MARK = "mark/binance_um_BTCUSDT_mark_1h_20191223_20250630.parquet"
SPOT_1M = "ohlcv/binance_spot_BTCUSDT_1m_20250520_20250630.parquet"
MINUTE = 60 * NANOSECONDS
INTERVAL = 8 * 3_600 * NANOSECONDS
POLLED_AFTER = 20 * NANOSECONDS


def _cut(name: str, column: str, begin: int, end: int, to: Path) -> pa.Table:
    """Rows of a recorded file whose time (ns) is in [begin, end), written to a file and returned."""
    table = pq.read_table(recorded_file(name))
    times = table[column].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
    table = table.filter(pa.array((times >= begin) & (times < end)))
    pq.write_table(table, to)
    return table


def _nanoseconds(table: pa.Table, column: str) -> list[int]:
    return table[column].cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_pylist()


def _readings(begin: int, end: int) -> list[tuple[str, int, float]]:
    """Series, publication (ns) and value: spot as it was recorded, the rest seeded at each series' own pace."""
    rng = np.random.default_rng(11)
    made: list[tuple[str, int, float]] = []
    for name, one in READING_SERIES.items():
        if name in (SETTLED_FUNDING_RATE, "spot_price"):
            continue
        # With holes longer than it lasts, so that what is too old is tested too.
        pace = max(one.max_age_ns // 3, MINUTE)
        for at in range(begin - begin % pace, end, pace):
            if rng.random() < 0.7:
                made.append((name, at + int(rng.integers(0, 50)) * 1_000_000, float(rng.uniform(0.1, 0.9))))
    spot = pq.read_table(recorded_file(SPOT_1M))
    for at, close in zip(_nanoseconds(spot, "open_time"), spot["close"].to_pylist(), strict=True):
        if begin <= at + MINUTE < end:
            made.append(("spot_price", at + MINUTE, close))
    return sorted(made, key=lambda reading: reading[1])


def _write_readings(readings: list[tuple[str, int, float]], to: Path) -> Path:
    time = pa.timestamp("ns", "UTC")
    columns = {
        "published_time": pa.array([at for _, at, _ in readings], pa.int64()).cast(time),
        "source": pa.array([READING_SERIES[name].source for name, _, _ in readings]),
        "metric": pa.array([READING_SERIES[name].metric for name, _, _ in readings]),
        "value": pa.array([value for *_, value in readings]),
    }
    pq.write_table(pa.table(columns), to)
    return to


def _market(
    timeframe: str, bars: pa.Table, funding: pa.Table, mark: pa.Table, readings: list[tuple[str, int, float]]
) -> Iterator[MarketEvent]:
    """The events that a session of this market has, in their order; the hour's last mark price as it ends."""
    length = TIMEFRAMES[timeframe]
    timed: list[tuple[int, int, MarketEvent]] = []
    for at, rate in zip(_nanoseconds(funding, "time"), funding["rate"].to_pylist(), strict=True):
        # The venue says so with the first mark price after it, which may come behind the bar that ends there.
        event = FundingSettled(BTC, f"{BTC}/funding/{at}", at, at, round(rate * 1e8), 1)
        timed.append((at + 900_000_000, 2, event))
    for name, published, value in readings:
        at = published + POLLED_AFTER
        timed.append((at, 1, OutsideReading(BTC, f"{BTC}/{name}/{published}", at, at, name, published, value)))
    for at, price in zip(_nanoseconds(mark, "open_time"), mark["close"].to_pylist(), strict=True):
        said = at + 3_600 * NANOSECONDS - NANOSECONDS
        following = said - said % INTERVAL + INTERVAL
        event_id = f"{BTC}/mark/{said}"
        timed.append((said, 0, MarkPrice(BTC, event_id, said, said, round(price * 1e8), None, 777, following)))
    columns = [bars[name].to_pylist() for name in ("open", "high", "low", "close", "volume")]
    for at, *numbers in zip(_nanoseconds(bars, "open_time"), *columns, strict=True):
        close = at + length
        first, high, low, last, volume = (round(number * 1e8) for number in numbers)
        kline = f"{BTC}/kline/{at}"
        prices = (first, high, low, last, volume)
        bar = ExchangeBar(BTC, kline, close, close, timeframe, at, close, *prices, None, None, None, is_history=False)
        timed.append((close + 250_000_000, 3, bar))
    return iter(event for _, _, event in sorted(timed, key=lambda each: each[:2]))


def _serve(timeframe: str, events: Iterator[MarketEvent]) -> tuple[np.ndarray, list[bytes]]:
    """Feed the online cores, changing over to restored ones on the way; the vectors and their bytes."""
    compile_stream()
    feature_set = load_feature_set("outside_v1", timeframe)
    bars_core, features = BarsCore(), FeaturesCore(feature_set)
    vectors: list[bytes] = []
    for number, event in enumerate(events):
        if number in (500, 3_000):
            restored, restored_features = BarsCore(), FeaturesCore(feature_set)
            restored.restore(bars_core.snapshot())
            restored_features.restore(features.snapshot())
            bars_core, features = restored, restored_features
        for bar in bars_core.handle(event):
            if isinstance(bar, Bar):
                vectors += [one.packed for one in features.handle(bar) if isinstance(one, FeatureVector)]
    return np.array([np.frombuffer(packed, "<f8") for packed in vectors]), vectors


@pytest.mark.slow
def test_minutes_by_files_and_by_the_online_cores_give_the_same_bits(tmp_path: Path) -> None:
    begin = 1_748_736_000 * NANOSECONDS
    end = begin + 4 * 86_400 * NANOSECONDS
    before = begin - 2 * INTERVAL
    bars = _cut(BTC_1M, "open_time", begin, end, tmp_path / "bars.parquet")
    funding = _cut(FUNDING, "time", before, end, tmp_path / "funding.parquet")
    readings = _readings(before, end)
    # From before, as the minute in which a stream begins is not known whole.
    mark = _cut(MARK, "open_time", begin - INTERVAL, end, tmp_path / "mark.parquet")
    files = PublishedFiles(
        funding=tmp_path / "funding.parquet",
        mark=tmp_path / "mark.parquet",
        readings=_write_readings(readings, tmp_path / "readings.parquet"),
    )
    table = read_bars(tmp_path / "bars.parquet", files).table
    trained = compute_features(table, "outside_v1")
    served, packed = _serve("1m", _market("1m", bars, funding, mark, readings))
    # Mark prices tell the stream the next settlement, here one an hour; files of settlements tell it at every bar.
    hours_to = trained.names.index("time_to_funding")
    told = np.isfinite(served[:, hours_to])
    assert told.sum() == 4 * 24
    np.testing.assert_array_equal(served[told, hours_to], trained.values[told, hours_to])
    given = np.arange(len(trained.names)) != hours_to
    np.testing.assert_array_equal(served[:, given], trained.values[:, given])
    assert np.isfinite(served[:, trained.names.index("mark_basis")]).sum() == 4 * 24
    known = np.isfinite(trained.values).mean(axis=0)
    for name in ("settled_funding_rate", "settled_funding_zscore_240", "fear_greed_index", "spot_basis", "peer_lead_5"):
        assert known[trained.names.index(name)] > 0.5, name
    _again, packed_again = _serve("1m", _market("1m", bars, funding, mark, readings))
    assert packed_again == packed


@pytest.mark.slow
def test_what_is_published_a_moment_later_changes_no_earlier_row(tmp_path: Path) -> None:
    begin = 1_748_736_000 * NANOSECONDS
    end = begin + 2 * 86_400 * NANOSECONDS
    _cut(BTC_1M, "open_time", begin, end, tmp_path / "bars.parquet")
    readings = _readings(begin - 2 * INTERVAL, end)
    whole_file = _write_readings(readings, tmp_path / "whole.parquet")
    whole = compute_features(
        read_bars(tmp_path / "bars.parquet", PublishedFiles(readings=whole_file)).table, "outside_v1"
    ).values
    for cut in (700, 1_441, 2_600):
        close = begin + cut * MINUTE
        until = [reading for reading in readings if reading[1] <= close]
        cut_file = _write_readings(until, tmp_path / "cut.parquet")
        bars = read_bars(tmp_path / "bars.parquet", PublishedFiles(readings=cut_file)).table
        np.testing.assert_array_equal(compute_features(bars, "outside_v1").values[:cut], whole[:cut])


@pytest.mark.slow
def test_files_beside_the_bars_are_named_in_what_the_model_was_trained_on(tmp_path: Path) -> None:
    funding = recorded_file(FUNDING)
    described = read_bars(recorded_file(BTC_1H), PublishedFiles(funding=funding)).description
    assert described["funding"] == funding.name
    assert len(str(described["funding_sha256"])) == 64
