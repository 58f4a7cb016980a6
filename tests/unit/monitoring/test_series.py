"""Series for the charts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.monitoring.series import ChartSeries, ThinningChartSeries


def test_reader_gets_only_what_was_appended() -> None:
    series = ChartSeries(10)
    series.put((1, 1.0))
    seen = (series.generation, series.appended)
    series.put((2, 2.0))
    assert series.since(*seen) == [(2, 2.0)]
    assert not series.since(series.generation, series.appended)


def test_reader_takes_all_after_a_correction() -> None:
    series = ChartSeries(10)
    series.put((1, 1.0))
    series.put((2, 2.0))
    seen = (series.generation, series.appended)
    assert series.put((1, 9.0))
    assert series.since(*seen) is None
    assert series.points == [(1, 9.0), (2, 2.0)]


def test_same_point_again_changes_nothing() -> None:
    series = ChartSeries(10)
    series.put((1, 1.0))
    assert not series.put((1, 1.0))
    assert series.generation == 0


def test_late_point_is_put_in_its_place() -> None:
    series = ChartSeries(10)
    for time in (10, 30, 20, 5):
        series.put((time, float(time)))
    assert [point[0] for point in series.points] == [5, 10, 20, 30]


def test_point_older_than_a_full_series_is_left_out() -> None:
    series = ChartSeries(2)
    series.put((2, 0.0))
    series.put((3, 0.0))
    assert not series.put((1, 0.0))
    assert [point[0] for point in series.points] == [2, 3]


def test_reader_that_missed_more_than_is_kept_takes_all() -> None:
    series = ChartSeries(3)
    series.put((1, 0.0))
    seen = (series.generation, series.appended)
    for time in range(2, 9):
        series.put((time, 0.0))
    assert series.since(*seen) is None


@given(st.lists(st.integers(0, 40), min_size=1, max_size=80), st.integers(1, 12), st.integers(1, 5))
def test_a_reader_that_follows_holds_what_the_series_holds(times: list[int], limit: int, every: int) -> None:
    series = ChartSeries(limit)
    held: list[tuple[int | float, ...]] = []
    seen = (-1, 0)
    for count, time in enumerate(times):
        series.put((time, float(count)))
        if count % every == 0 or count == len(times) - 1:
            fresh = series.since(*seen)
            held = list(series.points) if fresh is None else [*held, *fresh][-limit:]
            seen = (series.generation, series.appended)
    assert held == list(series.points)
    assert [point[0] for point in held] == sorted({point[0] for point in held})


def test_thinning_series_keeps_the_whole_span_within_its_limit() -> None:
    series = ThinningChartSeries(100)
    for time in range(0, 1_000_000, 7):
        series.put((time, 1.0))
    assert len(series) <= 100
    assert series.points[0][0] == 0
    assert series.points[-1][0] > 950_000
