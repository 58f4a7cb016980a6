"""The stream and the batch are one: equal to the bit on recorded bars, in pieces, and over a restart."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.indicators import columns as col
from libs.indicators.batch import BatchRun
from libs.indicators.compiling import compiled
from libs.indicators.engine import STEPS, digest_steps, write_dispatch
from libs.indicators.feature_set import FeatureSet, FeatureSetError, features_of
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.instruction import WIDTH
from libs.indicators.kinds import GROUPS
from libs.indicators.program import compile_feature_set
from libs.indicators.rows import BarError
from libs.indicators.stream import FeatureStream, FeatureStreamState
from tests.unit.indicators.recorded import (
    BTC_1M,
    LTC_1M,
    as_bar,
    compute,
    fill_in,
    made_rows,
    recorded_rows,
    same_bits,
    stream_of,
)

CORE = load_feature_set()
PROGRAM = compile_feature_set(CORE)
HIGHER = PROGRAM.timeframes[1:]


def _kept(stream: FeatureStream) -> tuple[tuple[int, ...], bytes]:
    state = stream.state()
    return state.closed, state.memory.tobytes()


def _stream(bars: list, stream: FeatureStream | None = None) -> np.ndarray:
    stream = stream or FeatureStream(PROGRAM)
    return np.array([stream.values.copy() for bar in bars if stream.take(bar)])


@pytest.mark.slow
@pytest.mark.parametrize("file", [BTC_1M, LTC_1M])
@pytest.mark.parametrize("is_filled", [True, False])
def test_stream_and_batch_agree_to_the_bit_on_recorded_bars(file: str, is_filled: bool) -> None:
    times, rows = recorded_rows(file, 9000, start=100)
    if is_filled:
        fill_in(rows, times)
    streamed = _stream(stream_of("X", times, rows, HIGHER))
    batched = compute(CORE, times, rows)
    assert streamed.shape == batched.shape == (9000, len(CORE))
    same = same_bits(streamed, batched)
    assert [CORE.names[j] for j in np.flatnonzero(~same.all(axis=0))] == []


@pytest.mark.slow
def test_stream_and_batch_agree_to_the_bit_where_inputs_come_and_go() -> None:
    times, rows = made_rows(4000)
    holes = np.random.default_rng(4).random((4000, col.ROW_WIDTH)) < 0.02
    holes[:, : col.ROW_VOLUME + 1] = False
    rows[holes] = np.nan
    liquidations = [col.ROW_LIQUIDATION_BUY, col.ROW_LIQUIDATION_SELL]
    rows[np.ix_(np.random.default_rng(5).random(4000) < 0.7, np.array(liquidations))] = np.nan
    streamed = _stream(stream_of("X", times, rows, HIGHER))
    same = same_bits(streamed, compute(CORE, times, rows))
    assert [CORE.names[j] for j in np.flatnonzero(~same.all(axis=0))] == []


def test_batch_in_pieces_is_batch_in_one() -> None:
    times, rows = made_rows(3000)
    run = BatchRun(PROGRAM)
    edges = [0, 1, 59, 60, 61, 1000, 1440, 3000]
    pieces = [run.take(times[a:b], rows[a:b].copy()) for a, b in pairwise(edges)]
    assert same_bits(np.concatenate(pieces), compute(CORE, times, rows)).all()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 37, 1439, 2000])
def test_a_restored_stream_goes_on_as_if_it_had_not_stopped(stop: int) -> None:
    times, rows = made_rows(2500)
    bars = stream_of("X", times, rows, HIGHER)
    undisturbed = _stream(bars)
    first = FeatureStream(PROGRAM)
    before = _stream(bars[:stop], first)
    second = FeatureStream(PROGRAM)
    second.restore(first.state())
    assert _kept(second) == _kept(first)
    after = _stream(bars[stop:], second)
    parts = [part for part in (before, after) if len(part)]
    assert same_bits(np.concatenate(parts), undisturbed).all()


def test_a_gap_in_the_file_closes_the_unfinished_hour_before_the_next_bar() -> None:
    times, rows = made_rows(400)
    keep = np.ones(400, dtype=bool)
    keep[170:200] = False
    hourly = FeatureSet("hourly", 1, tuple(features_of("log_return", "1h", n=1)))
    out = compute(hourly, times[keep], rows[keep])[:, 0]
    close = rows[keep][:, col.ROW_CLOSE]
    third_hour = times[keep] // 3600 == times[0] // 3600 + 2
    assert out[np.flatnonzero(third_hour)[-1]] == pytest.approx(np.log(close[119] / close[59]))
    first_after = int(np.flatnonzero(times[keep] >= times[0] + 200 * 60)[0])
    assert out[first_after] == pytest.approx(np.log(rows[169, col.ROW_CLOSE] / rows[119, col.ROW_CLOSE]))


def test_an_hour_that_the_file_begins_in_the_middle_of_is_left_out() -> None:
    times, rows = made_rows(400)
    hourly = FeatureSet("hourly", 1, tuple(features_of("momentum", "1h", n=1)))
    out = compute(hourly, times[30:], rows[30:])[:, 0]
    assert np.isnan(out[: 179 - 30]).all()
    assert out[179 - 30] == pytest.approx(rows[179, col.ROW_CLOSE] - rows[119, col.ROW_CLOSE])


def test_a_timeframe_that_the_base_cannot_build_stays_empty() -> None:
    times, rows = made_rows(100)
    times = times[0] + 3600 * np.arange(100)
    program = compile_feature_set(CORE.on("1h"), 3600)
    out = BatchRun(program).take(times, rows)
    assert set(program.unavailable) == {name for name in CORE.names if name.endswith(("_5m", "_15m"))}
    empty = [CORE.names.index(name) for name in program.unavailable]
    assert np.isnan(out[:, empty]).all()
    base, named = CORE.names.index("rsi_14"), CORE.names.index("rsi_14_1h")
    assert same_bits(out[:, base], out[:, named]).all()


def test_a_bar_seen_before_changes_nothing() -> None:
    times, rows = made_rows(50)
    bars = stream_of("X", times, rows, HIGHER)
    stream = FeatureStream(PROGRAM)
    for bar in bars:
        stream.take(bar)
    state = _kept(stream)
    assert not any(stream.take(bar) for bar in bars)
    assert _kept(stream) == state


def test_a_bar_whose_vector_would_know_the_future_is_refused() -> None:
    times, rows = made_rows(400)
    stream = FeatureStream(PROGRAM)
    stream.take(as_bar("X", "1h", int(times[60]), rows[60]))
    with pytest.raises(BarError, match="a 1h bar that closes later was taken before it"):
        stream.take(as_bar("X", "1m", int(times[60]), rows[60]))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (col.ROW_LOW, 0.0, "low_e8 is 0, prices must be above zero"),
        (col.ROW_CLOSE, 1e6, "must lie between low"),
        (col.ROW_VOLUME, -1.0, "must not be negative"),
        (col.ROW_TAKER, 1e6, "above volume_e8"),
        (col.ROW_FLOW, np.inf, "a book statistic is not finite"),
    ],
)
def test_an_impossible_bar_is_refused_and_leaves_the_state_alone(column: int, value: float, message: str) -> None:
    times, rows = made_rows(10)
    stream = FeatureStream(PROGRAM)
    for j in range(9):
        stream.take(as_bar("X", "1m", int(times[j]), rows[j]))
    state = _kept(stream)
    rows[9, column] = value
    with pytest.raises(BarError, match=message):
        stream.take(as_bar("X", "1m", int(times[9]), rows[9]))
    assert _kept(stream) == state


def test_a_snapshot_of_another_size_is_refused() -> None:
    with pytest.raises(FeatureSetError, match="does not fit core_v1"):
        FeatureStream(PROGRAM).restore(FeatureStreamState((0,), np.zeros(100)))


def test_steps_are_all_used_by_the_catalog() -> None:
    used = {feature.kind.step for feature in load_feature_set("outside_v1").features}
    assert used == set(STEPS)
    assert {feature.kind.group for feature in load_feature_set("outside_v1").features} == set(GROUPS)


def test_the_dispatch_runs_each_step_as_often_as_its_number_counts() -> None:
    ran: list[tuple[str, int]] = []

    def recorder(name: str) -> Callable[..., None]:
        return lambda _code, k, *_rest: ran.append((name, k))

    namespace: dict[str, Any] = {f"step_{name}": recorder(name) for name in STEPS}
    exec(write_dispatch(STEPS), namespace)
    counts = [number % 3 for number in range(len(STEPS))]
    namespace["run_instructions"]([99, *counts], 1, 7, None, 0, 0)
    expected = [name for name, count in zip(STEPS, counts, strict=True) for _ in range(count)]
    assert ran == [(name, 7 + WIDTH * at) for at, name in enumerate(expected)]


PRICES = st.floats(0.01, 1e6, allow_nan=False).map(lambda x: round(x, 4))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES, st.floats(0, 1e5)), min_size=1, max_size=120), st.integers(0, 9)
)
def test_any_possible_market_gives_finite_values_within_their_ranges(market: list, seed: int) -> None:
    times, rows = made_rows(len(market), seed)
    for row, (a, b, c, d, volume) in zip(rows, market, strict=True):
        row[col.ROW_OPEN], row[col.ROW_CLOSE] = a, b
        row[col.ROW_HIGH], row[col.ROW_LOW] = max(a, b, c, d), min(a, b, c, d)
        row[col.ROW_VOLUME] = round(volume, 3)
        row[col.ROW_TAKER] = round(volume, 3)
    out = compute(CORE, times, rows)
    assert not np.isinf(out).any()
    for j, feature in enumerate(CORE.features):
        low, high = feature.definition.low, feature.definition.high
        known = out[:, j][~np.isnan(out[:, j])]
        slack = 1e-9
        assert low is None or (known >= low - slack).all(), feature.name
        assert high is None or (known <= high + slack).all(), feature.name
    assert same_bits(_stream(stream_of("X", times, rows, HIGHER)), out).all()


def test_compiled_code_on_disk_is_not_used_once_a_step_has_changed() -> None:
    module = ModuleType("steps")
    digests = []
    for factor in (1.0, 2.0):
        source = f"def step(x):\n    return x * {factor}\n"
        exec(source, module.__dict__)
        module.__dict__["step"] = compiled(module.__dict__["step"])
        digests.append(digest_steps((module,)))
    assert digests[0] != digests[1]
    assert digest_steps((module,)) == digests[1]
