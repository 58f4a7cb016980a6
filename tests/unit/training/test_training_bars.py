from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.domain.features import FeatureVector
from libs.domain.market import ExchangeBar
from libs.indicators.feature_sets import load_feature_set
from services.bars.core import BarsCore
from services.exchange.core import generate_history
from services.features.core import FeaturesCore
from services.training.core.bars import BadBars, table_of_bars, table_of_columns
from services.training.core.examples import (
    TooFewBars,
    choose_inputs,
    choose_names,
    find_usable_bars,
    gather_windows,
)
from services.training.core.features import compute_features
from services.training.market_data import read_bars

MINUTE = 60_000_000_000
INPUTS = ("log_return_1", "rsi_14", "taker_imbalance", "cvd_zscore_60", "volume_ratio_20", "historical_volatility_20")


def some_columns(count: int = 6) -> dict[str, np.ndarray]:
    return {
        "open_time": np.arange(count, dtype=np.int64) * MINUTE,
        "open": np.full(count, 100.0),
        "high": np.full(count, 101.0),
        "low": np.full(count, 99.0),
        "close": np.full(count, 100.5),
        "volume": np.full(count, 2.0),
    }


@pytest.fixture(scope="module")
def history() -> list[ExchangeBar]:
    return generate_history(3, minutes=400)


def test_timeframe_is_the_smallest_step_and_unknown_columns_are_nan() -> None:
    columns = some_columns()
    columns["open_time"] = np.array([0, 1, 2, 7, 8, 9]) * MINUTE
    table = table_of_columns(columns)
    assert (table.timeframe, len(table)) == ("1m", 6)
    assert np.isnan(table.taker_buy_volume).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("close", 0.0, "row 4: close 0.0 is no price"),
        ("open", float("nan"), "row 4: open nan is no price"),
        ("high", 100.2, r"row 4: high 100\.2 is below open or close"),
        ("low", 100.4, r"row 4: low 100\.4 is above open or close"),
        ("volume", -1.0, "row 4: volume -1.0 is no volume"),
        ("volume", float("inf"), "row 4: volume inf is no volume"),
        ("open_time", 1, "row 4: open_time 1 is not after the row before"),
        ("taker_buy_volume", -0.5, "row 4: taker_buy_volume -0.5 is no amount"),
    ],
)
def test_wrong_row_is_named(name: str, value: float, message: str) -> None:
    columns = some_columns()
    columns["taker_buy_volume"] = np.full(6, 1.0)
    columns[name][3] = value
    with pytest.raises(BadBars, match=message):
        table_of_columns(columns)


def test_missing_column_and_odd_step_are_named() -> None:
    columns = some_columns()
    del columns["close"]
    with pytest.raises(BadBars, match="column close is missing"):
        table_of_columns(columns)
    columns = some_columns()
    columns["open_time"] *= 3
    with pytest.raises(BadBars, match="the bars are 180 s apart; known are 1m, 5m"):
        table_of_columns(columns)
    with pytest.raises(BadBars, match="1 bars are too few"):
        table_of_columns(some_columns(1))


@pytest.mark.slow
def test_klines_and_columns_give_the_same_table(history: list[ExchangeBar]) -> None:
    table = table_of_bars(history)
    assert table.close[7] == history[7].close_e8 / 1e8
    assert table.trades[7] == history[7].trade_count
    assert table.timeframe == "1m"


def test_every_input_of_the_model_is_known_from_klines_alone(history: list[ExchangeBar]) -> None:
    features = compute_features(table_of_bars(history), "core_v1")
    places = np.arange(300, 400, dtype=np.int64)
    chosen = choose_inputs(features.names, features.values, places, INPUTS)
    assert chosen.names == INPUTS
    assert chosen.left_out == ()
    assert (chosen.scales > 0).all()
    assert (np.diff(chosen.deciles, axis=1) >= 0).all()


def test_inputs_that_the_file_does_not_know_are_left_out(history: list[ExchangeBar]) -> None:
    table = table_of_bars(history)
    table.taker_buy_volume[:] = np.nan
    features = compute_features(table, "core_v1")
    chosen = choose_inputs(features.names, features.values, np.arange(300, 400, dtype=np.int64), INPUTS)
    assert chosen.left_out == ("taker_imbalance", "cvd_zscore_60")
    assert "rsi_14" in chosen.names


