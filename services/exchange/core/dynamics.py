"""The simulated market's law of motion as compiled steps of 10 ms over flat state.

A fair price with stochastic variance, rare jumps and a slow drift; takers who arrive in clusters (self- and
cross-exciting), lean with the drift and with mispricing, and eat into a book of 25 levels a side that is renewed every
250 ms; spreads that widen when levels vanish and close again; mark, index and funding from a wandering basis; open
interest and liquidations. Only + - * / and square roots, so that equal seeds give equal bits on every machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from libs.domain.ohlc import merge_prices
from libs.kernels import njit
from services.exchange.core.numbers import Seeds, next_normal, next_pareto, next_uniform

Ints = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]

DEPTH = 25
STEP_MS = 10
RENEW_MS = 250
DEPTH_MS = 500
INTEREST_MS = 5_000
FUNDING_MS = 8 * 3600 * 1000
MINUTE_MS = 60_000
MAX_ROWS = 40_000
MAX_LEVELS = 60_000

# Kinds of rows. A row is kind, time in ms, received time in ns, then six values as said below (ticks 0.1, lots 0.001).
TRADE = 1  # id, ticks, lots, is buyer maker
QUOTE = 2  # update id, bid ticks, bid lots, ask ticks, ask lots
DELTA = 3  # first, final, previous final update id, first level row, bids, asks
SNAPSHOT = 4  # update id, first level row, bids, asks
MARK = 5  # mark ticks, index in 1e-2, funding rate in 1e-8, next funding time in ms
INTEREST = 6  # lots
LIQUIDATION = 7  # is sell, ticks, lots
ROW = 9

MARKET = np.dtype(
    [
        ("time_ms", "<i8"),
        ("received_ns", "<i8"),
        ("price", "<f8"),
        ("price_10s", "<f8"),
        ("variance", "<f8"),
        ("drift", "<f8"),
        ("buy_excitement", "<f8"),
        ("sell_excitement", "<f8"),
        ("spread", "<f8"),
        ("basis", "<f8"),
        ("basis_mean", "<f8"),
        ("premium", "<f8"),
        ("open_interest", "<f8"),
        ("next_funding_ms", "<i8"),
        ("funding_rate", "<i8"),
        ("trade_id", "<i8"),
        ("update_id", "<i8"),
        ("depth_update_id", "<i8"),
        ("bids", "<i8"),
        ("asks", "<i8"),
        ("published_bids", "<i8"),
        ("published_asks", "<i8"),
        ("quote_bid", "<i8"),
        ("quote_bid_lots", "<i8"),
        ("quote_ask", "<i8"),
        ("quote_ask_lots", "<i8"),
    ]
)

KLINE = 10
# A kline: open time in ms; open, high, low, close in ticks; lots; ticks x lots; the takers' buys of both; trades.

# Per second unless said otherwise.
MEAN_VARIANCE = 6.4e-9  # 45 % a year
VARIANCE_PULL = 8.0e-4
VARIANCE_NOISE = 2.3e-6
DRIFT_PULL = 1.44e-3  # half-life 8 minutes
DRIFT_SCALE = 1.33e-6  # 0.8 bps a minute
DRIFT_NOISE = 7.1e-8
JUMP_CHANCE = 1.0 / 7200.0
BASE_INTENSITY = 0.7
EXCITATION = 1.2
CROSS_EXCITATION = 0.2
EXCITATION_DECAY = 2.0
IMPACT_PER_COIN = 4.0e-6
FIRST_TRADE_ID = 5_000_000_000
FIRST_UPDATE_ID = 8_000_000_000_000


@njit(cache=True)
def start_market(state: Any, time_ms: int, price: float) -> None:
    """Set a market to its mean at a time and price."""
    state.time_ms = time_ms
    state.received_ns = time_ms * 1_000_000
    state.price = price
    state.price_10s = price
    state.variance = MEAN_VARIANCE
    state.spread = 1.0
    state.open_interest = 80_000.0
    state.premium = 0.0001
    state.funding_rate = 10_000
    state.next_funding_ms = (time_ms // FUNDING_MS + 1) * FUNDING_MS
    state.trade_id = FIRST_TRADE_ID
    state.update_id = FIRST_UPDATE_ID


@njit(cache=True)
def lean_of(state: Any) -> float:
    """Return how far takers lean to buying, in [-0.9, 0.9]: with the drift, and towards the fair price."""
    lean = 0.3 * state.drift / DRIFT_SCALE
    if state.bids > 0 and state.asks > 0:
        middle = 0.05 * (state.quote_bid + state.quote_ask)
        lean += 0.3 * max(-1.0, min(1.0, (state.price / middle - 1.0) * 2.0e4))
    bounded: float = max(-0.9, min(0.9, lean))
    return bounded


@njit(cache=True)
def move_second(state: Any, seeds: Seeds) -> None:
    """Move what changes once a second: variance, drift, jumps, basis, funding."""
    variance = state.variance
    variance += VARIANCE_PULL * (MEAN_VARIANCE - variance) + VARIANCE_NOISE * np.sqrt(variance) * next_normal(seeds)
    state.variance = max(variance, 0.1 * MEAN_VARIANCE)
    state.drift += -DRIFT_PULL * state.drift + DRIFT_NOISE * next_normal(seeds)
    if next_uniform(seeds) < JUMP_CHANCE:
        state.price *= 1.0 + (5.0 + 10.0 * next_uniform(seeds)) * 1e-4 * (1.0 if next_uniform(seeds) < 0.5 else -1.0)
    state.basis += -4.0e-4 * (state.basis - 0.0001) + 6.0e-6 * next_normal(seeds)
    state.basis_mean += (state.basis - state.basis_mean) / 30.0
    state.premium += (state.basis - state.premium) / 14_400.0
    state.open_interest += 1e-5 * (80_000.0 - state.open_interest)
    if state.time_ms >= state.next_funding_ms:
        state.next_funding_ms += FUNDING_MS
    # F = P + clamp(I - P, -0.05 %, +0.05 %), interest 0.01 % per 8 h (Binance's published formula).
    rate = state.premium + max(-0.0005, min(0.0005, 0.0001 - state.premium))
    state.funding_rate = int(np.floor(rate * 1e8 + 0.5))


@njit(cache=True)
def renew_book(state: Any, seeds: Seeds, book: Ints) -> None:
    """Lay 25 levels a side around the fair price; quantities persist by level and lean with the drift."""
    state.spread += 0.25 * (1.0 - state.spread) + 0.05 * next_uniform(seeds)
    spread = max(1, int(state.spread))
    bid = int(np.floor(state.price * 10.0 - 0.5 * spread + 0.5))
    lean = lean_of(state)
    for side in range(2):
        count = state.bids if side == 0 else state.asks
        weight = 1.0 + 0.4 * lean * (1.0 if side == 0 else -1.0)
        for level in range(DEPTH):
            offset = level if level < 5 else 4 + (level - 4) * (level - 4)
            book[2 * side, level] = bid - offset if side == 0 else bid + spread + offset
            draw = next_uniform(seeds)
            if level >= count or draw < 0.3:
                fresh = (400.0 + 250.0 * level) * weight * next_uniform(seeds) * next_pareto(seeds)
                held = float(book[2 * side + 1, level]) if level < count else 0.0
                book[2 * side + 1, level] = 1 + int(min(0.5 * held + fresh, 400_000.0))
    state.bids = DEPTH
    state.asks = DEPTH
    state.update_id += 1


@njit(cache=True)
def add_row(state: Any, seeds: Seeds, rows: Ints, count: int, kind: int) -> int:
    """Stamp a row: received 1.5 to 3.5 ms after it happened, never before the one in front. Returns the new count."""
    if count >= rows.shape[0]:
        return count
    latency_ns = 1_500_000 + int(2_000_000 * next_uniform(seeds))
    state.received_ns = max(state.received_ns, state.time_ms * 1_000_000 + latency_ns)
    rows[count, 0] = kind
    rows[count, 1] = state.time_ms
    rows[count, 2] = state.received_ns
    rows[count, 3:] = 0
    return count + 1


@njit(cache=True)
def add_quote(state: Any, seeds: Seeds, book: Ints, rows: Ints, count: int) -> int:
    """Publish the top of the book if it changed."""
    if state.bids == 0 or state.asks == 0:
        return count
    is_same = (
        state.quote_bid == book[0, 0]
        and state.quote_bid_lots == book[1, 0]
        and state.quote_ask == book[2, 0]
        and state.quote_ask_lots == book[3, 0]
    )
    if is_same:
        return count
    state.quote_bid = book[0, 0]
    state.quote_bid_lots = book[1, 0]
    state.quote_ask = book[2, 0]
    state.quote_ask_lots = book[3, 0]
    state.update_id += 1
    after: int = add_row(state, seeds, rows, count, QUOTE)
    if after > count:
        rows[count, 3] = state.update_id
        rows[count, 4] = state.quote_bid
        rows[count, 5] = state.quote_bid_lots
        rows[count, 6] = state.quote_ask
        rows[count, 7] = state.quote_ask_lots
    return after


@njit(cache=True)
def take(state: Any, seeds: Seeds, book: Ints, rows: Ints, count: int, kline: Ints, is_buy: bool) -> int:
    """Let a taker of heavy-tailed size eat into the book, at most five levels deep."""
    uniform = next_uniform(seeds)
    lots = 1 + int(min((1.0 + 60.0 * uniform * uniform) * next_pareto(seeds), 30_000.0))
    coins = min(0.001 * lots, 5.0)
    state.price *= 1.0 + (IMPACT_PER_COIN * coins if is_buy else -IMPACT_PER_COIN * coins)
    state.open_interest += coins * (next_uniform(seeds) - 0.5)
    side = 1 if is_buy else 0
    levels = state.asks if is_buy else state.bids
    eaten = 0
    while lots > 0 and eaten < 5 and eaten < levels - 1:
        ticks = book[2 * side, eaten]
        filled = min(lots, book[2 * side + 1, eaten])
        lots -= filled
        book[2 * side + 1, eaten] -= filled
        state.trade_id += 1
        count_trade(kline, ticks, filled, is_buy)
        after = add_row(state, seeds, rows, count, TRADE)
        if after > count:
            rows[count, 3] = state.trade_id
            rows[count, 4] = ticks
            rows[count, 5] = filled
            rows[count, 6] = 0 if is_buy else 1
        count = after
        if book[2 * side + 1, eaten] > 0:
            break
        eaten += 1
    if eaten:
        for level in range(levels - eaten):
            book[2 * side, level] = book[2 * side, level + eaten]
            book[2 * side + 1, level] = book[2 * side + 1, level + eaten]
        if is_buy:
            state.asks = levels - eaten
        else:
            state.bids = levels - eaten
        state.spread = min(state.spread + 0.5 * eaten, 20.0)
        count = add_quote(state, seeds, book, rows, count)
    return count


@njit(cache=True)
def count_trade(kline: Ints, ticks: int, lots: int, is_buy: bool) -> None:
    """Count a trade into the minute's kline."""
    kline[1], kline[2], kline[3], kline[4] = merge_prices(
        kline[9] == 0, (kline[1], kline[2], kline[3], kline[4]), (ticks, ticks, ticks, ticks)
    )
    kline[5] += lots
    kline[6] += ticks * lots
    if is_buy:
        kline[7] += lots
        kline[8] += ticks * lots
    kline[9] += 1


