"""What cannot be true is quarantined before any state advances; what goes on is believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from libs.domain.events import DeadInput
from libs.domain.market import BestQuote, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS, SCALE
from services.ingestion.core.plausibility import BELIEVED_AFTER, Known, judge
from services.ingestion.feed import Pacer
from services.ingestion.recorded import RecordedSource
from tests.kit.builders import BTC, START
from tests.unit.ingestion.builders import START_MS, a_delta, a_snapshot, read_all, trade_line, write_capture


def a_trade(number: int, seconds: float = 0.0, **changes: Any) -> Trade:
    at = START + round(seconds * NANOSECONDS)
    trade = Trade(BTC, f"{BTC}/trade/{number}", at, at, 60_000 * SCALE, SCALE, False, number)
    return replace(trade, **changes)


def a_quote(update_id: int, bid: int, ask: int, seconds: float = 0.0) -> BestQuote:
    at = START + round(seconds * NANOSECONDS)
    return BestQuote(BTC, f"{BTC}/quote/{update_id}", at, at, update_id, bid * SCALE, SCALE, ask * SCALE, SCALE)


def known_after(*events: MarketEvent) -> Known:
    known = Known()
    for event in events:
        assert judge(event, known) == ""
    return known


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (a_trade(2, event_time=START + 3600 * NANOSECONDS), "3600 s after the one before"),
        (a_trade(2, event_time=START - 7200 * NANOSECONDS), "7200 s before the one before"),
        (a_trade(2**60), "comes after 1"),
        (a_trade(2, price_e8=1), "its price of 1 comes after"),
        (a_trade(2, price_e8=600_000 * SCALE), "comes after"),
        (a_trade(2, quantity_e8=10**17), "in money is not real"),
        (a_quote(9, 60_001, 60_001), "crossed"),
        (a_quote(2**60, 60_000, 60_001), "update"),
        (a_delta(2**60, 2**60, 10), "update"),
        (replace(a_delta(11, 12, 10), bid_prices_e8=(60_002 * SCALE,)), "crossed"),
        (replace(a_snapshot(10), ask_prices_e8=(59_000 * SCALE,)), "crossed"),
    ],
)
def test_what_cannot_be_true_is_named_and_changes_nothing(event: MarketEvent, reason: str) -> None:
    known = known_after(a_trade(1), a_quote(1, 60_000, 60_001), a_delta(9, 10, 8))
    assert reason in judge(event, known)
    assert judge(a_trade(2, 0.1), known) == ""
    assert judge(a_quote(2, 60_000, 60_001, 0.1), known) == ""
    assert judge(a_delta(11, 12, 10, 0.1), known) == ""


def test_a_first_event_of_another_day_than_its_receipt_is_doubted() -> None:
    assert "off that of its receipt" in judge(a_trade(1, event_time=START * 2), Known())


def test_a_clock_that_is_off_all_the_time_is_taken_as_it_is() -> None:
    known = Known()
    for second in range(5):
        trade = a_trade(second + 1, second, received_time=START + (second + 500) * NANOSECONDS)
        assert judge(trade, known) == ""


def test_what_goes_on_is_believed_and_single_slips_never_are() -> None:
    known = known_after(a_trade(1))
    jumped = [a_trade(number, number / 100, price_e8=200_000 * SCALE) for number in range(2, 2 + BELIEVED_AFTER)]
    assert [bool(judge(trade, known)) for trade in jumped] == [True] * (BELIEVED_AFTER - 1) + [False]
    known = known_after(a_trade(1))
    for number in range(2, 100):
        assert judge(a_trade(10**9 * number, number / 100), known)
        assert not judge(a_trade(number, number / 100), known)


def test_an_old_price_says_nothing_about_a_new_one() -> None:
    known = known_after(a_trade(1))
    assert judge(a_trade(2, 120.0, price_e8=20_000 * SCALE), known) == ""


def test_a_poisoned_line_of_a_recording_goes_beside_it_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = [
        trade_line(1, 0),
        trade_line(2, 100),
        trade_line(3, 150).replace(f'"T":{START_MS + 150}'.encode(), f'"T":{START_MS + 10**9}'.encode()),
        trade_line(10**15, 200),
        trade_line(4, 300, price="0.01"),
        trade_line(5, 400, price="99999999999999999999"),
        trade_line(6, 500),
    ]
    source = RecordedSource(write_capture(tmp_path / "poison.ns-jsonl", lines), instrument=BTC, pacer=Pacer(0))
    source.open(None)
    out = read_all(source)
    assert [event.venue_trade_id for event in out if isinstance(event, Trade)] == [1, 2, 6]
    dead = [event for event in out if isinstance(event, DeadInput)]
    assert [(each.position, bool(each.payload)) for each in dead] == [(3, True), (4, True), (5, True), (6, True)]
