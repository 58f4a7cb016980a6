"""Kelly's fraction in its forms, against each other and against brute force."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.sizing.errors import SizingError
from libs.sizing.kelly import kelly_binary, kelly_continuous, kelly_discrete, kelly_from_forecast, scale_kelly


def test_even_money_bet_stakes_the_edge() -> None:
    assert kelly_binary(0.6, 1.0) == pytest.approx(0.2)
    assert kelly_binary(0.5, 2.0) == pytest.approx(0.25)


def test_no_edge_stakes_nothing() -> None:
    assert kelly_binary(0.5, 1.0) == 0.0
    assert kelly_binary(0.3, 1.0) == 0.0
    assert kelly_continuous(-0.1, 0.5) == 0.0
    assert kelly_discrete([-0.1, 0.1], [0.5, 0.5]) == 0.0
    assert kelly_from_forecast(0.4, 0.2, 0.4, 0.01, 0.01) == (0.0, 0)


def test_continuous_is_mean_by_variance() -> None:
    assert kelly_continuous(0.1, 0.5) == pytest.approx(0.4)


@given(p=st.floats(0.05, 0.95), win=st.floats(0.01, 3), loss=st.floats(0.01, 0.9))
def test_discrete_of_two_outcomes_is_the_binary_formula(p: float, win: float, loss: float) -> None:
    expected = kelly_binary(p, win / loss) / loss
    assert kelly_discrete([win, -loss], [p, 1 - p]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.slow
@given(
    outcomes=st.lists(st.tuples(st.floats(-0.5, 0.5), st.integers(1, 9)), min_size=2, max_size=6),
    nudge=st.sampled_from([0.9, 0.99, 1.01, 1.1]),
)
def test_discrete_fraction_grows_faster_than_its_neighbours(outcomes: list[tuple[float, int]], nudge: float) -> None:
    total = sum(weight for _, weight in outcomes)
    returns = [value for value, _ in outcomes]
    chances = [weight / total for _, weight in outcomes]
    if min(returns) >= 0.0:
        return
    fraction = kelly_discrete(returns, chances)

    def growth(stake: float) -> float:
        worst = 1 + stake * min(returns)
        if worst <= 0:
            return -math.inf
        return math.fsum(chance * math.log1p(stake * value) for value, chance in zip(returns, chances, strict=True))

    assert growth(fraction) >= growth(fraction * nudge) - 1e-12
    assert growth(fraction) >= -1e-12


def test_forecast_takes_the_side_of_its_edge() -> None:
    long_fraction, long_side = kelly_from_forecast(0.2, 0.2, 0.6, 0.01, 0.01)
    short_fraction, short_side = kelly_from_forecast(0.6, 0.2, 0.2, 0.01, 0.01)
    assert (long_side, short_side) == (1, -1)
    assert long_fraction == pytest.approx(short_fraction)
    # Flat moves nothing: of the 0.8 that move, three quarters win.
    assert long_fraction == pytest.approx((0.75 - 0.25) / 0.01, rel=1e-9)


def test_forecast_weighs_unequal_moves() -> None:
    assert kelly_from_forecast(0.5, 0.0, 0.5, 0.02, 0.01)[1] == 1
    assert kelly_from_forecast(0.5, 0.0, 0.5, 0.01, 0.02)[1] == -1


def test_a_forecast_sure_of_itself_is_not_believed() -> None:
    fraction, side = kelly_from_forecast(0.0, 0.0, 1.0, 0.01, 0.01)
    assert side == 1
    assert fraction == pytest.approx((0.999 - 0.001) / 0.01, rel=1e-9)
    fraction, side = kelly_from_forecast(0.9995, 0.0005, 0.0, 0.01, 0.01)
    assert side == -1
    assert math.isfinite(fraction)
    assert kelly_from_forecast(0.0, 0.9995, 0.0005, 0.01, 0.01)[1] == 1


def test_scaling_and_cap() -> None:
    assert scale_kelly(0.4, 0.5) == 0.2
    assert scale_kelly(0.4, 1.0, 0.1) == 0.1
    assert scale_kelly(0.4, 1.0, 0.0) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kelly_binary(1.1, 1.0), r"win_probability: 1\.1 must lie in \[0, 1\]"),
        (lambda: kelly_binary(math.nan, 1.0), "win_probability: nan"),
        (lambda: kelly_binary(0.5, 0.0), r"win_loss_ratio: 0\.0 must be a finite number above zero"),
        (lambda: kelly_continuous(math.nan, 0.5), "expected_return: nan"),
        (lambda: kelly_continuous(0.1, 0.0), r"volatility: 0\.0"),
        (lambda: kelly_discrete([], []), "0 and 0 must be equally many"),
        (lambda: kelly_discrete([0.1], [0.5, 0.5]), "1 and 2 must be equally many"),
        (lambda: kelly_discrete([math.inf, -1.0], [0.5, 0.5]), "returns: inf"),
        (lambda: kelly_discrete([0.1, -0.1], [0.5, 0.6]), "they sum to"),
        (lambda: kelly_discrete([0.1, -0.1], [1.5, -0.5]), r"probabilities: 1\.5"),
        (lambda: kelly_discrete([0.1, 0.2], [0.5, 0.5]), "no outcome loses"),
        (lambda: kelly_from_forecast(0.3, 0.3, 0.4, 0.0, 0.1), "move_up"),
        (lambda: kelly_from_forecast(0.3, 0.3, 0.4, 0.1, -0.1), "move_down"),
        (lambda: scale_kelly(0.1, 1.5), r"share: 1\.5"),
        (lambda: scale_kelly(0.1, 1.0, -1.0), r"cap: -1\.0"),
        (lambda: scale_kelly(0.1, 1.0, math.nan), "cap: nan"),
    ],
)
def test_impossible_inputs_are_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(SizingError, match=message):
        call()
