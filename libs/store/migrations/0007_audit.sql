-- Who did what, when and from where. It never expires.

CREATE TABLE IF NOT EXISTS audit_entries
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    service LowCardinality(String),
    actor String CODEC(ZSTD(1)),
    role LowCardinality(String),
    action LowCardinality(String),
    target LowCardinality(String),
    outcome LowCardinality(String),
    source_address String CODEC(ZSTD(1)),
    detail String CODEC(ZSTD(1)),
    command_id String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (service, event_time, topic, partition, offset)
COMMENT 'ops.audit';
