"""CSV files of a recorder are played as the frames that they were made of; all recorded captures are in one table."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from libs.domain.events import DeadInput
from libs.domain.market import DepthDelta, Trade
from libs.domain.numbers import SCALE
from services.ingestion.feed import Pacer, decode_cursor
from services.ingestion.recorded import RecordedSource
from tests.kit.builders import BTC
from tests.soak.captures import FILES, compare
from tests.unit.ingestion.builders import read_all
from tests.unit.ingestion.shared import shared_market

COMMON = "TimestampOfReceive,Stream,EventType,EventTime,TransactionTime,Symbol"
TRADES = f"""# recorded by hand
{COMMON},TradeId,Price,Quantity,IsBuyerMarketMaker,XUnknownParameter
1767225600005,btcusdt@trade,trade,1767225600002,1767225600001,BTCUSDT,7,60000.1,0.25,0,MARKET
1767225600005,btcusdt@trade,trade,1767225600002
1767225600009,btcusdt@trade,trade,1767225600008,1767225600007,BTCUSDT,8,60000.0,0.5,1,MARKET
"""
DEPTH = f"""{COMMON},FirstUpdateId,FinalUpdateId,FinalUpdateIdInLastStream,IsAsk,Price,Quantity
1767225600005,btcusdt@depth,depthUpdate,1767225600002,1767225600001,BTCUSDT,5,7,4,0,60000.0,1.5
1767225600005,btcusdt@depth,depthUpdate,1767225600002,1767225600001,BTCUSDT,5,7,4,1,60000.1,0.0
1767225600105,btcusdt@depth,depthUpdate,1767225600102,1767225600101,BTCUSDT,8,8,7,1,60000.2,2.0
"""


def make_source(path: Path) -> RecordedSource:
    return RecordedSource(path, instrument=BTC, pacer=Pacer(0))


def test_rows_are_trades_and_a_row_that_was_cut_is_quarantined_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(TRADES)
    source = make_source(path)
    source.open(None)
    out = read_all(source, 100)
    trades = [event for event in out if isinstance(event, Trade)]
    assert [(trade.venue_trade_id, trade.price_e8, trade.is_buyer_maker) for trade in trades] == [
        (7, 6_000_010_000_000, False),
        (8, 60_000 * SCALE, True),
    ]
    (dead,) = [event for event in out if isinstance(event, DeadInput)]
    assert dead.position == 4


def test_rows_of_one_update_are_one_change_of_the_book_and_resuming_splits_none(tmp_path: Path) -> None:
    path = tmp_path / "depth.csv.gz"
    path.write_bytes(gzip.compress(DEPTH.encode()))
    source = make_source(path)
    source.open(None)
    first = [event for event in source.read(1, 0) if isinstance(event, DepthDelta)]
    resumed = make_source(path)
    resumed.open(source.cursor())
    deltas = [*first, *(event for event in read_all(resumed, 100) if isinstance(event, DepthDelta))]
    whole = make_source(path)
    whole.open(None)
    assert deltas == [event for event in read_all(whole, 100) if isinstance(event, DepthDelta)]
    # Without a snapshot the changes are still held when the recording ends.
    held = decode_cursor(resumed.cursor()).stream.normaliser.held
    assert [(delta.first_update_id, delta.final_update_id) for delta in held] == [(5, 7), (8, 8)]
    assert held[0].ask_quantities_e8 == (0,)


@pytest.mark.slow
def test_bars_of_small_recorded_captures_equal_their_trades_and_klines() -> None:
    market = shared_market()
    for file, (kind, instruments) in FILES.items():
        if (market / file).stat().st_size < 90_000 and "APE" not in file:
            for instrument in instruments:
                assert not compare(file, kind, instrument).differences


def test_every_recorded_capture_is_in_the_table() -> None:
    market = shared_market()
    there = {str(path.relative_to(market)) for path in market.glob("capture/**/*") if path.is_file()}
    assert there <= FILES.keys()
