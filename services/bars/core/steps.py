"""The compiled steps: what one market event does to the flat state of an instrument.

An accumulator holds one bar in the making: slot 0 is the open minute, slot 1 the one after it (which begins while slot
0 waits out its grace), slot 2 the minute that is being finished, slots from 3 on the longer timeframes. Prices and
quantities are integers of 1e-8.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from libs.domain.market_columns import QUOTE, TRADE
from libs.domain.ohlc import merge_prices
from libs.kernels import njit
from services.bars.core.book import Ints, compact, set_levels, sum_top

Records: TypeAlias = npt.NDArray[np.void]
Reals: TypeAlias = npt.NDArray[np.float64]
Flags: TypeAlias = npt.NDArray[np.bool_]

_OWN, _SUM = "", "sum"
# Every field of a bar in the making: its type; how a longer bar takes it from its parts (by code of its own, summed, or
# the latest one whose flag is set); and whether it came from books and derivatives feeds, which a kline does not have.
_FIELDS: tuple[tuple[str, str, str, bool], ...] = (
    ("open_time", "<i8", _OWN, False),
    ("parts", "<i8", _OWN, False),
    ("is_partial", "<i8", _OWN, False),
    ("history_parts", "<i8", _SUM, False),
    ("open", "<i8", _OWN, False),
    ("high", "<i8", _OWN, False),
    ("low", "<i8", _OWN, False),
    ("close", "<i8", _OWN, False),
    ("volume", "<i8", _SUM, False),
    ("quote_volume", "<i8", _SUM, False),
    ("taker_buy_volume", "<i8", _SUM, False),
    ("trade_count", "<i8", _SUM, False),
    ("unknown_quote_volumes", "<i8", _SUM, False),
    ("unknown_taker_volumes", "<i8", _SUM, False),
    ("unknown_trade_counts", "<i8", _SUM, False),
    ("unknown_flows", "<i8", _SUM, False),
    ("unknown_variances", "<i8", _SUM, False),
    ("top_updates", "<i8", _SUM, True),
    ("book_updates", "<i8", _SUM, True),
    ("flow_updates", "<i8", _SUM, True),
    ("order_flow", "<i8", _SUM, True),
    ("has_mark", "<i8", "has_mark", True),
    ("mark", "<i8", "has_mark", True),
    ("has_index", "<i8", "has_index", True),
    ("index", "<i8", "has_index", True),
    ("funding_rate", "<i8", "has_mark", True),
    ("next_funding_time", "<i8", "has_mark", True),
    ("has_interest", "<i8", "has_interest", True),
    ("open_interest", "<i8", "has_interest", True),
    ("liquidations", "<i8", _SUM, True),
    ("liquidation_buy", "<i8", _SUM, True),
    ("liquidation_sell", "<i8", _SUM, True),
    ("spread_sum", "<f8", _SUM, True),
    ("imbalance_1_sum", "<f8", _SUM, True),
    ("imbalance_5_sum", "<f8", _SUM, True),
    ("imbalance_10_sum", "<f8", _SUM, True),
    ("microprice_sum", "<f8", _SUM, True),
    ("realised_variance", "<f8", _SUM, False),
)
ACCUMULATOR = np.dtype([(name, kind) for name, kind, _, _ in _FIELDS])
"""A bar in the making. `open_time` is -1 in an accumulator that is not in use."""
ENRICHMENTS = tuple(name for name, _, _, is_enriching in _FIELDS if is_enriching)


def _positions(kind: str) -> Ints:
    return np.array([at for at, field in enumerate(_FIELDS) if field[1:3] == (kind, _SUM)], dtype=np.int64)


_SUMMED_INTS = _positions("<i8")
_SUMMED_REALS = _positions("<f8")
_NAMES = [name for name, _, _, _ in _FIELDS]
_LATEST = np.array(
    [(_NAMES.index(rule), at) for at, (_, _, rule, _) in enumerate(_FIELDS) if rule not in (_OWN, _SUM)], dtype=np.int64
)

HEAD = np.dtype(
    [
        ("is_started", "<i8"),
        ("has_trades", "<i8"),
        ("last_price", "<i8"),
        ("last_trade_price", "<i8"),
        ("last_bar_open", "<i8"),
        ("late_trades", "<i8"),
        ("stale_bars", "<i8"),
        ("has_quotes", "<i8"),
        ("has_top", "<i8"),
        ("bid", "<i8"),
        ("bid_quantity", "<i8"),
        ("ask", "<i8"),
        ("ask_quantity", "<i8"),
        ("is_synced", "<i8"),
        ("is_chained", "<i8"),
        ("last_update_id", "<i8"),
        ("bids", "<i8"),
        ("asks", "<i8"),
    ]
)
"""What outlives a bar: the last price, the top of the book, where the book's chain of updates stands, counters."""