@njit(cache=True)
def add_changes(old: Ints, old_count: int, new: Ints, new_count: int, sign: int, levels: Ints, at: int) -> int:
    """Write the levels that differ between two ladders (rows: ticks, lots; best first); return how many."""
    left = 0
    right = 0
    start = at
    while left < old_count or right < new_count:
        if at >= levels.shape[0]:
            break
        if right >= new_count or (left < old_count and sign * old[0, left] > sign * new[0, right]):
            levels[at, 0] = old[0, left]
            levels[at, 1] = 0
            at += 1
            left += 1
        elif left >= old_count or old[0, left] != new[0, right]:
            levels[at, 0] = new[0, right]
            levels[at, 1] = new[1, right]
            at += 1
            right += 1
        else:
            if old[1, left] != new[1, right]:
                levels[at, 0] = new[0, right]
                levels[at, 1] = new[1, right]
                at += 1
            left += 1
            right += 1
    return at - start


@njit(cache=True)
def add_depth(
    state: Any, seeds: Seeds, book: Ints, published: Ints, rows: Ints, count: int, levels: Ints, at: int, kind: int
) -> tuple[int, int]:
    """Publish the whole book (SNAPSHOT) or what changed in it (DELTA). Returns the new counts of rows and levels."""
    if kind == SNAPSHOT:
        state.published_bids = 0
        state.published_asks = 0
    state.update_id += 1
    bids = add_changes(published[:2], state.published_bids, book[:2], state.bids, 1, levels, at)
    asks = add_changes(published[2:], state.published_asks, book[2:], state.asks, -1, levels, at + bids)
    after = add_row(state, seeds, rows, count, kind)
    if after > count:
        if kind == SNAPSHOT:
            rows[count, 3] = state.update_id
            rows[count, 4] = at
            rows[count, 5] = bids
            rows[count, 6] = asks
        else:
            rows[count, 3] = state.depth_update_id + 1
            rows[count, 4] = state.update_id
            rows[count, 5] = state.depth_update_id
            rows[count, 6] = at
            rows[count, 7] = bids
            rows[count, 8] = asks
    state.depth_update_id = state.update_id
    published[:] = book
    state.published_bids = state.bids
    state.published_asks = state.asks
    return after, at + bids + asks


