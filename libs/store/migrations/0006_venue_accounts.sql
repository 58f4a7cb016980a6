-- What a real venue says of the account itself.

CREATE TABLE IF NOT EXISTS venue_accounts
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    wallet_balance Decimal128(8) CODEC(ZSTD(1)),
    position_instrument Array(LowCardinality(String)),
    position_quantity Array(Decimal128(8)) CODEC(ZSTD(1)),
    position_entry_price Array(Decimal128(8)) CODEC(ZSTD(1)),
    cause_id String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'execution.reports: the account''s books as its venue keeps them';
