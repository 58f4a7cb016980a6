"""Clocks and entropy: what moves them and what does not."""

from __future__ import annotations

import pytest

from libs.clock import Entropy, SeededEntropy, SimulatedClock, SystemClock, SystemEntropy


def test_simulated_clock_moves_only_when_told() -> None:
    clock = SimulatedClock(1_000)
    assert (clock.now_ns(), clock.monotonic_s()) == (1_000, 0.0)
    clock.sleep(1.5)
    assert (clock.now_ns(), clock.monotonic_s()) == (1_500_001_000, 1.5)


def test_setting_the_wall_time_back_leaves_monotonic_time_alone() -> None:
    clock = SimulatedClock(10**18)
    clock.advance(2.0)
    clock.set_wall(5)
    assert (clock.now_ns(), clock.monotonic_s()) == (5, 2.0)


def test_system_clock_rises() -> None:
    clock = SystemClock()
    before = clock.monotonic_s(), clock.now_ns()
    clock.sleep(0.0)
    assert clock.monotonic_s() >= before[0]
    assert before[1] > 1_700_000_000 * 10**9


def test_seeded_entropy_repeats_and_the_systems_does_not() -> None:
    assert SeededEntropy(7).token_hex(16) == SeededEntropy(7).token_hex(16) != SeededEntropy(8).token_hex(16)
    assert SystemEntropy().token_hex(16) != SystemEntropy().token_hex(16)


@pytest.mark.parametrize("entropy", [SystemEntropy(), SeededEntropy(7)])
def test_tokens_have_their_length_and_fractions_lie_below_one(entropy: Entropy) -> None:
    assert len(entropy.token_hex(4)) == 8
    assert len(entropy.token_urlsafe(32)) == 43
    fractions = [entropy.fraction() for _ in range(1_000)]
    assert 0.0 <= min(fractions) < 0.1 and 0.9 < max(fractions) < 1.0
