"""Every recorded frame and answer of both venues gives its events or is refused by name; nothing else happens."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from libs.domain.market import MarketEvent
from libs.venues.frames import FrameError
from libs.venues.registry import find_venue
from tests.unit.venues.builders import decode_all, find_fixtures

FOLDERS = {"BINANCE": "binance_um", "BYBIT": "bybit"}
FOUND = [(venue, path) for venue, folder in FOLDERS.items() for path in find_fixtures(folder)]
# What carries a market; all else is about accounts, orders, other contracts, or lists that say no time or timeframe.
EVENTS = {
    "agg_trade_stream": {"Trade"},
    "trade_stream": {"Trade"},
    "book_ticker_stream": {"BestQuote"},
    "depth_update_stream": {"DepthDelta"},
    "liquidation_stream": {"Liquidation"},
    "mark_price_stream": {"MarkPrice"},
    "GetMarkPrice": {"MarkPrice"},
    "GetOpenInterest": {"OpenInterest"},
    "GetOrderBook": {"DepthSnapshot"},
    "GetOrderbook": {"DepthSnapshot"},
    "http_get_orderbook": {"DepthSnapshot"},
    "http_get_trades_recent": {"Trade"},
    "ws_orderbook_snapshot": {"BestQuote"},
    "ws_orderbook50_BTCUSDT_snapshot_20250503": {"DepthSnapshot"},
    "ws_public_trade": {"Trade"},
    "ws_ticker_linear": {"MarkPrice", "OpenInterest", "BestQuote"},
}
OTHER_CONTRACTS = {("BYBIT", "GetOpenInterest")}
KNOWN_AND_NOT_WANTED = {
    "kline_stream_closed",
    "kline_stream_open",
    "ticker_stream",
    "ws_kline",
    "ws_subscription_ack",
    "ws_auth_success",
    # The best ask is removed and no other is known.
    "ws_orderbook_delta",
}


def read(venue: str, path: Path) -> list[MarketEvent]:
    document = orjson.loads(path.read_bytes())
    if isinstance(document, dict) and {"path", "response"} <= document.keys():
        document = document["response"]
    return decode_all(find_venue(venue).make_decoder(), [orjson.dumps(document)])


@pytest.mark.skipif(not FOUND, reason="no recorded fixtures; set PERPFLOW_SHARED to a folder that has them")
@pytest.mark.parametrize(("venue", "path"), FOUND, ids=[f"{venue}-{path.stem}" for venue, path in FOUND])
def test_a_recorded_frame_gives_its_events_or_is_refused_by_name(venue: str, path: Path) -> None:
    if path.stem in EVENTS and (venue, path.stem) not in OTHER_CONTRACTS:
        events = read(venue, path)
        assert {type(event).__name__ for event in events} == EVENTS[path.stem]
        assert all(event.instrument.endswith(f".{venue}") for event in events)
        return
    if path.stem in KNOWN_AND_NOT_WANTED:
        assert not read(venue, path)
        return
    with pytest.raises(FrameError) as refused:
        read(venue, path)
    assert refused.value.reason
    assert refused.value.fix
