"""The simulated market is a pure function of its seed, looks like a market, and reads like Binance."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import orjson
import pytest

from libs.domain.market import BestQuote, ClockTick, DepthDelta, DepthSnapshot, MarketEvent, Trade
from libs.venues.binance_frames import decode_frame, decode_klines, open_frame
from services.bars.core import BarsCore
from services.exchange.core import START_MS, SimulatedMarket, generate_events, generate_history, generate_klines
from services.exchange.core.dynamics import MINUTE_MS, QUOTE, TRADE
from services.exchange.core.frames import INSTRUMENT, decode_kline, decode_rows, format_kline, format_lines
from services.ingestion.core import Normaliser

_NS = 1_000_000


def _lines(market: SimulatedMarket, minutes: int) -> list[str]:
    return [line for _ in range(minutes) for line in format_lines(market.next_minute())]


def test_same_seed_gives_the_same_lines_and_another_does_not() -> None:
    first = _lines(SimulatedMarket(7, history_minutes=5), 3)
    assert first == _lines(SimulatedMarket(7, history_minutes=5), 3)
    assert first != _lines(SimulatedMarket(8, history_minutes=5), 3)


def test_market_goes_on_exactly_from_a_snapshot() -> None:
    market = SimulatedMarket(7, history_minutes=5)
    _lines(market, 2)
    state = market.snapshot()
    expected = _lines(market, 2)
    other = SimulatedMarket(7, history_minutes=0)
    other.restore(state)
    assert _lines(other, 2) == expected
    assert other.snapshot() == market.snapshot()


def test_snapshot_of_another_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="not of seed 8"):
        SimulatedMarket(8, history_minutes=0).restore(SimulatedMarket(7, history_minutes=0).snapshot())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed is"):
        SimulatedMarket(seed)


@pytest.mark.slow
def test_lines_read_as_the_events_that_rows_give() -> None:
    market = SimulatedMarket(11, history_minutes=1)
    for _ in range(5):
        minute = market.next_minute()
        read: list[MarketEvent | None] = []
        for line in format_lines(minute):
            received, _, payload = line.partition(" ")
            frame = open_frame(payload.encode())
            assert frame is not None
            read.append(decode_frame(frame, received_time=int(received), fallback_time=0, symbol="BTCUSDT"))
        assert read == list(decode_rows(minute))


def test_klines_read_back_from_their_rest_form() -> None:
    kline = SimulatedMarket(7, history_minutes=3).history[1]
    assert decode_klines([orjson.loads(format_kline(kline))], instrument=INSTRUMENT) == [decode_kline(kline)]


@pytest.mark.slow
def test_stream_is_in_order_without_duplicates_or_gaps() -> None:
    normaliser = Normaliser(INSTRUMENT)
    events = list(generate_events(3, minutes=10))
    out = [item for event in events for item in normaliser.accept(event)]
    assert (normaliser.duplicates, normaliser.depth_gaps, normaliser.trade_gaps) == (0, 0, 0)
    assert len({event.event_id for event in out}) == len(out)
    assert all(left.received_time <= right.received_time for left, right in pairwise(events))
    assert all(left.event_time <= right.event_time for left, right in pairwise(events))
    assert sum(isinstance(event, ClockTick) for event in out) == 10 * 60 - 1
    assert isinstance(events[0], DepthSnapshot)
    assert events[0].event_time == START_MS * _NS


@pytest.mark.slow
def test_bars_built_from_events_equal_the_market_own_klines() -> None:
    core, normaliser = BarsCore(), Normaliser(INSTRUMENT)
    events = [item for event in generate_events(5, minutes=7) for item in normaliser.accept(event)]
    bars = [bar for event in [*generate_history(5, minutes=30), *events] for bar in core.handle(event)]
    ones = [bar for bar in bars if bar.timeframe == "1m"]
    assert [bar.open_time for bar in ones] == list(range(ones[0].open_time, ones[-1].open_time + 1, MINUTE_MS * _NS))
    klines = [*generate_history(5, minutes=30), *generate_klines(5, minutes=6)]
    fields = ("open_time", "open_e8", "high_e8", "low_e8", "close_e8", "volume_e8", "quote_volume_e8", "trade_count")
    assert [[getattr(bar, name) for name in fields] for bar in ones] == [
        [getattr(kline, name) for name in fields] for kline in klines
    ]


@pytest.mark.slow
def test_book_is_never_crossed_and_its_top_is_the_quote() -> None:
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    quote: BestQuote | None = None
    for event in generate_events(9, minutes=5):
        if isinstance(event, BestQuote):
            quote = event
            assert event.bid_price_e8 < event.ask_price_e8
        elif isinstance(event, DepthSnapshot | DepthDelta):
            bids |= dict(zip(event.bid_prices_e8, event.bid_quantities_e8, strict=True))
            asks |= dict(zip(event.ask_prices_e8, event.ask_quantities_e8, strict=True))
            bids = {price: size for price, size in bids.items() if size}
            asks = {price: size for price, size in asks.items() if size}
            assert max(bids) < min(asks)
            assert len(bids) >= 20
            assert len(asks) >= 20
            if quote is not None and isinstance(event, DepthDelta):
                assert (max(bids), min(asks)) == (quote.bid_price_e8, quote.ask_price_e8)


@pytest.mark.slow
def test_market_is_plausible() -> None:
    market = SimulatedMarket(7)
    closes = market.history[:, 4] / 10.0
    returns = np.diff(np.log(closes))
    assert 3e-4 < returns.std() < 1.2e-3
    kurtosis = ((returns - returns.mean()) ** 4).mean() / returns.var() ** 2
    assert kurtosis > 3.2
    assert market.history[:, 9].min() > 0
    assert 150 < market.history[:, 9].mean() < 500
    first = market.next_minute()
    opening = first.rows[first.rows[:, 0] == TRADE][0, 4]
    assert abs(opening - market.history[-1, 4]) / opening < 1e-3
    quotes = first.rows[first.rows[:, 0] == QUOTE]
    assert np.median(quotes[:, 6] - quotes[:, 4]) <= 3


@pytest.mark.slow
def test_order_flow_persists_and_predicts_a_little() -> None:
    history = SimulatedMarket(7).history
    imbalance = (2 * history[:, 7] - history[:, 5]) / history[:, 5]
    smooth = np.convolve(imbalance, np.ones(10) / 10, mode="valid")[:-15]
    closes = np.log(history[9:, 4] / 10.0)
    ahead = closes[15:] - closes[:-15]
    correlation = float(np.corrcoef(smooth, ahead)[0, 1])
    assert 0.03 < correlation < 0.5


@pytest.mark.slow
def test_trades_come_in_clusters() -> None:
    trades = [event.event_time // (1000 * _NS) for event in generate_events(7, minutes=30) if isinstance(event, Trade)]
    counts = np.bincount(np.array(trades) - trades[0])
    assert counts.var() > 1.5 * counts.mean()