SCALE = 100_000_000
FINISHED = 2
LONGER = 3
NO_PRICE = 2
"""`is_partial` of a finished minute none of whose trades have come: its prices are those before it, and say nothing."""


@njit(cache=True)
def notional_e8(price: int, quantity: int) -> int:
    """Return price x quantity in 1e-8, rounded half-even, all in integers; it must fit 64 bits."""
    price_high = price // SCALE
    price_low = price % SCALE
    quantity_high = quantity // SCALE
    quantity_low = quantity % SCALE
    # quantity x price_high is exact; quantity x price_low / 1e8 splits once more so that nothing leaves 64 bits.
    product = quantity_low * price_low
    rounded = product // SCALE
    rest = product % SCALE
    whole = quantity * price_high + quantity_high * price_low + rounded
    if rest * 2 > SCALE or (rest * 2 == SCALE and whole % 2 == 1):
        whole += 1
    return whole


def words_of(slots: Records) -> tuple[Ints, Reals]:
    """Return the same memory as integers and as doubles, a row a slot and a column a field."""
    return slots.view(np.int64).reshape(len(slots), -1), slots.view(np.float64).reshape(len(slots), -1)


@njit(cache=True)
def clear_slot(slots: Records, ints: Ints, at: int, open_time: int, is_partial: int) -> None:
    """Begin a bar."""
    ints[at, :] = 0
    slots[at].open_time = open_time
    slots[at].is_partial = is_partial


@njit(cache=True)
def start_slots(slots: Records, ints: Ints, open_time: int, length: int, is_partial: int) -> None:
    """Begin the minute at `open_time` and the one after it."""
    clear_slot(slots, ints, 0, open_time, is_partial)
    clear_slot(slots, ints, 1, open_time + length, 0)


@njit(cache=True)
def shift_slots(slots: Records, ints: Ints, length: int) -> None:
    """Move on to the next minute."""
    slots[0] = slots[1]
    clear_slot(slots, ints, 1, slots[0].open_time + length, 0)


@njit(cache=True)
def step_trade(
    head: Records, slots: Records, length: int, event_time: int, price: int, quantity: int, is_buyer_maker: bool
) -> None:
    """Count a trade; one that belongs to a closed bar is counted as late and in no bar."""
    state = head[0]
    if event_time < slots[0].open_time:
        state.late_trades += 1
        return
    slot = slots[0] if event_time < slots[0].open_time + length else slots[1]
    slot.open, slot.high, slot.low, slot.close = merge_prices(
        slot.trade_count == 0, (slot.open, slot.high, slot.low, slot.close), (price, price, price, price)
    )
    slot.volume += quantity
    slot.quote_volume += notional_e8(price, quantity)
    if not is_buyer_maker:
        slot.taker_buy_volume += quantity
    slot.trade_count += 1
    if state.last_trade_price > 0 and price != state.last_trade_price:
        log_return = np.log(price / state.last_trade_price)
        slot.realised_variance += log_return * log_return
    state.last_trade_price = price
    state.has_trades = 1


@njit(cache=True)
def step_trades(
    head: Records,
    slots: Records,
    length: int,
    deadline: int,
    begin: int,
    event_times: Ints,
    prices: Ints,
    quantities: Ints,
    makers: Flags,
) -> int:
    """Count trades into the open minute, from one on; return the first that belongs to another, or the end."""
    opened = slots[0].open_time
    for at in range(begin, len(event_times)):
        if not opened <= event_times[at] < deadline:
            return at
        step_trade(head, slots, length, event_times[at], prices[at], quantities[at], makers[at])
    return len(event_times)


