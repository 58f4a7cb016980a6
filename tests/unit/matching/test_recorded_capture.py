"""The paper venue on the recorded capture of Binance USD-M: orders fill near the quotes of the moment."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from libs.domain.market import BestQuote, MarketEvent, Side
from libs.domain.numbers import from_e8
from libs.domain.orders import Liquidity, ReportKind
from libs.venues.binance_frames import decode_frame, open_frame
from tests.kit.builders import BTC
from tests.unit.matching.builders import a_place, a_venue

SHARED = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[4] / "shared"))
CAPTURE = SHARED / "data/market/capture/binance_um_BTCUSDT_20240808.ns-jsonl.gz"
LINES = 20_000

pytestmark = pytest.mark.skipif(not CAPTURE.exists(), reason=f"no recorded capture at {CAPTURE}")


def read_capture() -> Iterator[MarketEvent]:
    with gzip.open(CAPTURE, "rb") as lines:
        for _, line in zip(range(LINES), lines, strict=False):
            received, _, payload = line.partition(b" ")
            frame = open_frame(payload)
            if frame is None:
                continue
            event = decode_frame(frame, received_time=int(received), fallback_time=int(received), symbol="BTCUSDT")
            if event is not None:
                yield event


@pytest.mark.slow
def test_orders_on_recorded_data_fill_within_the_quotes_of_the_moment() -> None:
    venue = a_venue(latency_ms=20)
    quote: BestQuote | None = None
    last = (Decimal(0), Decimal(0))
    sent = 0
    takers = makers = 0
    position = Decimal(0)
    for number, event in enumerate(read_capture()):
        for report in venue.handle(event):
            if report.kind is not ReportKind.FILL or report.last_price is None or report.last_quantity is None:
                continue
            side = Side.BUY if int(report.client_order_id.removeprefix("client-")) % 2 else Side.SELL
            position += report.last_quantity * side.sign
            if report.liquidity is Liquidity.TAKER:
                takers += 1
                assert quote is not None
                low, high = min(last[0], from_e8(quote.bid_price_e8)), max(last[1], from_e8(quote.ask_price_e8))
                assert low - 5 <= report.last_price <= high + 5
            else:
                makers += 1
        if isinstance(event, BestQuote):
            if quote is not None:
                last = from_e8(quote.bid_price_e8), from_e8(quote.ask_price_e8)
            quote = event
            if number % 500 == 0:
                sent += 2
                side = Side.BUY if sent % 2 else Side.SELL
                price = str(from_e8(quote.bid_price_e8))
                at = (event.event_time - a_place().event_time) / 1e9
                venue.handle(a_place(sent, Side.SELL, "0.01", seconds=at))
                venue.handle(a_place(sent + 1, Side.BUY, "0.01", price, seconds=at))
    assert takers >= 10
    assert makers >= 5
    assert venue.position_of(BTC) == position
