"""Protective stops: where they lie, when they move, and that they follow the position."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from libs.domain.control import ControlAction
from libs.domain.events import Event
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import (
    IntentAction,
    OrderApproved,
    OrderStatus,
    OrderType,
    Origin,
    TimeInForce,
    client_order_id_of,
)
from services.risk.core.limits import RiskLimits
from services.risk.core.stops import (
    HeldPosition,
    ProtectiveStops,
    StopOrder,
    desired_stops,
    loss_trigger,
    profit_trigger,
)
from tests.kit.builders import BTC, START, a_control, a_mark, a_tick
from tests.unit.risk.builders import D, a_core, an_account_after, an_order_event, limits

RULES = INSTRUMENTS[BTC]


def a_position(quantity: str = "0.05", entry: str = "60000", best: str | None = None, opened: int = 0) -> HeldPosition:
    """A long of 0.05 at 60000."""
    return HeldPosition(BTC, D(quantity), D(entry), opened, D(entry if best is None else best))


def wanted(
    position: HeldPosition, settings: RiskLimits, reference: str = "60000", now: int = 0
) -> dict[str, StopOrder]:
    return desired_stops(position, settings, RULES, D(reference), now)


def test_all_off_wants_nothing() -> None:
    assert wanted(a_position(), limits()) == {}


@pytest.mark.parametrize(
    ("quantity", "entry", "loss", "profit"),
    [
        ("0.05", "60000", "58800", "61800"),
        ("-0.05", "60000", "61200", "58200"),
        ("0.05", "60000.07", "58800.1", "61800"),
        ("-0.05", "60000.07", "61200", "58200.1"),
    ],
)
def test_triggers_lie_on_the_tick_nearer_the_entry(quantity: str, entry: str, loss: str, profit: str) -> None:
    settings = limits(stop_loss_fraction="0.02", take_profit_fraction="0.03")
    position = a_position(quantity, entry)
    assert loss_trigger(position, settings, RULES) == D(loss)
    assert profit_trigger(position, settings, RULES) == D(profit)


def test_orders_close_the_whole_position_and_no_more() -> None:
    settings = limits(stop_loss_fraction="0.02", take_profit_fraction="0.03", trailing_stop_fraction="0.01")
    stops = wanted(a_position("0.0505"), settings)
    assert list(stops) == ["loss", "profit", "trailing"]
    assert [stop.order_type for stop in stops.values()] == [
        OrderType.STOP_MARKET,
        OrderType.TAKE_PROFIT_MARKET,
        OrderType.TRAILING_STOP_MARKET,
    ]
    assert {(stop.side, stop.quantity) for stop in stops.values()} == {(Side.SELL, D("0.05"))}
    assert stops["trailing"].callback_rate == D("0.01")
    assert stops["loss"].trigger_price == D(58800)
    assert stops["profit"].trigger_price == D(61800)
    assert {stop.side for stop in wanted(a_position("-0.05"), settings).values()} == {Side.BUY}


def test_dust_below_the_minimum_quantity_has_no_stop() -> None:
    assert wanted(a_position("0.0009"), limits(stop_loss_fraction="0.02")) == {}
    assert wanted(a_position("0.001"), limits(stop_loss_fraction="0.02"))


def test_positions_above_the_venue_maximum_are_protected_up_to_it() -> None:
    assert wanted(a_position("500"), limits(stop_loss_fraction="0.02"))["loss"].quantity == 120
    assert wanted(a_position("500"), limits(stop_loss_fraction="0.02"), "1")["breach"].quantity == 120


@pytest.mark.parametrize(
    ("quantity", "reference", "kind"),
    [
        ("0.05", "58800", "breach"),
        ("0.05", "58800.1", "loss"),
        ("0.05", "61800", "breach"),
        ("0.05", "61799.9", "loss"),
        ("-0.05", "61200", "breach"),
        ("-0.05", "61199.9", "loss"),
        ("-0.05", "58200", "breach"),
        ("-0.05", "58200.1", "loss"),
    ],
)
def test_a_price_past_the_trigger_closes_at_market(quantity: str, reference: str, kind: str) -> None:
    stops = wanted(a_position(quantity), limits(stop_loss_fraction="0.02", take_profit_fraction="0.03"), reference)
    assert kind in stops
    assert (kind != "breach") or (list(stops) == ["breach"] and stops[kind].order_type is OrderType.MARKET)


@pytest.mark.parametrize(
    ("quantity", "best", "trigger"),
    [
        ("0.05", "60600", "60060"),
        ("0.05", "60599.9", "58800"),
        ("-0.05", "59400", "59940"),
        ("-0.05", "59400.1", "61200"),
    ],
)
def test_break_even_moves_the_stop_past_entry_and_fees(quantity: str, best: str, trigger: str) -> None:
    settings = limits(stop_loss_fraction="0.02", break_even_trigger_fraction="0.01")
    assert loss_trigger(a_position(quantity, best=best), settings, RULES) == D(trigger)


def test_break_even_alone_sets_a_stop_once_reached_and_rounds_in_our_favour() -> None:
    settings = limits(break_even_trigger_fraction="0.01")
    assert loss_trigger(a_position(best="60500"), settings, RULES) is None
    assert loss_trigger(a_position(entry="60000.3", best="61000"), settings, RULES) == D("60060.4")
    assert loss_trigger(a_position("-0.05", entry="60000.3", best="59000"), settings, RULES) == D("59940.2")


def test_time_stop_closes_at_market_when_the_time_is_over() -> None:
    settings = limits(max_holding_s=60, stop_loss_fraction="0.02")
    assert list(wanted(a_position(), settings, now=60 * NANOSECONDS - 1)) == ["loss"]
    stops = wanted(a_position(), settings, now=60 * NANOSECONDS)
    assert list(stops) == ["time"]
    assert stops["time"].order_type is OrderType.MARKET


def test_take_profit_of_a_short_beyond_zero_is_none() -> None:
    assert profit_trigger(a_position("-0.05"), limits(take_profit_fraction="1"), RULES) is None
    settings = limits(take_profit_fraction="1.5")
    assert profit_trigger(a_position("-0.05"), settings, RULES) is None
    assert profit_trigger(a_position(), settings, RULES) == 150000
    assert profit_trigger(a_position("-0.05", "2"), limits(take_profit_fraction="0.5"), RULES) == 1


# --- in the gate ---------------------------------------------------------------------------------------------------


def placed(events: Sequence[Event]) -> list[OrderApproved]:
    approved = [event for event in events if isinstance(event, OrderApproved)]
    return [verdict for verdict in approved if verdict.intent.action is IntentAction.PLACE]


def cancelled(events: Sequence[Event]) -> list[str]:
    approved = [event for event in events if isinstance(event, OrderApproved)]
    return [v.intent.target_client_order_id for v in approved if v.intent.action is IntentAction.CANCEL]


def test_a_position_gets_its_stops_from_the_account_state_that_shows_it() -> None:
    core = a_core(stop_loss_fraction="0.02", take_profit_fraction="0.03")
    loss, profit = placed(core.handle(an_account_after(2, "0.05")))
    assert loss.intent_id == f"risk/loss/account/paper/2/{BTC}"
    assert profit.intent_id == f"risk/profit/account/paper/2/{BTC}"
    for verdict in (loss, profit):
        assert verdict.origin is Origin.RISK
        assert verdict.intent.reduce_only
        assert verdict.intent.time_in_force is TimeInForce.GTC
        assert verdict.intent.reason == "protective stop"
        assert verdict.limits_version == 1
        assert verdict.event_time == START
    assert loss.intent.trigger_price == D(58800)
    assert core.handle(an_account_after(3, "0.05")) == []
    assert core.handle(a_mark(3, "60100", seconds=3)) == []


def test_stops_follow_the_quantity_and_the_entry() -> None:
    core = a_core(stop_loss_fraction="0.02")
    (first,) = placed(core.handle(an_account_after(2, "0.05")))
    events = core.handle(an_account_after(3, "0.08"))
    assert cancelled(events) == [client_order_id_of(first.intent_id)]
    (second,) = placed(events)
    assert second.intent.quantity == D("0.08")
    (third,) = placed(core.handle(an_account_after(4, "0.08", entry="60050")))
    assert third.intent.trigger_price == D(58849)


def test_a_flat_account_cancels_its_stops() -> None:
    core = a_core(stop_loss_fraction="0.02", take_profit_fraction="0.03")
    verdicts = placed(core.handle(an_account_after(2, "0.05")))
    events = core.handle(an_account_after(3, "0"))
    assert cancelled(events) == [client_order_id_of(verdict.intent_id) for verdict in verdicts]
    assert placed(events) == []
    assert core.handle(an_account_after(4, "0")) == []


def test_a_flip_cancels_and_protects_the_other_side() -> None:
    core = a_core(stop_loss_fraction="0.02")
    core.handle(an_account_after(2, "0.05"))
    events = core.handle(an_account_after(3, "-0.05"))
    assert len(cancelled(events)) == 1
    (stop,) = placed(events)
    assert (stop.intent.side, stop.intent.trigger_price) == (Side.BUY, D(61200))


def test_a_stop_that_filled_is_not_placed_again_before_the_account_says_so() -> None:
    core = a_core(stop_loss_fraction="0.02")
    (stop,) = placed(core.handle(an_account_after(2, "0.05")))
    core.handle(an_order_event(stop.intent, OrderStatus.FILLED, "0.05", "0.05"))
    assert core.handle(a_tick(1)) == []
    cause = f"report/{client_order_id_of(stop.intent_id)}/1"
    assert core.handle(an_account_after(3, "0", cause=cause)) == []


def test_a_stop_that_was_cancelled_from_outside_is_placed_again() -> None:
    core = a_core(stop_loss_fraction="0.02")
    (stop,) = placed(core.handle(an_account_after(2, "0.05")))
    core.handle(an_order_event(stop.intent, OrderStatus.ACCEPTED))
    assert core.handle(a_tick(1)) == []
    core.handle(an_order_event(stop.intent, OrderStatus.CANCELLED))
    assert len(placed(core.handle(a_tick(2)))) == 1


def test_a_rejected_stop_is_tried_again_after_a_minute() -> None:
    core = a_core(stop_loss_fraction="0.02")
    (stop,) = placed(core.handle(an_account_after(2, "0.05")))
    core.handle(an_order_event(stop.intent, OrderStatus.REJECTED, event_time=START))
    assert core.handle(a_tick(59)) == []
    assert len(placed(core.handle(a_tick(60)))) == 1


def test_a_breached_stop_is_left_to_the_venue_and_closed_at_market_where_that_does_nothing() -> None:
    core = a_core(stop_loss_fraction="0.02")
    (stop,) = placed(core.handle(an_account_after(2, "0.05")))
    assert core.handle(a_mark(3, "58800", seconds=3)) == []
    assert core.handle(a_mark(4, "58700", seconds=7.999)) == []
    events = core.handle(a_mark(8, "58700", seconds=8))
    assert cancelled(events) == [client_order_id_of(stop.intent_id)]
    (market,) = placed(events)
    assert market.intent.order_type is OrderType.MARKET
    assert market.intent_id == f"risk/breach/{BTC}/mark/8/{BTC}"
    assert core.handle(a_mark(9, "58700", seconds=30)) == []


def test_a_breach_that_passes_starts_its_patience_anew() -> None:
    core = a_core(stop_loss_fraction="0.02")
    core.handle(an_account_after(2, "0.05"))
    core.handle(a_mark(3, "58800", seconds=3))
    core.handle(a_mark(4, "58900", seconds=6))
    assert core.handle(a_mark(5, "58800", seconds=7)) == []
    assert core.handle(a_mark(6, "58800", seconds=11.999)) == []
    assert len(placed(core.handle(a_mark(7, "58800", seconds=12)))) == 1


def test_a_position_that_starts_past_its_stop_is_closed_at_once() -> None:
    core = a_core(mark="58800", stop_loss_fraction="0.02")
    (market,) = placed(core.handle(an_account_after(2, "0.05")))
    assert market.intent_id.startswith("risk/breach/")


def test_break_even_follows_the_best_price_seen() -> None:
    core = a_core(break_even_trigger_fraction="0.01")
    assert core.handle(an_account_after(2, "0.05")) == []
    (stop,) = placed(core.handle(a_mark(3, "60600", seconds=3)))
    assert stop.intent.trigger_price == D(60060)
    assert core.handle(a_mark(4, "60100", seconds=4)) == []
    short = a_core(break_even_trigger_fraction="0.01")
    short.handle(an_account_after(2, "-0.05"))
    assert len(placed(short.handle(a_mark(3, "59400", seconds=3)))) == 1


def test_break_even_counts_every_tick_of_a_better_price() -> None:
    core = a_core(break_even_trigger_fraction="0.01")
    core.handle(an_account_after(2, "0.05"))
    assert core.handle(a_mark(3, "60599.9", seconds=3)) == []
    assert len(placed(core.handle(a_mark(4, "60600", seconds=4)))) == 1


@pytest.mark.parametrize("quantity", ["0.05", "-0.05"])
def test_a_position_opened_anew_has_its_own_time_and_best_price(quantity: str) -> None:
    core = a_core(max_holding_s=60, break_even_trigger_fraction="0.01")
    core.handle(an_account_after(2, quantity))
    assert len(placed(core.handle(a_mark(3, "60600" if D(quantity) > 0 else "59400", seconds=3)))) == 1
    core.handle(an_account_after(3, "0"))
    core.handle(a_mark(30, seconds=30))
    assert core.handle(an_account_after(4, quantity)) == []
    assert core.handle(a_tick(89)) == []
    (market,) = placed(core.handle(a_tick(90)))
    assert market.intent_id.startswith("risk/time/")


def test_time_stop_counts_from_when_the_position_was_seen() -> None:
    core = a_core(max_holding_s=60)
    core.handle(a_tick(10))
    core.handle(an_account_after(2, "0.05"))
    assert core.handle(a_tick(69)) == []
    (market,) = placed(core.handle(a_tick(70)))
    assert market.intent_id.startswith("risk/time/")
    assert market.intent.event_time == START + 70 * NANOSECONDS


def test_flattening_places_no_stops() -> None:
    core = a_core(an_account_after(1, "0.05"), stop_loss_fraction="0.02")
    core.handle(a_control(ControlAction.FLATTEN))
    assert core.handle(an_account_after(2, "0.04")) == []


def test_stops_wait_for_a_price_and_an_instrument_with_rules() -> None:
    core = a_core(mark=None, stop_loss_fraction="0.02", allow_quote_as_mark=False)
    assert core.handle(an_account_after(2, "0.05")) == []
    assert core.handle(a_tick(1)) == []
    assert len(placed(core.handle(a_mark(2, seconds=2)))) == 1
    assert core.handle(a_mark(3, instrument="DOGEUSDT.BINANCE")) == []


def test_stops_do_not_wait_for_the_clock() -> None:
    settings = limits(stop_loss_fraction="0.02")
    (stop,) = ProtectiveStops().sync(BTC, D("0.05"), D(60000), settings, RULES, D(60000), 0, "cause")
    assert isinstance(stop, StopOrder) and stop.kind == "loss"


def test_stops_memory_survives_a_restart() -> None:
    stops = ProtectiveStops()
    settings = limits(stop_loss_fraction="0.02", trailing_stop_fraction="0.01")
    actions = stops.sync(BTC, D("0.05"), D(60000), settings, RULES, D(60000), 7, "cause")
    assert [action.kind for action in actions if isinstance(action, StopOrder)] == ["loss", "trailing"]
    other = ProtectiveStops()
    other.restore(stops.state)
    assert other.state == stops.state
    assert other.sync(BTC, D("0.05"), D(60000), settings, RULES, D(60001), 8, "later") == []
    other.restore({})
    assert other.state == {}


def test_a_quote_stands_in_for_the_mark_of_a_stop_too() -> None:
    core = a_core(mark=None, stop_loss_fraction="0.02")
    assert len(placed(core.handle(an_account_after(2, "0.05")))) == 1