@njit(cache=True)
def sample_top(
    head: Records,
    slots: Records,
    length: int,
    event_time: int,
    bid: int,
    bid_quantity: int,
    ask: int,
    ask_quantity: int,
) -> None:
    """Sample spread, microprice, imbalance of the top and order flow from a new top of the book."""
    state = head[0]
    slot = slots[0] if event_time < slots[0].open_time + length else slots[1]
    if state.has_top:
        flow = 0
        if bid >= state.bid:
            flow += bid_quantity
        if bid <= state.bid:
            flow -= state.bid_quantity
        if ask <= state.ask:
            flow -= ask_quantity
        if ask >= state.ask:
            flow += state.ask_quantity
        slot.order_flow += flow
        slot.flow_updates += 1
    state.has_top = 1
    state.bid = bid
    state.bid_quantity = bid_quantity
    state.ask = ask
    state.ask_quantity = ask_quantity
    total = bid_quantity + ask_quantity
    if total <= 0 or ask <= bid:
        return
    middle = 0.5 * (float(bid) + float(ask))
    share = bid_quantity / total
    slot.top_updates += 1
    slot.spread_sum += (ask - bid) / middle * 1e4
    slot.imbalance_1_sum += 2.0 * share - 1.0
    slot.microprice_sum += (share - 0.5) * (ask - bid) / middle * 1e4


@njit(cache=True)
def step_quote(
    head: Records,
    slots: Records,
    length: int,
    event_time: int,
    bid: int,
    bid_quantity: int,
    ask: int,
    ask_quantity: int,
) -> None:
    """Take a best-quote update."""
    head[0].has_quotes = 1
    sample_top(head, slots, length, event_time, bid, bid_quantity, ask, ask_quantity)


@njit(cache=True)
def sample_book(head: Records, slots: Records, length: int, event_time: int, keys: Ints, quantities: Ints) -> None:
    """Sample the imbalances of 5 and 10 levels, and the top where the venue sends no best quotes."""
    state = head[0]
    if state.bids == 0 or state.asks == 0:
        return
    bid = keys[0, state.bids - 1]
    ask = -keys[1, state.asks - 1]
    if bid >= ask:
        return
    slot = slots[0] if event_time < slots[0].open_time + length else slots[1]
    five_bids = float(sum_top(quantities[0], state.bids, 5))
    five_asks = float(sum_top(quantities[1], state.asks, 5))
    ten_bids = float(sum_top(quantities[0], state.bids, 10))
    ten_asks = float(sum_top(quantities[1], state.asks, 10))
    slot.book_updates += 1
    slot.imbalance_5_sum += (five_bids - five_asks) / (five_bids + five_asks)
    slot.imbalance_10_sum += (ten_bids - ten_asks) / (ten_bids + ten_asks)
    if not state.has_quotes:
        bid_quantity = quantities[0, state.bids - 1]
        ask_quantity = quantities[1, state.asks - 1]
        sample_top(head, slots, length, event_time, bid, bid_quantity, ask, ask_quantity)


@njit(cache=True)
def step_snapshot(
    head: Records,
    slots: Records,
    length: int,
    event_time: int,
    last_update_id: int,
    keys: Ints,
    quantities: Ints,
    bid_prices: Ints,
    bid_quantities: Ints,
    ask_prices: Ints,
    ask_quantities: Ints,
) -> None:
    """Take a whole book."""
    state = head[0]
    # The best level last: each is put behind those before it and none has to move.
    state.bids = set_levels(keys[0], quantities[0], 0, 1, bid_prices[::-1].copy(), bid_quantities[::-1].copy())
    state.asks = set_levels(keys[1], quantities[1], 0, -1, ask_prices[::-1].copy(), ask_quantities[::-1].copy())
    state.is_synced = 1
    state.is_chained = 0
    state.last_update_id = last_update_id
    sample_book(head, slots, length, event_time, keys, quantities)


@njit(cache=True)
def compact_book(head: Records, keys: Ints, quantities: Ints) -> None:
    """Take out the levels of both sides that hold nothing."""
    state = head[0]
    state.bids = compact(keys[0], quantities[0], state.bids)
    state.asks = compact(keys[1], quantities[1], state.asks)


