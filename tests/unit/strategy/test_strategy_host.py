from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.accounts import AccountState
from libs.domain.bars import Bar
from libs.domain.events import Event, Unhandleable
from libs.domain.forecasts import ModelRole
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.orders import OrderIntent, OrderStatus
from services.strategy import AccountView, TargetPosition
from services.strategy.core import StrategyCore
from services.strategy.core.ema_cross import EmaCross
from services.strategy.core.forecast_threshold import ForecastThreshold
from tests.unit.strategy.builders import (
    BTC,
    a_bar,
    a_core,
    a_forecast,
    a_refusal,
    an_account,
    an_approval,
    an_order,
)


class Scripted:
    """Answers each bar with the notional that its script names next; None for no answer."""

    def __init__(self, script: Sequence[str | None], name: str = "scripted") -> None:
        self._script = list(script)
        self._name = name
        self.seen: list[AccountView] = []

    @property
    def name(self) -> str:
        return self._name

    def on_bar(self, bar: Bar, view: AccountView) -> Sequence[TargetPosition]:
        self.seen.append(view)
        wanted = self._script.pop(0) if self._script else None
        return [] if wanted is None else [TargetPosition(bar.instrument, Decimal(wanted), f"want {wanted}")]

    def on_account(self, account: AccountState, _view: AccountView) -> Sequence[TargetPosition]:
        return [TargetPosition(BTC, Decimal(0), "too much")] if account.equity < 9000 else []

    def snapshot(self) -> dict[str, object]:
        return {"script": list(self._script)}

    def restore(self, state: Mapping[str, object]) -> None:
        self._script = list(state["script"])  # type: ignore[call-overload]


def the_intent(events: Sequence[Event]) -> OrderIntent:
    (intent,) = events
    assert isinstance(intent, OrderIntent)
    return intent


def fill(core: StrategyCore, intent: OrderIntent, sequence: int, position: str, report: str) -> None:
    core.handle(an_approval(intent))
    quantity = str(intent.quantity)
    core.handle(an_order(intent, OrderStatus.FILLED, last=quantity, filled=quantity, report=report))
    core.handle(an_account(sequence, position, cause_id=report))


def test_target_becomes_one_intent_rounded_down_to_the_step() -> None:
    core = a_core(Scripted(["500"]))
    intent = the_intent(core.handle(a_bar(1, "61800")))
    assert intent.event_id == f"intent/paper/{a_bar(1).event_id}"
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.BUY, Decimal("0.008"), False)
    assert intent.reference_price == Decimal("61800")
    assert (intent.strategy, intent.reason) == ("scripted", "want 500")


def test_nothing_is_asked_before_the_account_is_known() -> None:
    core = StrategyCore(account="paper", strategies=[cast(Any, Scripted(["500"]))], instruments=INSTRUMENTS)
    assert core.handle(a_bar(1)) == []
    core.handle(an_account(0))
    assert the_intent(core.handle(a_bar(2))).quantity == Decimal("0.008")


def test_outstanding_intent_is_not_repeated() -> None:
    core = a_core(Scripted(["500"]))
    intent = the_intent(core.handle(a_bar(1)))
    assert core.handle(a_bar(2)) == []
    core.handle(an_approval(intent))
    assert core.handle(a_bar(3)) == []


def test_refused_intent_is_asked_for_again_at_the_next_bar() -> None:
    core = a_core(Scripted(["500"]))
    intent = the_intent(core.handle(a_bar(1)))
    core.handle(a_refusal(intent))
    assert the_intent(core.handle(a_bar(2))).quantity == intent.quantity


def test_rejected_order_frees_its_slot() -> None:
    core = a_core(Scripted(["500"]))
    intent = the_intent(core.handle(a_bar(1)))
    core.handle(an_approval(intent))
    core.handle(an_order(intent, OrderStatus.REJECTED))
    assert the_intent(core.handle(a_bar(2))).quantity == intent.quantity


def test_rest_of_a_partially_filled_and_cancelled_order_is_asked_for() -> None:
    core = a_core(Scripted(["600"]))
    intent = the_intent(core.handle(a_bar(1)))
    core.handle(an_order(intent, OrderStatus.PARTIALLY_FILLED, last="0.004", filled="0.004"))
    core.handle(an_account(1, "0.004", cause_id="report/1"))
    core.handle(an_order(intent, OrderStatus.CANCELLED, filled="0.004", report="report/2"))
    assert the_intent(core.handle(a_bar(2))).quantity == Decimal("0.006")


def test_approval_of_less_than_asked_leads_to_the_rest_at_a_later_bar() -> None:
    core = a_core(Scripted(["600"]))
    smaller = replace(the_intent(core.handle(a_bar(1))), quantity=Decimal("0.005"))
    fill(core, smaller, 1, "0.005", "report/1")
    assert the_intent(core.handle(a_bar(2))).quantity == Decimal("0.005")


