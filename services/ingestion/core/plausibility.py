"""Judges an event against what is known before any state advances: what cannot be true goes to the dead-letter topic.

A jump of time, number or price is doubted. What twenty events of a kind in a row agree on is believed: then it was no
slip. A crossed book, or a trade whose sums would leave 64 bits, never is. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, ExchangeBar, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS, SCALE

TIME_JUMP_NS = 60 * NANOSECONDS
"""How much further than the receiver's clock the venue's may move from one event to the next."""
OLD_NS = 3600 * NANOSECONDS
FIRST_NS = 86_400 * NANOSECONDS
TRADE_JUMP = 1_000_000
UPDATE_JUMP = 10_000_000_000
PRICE_FACTOR = 2
PRICE_AGE_NS = 60 * NANOSECONDS
BELIEVED_AFTER = 20
MAX_NOTIONAL = 2 * 10**10 * SCALE * SCALE
"""Beyond 2e10 units of money a trade is not real (1e-16 units)."""


@dataclass(slots=True)
class Doubt:
    """How many events of a kind in a row were doubted, and the value that the last of them had."""

    count: int
    value: int


@dataclass(slots=True)
class Known:
    """What events are judged by: the last times and numbers that were believed, the last price and when it was."""

    event_time: int = 0
    received_time: int = 0
    trade_id: int = 0
    update_ids: dict[str, int] = field(default_factory=dict)
    price_e8: int = 0
    price_time: int = 0
    doubts: dict[str, Doubt] = field(default_factory=dict)


def judge(event: MarketEvent, known: Known) -> str:
    """Return what is implausible about an event, empty where nothing is; remember it in either case."""
    if isinstance(event, ExchangeBar):
        return ""
    reason = _find_impossible(event)
    if reason:
        return reason
    kind = type(event).__name__
    reason, value, distance = _find_jump(event, kind, known)
    if reason and not _is_believed(kind, value, distance, known):
        return reason
    if known.doubts:
        known.doubts.pop(kind, None)
    _remember(event, kind, known)
    return ""


def _find_impossible(event: MarketEvent) -> str:
    if isinstance(event, Trade):
        if event.price_e8 * event.quantity_e8 > MAX_NOTIONAL:
            return f"a trade of {event.price_e8 * event.quantity_e8 // (SCALE * SCALE)} in money is not real"
    elif isinstance(event, BestQuote):
        if event.bid_price_e8 >= event.ask_price_e8:
            return f"crossed: the best bid {event.bid_price_e8} is not below the best ask {event.ask_price_e8} (1e-8)"
    elif isinstance(event, DepthSnapshot | DepthDelta):
        bid = _best(event.bid_prices_e8, event.bid_quantities_e8)
        ask = _best(event.ask_prices_e8, event.ask_quantities_e8) or bid + 1
        if bid >= ask:
            return f"crossed: a bid at {bid} is not below an ask at {ask} (1e-8)"
    return ""


def _best(prices: Sequence[int], quantities: Sequence[int]) -> int:
    """Return the first price that has a quantity, the best of its side; 0 where none has."""
    for price, quantity in zip(prices, quantities, strict=True):
        if quantity:
            return price
    return 0


def _find_jump(event: MarketEvent, kind: str, known: Known) -> tuple[str, int, int]:
    """Return what jumped, to which value, and how near a later value must be to agree."""
    at = event.event_time
    if not known.event_time:
        if abs(at - event.received_time) > FIRST_NS:
            return f"its time is {(at - event.received_time) // NANOSECONDS} s off that of its receipt", at, FIRST_NS
        return "", 0, 0
    moved, passed = at - known.event_time, event.received_time - known.received_time
    if moved > TIME_JUMP_NS and moved - passed > TIME_JUMP_NS:
        return f"its time is {moved // NANOSECONDS} s after the one before", at, TIME_JUMP_NS
    if moved < -OLD_NS:
        return f"its time is {-moved // NANOSECONDS} s before the one before", at, TIME_JUMP_NS
    if isinstance(event, Trade):
        number = event.venue_trade_id
        if known.trade_id and number > known.trade_id + TRADE_JUMP:
            return f"trade {number} comes after {known.trade_id}", number, TRADE_JUMP
        return _find_price_jump(event.price_e8, at, known)
    if isinstance(event, BestQuote | DepthDelta):
        number = event.update_id if isinstance(event, BestQuote) else event.final_update_id
        last = known.update_ids.get(kind, 0)
        if last and number > last + UPDATE_JUMP:
            return f"update {number} comes after {last}", number, UPDATE_JUMP
        if isinstance(event, BestQuote):
            return _find_price_jump((event.bid_price_e8 + event.ask_price_e8) // 2, at, known)
    return "", 0, 0


def _find_price_jump(price_e8: int, at: int, known: Known) -> tuple[str, int, int]:
    before = known.price_e8
    if not before or at - known.price_time > PRICE_AGE_NS:
        return "", 0, 0
    if before <= price_e8 * PRICE_FACTOR and price_e8 <= before * PRICE_FACTOR:
        return "", 0, 0
    return f"its price of {price_e8} comes after {before} (1e-8)", price_e8, price_e8 // 10


def _is_believed(kind: str, value: int, distance: int, known: Known) -> bool:
    doubt = known.doubts.get(kind)
    agrees = doubt is not None and abs(value - doubt.value) <= distance
    count = doubt.count + 1 if doubt is not None and agrees else 1
    known.doubts[kind] = Doubt(count, value)
    return count >= BELIEVED_AFTER


def _remember(event: MarketEvent, kind: str, known: Known) -> None:
    if event.event_time > known.event_time or known.event_time - event.event_time > OLD_NS:
        known.event_time, known.received_time = event.event_time, event.received_time
    if isinstance(event, Trade):
        known.trade_id = event.venue_trade_id
        known.price_e8, known.price_time = event.price_e8, event.event_time
    elif isinstance(event, BestQuote):
        known.update_ids[kind] = event.update_id
        known.price_e8, known.price_time = (event.bid_price_e8 + event.ask_price_e8) // 2, event.event_time
    elif isinstance(event, DepthDelta):
        known.update_ids[kind] = event.final_update_id