@njit(cache=True)
def step_delta(
    head: Records,
    slots: Records,
    length: int,
    event_time: int,
    first_update_id: int,
    final_update_id: int,
    previous_final_update_id: int,
    keys: Ints,
    quantities: Ints,
    bid_prices: Ints,
    bid_quantities: Ints,
    ask_prices: Ints,
    ask_quantities: Ints,
    may_forget: bool,
) -> bool:
    """Apply a change of the book if it continues what is known; otherwise the book is unknown until the next snapshot.

    The first delta on a snapshot must span its id (U <= id + 1, u >= id); every later one names its predecessor in pu.
    Returns False, with nothing changed, where the book needs more room and may not forget its worst levels.
    """
    state = head[0]
    if not state.is_synced:
        return True
    added = max(len(bid_prices), len(ask_prices))
    room = keys.shape[1]
    if max(state.bids, state.asks) + added > room and not may_forget:
        compact_book(head, keys, quantities)
        # With less than a quarter of the room to spare it would soon be compacted again.
        if max(state.bids, state.asks) + added > room - room // 4:
            return False
    if state.is_chained:
        if previous_final_update_id != state.last_update_id:
            state.is_synced = 0
            return True
    else:
        if final_update_id < state.last_update_id:
            return True
        if first_update_id > state.last_update_id + 1 and previous_final_update_id != state.last_update_id:
            state.is_synced = 0
            return True
    state.is_chained = 1
    state.last_update_id = final_update_id
    state.bids = set_levels(keys[0], quantities[0], state.bids, 1, bid_prices, bid_quantities)
    state.asks = set_levels(keys[1], quantities[1], state.asks, -1, ask_prices, ask_quantities)
    sample_book(head, slots, length, event_time, keys, quantities)
    return True


@njit(cache=True)
def step_events(
    head: Records,
    slots: Records,
    length: int,
    keys: Ints,
    quantities: Ints,
    kinds: npt.NDArray[np.int8],
    times: Ints,
    values: Ints,
    bid_first: Ints,
    bid_prices: Ints,
    bid_quantities: Ints,
    ask_first: Ints,
    ask_prices: Ints,
    ask_quantities: Ints,
    begin: int,
    end: int,
    may_forget: bool,
) -> int:
    """Take trades, quotes and deltas of `MarketColumns` that all belong to the open minute, one after the other; return
    the first delta that needs more room, or the end.
    """
    for at in range(begin, end):
        row = values[at]
        if kinds[at] == TRADE:
            step_trade(head, slots, length, times[at], row[0], row[1], row[2] != 0)
        elif kinds[at] == QUOTE:
            step_quote(head, slots, length, times[at], row[0], row[1], row[2], row[3])
        else:
            bids, asks = slice(bid_first[at], bid_first[at + 1]), slice(ask_first[at], ask_first[at + 1])
            has_room = step_delta(
                head,
                slots,
                length,
                times[at],
                row[0],
                row[1],
                row[2],
                keys,
                quantities,
                bid_prices[bids],
                bid_quantities[bids],
                ask_prices[asks],
                ask_quantities[asks],
                may_forget,
            )
            if not has_room:
                return at
    return end


@njit(cache=True)
def merge_part(slots: Records, ints: Ints, reals: Reals, at: int, of: int) -> None:
    """Add a finished minute to a longer bar."""
    whole, part = slots[at], slots[of]
    if part.is_partial != NO_PRICE:
        whole.open, whole.high, whole.low, whole.close = merge_prices(
            whole.open == 0,
            (whole.open, whole.high, whole.low, whole.close),
            (part.open, part.high, part.low, part.close),
        )
    whole.parts += 1
    for field in _SUMMED_INTS:
        ints[at, field] += ints[of, field]
    for field in _SUMMED_REALS:
        reals[at, field] += reals[of, field]
    for index in range(_LATEST.shape[0]):
        if ints[of, _LATEST[index, 0]]:
            ints[at, _LATEST[index, 1]] = ints[of, _LATEST[index, 1]]
    if whole.quote_volume < 0:
        # The sum left 64 bits: unknown from here on rather than wrong.
        whole.quote_volume = 0
        whole.unknown_quote_volumes += 1


@njit(cache=True)
def aggregate_minute(slots: Records, ints: Ints, reals: Reals, lengths: Ints, minute: int, due: Ints) -> int:
    """Merge the finished minute into each longer bar; fill `due` with the slots it completes, shortest first.

    A longer bar counts only when all its minutes came, one after the other, from its first on.
    """
    part = slots[FINISHED]
    count = 0
    for index in range(lengths.shape[0]):
        length = lengths[index]
        whole = slots[index + LONGER]
        if part.open_time % length == 0:
            clear_slot(slots, ints, index + LONGER, part.open_time, 0)
        elif whole.open_time < 0 or whole.open_time + whole.parts * minute != part.open_time:
            whole.open_time = -1
            continue
        merge_part(slots, ints, reals, index + LONGER, FINISHED)
        if whole.parts * minute == length:
            if whole.open == 0:
                whole.open, whole.high, whole.low, whole.close = part.open, part.high, part.low, part.close
            due[count] = index + LONGER
            count += 1
    return count
