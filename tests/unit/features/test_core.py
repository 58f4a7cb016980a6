"""The features core: a vector for every bar, those of history marked, deterministic ids, one state over a restart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from libs.domain.events import Unhandleable
from libs.indicators.feature_set import FeatureSetError
from libs.indicators.feature_sets import load_feature_set
from services.features.core import FeaturesCore
from tests.kit.builders import a_bar, a_trade
from tests.unit.indicators.recorded import LTC_1M, compute, made_rows, recorded_rows, same_bits, stream_of

CORE = load_feature_set()
HIGHER = ("5m", "15m", "1h", "4h", "1d")


def _bars(count: int, instrument: str = "LTCUSDT.BINANCE", seed: int = 1) -> list:
    times, rows = made_rows(count, seed)
    return stream_of(instrument, times, rows, HIGHER)


def _vectors(core: FeaturesCore, bars: list[Any]) -> list[Any]:
    return [vector for bar in bars for vector in core.handle(bar)]


def test_one_vector_follows_each_live_minute_and_names_its_bar() -> None:
    bars = _bars(120)
    vectors = _vectors(FeaturesCore(CORE), bars)
    minutes = [bar for bar in bars if bar.timeframe == "1m"]
    assert [vector.bar_id for vector in vectors] == [bar.event_id for bar in minutes]
    last = vectors[-1]
    assert last.event_id == f"{minutes[-1].event_id}/{CORE.schema_hash[:12]}"
    assert (last.feature_set, last.schema_hash, last.timeframe) == ("core_v1", CORE.schema_hash, "1m")
    assert (last.event_time, last.reference_price_e8) == (minutes[-1].close_time, minutes[-1].close_e8)
    assert len(last.values) == len(CORE)
    assert last.known_count == int(np.isfinite(last.values).sum()) > 100


@pytest.mark.slow
def test_vectors_of_recorded_bars_are_the_batchs_bits() -> None:
    times, rows = recorded_rows(LTC_1M, 3000)
    vectors = _vectors(FeaturesCore(CORE), stream_of("LTCUSDT.BINANCE", times, rows, HIGHER))
    assert same_bits(np.array([vector.values for vector in vectors]), compute(CORE, times, rows)).all()


def test_history_gives_marked_vectors_and_leaves_no_seam() -> None:
    bars = _bars(400)
    undisturbed = _vectors(FeaturesCore(CORE), bars)
    core = FeaturesCore(CORE)
    live_from = 300
    split = next(j for j, bar in enumerate(bars) if bar == [b for b in bars if b.timeframe == "1m"][live_from])
    history = [replace(bar, is_history=True) for bar in bars[:split]]
    assert _vectors(core, history) == [replace(vector, is_history=True) for vector in undisturbed[:live_from]]
    assert _vectors(core, bars[split:]) == undisturbed[live_from:]


def test_the_vector_of_a_bar_that_lacks_trades_says_so() -> None:
    first, second = _bars(2)
    vectors = _vectors(FeaturesCore(CORE), [replace(first, is_incomplete=True), second])
    assert [vector.is_incomplete for vector in vectors] == [True, False]


def test_a_bar_that_comes_again_gives_no_second_vector() -> None:
    bars = _bars(30)
    core = FeaturesCore(CORE)
    first = _vectors(core, bars)
    state = core.snapshot()
    assert _vectors(core, bars[-10:]) == []
    assert core.snapshot() == state
    assert len(first) == 30


@pytest.mark.parametrize("stop", [1, 100, 333])
def test_a_restored_core_goes_on_to_the_same_vectors(stop: int) -> None:
    bars = [bar for pair in zip(_bars(300), _bars(300, "BTCUSDT.BINANCE", 2), strict=True) for bar in pair]
    undisturbed = _vectors(FeaturesCore(CORE), bars)
    core = FeaturesCore(CORE)
    before = _vectors(core, bars[:stop])
    restored = FeaturesCore(CORE)
    restored.restore(core.snapshot())
    assert restored.snapshot() == core.snapshot()
    assert before + _vectors(restored, bars[stop:]) == undisturbed


def test_repeating_everything_since_an_old_snapshot_repeats_the_same_vectors() -> None:
    bars = _bars(200)
    core = FeaturesCore(CORE)
    _vectors(core, bars[:50])
    state = core.snapshot()
    first = _vectors(core, bars[50:])
    core.restore(state)
    assert _vectors(core, bars[50:]) == first


def test_instruments_do_not_touch_each_other() -> None:
    one, other = _bars(100), _bars(100, "BTCUSDT.BINANCE", 2)
    together = _vectors(FeaturesCore(CORE), [bar for pair in zip(one, other, strict=True) for bar in pair])
    assert [vector for vector in together if vector.instrument == "LTCUSDT.BINANCE"] == _vectors(
        FeaturesCore(CORE), one
    )


def test_a_snapshot_of_another_feature_set_is_refused() -> None:
    core = FeaturesCore(load_feature_set("seven_v1"))
    _vectors(core, _bars(3))
    with pytest.raises(FeatureSetError, match="the features snapshot was made with feature set hash"):
        FeaturesCore(CORE).restore(core.snapshot())


def test_what_is_not_a_bar_is_refused() -> None:
    with pytest.raises(Unhandleable, match="features take closed bars, not Trade"):
        FeaturesCore(CORE).handle(a_trade())


def test_an_impossible_bar_is_refused_and_forgotten() -> None:
    core = FeaturesCore(CORE)
    empty = core.snapshot()
    with pytest.raises(Unhandleable, match="prices must be above zero"):
        core.handle(a_bar(low_e8=0))
    assert core.snapshot() == empty


def test_a_timeframe_that_the_set_does_not_use_is_passed_over() -> None:
    core = FeaturesCore(load_feature_set("seven_v1"))
    assert core.handle(a_bar(timeframe="1h")) == []


def test_sets_of_several_timeframes_run_side_by_side_as_each_would_alone() -> None:
    five = load_feature_set("seven_v1", "5m")
    one = load_feature_set("seven_v1", "1m")
    bars = _bars(60)
    both = _vectors(FeaturesCore(one, five), bars)
    assert [vector for vector in both if vector.timeframe == "1m"] == _vectors(FeaturesCore(one), bars)
    assert [vector for vector in both if vector.timeframe == "5m"] == _vectors(FeaturesCore(five), bars)
    assert {vector.timeframe for vector in both} == {"1m", "5m"}


def test_a_set_that_was_not_kept_begins_without_memory_beside_one_that_was() -> None:
    one, five = load_feature_set("seven_v1", "1m"), load_feature_set("seven_v1", "5m")
    bars = _bars(40)
    alone = FeaturesCore(one)
    _vectors(alone, bars[:30])
    both = FeaturesCore(one, five)
    both.restore(alone.snapshot())
    later = [vector for vector in _vectors(both, bars[30:]) if vector.timeframe == "1m"]
    assert later == _vectors(alone, bars[30:])
