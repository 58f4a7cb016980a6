from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from libs.domain.bars import Bar
from libs.domain.events import Event, Unhandleable
from libs.domain.forecasts import Forecast
from libs.domain.market import ClockTick, MarkPrice
from libs.domain.orders import OrderIntent
from libs.runtime.service import Input
from services.backtest.pipeline import EndlessCascade, Pipeline, Stage
from tests.unit.backtest.builders import START
from tests.unit.strategy.builders import BTC, a_bar, a_forecast


class Scripted:
    """A core that notes what it hears and answers by a function."""

    def __init__(self, answer: Callable[[Event], Sequence[Event]] = lambda _: ()) -> None:
        self.heard: list[Event] = []
        self._answer = answer

    def handle(self, event: Event) -> Sequence[Event]:
        self.heard.append(event)
        return self._answer(event)

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        raise NotImplementedError(state)


def a_tick(second: int = 0) -> ClockTick:
    return ClockTick(BTC, f"tick/{second}", START + second * 10**9, START + second * 10**9)


def a_mark() -> MarkPrice:
    return MarkPrice(BTC, "mark/1", START, START, 6_000_000_000_000, None, 0, 0)


def test_event_reaches_those_who_read_its_topic_and_kind_risk_first() -> None:
    order: list[str] = []

    def noting(name: str) -> Scripted:
        def answer(_: Event) -> Sequence[Event]:
            order.append(name)
            return ()

        return Scripted(answer)

    stages = [
        Stage("bars", noting("bars"), [Input("market.events.v1")]),
        Stage("execution", noting("execution"), [Input("market.events.v1", frozenset({"clock_tick"}))]),
        Stage("risk", noting("risk"), [Input("market.events.v1", frozenset({"mark_price", "clock_tick"}))]),
        Stage("features", noting("features"), [Input("bars.closed.v1")]),
    ]
    pipeline = Pipeline(stages, lambda _: None)
    pipeline.feed(a_tick())
    pipeline.feed(a_mark())
    assert order == ["risk", "execution", "bars", "risk", "bars"]


def test_what_a_core_answers_is_queued_and_observed_in_order() -> None:
    seen: list[str] = []
    bars = Scripted(lambda event: [a_bar(1), a_bar(2)] if isinstance(event, ClockTick) else ())
    inference = Scripted(lambda event: [a_forecast(1)] if isinstance(event, Bar) and event == a_bar(1) else ())
    strategy = Scripted()
    stages = [
        Stage("bars", bars, [Input("market.events.v1")]),
        Stage("inference", inference, [Input("bars.closed.v1")]),
        Stage("strategy", strategy, [Input("bars.closed.v1"), Input("inference.forecasts.v1")]),
    ]
    Pipeline(stages, lambda event: seen.append(event.event_id)).feed(a_tick())
    assert seen == ["tick/0", a_bar(1).event_id, a_bar(2).event_id, "forecast/1"]
    assert [type(event) for event in strategy.heard] == [Bar, Bar, Forecast]


def test_event_nobody_can_handle_is_kept_with_its_reason_and_the_run_goes_on() -> None:
    def refuse(event: Event) -> Sequence[Event]:
        raise Unhandleable(f"no use for {event.event_id}")

    bars = Scripted()
    pipeline = Pipeline(
        [
            Stage("risk", Scripted(refuse), [Input("market.events.v1")]),
            Stage("bars", bars, [Input("market.events.v1")]),
        ],
        lambda _: None,
    )
    pipeline.feed(a_tick())
    assert [(dead.service, dead.event_id, dead.reason) for dead in pipeline.dead] == [
        ("risk", "tick/0", "no use for tick/0")
    ]
    assert len(bars.heard) == 1


def test_unexpected_error_of_a_core_is_not_swallowed() -> None:
    def fail(_: Event) -> Sequence[Event]:
        raise ZeroDivisionError

    pipeline = Pipeline([Stage("bars", Scripted(fail), [Input("market.events.v1")])], lambda _: None)
    with pytest.raises(ZeroDivisionError):
        pipeline.feed(a_tick())


@pytest.mark.slow
def test_cascade_without_end_is_stopped() -> None:
    pipeline = Pipeline([Stage("strategy", Scripted(lambda event: [event]), [Input("bars.closed.v1")])], lambda _: None)
    with pytest.raises(EndlessCascade, match="events came of one"):
        pipeline.feed(a_bar(1))


def test_before_its_time_strategy_hears_bars_as_history_and_no_forecasts() -> None:
    strategy = Scripted()
    stages = [Stage("strategy", strategy, [Input("bars.closed.v1"), Input("inference.forecasts.v1")])]
    pipeline = Pipeline(stages, lambda _: None, trade_from=a_bar(2).event_time)
    for event in (a_bar(1), a_forecast(1), a_bar(2), a_forecast(2)):
        pipeline.feed(event)
    assert [getattr(event, "is_history", None) for event in strategy.heard] == [True, False, None]


def test_own_output_comes_back_in() -> None:
    core = Scripted(lambda event: [a_bar(2)] if event == a_bar(1) else ())
    Pipeline([Stage("strategy", core, [Input("bars.closed.v1")])], lambda _: None).feed(a_bar(1))
    assert core.heard == [a_bar(1), a_bar(2)]
    assert not any(isinstance(event, OrderIntent) for event in core.heard)
