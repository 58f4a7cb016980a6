from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.training.core.splits import split_calibration, split_combinatorial, split_walk_forward


@given(
    count=st.integers(200, 3000),
    folds=st.integers(1, 5),
    purge=st.integers(0, 12),
    embargo=st.integers(0, 20),
    holes=st.sets(st.integers(0, 3000), max_size=200),
)
def test_no_part_reaches_into_a_later_one(count: int, folds: int, purge: int, embargo: int, holes: set[int]) -> None:
    usable = np.array([place for place in range(count) if place not in holes], dtype=np.int64)
    assume(len(usable) // 3 * 0.15 > 2 * (purge + embargo) + 4 and len(usable) > 20 * folds)
    for fold in split_walk_forward(usable, folds=folds, purge_bars=purge, embargo_bars=embargo, calibration_share=0.15):
        assert fold.train[-1] + purge + embargo < fold.calibrate[0]
        assert fold.calibrate[-1] + purge + embargo < fold.test[0]


def test_tests_follow_one_another_and_cover_all_but_the_first_third() -> None:
    usable = np.arange(1000, dtype=np.int64)
    folds = split_walk_forward(usable, folds=4, purge_bars=5, embargo_bars=16, calibration_share=0.2)
    assert np.concatenate([fold.test for fold in folds]).tolist() == list(range(333, 1000))
    assert [fold.train[0] for fold in folds] == [0, 0, 0, 0]


def test_too_few_bars_are_refused_naming_the_part() -> None:
    with pytest.raises(ValueError, match="fold 1 has no bars to train on: 40 usable bars are too few for 3 folds"):
        split_walk_forward(
            np.arange(40, dtype=np.int64), folds=3, purge_bars=5, embargo_bars=16, calibration_share=0.15
        )


def test_no_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="folds is 0"):
        split_walk_forward(np.arange(9, dtype=np.int64), folds=0, purge_bars=1, embargo_bars=1, calibration_share=0.2)


def test_calibration_is_the_last_share() -> None:
    train, calibrate = split_calibration(np.arange(100, dtype=np.int64), 10, 0.2)
    assert (calibrate[0], len(calibrate)) == (80, 20)
    assert train.tolist() == list(range(70))


def test_combinatorial_split_tests_every_choice_of_groups_and_purges_on_both_sides() -> None:
    usable = np.arange(1200, dtype=np.int64)
    folds = split_combinatorial(usable, groups=6, test_groups=2, purge_bars=5, embargo_bars=10, calibration_share=0.1)
    assert len(folds) == 15
    times_tested = np.bincount(np.concatenate([fold.test for fold in folds]), minlength=1200)
    assert (times_tested == 5).all()
    for fold in folds:
        learnt = np.concatenate((fold.train, fold.calibrate))
        distance = fold.test[:, np.newaxis] - learnt[np.newaxis, :]
        # A label of training reaches 5 bars ahead: never into a tested bar; nor does training begin within the
        # embargo behind what was tested.
        assert distance[distance > 0].min(initial=99) > 5
        assert (-distance[distance < 0]).min(initial=99) > 15


def test_combinatorial_split_keeps_something_to_train_on() -> None:
    with pytest.raises(ValueError, match="3 of 3 groups cannot be tested"):
        split_combinatorial(
            np.arange(90, dtype=np.int64), groups=3, test_groups=3, purge_bars=1, embargo_bars=1, calibration_share=0.2
        )