@njit(cache=True)
def add_mark(state: Any, seeds: Seeds, rows: Ints, count: int) -> int:
    """Publish mark and index: the mark is the index plus the mean basis of half a minute."""
    index = state.price / (1.0 + state.basis)
    after: int = add_row(state, seeds, rows, count, MARK)
    if after > count:
        rows[count, 3] = int(np.floor(index * (1.0 + state.basis_mean) * 10.0 + 0.5))
        rows[count, 4] = int(np.floor(index * 100.0 + 0.5))
        rows[count, 5] = state.funding_rate
        rows[count, 6] = state.next_funding_ms
    return after


@njit(cache=True)
def add_second(state: Any, seeds: Seeds, rows: Ints, count: int) -> int:
    """Publish what comes once a second or less: mark, open interest, liquidations after a fast move."""
    count = add_mark(state, seeds, rows, count)
    if state.time_ms % INTEREST_MS == 0:
        after = add_row(state, seeds, rows, count, INTEREST)
        if after > count:
            rows[count, 3] = int(state.open_interest * 1000.0)
        count = after
    if state.time_ms % 10_000 == 0:
        state.price_10s = state.price
    move = state.price / state.price_10s - 1.0
    if next_uniform(seeds) < min(0.5, move * move * 4.0e5):
        after = add_row(state, seeds, rows, count, LIQUIDATION)
        if after > count:
            rows[count, 3] = 1 if move < 0.0 else 0
            rows[count, 4] = int(np.floor(state.price * 10.0))
            rows[count, 5] = 1 + int(min(60.0 * next_pareto(seeds), 50_000.0))
        count = after
    return count


