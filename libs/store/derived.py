"""What is derived from the recorded tables for people who ask: bars as they are known now, days, gaps, named features.

Bars are materialized as they are written; a revision takes its bar's place. Writing a record again changes nothing, and
no reader needs FINAL: the server applies it (`infra/clickhouse`, `infra/local/clickhouse`), and views name it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from importlib import resources
from typing import Any

import orjson

FINAL_BARS = "final_bars"
FEATURE_SETS = "feature_sets"

_BAR_COLUMNS = (
    *("instrument", "timeframe", "open_time", "close_time", "open", "high", "low", "close", "volume", "quote_volume"),
    *("taker_buy_volume", "trade_count", "is_incomplete"),
)
_MADE_BARS = f"SELECT {', '.join(_BAR_COLUMNS)}, is_history, 0 AS revision FROM bars"
_REVISED_BARS = (
    f"SELECT {', '.join(_BAR_COLUMNS)}, false AS is_history, toUInt64(revision) AS revision FROM bar_revisions"
)


def table_statements(made: Container[str]) -> list[str]:
    """Return what makes the derived tables that a database does not have, filled with what was recorded before."""
    statements = []
    if FINAL_BARS not in made:
        statements += [
            f"""CREATE TABLE IF NOT EXISTS {FINAL_BARS}
(
    instrument LowCardinality(String),
    timeframe LowCardinality(String),
    open_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    close_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    open Decimal64(8) CODEC(Delta, ZSTD(1)),
    high Decimal64(8) CODEC(Delta, ZSTD(1)),
    low Decimal64(8) CODEC(Delta, ZSTD(1)),
    close Decimal64(8) CODEC(Delta, ZSTD(1)),
    volume Decimal64(8) CODEC(Delta, ZSTD(1)),
    quote_volume Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    taker_buy_volume Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    trade_count Nullable(UInt64) CODEC(ZSTD(1)),
    is_incomplete Bool,
    is_history Bool,
    revision UInt64
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (instrument, timeframe, open_time)""",
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {FINAL_BARS}_made TO {FINAL_BARS} AS {_MADE_BARS}",
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {FINAL_BARS}_revised TO {FINAL_BARS} AS {_REVISED_BARS}",
            f"INSERT INTO {FINAL_BARS} {_MADE_BARS}",
            f"INSERT INTO {FINAL_BARS} {_REVISED_BARS}",
        ]
    if FEATURE_SETS not in made:
        statements.append(
            f"""CREATE TABLE IF NOT EXISTS {FEATURE_SETS}
(
    schema_hash String,
    feature_set LowCardinality(String),
    names Array(String)
)
ENGINE = ReplacingMergeTree
ORDER BY schema_hash"""
        )
    return statements


def feature_set_rows() -> list[list[Any]]:
    """Return what the values of feature vectors are called: hash, name and names of every set that ships."""
    text = resources.files("libs.store").joinpath("feature_sets.json").read_bytes()
    return [[each["schema_hash"], each["name"], each["names"]] for each in orjson.loads(text)]


def view_statements() -> list[str]:
    """Return what makes the views as this version has them."""
    views: Mapping[str, str] = {
        **{f"bars_{name}": f"SELECT * FROM {FINAL_BARS} FINAL WHERE timeframe = '{name}'" for name in ("1m", "1h")},
        "daily_statistics": f"""SELECT m.instrument AS instrument, toDate(m.open_time) AS day,
    argMin(m.open, m.open_time) AS open, max(m.high) AS high, min(m.low) AS low, argMax(m.close, m.open_time) AS close,
    sum(m.volume) AS volume, sum(m.quote_volume) AS quote_volume, sum(m.trade_count) AS trades,
    toFloat64(sum(m.quote_volume)) / nullIf(toFloat64(sum(m.volume)), 0) AS vwap,
    sqrt(sum(pow(log(toFloat64(m.close) / toFloat64(m.open)), 2))) AS realised_volatility,
    count() AS minutes, countIf(m.is_incomplete) AS incomplete_minutes
FROM {FINAL_BARS} AS m FINAL WHERE m.timeframe = '1m' GROUP BY instrument, day""",
        "gap_states": """SELECT g.gap_id AS gap_id, g.instrument AS instrument, argMax(g.kind, g.offset) AS kind,
    argMax(g.state, g.offset) AS state, min(g.from_time) AS from_time, max(g.to_time) AS to_time,
    argMax(g.first_number, g.offset) AS first_number, argMax(g.last_number, g.offset) AS last_number,
    argMax(g.reason, g.offset) AS reason
FROM gaps AS g FINAL GROUP BY gap_id, instrument""",
        "features": f"""SELECT vectors.instrument AS instrument, vectors.event_time AS event_time,
    vectors.timeframe AS timeframe, vectors.feature_set AS feature_set, vectors.is_history AS is_history,
    vectors.is_incomplete AS is_incomplete,
    CAST((sets.names, vectors.feature_values), 'Map(String, Float64)') AS features
FROM feature_vectors AS vectors FINAL INNER JOIN {FEATURE_SETS} AS sets FINAL
    ON vectors.schema_hash = sets.schema_hash""",
    }
    return [f"CREATE OR REPLACE VIEW {name} AS\n{text}" for name, text in views.items()]


def index_statements(tables: Iterable[str], indexed: Container[str]) -> list[str]:
    """Return what lets a record be found by its event id in milliseconds, for tables that cannot yet."""
    return [
        f"ALTER TABLE {table} ADD INDEX IF NOT EXISTS by_event_id event_id TYPE bloom_filter(0.01) GRANULARITY 1"
        for table in tables
        if table not in indexed
    ]