@pytest.mark.parametrize("is_account_first", [True, False])
def test_fill_counts_once_whichever_topic_tells_first(is_account_first: bool) -> None:
    core = a_core(Scripted(["500", None, "500"]))
    intent = the_intent(core.handle(a_bar(1, "62500")))
    order = an_order(intent, OrderStatus.FILLED, last="0.008", filled="0.008")
    account = an_account(1, "0.008", cause_id="report/1")
    for event in (account, order) if is_account_first else (order, account):
        core.handle(event)
        assert core.handle(a_bar(2, "62500")) == []
    assert core.handle(a_bar(3, "62500")) == []


def test_fill_of_a_protective_order_moves_the_position_too() -> None:
    core = a_core(Scripted(["500"]))
    intent = the_intent(core.handle(a_bar(1)))
    fill(core, intent, 1, "0.008", "report/1")
    stop = replace(intent, event_id="risk/stop/1", side=Side.SELL)
    core.handle(an_order(stop, OrderStatus.FILLED, last="0.008", filled="0.008", report="report/2"))
    assert the_intent(core.handle(a_bar(2))).quantity == Decimal("0.008")


def test_turn_is_one_order_over_both_sides() -> None:
    core = a_core(Scripted(["500", "-500"]))
    fill(core, the_intent(core.handle(a_bar(1, "62500"))), 1, "0.008", "report/1")
    intent = the_intent(core.handle(a_bar(2, "62500")))
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.SELL, Decimal("0.016"), False)


def test_turn_that_was_refused_closes_first() -> None:
    core = a_core(Scripted(["500", "-500"]))
    fill(core, the_intent(core.handle(a_bar(1, "62500"))), 1, "0.008", "report/1")
    core.handle(a_refusal(the_intent(core.handle(a_bar(2, "62500")))))
    intent = the_intent(core.handle(a_bar(3, "62500")))
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.SELL, Decimal("0.008"), True)
    fill(core, intent, 2, "0", "report/2")
    intent = the_intent(core.handle(a_bar(4, "62500")))
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.SELL, Decimal("0.008"), False)


def test_flat_target_closes_with_a_reduction_even_below_the_minimum_notional() -> None:
    core = a_core(Scripted(["120", "0"]))
    fill(core, the_intent(core.handle(a_bar(1, "50000"))), 1, "0.001", "report/1")
    intent = the_intent(core.handle(a_bar(2, "50000")))
    assert (intent.side, intent.quantity, intent.reduce_only) == (Side.SELL, Decimal("0.001"), True)


def test_target_below_the_minimum_notional_is_not_asked_for() -> None:
    assert a_core(Scripted(["99"])).handle(a_bar(1, "30000")) == []


def test_small_change_of_a_target_is_left_alone() -> None:
    core = a_core(Scripted(["500", "560"]))
    fill(core, the_intent(core.handle(a_bar(1, "50000"))), 1, "0.010", "report/1")
    assert core.handle(a_bar(2, "50000")) == []


def test_targets_of_several_strategies_are_netted() -> None:
    core = a_core(Scripted(["500"], "one"), Scripted(["-500"], "two"))
    assert core.handle(a_bar(1)) == []
    core = a_core(Scripted(["500"], "one"), Scripted(["300"], "two"))
    assert the_intent(core.handle(a_bar(1, "50000"))).quantity == Decimal("0.016")


def test_one_intent_per_bar_and_the_rest_at_the_next() -> None:
    core = a_core(EmaCross(warm_up_bars=2), ForecastThreshold())
    core.handle(a_bar(1, "50000"))
    fill(core, the_intent(core.handle(a_bar(2, "50001"))), 1, "0.009", "report/1")
    assert core.handle(a_forecast(2)) == []
    intent = the_intent(core.handle(a_bar(3, "50002")))
    assert intent.strategy == "forecast_threshold"
    assert intent.confidence == 0.4
    assert intent.cause_ids == (a_bar(3).event_id, "forecast/2")


def test_history_is_heard_and_never_traded() -> None:
    scripted = Scripted(["500", "500"])
    core = a_core(scripted)
    assert not core.handle(a_bar(1, is_history=True))
    assert len(scripted.seen) == 1
    assert len(core.handle(a_bar(2))) == 1


def test_shadow_forecasts_are_not_traded() -> None:
    core = a_core(ForecastThreshold())
    assert not core.handle(a_forecast(1, role=ModelRole.SHADOW))
    assert len(core.handle(a_forecast(2))) == 1