@njit(cache=True)
def run_minute(
    market: Records, seeds: Seeds, book: Ints, published: Ints, rows: Ints, levels: Ints, kline: Ints, is_first: bool
) -> tuple[int, int]:
    """Advance one minute from a whole minute on; fill rows, levels and the kline. Returns how many rows and levels.

    With `is_first` the stream begins here: a book snapshot goes out first, everything stamped with the minute itself.
    """
    state = market[0]
    count = 0
    at = 0
    kline[:] = 0
    kline[0] = state.time_ms
    decay = 1.0 - EXCITATION_DECAY * STEP_MS / 1000.0
    step_s = STEP_MS / 1000.0
    end_ms = state.time_ms + MINUTE_MS
    while state.time_ms < end_ms:
        is_second = state.time_ms % 1000 == 0
        if is_second:
            move_second(state, seeds)
        state.price *= 1.0 + state.drift * step_s + np.sqrt(state.variance * step_s) * next_normal(seeds)
        if state.time_ms % RENEW_MS == 0:
            renew_book(state, seeds, book)
            if is_first:
                count, at = add_depth(state, seeds, book, published, rows, count, levels, at, SNAPSHOT)
            count = add_quote(state, seeds, book, rows, count)
            if not is_first and state.time_ms % DEPTH_MS == 0:
                count, at = add_depth(state, seeds, book, published, rows, count, levels, at, DELTA)
            is_first = False
        if is_second:
            count = add_second(state, seeds, rows, count)
        lean = lean_of(state)
        buys = next_uniform(seeds) < step_s * (BASE_INTENSITY * (1.0 + lean) + state.buy_excitement)
        sells = next_uniform(seeds) < step_s * (BASE_INTENSITY * (1.0 - lean) + state.sell_excitement)
        state.buy_excitement = min(decay * state.buy_excitement, 40.0)
        state.sell_excitement = min(decay * state.sell_excitement, 40.0)
        if buys:
            count = take(state, seeds, book, rows, count, kline, True)
            state.buy_excitement += EXCITATION
            state.sell_excitement += CROSS_EXCITATION
        if sells:
            count = take(state, seeds, book, rows, count, kline, False)
            state.sell_excitement += EXCITATION
            state.buy_excitement += CROSS_EXCITATION
        state.time_ms += STEP_MS
    return count, at
