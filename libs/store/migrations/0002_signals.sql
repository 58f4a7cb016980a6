-- What is derived from the market: bars, features, forecasts.

CREATE TABLE IF NOT EXISTS bars
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
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
    spread_mean_bps Nullable(Float64) CODEC(ZSTD(1)),
    depth_imbalance_1 Nullable(Float64) CODEC(ZSTD(1)),
    depth_imbalance_5 Nullable(Float64) CODEC(ZSTD(1)),
    depth_imbalance_10 Nullable(Float64) CODEC(ZSTD(1)),
    order_flow_imbalance Nullable(Float64) CODEC(ZSTD(1)),
    microprice_deviation_bps Nullable(Float64) CODEC(ZSTD(1)),
    realised_variance Nullable(Float64) CODEC(ZSTD(1)),
    mark_close Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    index_close Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    funding_rate Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    next_funding_time Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    open_interest Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    liquidation_buy Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    liquidation_sell Nullable(Decimal64(8)) CODEC(ZSTD(1)),
    is_history Bool
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, timeframe, open_time, topic, partition, offset)
COMMENT 'bars.closed: closed bars, enriched';

CREATE TABLE IF NOT EXISTS feature_vectors
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    bar_id String CODEC(ZSTD(1)),
    timeframe LowCardinality(String),
    feature_set LowCardinality(String),
    schema_hash LowCardinality(String),
    known_count UInt32,
    reference_price Decimal64(8) CODEC(Delta, ZSTD(1)),
    is_history Bool,
    feature_values Array(Float64) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, feature_set, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 365 DAY
COMMENT 'features.vectors: values in the order of the feature set, NaN where unknown';

CREATE TABLE IF NOT EXISTS forecasts
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    instrument LowCardinality(String),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    vector_id String CODEC(ZSTD(1)),
    horizon_ns Int64 CODEC(Delta, ZSTD(1)),
    probability_down Float64 CODEC(Gorilla, ZSTD(1)),
    probability_flat Float64 CODEC(Gorilla, ZSTD(1)),
    probability_up Float64 CODEC(Gorilla, ZSTD(1)),
    confidence Float64 CODEC(Gorilla, ZSTD(1)),
    coverage Float64 CODEC(Gorilla, ZSTD(1)),
    expected_return_bps Nullable(Float64) CODEC(ZSTD(1)),
    model_name LowCardinality(String),
    model_version LowCardinality(String),
    model_sha256 LowCardinality(String),
    role LowCardinality(String),
    feature_set LowCardinality(String),
    schema_hash LowCardinality(String),
    reference_price Decimal64(8) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (instrument, model_name, event_time, topic, partition, offset)
COMMENT 'inference.forecasts: direction probabilities over a horizon';