def test_input_that_the_feature_set_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="the feature set has no speed"):
        choose_inputs(["a"], np.zeros((3, 1)), np.arange(3, dtype=np.int64), ["a", "speed"])


def test_features_know_nothing_of_later_bars(history: list[ExchangeBar]) -> None:
    whole = compute_features(table_of_bars(history), "core_v1").values
    cut = compute_features(table_of_bars(history[:250]), "core_v1").values
    assert np.array_equal(whole[:250], cut, equal_nan=True)


def test_examples_never_cross_a_gap() -> None:
    times = np.concatenate((np.arange(50), np.arange(60, 120))) * MINUTE
    usable = find_usable_bars(times, MINUTE, window=4, ahead=5, warm_up=0)
    assert usable.tolist() == [*range(3, 45), *range(53, 105)]


def test_too_few_bars_for_an_example_are_refused() -> None:
    with pytest.raises(TooFewBars, match="9 bars are too few: a model needs more than 20"):
        find_usable_bars(np.arange(9) * MINUTE, MINUTE, window=16, ahead=5, warm_up=0)
    with pytest.raises(TooFewBars, match="gaps everywhere"):
        find_usable_bars(np.arange(90) * 2 * MINUTE, MINUTE, window=16, ahead=5, warm_up=0)


def test_window_ends_at_its_bar_oldest_first() -> None:
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    windows = gather_windows(rows, np.array([3, 9], dtype=np.int64), 3)
    assert windows[:, :, 0].tolist() == [[2.0, 4.0, 6.0], [14.0, 16.0, 18.0]]


def test_training_sees_the_numbers_that_the_stream_serves(history: list[ExchangeBar]) -> None:
    table = table_of_bars(history)
    batch = compute_features(table, "core_v1")
    bars, features = BarsCore(), FeaturesCore(load_feature_set("core_v1"))
    served = {}
    for kline in history:
        for bar in bars.handle(replace(kline, is_history=False)):
            for vector in features.handle(bar):
                assert isinstance(vector, FeatureVector)
                served[vector.event_time] = vector.values
    wanted = [batch.names.index(name) for name in INPUTS]
    for row, open_time in enumerate(table.open_times):
        values = served[int(open_time) + MINUTE]
        assert np.array_equal(values[wanted], batch.values[row, wanted], equal_nan=True), row


def test_bars_that_lack_trades_are_left_out_and_leave_a_gap(tmp_path: Path) -> None:
    columns = some_columns()
    times = pa.array(columns.pop("open_time")).cast(pa.timestamp("ns", "UTC"))
    marks = [False, False, True, None, False, False]
    pq.write_table(pa.table({"open_time": times, **columns, "is_incomplete": marks}), tmp_path / "bars.parquet")
    bars = read_bars(tmp_path / "bars.parquet")
    assert list(bars.table.open_times // MINUTE) == [0, 1, 3, 4, 5]
    assert bars.description["bars"] == 5
    assert bars.description["incomplete_bars_left_out"] == 1


def test_levels_of_price_and_volume_are_no_inputs() -> None:
    names = choose_names(load_feature_set("core_v1"))
    assert not {"ema_20", "obv", "atr_14", "kyle_lambda_60"} & set(names)
    assert {"ema_20_distance", "natr_14", "hour_sine", "log_return_60"} <= set(names)


def test_constant_and_repeated_inputs_are_left_out() -> None:
    walk = np.random.default_rng(1).normal(size=200)
    values = np.column_stack((walk, np.full(200, 3.0), walk, np.linspace(0, 1, 200)))
    chosen = choose_inputs(["a", "still", "same", "b"], values, np.arange(200), ["a", "still", "same", "b"])
    assert (chosen.names, chosen.left_out) == (("a", "b"), ("still", "same"))


def test_unknown_inputs_are_scaled_to_0_and_far_ones_are_held() -> None:
    chosen = choose_inputs(["a"], np.array([[0.0], [1.0], [2.0]]), np.arange(3), ["a"])
    scaled = chosen.scale(np.array([[np.nan], [1.0], [1e9], [-1e9]], dtype=np.float32))
    assert scaled[:, 0].tolist() == [0.0, 0.0, 5.0, -5.0]
