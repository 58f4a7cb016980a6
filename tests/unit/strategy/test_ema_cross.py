from __future__ import annotations

import json
from decimal import Decimal

import pytest

from services.strategy.core.ema_cross import EmaCross
from services.strategy.core.strategy import AccountView
from tests.unit.strategy.builders import BTC, a_bar, a_core

VIEW = AccountView("paper", None, None, {})


def test_enters_in_the_direction_of_the_cross_at_the_third_live_bar() -> None:
    strategy = EmaCross()
    assert list(strategy.on_bar(a_bar(1, "60000"), VIEW)) == []
    assert list(strategy.on_bar(a_bar(2, "60010"), VIEW)) == []
    (target,) = strategy.on_bar(a_bar(3, "60020"), VIEW)
    assert (target.instrument, target.notional_usdt) == (BTC, Decimal(500))
    assert "above" in target.reason


def test_history_warms_it_so_that_the_first_live_bar_decides() -> None:
    strategy = EmaCross()
    for minute, price in enumerate(("60000", "59990", "59980"), start=1):
        assert list(strategy.on_bar(a_bar(minute, price, is_history=True), VIEW)) == []
    (target,) = strategy.on_bar(a_bar(4, "59970"), VIEW)
    assert target.notional_usdt == Decimal(-500)


def test_answers_once_per_cross() -> None:
    strategy = EmaCross()
    prices = ["60000", "60010", "60020", "60030", "60040", "59000", "58900"]
    answers = [list(strategy.on_bar(a_bar(minute, price), VIEW)) for minute, price in enumerate(prices, start=1)]
    assert [len(answer) for answer in answers] == [0, 0, 1, 0, 0, 1, 0]
    assert answers[5][0].notional_usdt == Decimal(-500)


def test_averages_follow_the_textbook_recursion() -> None:
    strategy = EmaCross(fast_bars=3, slow_bars=8)
    for minute, price in enumerate(("100", "110", "105"), start=1):
        strategy.on_bar(a_bar(minute, price), VIEW)
    fast, slow, seen, _ = strategy.averages[BTC]
    assert fast == pytest.approx(105.0)
    assert slow == pytest.approx(100 + 10 * 2 / 9 + (105 - (100 + 10 * 2 / 9)) * 2 / 9)
    assert seen == 3


def test_other_timeframes_are_not_mixed_in() -> None:
    strategy = EmaCross()
    core = a_core(strategy)
    core.handle(a_bar(1))
    before = strategy.snapshot()
    core.handle(a_bar(2, "70000", timeframe="5m"))
    assert strategy.snapshot() == before


def test_restored_state_goes_on_as_if_never_interrupted() -> None:
    prices = [str(60000 + (minute * 37) % 101) for minute in range(40)]
    whole = EmaCross()
    expected = [list(whole.on_bar(a_bar(minute, price), VIEW)) for minute, price in enumerate(prices)]
    first, second = EmaCross(), EmaCross()
    got = [list(first.on_bar(a_bar(minute, price), VIEW)) for minute, price in enumerate(prices[:20])]
    second.restore(json.loads(json.dumps(first.snapshot())))
    got += [list(second.on_bar(a_bar(20 + minute, price), VIEW)) for minute, price in enumerate(prices[20:])]
    assert got == expected


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fast_bars": 0}, "fast_bars is 0"),
        ({"fast_bars": 9}, "must be below slow_bars"),
        ({"notional_usdt": "-1"}, "notional_usdt is '-1'"),
        ({"notional_usdt": "lots"}, "notional_usdt is 'lots'"),
        ({"warm_up_bars": True}, "warm_up_bars is True"),
    ],
)
def test_bad_parameter_is_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmaCross(**parameters)
