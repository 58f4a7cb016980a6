"""What is derived from the records is right however often they were written, whoever asks and without FINAL."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx

from infra.local import feature_names
from libs.domain.bars import Bar, BarRevision
from libs.domain.features import FeatureVector
from libs.domain.market import Gap, GapKind, GapState
from libs.indicators.feature_sets import load_feature_set
from libs.store import Store
from libs.store.tables import StoredRow
from tests.contract.store.local_server import HEADERS, LocalServer
from tests.kit.builders import BTC, START, a_bar, a_trade

MARKET, BARS, REVISED = "market.events.v1", "bars.closed.v1", "bars.revised.v1"


def write(store: Store, topic: str, events: Sequence[Any], *, times: int = 2) -> None:
    """Write events again and again, in batches of other sizes, as after a crash."""
    rows = [StoredRow(0, offset, BTC.encode(), START // 1_000_000, event) for offset, event in enumerate(events)]
    for size in range(1, times + 1):
        for begin in range(0, len(rows), size):
            store.insert(topic, rows[begin : begin + size])


def a_revision(bar: Bar, revision: int, **changes: Any) -> BarRevision:
    names = (
        "instrument",
        "timeframe",
        "open_time",
        "close_time",
        "open_e8",
        "high_e8",
        "low_e8",
        "close_e8",
        "volume_e8",
    )
    copied = {name: getattr(bar, name) for name in (*names, "quote_volume_e8", "taker_buy_volume_e8", "trade_count")}
    head = {"event_id": f"{bar.event_id}/revision/{revision}", "event_time": bar.close_time, "bar_id": bar.event_id}
    return BarRevision(**{**head, **copied, "revision": revision, "causes": ("g",), **changes})


def test_a_record_written_twice_counts_once_without_final(server: LocalServer, store: Store) -> None:
    write(store, MARKET, [a_trade(number, seconds=number) for number in range(5)], times=3)
    assert store.query("SELECT count() AS n, sum(quantity) AS q FROM trades")[0]["n"] == 5
    text = f"SELECT count() FROM {store.database}.trades"
    assert httpx.get(server.url, params={"query": text}, headers=HEADERS).text == "5\n"
    raw = httpx.get(server.url, params={"query": text, "final": "0"}, headers=HEADERS).text
    assert int(raw) > 5


def test_bars_are_those_known_now_and_the_recorded_ones_stay(store: Store) -> None:
    bars = [a_bar(0), a_bar(1, is_incomplete=True), a_bar(2), a_bar(0, timeframe="1h")]
    write(store, BARS, bars)
    write(
        store, REVISED, [a_revision(bars[1], 1, volume_e8=7, is_incomplete=True), a_revision(bars[1], 2, volume_e8=9)]
    )
    known = store.query("SELECT volume, is_incomplete, revision FROM bars_1m ORDER BY open_time")
    assert [int(row["volume"] * 10**8) for row in known] == [bars[0].volume_e8, 9, bars[2].volume_e8]
    assert [(row["is_incomplete"], row["revision"]) for row in known] == [(False, 0), (False, 2), (False, 0)]
    assert len(store.query("SELECT * FROM bars_1h")) == 1
    assert [bar.volume_e8 for bar in store.bars(BTC, "1m")] == [bar.volume_e8 for bar in bars[:3]]


def test_a_day_is_the_sum_of_its_minutes(store: Store) -> None:
    bars = [a_bar(number, str(60_000 + number)) for number in range(4)]
    write(store, BARS, bars, times=3)
    (day,) = store.query("SELECT * FROM daily_statistics")
    assert (day["minutes"], day["incomplete_minutes"], str(day["day"])) == (4, 0, "2026-01-01")
    assert int(day["volume"] * 10**8) == sum(bar.volume_e8 for bar in bars)
    assert day["trades"] == sum(bar.trade_count or 0 for bar in bars)
    moves = [math.log(bar.close_e8 / bar.open_e8) for bar in bars]
    assert math.isclose(day["realised_volatility"], math.sqrt(sum(move * move for move in moves)))


def test_values_of_a_vector_are_found_by_their_names(store: Store) -> None:
    names = load_feature_set("core_v1").names
    packed = struct.pack(f"<{len(names)}d", *range(len(names)))
    vector = FeatureVector(
        BTC, "v/1", START, "b/1", "1m", "core_v1", load_feature_set("core_v1").schema_hash, packed, len(names), 1
    )
    write(store, "features.vectors.v1", [vector])
    (row,) = store.query("SELECT features['rsi_14'] AS rsi, length(features) AS n FROM features")
    assert (row["rsi"], row["n"]) == (float(names.index("rsi_14")), len(names))


def test_the_names_are_those_of_the_feature_sets_that_ship() -> None:
    assert feature_names.FILE.read_bytes() == feature_names.render(), "run python -m infra.local.feature_names"


def test_a_gap_is_as_it_was_told_of_last(store: Store) -> None:
    told = Gap(BTC, "g/open", START, START, "g", GapKind.TRADES, GapState.OPEN, START, START + 5, 7, 0, "lost")
    write(store, MARKET, [told, replace(told, event_id="g/late", state=GapState.LATE, last_number=9)])
    (gap,) = store.query("SELECT state, last_number FROM gap_states")
    assert gap == {"state": "late", "last_number": 9}


def test_what_was_recorded_before_the_derived_tables_were_is_in_them(server: LocalServer, fresh_store: Store) -> None:
    with server.client(database=fresh_store.database) as client:
        for name in ("final_bars_made", "final_bars_revised", "final_bars"):
            client.command(f"DROP TABLE {name}")
    write(fresh_store, BARS, [a_bar(0), a_bar(1)])
    fresh_store.migrate()
    write(fresh_store, BARS, [a_bar(0), a_bar(1), a_bar(2)])
    assert fresh_store.query("SELECT count() AS n FROM bars_1m")[0] == {"n": 3}


def test_a_record_is_found_by_its_event_id_through_an_index(store: Store) -> None:
    write(store, MARKET, [a_trade(number, seconds=number) for number in range(20)], times=1)
    (found,) = store.find("trades", event_id=a_trade(7).event_id)
    assert found["venue_trade_id"] == 7
    plan = store.query(
        "EXPLAIN indexes = 1 SELECT * FROM trades WHERE event_id = {id:String}", {"id": a_trade(7).event_id}
    )
    assert any("by_event_id" in row["explain"] for row in plan)