def test_account_of_a_model_trades_its_forecasts_alone_whatever_its_role() -> None:
    core = a_core(ForecastThreshold(), model="mine/12ab")
    assert not core.handle(a_forecast(1))
    assert not core.handle(replace(a_forecast(1, role=ModelRole.SHADOW), model_name="mine", model_version="34cd"))
    mine = replace(a_forecast(2), model_name="mine", model_version="12ab")
    assert len(core.handle(replace(mine, role=ModelRole.SHADOW))) == 1
    assert len(a_core(ForecastThreshold(), model="mine/12ab").handle(mine)) == 1


def test_target_answered_to_the_account_is_acted_on() -> None:
    core = a_core(Scripted(["500"]))
    fill(core, the_intent(core.handle(a_bar(1))), 1, "0.008", "report/1")
    poor = replace(an_account(2, "0.008", minute=2), equity=Decimal(8000))
    intent = the_intent(core.handle(poor))
    assert (intent.event_id, intent.side, intent.reduce_only) == ("intent/paper/account/paper/2", Side.SELL, True)


def test_other_accounts_do_not_matter() -> None:
    scripted = Scripted([None])
    core = a_core(scripted)
    core.handle(replace(an_account(9, "5"), account="other"))
    core.handle(a_bar(1))
    assert scripted.seen[0].positions == {}


def test_strategy_sees_equity_and_position() -> None:
    scripted = Scripted([None])
    core = a_core(scripted)
    core.handle(an_account(1, "-0.5"))
    core.handle(a_bar(1))
    assert scripted.seen[0] == AccountView("paper", Decimal(10000), Decimal(10000), {BTC: Decimal("-0.5")})


def test_an_instrument_that_could_be_traded_and_is_not_is_unhandleable_and_named() -> None:
    core = StrategyCore(account="paper", strategies=(EmaCross(),), instruments={BTC: INSTRUMENTS[BTC]})
    with pytest.raises(Unhandleable, match=r"XRPUSDT.BYBIT.*trades BTCUSDT.BINANCE"):
        core.handle(replace(a_bar(1), instrument="XRPUSDT.BYBIT"))


@pytest.mark.parametrize("instrument", ["BTCUSDT.BINANCE_SPOT", "DOGEUSDT.BINANCE"])
def test_what_is_market_data_alone_is_passed_over(instrument: str) -> None:
    strategy = Scripted(["1000", "1000"])
    core = a_core(strategy)
    assert list(core.handle(replace(a_bar(1), instrument=instrument))) == []
    assert strategy.seen == []
    assert list(core.handle(a_bar(2)))


def test_target_for_an_instrument_not_traded_stops_the_service() -> None:
    class Stray(Scripted):
        def on_bar(self, _bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
            return [TargetPosition("DOGEUSDT.BINANCE", Decimal(1), "")]

    with pytest.raises(ValueError, match=r"scripted wants 'DOGEUSDT\.BINANCE'"):
        a_core(Stray([])).handle(a_bar(1))


def test_two_strategies_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="one name among ema_cross, ema_cross"):
        a_core(EmaCross(), EmaCross())


def test_restored_core_drops_the_target_of_a_strategy_no_longer_hosted() -> None:
    core = a_core(Scripted(["500"], "gone"))
    fill(core, the_intent(core.handle(a_bar(1))), 1, "0.008", "report/1")
    after = a_core(Scripted([], "stays"))
    after.restore(core.snapshot())
    assert the_intent(after.handle(a_bar(2))).reduce_only


def test_state_of_another_release_is_refused() -> None:
    with pytest.raises(ValueError, match="the kept state of strategy"):
        a_core().restore(b'{"format": "strategy-0"}')


@pytest.mark.slow
@given(
    prices=st.lists(st.integers(50_000, 70_000), min_size=1, max_size=40),
    cut=st.integers(0, 40),
    refusals=st.sets(st.integers(0, 40)),
)
def test_restored_core_goes_on_as_if_never_interrupted(prices: list[int], cut: int, refusals: set[int]) -> None:
    def run(core: StrategyCore, minutes: range) -> list[Event]:
        out: list[Event] = []
        for minute in minutes:
            answers = [
                *core.handle(a_bar(minute, str(prices[minute]))),
                *core.handle(a_forecast(minute, up=(prices[minute] % 7) / 10, down=0.2, price=str(prices[minute]))),
            ]
            out.extend(answers)
            for answer in answers:
                assert isinstance(answer, OrderIntent)
                if minute in refusals:
                    core.handle(a_refusal(answer))
                else:
                    quantity = str(answer.quantity)
                    report = f"report/{minute}"
                    core.handle(an_order(answer, OrderStatus.FILLED, last=quantity, filled=quantity, report=report))
        return out

    cut = min(cut, len(prices))
    whole, first, second = (a_core(EmaCross(), ForecastThreshold()) for _ in range(3))
    expected = run(whole, range(len(prices)))
    got = run(first, range(cut))
    second.restore(first.snapshot())
    got += run(second, range(cut, len(prices)))
    assert got == expected
    assert second.snapshot() == whole.snapshot()
