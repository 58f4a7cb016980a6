"""What `outside_v1` adds: the two ways to the same vector, formulas as numpy has them, no look-ahead, none empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.readings import READING_SERIES, LatestReadings
from libs.indicators import columns as col
from libs.indicators.batch import warm_up_bars
from libs.indicators.feature_set import TIMEFRAME_SECONDS, FeatureSet
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.joins import publish_reading
from libs.indicators.program import compile_feature_set
from libs.indicators.rows import BarError, bar_row, check_bar
from libs.indicators.stream import FeatureStream
from tests.kit.builders import a_bar
from tests.unit.indicators.look_ahead import find_look_ahead
from tests.unit.indicators.recorded import (
    BTC_1M,
    compute,
    compute_kind,
    fill_in,
    made_rows,
    recorded_rows,
    same_bits,
    stream_of,
)

OUTSIDE = load_feature_set("outside_v1")
ADDED = FeatureSet("added", 1, tuple(one for one in OUTSIDE.features if one.kind.group == "outside"))
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


@given(
    series=st.sampled_from(list(READING_SERIES)),
    published=st.lists(st.integers(1, 6_000), min_size=1, max_size=12, unique=True),
    lateness=st.floats(0.0, 1.0),
    prunes=st.booleans(),
)
def test_a_stream_that_polls_within_the_lag_knows_what_the_file_of_the_source_says(
    series: str, published: list[int], lateness: float, prunes: bool
) -> None:
    one = READING_SERIES[series]
    scale = max(one.lag_ns, one.max_age_ns) // 1_000
    times = np.array(sorted(published)) * (scale - scale % 1_000_000)
    values = np.arange(len(times), dtype=float)
    closes = np.arange(0, int(times[-1]) + one.lag_ns + one.max_age_ns + 4 * MINUTE, max(MINUTE, scale * 50))
    closes -= closes % SECOND
    from_file, _ = publish_reading(series, times // 1_000_000, values).as_of(closes // 1_000_000)
    readings = LatestReadings()
    arrivals = list(zip(times.tolist(), values.tolist(), strict=True))
    known = []
    for close in closes.tolist():
        while arrivals and arrivals[0][0] + int(lateness * one.lag_ns) <= close:
            at, value = arrivals.pop(0)
            readings.add(series, at, at + int(lateness * one.lag_ns), value)
        known.append(dict(readings.as_of(close)).get(series, np.nan))
        if prunes:
            readings.forget(close)
    np.testing.assert_array_equal(known, from_file)


def test_a_reading_that_comes_later_than_its_lag_counts_from_when_it_came() -> None:
    readings = LatestReadings()
    published = 100 * MINUTE
    readings.add("accounts_long_short_ratio", published, published + 20 * MINUTE, 1.5)
    assert dict(readings.as_of(published + 19 * MINUTE)) == {}
    assert dict(readings.as_of(published + 20 * MINUTE)) == {"accounts_long_short_ratio": 1.5}


def test_of_two_readings_of_one_moment_the_later_counts_and_an_older_one_never_takes_its_place() -> None:
    readings = LatestReadings()
    readings.add("fear_greed_index", 10 * MINUTE, 10 * MINUTE, 40.0)
    readings.add("fear_greed_index", 10 * MINUTE, 11 * MINUTE, 41.0)
    readings.add("fear_greed_index", 5 * MINUTE, 90 * MINUTE, 39.0)
    assert dict(readings.as_of(120 * MINUTE)) == {"fear_greed_index": 41.0}


def test_readings_that_no_bar_can_read_any_more_are_forgotten() -> None:
    readings = LatestReadings()
    for minute in range(500):
        readings.add("spot_price", minute * MINUTE, minute * MINUTE + SECOND, 1.0 + minute)
        readings.forget(minute * MINUTE)
    assert len(readings.series["spot_price"]) <= 3


@pytest.mark.slow
def test_outside_features_are_the_same_in_the_stream_as_in_the_batch() -> None:
    times, rows = made_rows(3_000)
    rng = np.random.default_rng(3)
    rows[:, col.ROW_READINGS :][rng.random((len(rows), col.ROW_WIDTH - col.ROW_READINGS)) < 0.2] = np.nan
    stream = FeatureStream(compile_feature_set(OUTSIDE))
    streamed = []
    for bar in stream_of("BTCUSDT.BINANCE", times, rows, OUTSIDE.timeframes[1:]):
        if stream.take(bar):
            streamed.append(stream.values.copy())
    assert same_bits(np.array(streamed), compute(OUTSIDE, times, rows)).all()


def test_no_outside_feature_knows_the_future() -> None:
    times, rows = made_rows(2_000)
    cuts = (1, 2, 61, 240, 241, 1_439, 1_440, 1_441, 1_999)
    assert find_look_ahead(lambda t, r: compute(ADDED, t, r), ADDED.names, times, rows, cuts) == {}


@pytest.mark.parametrize("name", ["core_v2", "outside_v1"])
@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h", "4h"])
def test_every_feature_is_known_on_every_base_once_it_is_warm(name: str, timeframe: str) -> None:
    step = TIMEFRAME_SECONDS[timeframe]
    chosen = load_feature_set(name, timeframe)
    count = warm_up_bars(chosen, step) + 86_400 // step
    times, rows = recorded_rows(BTC_1M, count)
    times = times[0] - times[0] % 86_400 + np.arange(count) * step
    fill_in(rows, times)
    rows[:, col.ROW_CLOSE_TIME] = times + step
    out = compute(chosen, times, rows, step)
    assert [one for one, known in zip(chosen.names, ~np.isnan(out[-1]), strict=True) if not known] == []


@pytest.mark.parametrize("name", ["core_v1", "core_v2", "outside_v1"])
def test_klines_alone_leave_empty_exactly_what_needs_more_than_klines(name: str) -> None:
    chosen = load_feature_set(name)
    times, rows = recorded_rows(BTC_1M)
    rows[:, col.ROW_CLOSE_TIME] = times + 60
    out = compute(chosen, times, rows)
    absent = {each for each, column in zip(col.ROW_COLUMNS, rows.T, strict=True) if np.isnan(column).all()}
    lacking = {one.name for one in chosen.features if absent & set(one.kind.inputs) and one.kind.step != "known"}
    empty = {one for one, column in zip(chosen.names, out.T, strict=True) if np.isnan(column).all()}
    assert empty == lacking


def test_a_flag_says_whether_its_reading_is_known() -> None:
    times, rows = made_rows(10)
    rows[::2, col.ROW_COLUMNS.index("fear_greed_index")] = np.nan
    got = compute_kind("fear_greed_index_known", times, rows)["fear_greed_index_known"]
    assert got.tolist() == [0.0, 1.0] * 5


def test_outside_formulas_are_those_of_numpy() -> None:
    times, rows = made_rows(400)

    def column(name: str) -> np.ndarray:
        return rows[:, col.ROW_COLUMNS.index(name)]

    def of(kind: str, **params: int) -> np.ndarray:
        return next(iter(compute_kind(kind, times, rows, **params).values()))

    peer, close, spot = column("peer_price"), column("close"), column("spot_price")
    np.testing.assert_allclose(of("peer_return", n=5)[5:], np.log(peer[5:] / peer[:-5]), rtol=1e-9, atol=1e-14)
    lead = np.log(peer[5:] / peer[:-5]) - np.log(close[5:] / close[:-5])
    np.testing.assert_allclose(of("peer_lead", n=5)[5:], lead, rtol=1e-7, atol=1e-13)
    np.testing.assert_allclose(of("spot_basis"), (close / spot - 1.0) * 1e4, rtol=1e-9, atol=1e-9)
    volume, taker = column("volume"), column("taker_buy_volume")
    spread = (2.0 * taker - volume) / volume - column("spot_taker_imbalance")
    means = np.convolve(spread, np.ones(20) / 20, mode="valid")
    np.testing.assert_allclose(of("taker_imbalance_spread", n=20)[19:], means, rtol=1e-9, atol=1e-12)
    rate, other = column("settled_funding_rate"), column("other_venue_funding_rate")
    np.testing.assert_array_equal(of("funding_spread"), rate - other)
    summed = np.convolve(rate * 60 / 28_800, np.ones(240), mode="valid")
    np.testing.assert_allclose(of("settled_funding_cumulative", n=240)[239:], summed, rtol=1e-9)


def test_a_bar_row_holds_its_readings_and_nothing_where_there_are_none() -> None:
    none = bar_row(a_bar())
    assert np.isnan(none[col.ROW_READINGS :]).all()
    one = bar_row(a_bar(fear_greed_index=71.0, spot_price=60_001.5))
    known = {col.ROW_COLUMNS[j]: one[j] for j in range(col.ROW_READINGS, col.ROW_WIDTH) if not np.isnan(one[j])}
    assert known == {"fear_greed_index": 71.0, "spot_price": 60_001.5}


def test_a_reading_that_is_not_finite_is_refused() -> None:
    with pytest.raises(BarError, match="a reading from outside is not finite"):
        check_bar(a_bar(fear_greed_index=float("inf")))


def test_predicted_and_settled_funding_never_share_a_feature() -> None:
    assert not [one.name for one in OUTSIDE.features if "funding_rate" in one.kind.inputs]
    assert any("settled_funding_rate" in one.kind.inputs for one in OUTSIDE.features)
