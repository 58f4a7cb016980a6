-- The market, one table per kind of event.
-- A record is one (topic, partition, offset); a redelivered one replaces itself, so read with FINAL.
-- Rows expire by the time of their append: a replayed old market must not vanish as it is written.

CREATE TABLE IF NOT EXISTS trades
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    price Decimal64(8) CODEC(Delta, ZSTD(1)),
    quantity Decimal64(8) CODEC(Delta, ZSTD(1)),
    is_buyer_maker Bool,
    venue_trade_id Int64 CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 365 DAY
COMMENT 'market.events: executions';

CREATE TABLE IF NOT EXISTS depth_snapshots
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    last_update_id Int64 CODEC(Delta, ZSTD(1)),
    bid_prices Array(Decimal64(8)) CODEC(ZSTD(1)),
    bid_quantities Array(Decimal64(8)) CODEC(ZSTD(1)),
    ask_prices Array(Decimal64(8)) CODEC(ZSTD(1)),
    ask_quantities Array(Decimal64(8)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 30 DAY
COMMENT 'market.events: whole books, best level first';

CREATE TABLE IF NOT EXISTS depth_deltas
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    first_update_id Int64 CODEC(Delta, ZSTD(1)),
    final_update_id Int64 CODEC(Delta, ZSTD(1)),
    previous_final_update_id Int64 CODEC(Delta, ZSTD(1)),
    bid_prices Array(Decimal64(8)) CODEC(ZSTD(1)),
    bid_quantities Array(Decimal64(8)) CODEC(ZSTD(1)),
    ask_prices Array(Decimal64(8)) CODEC(ZSTD(1)),
    ask_quantities Array(Decimal64(8)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 30 DAY
COMMENT 'market.events: changed levels, quantity 0 removes one';

CREATE TABLE IF NOT EXISTS best_quotes
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    update_id Int64 CODEC(Delta, ZSTD(1)),
    bid_price Decimal64(8) CODEC(Delta, ZSTD(1)),
    bid_quantity Decimal64(8) CODEC(Delta, ZSTD(1)),
    ask_price Decimal64(8) CODEC(Delta, ZSTD(1)),
    ask_quantity Decimal64(8) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 90 DAY
COMMENT 'market.events: top of the book';

CREATE TABLE IF NOT EXISTS mark_prices
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    mark_price Decimal64(8) CODEC(Delta, ZSTD(1)),
    index_price Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    funding_rate Decimal64(8) CODEC(Delta, ZSTD(1)),
    next_funding_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 365 DAY
COMMENT 'market.events: mark, index, funding rate in force';

CREATE TABLE IF NOT EXISTS funding_settlements
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    funding_rate Decimal64(8) CODEC(Delta, ZSTD(1)),
    mark_price Decimal64(8) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
COMMENT 'market.events: funding paid';

CREATE TABLE IF NOT EXISTS open_interests
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    open_interest Decimal64(8) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 365 DAY
COMMENT 'market.events: contracts open, base units';

CREATE TABLE IF NOT EXISTS liquidations
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    side LowCardinality(String),
    price Decimal64(8) CODEC(Delta, ZSTD(1)),
    quantity Decimal64(8) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 365 DAY
COMMENT 'market.events: forced orders seen';

CREATE TABLE IF NOT EXISTS exchange_bars
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
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
    is_history Bool
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, timeframe, open_time, topic, partition, offset)
COMMENT 'market.events: klines as the venue reports them';

CREATE TABLE IF NOT EXISTS clock_ticks
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    received_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 30 DAY
COMMENT 'market.events: seconds of market time';
