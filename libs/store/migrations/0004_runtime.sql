-- What the services say of themselves, and what nobody could read.

CREATE TABLE IF NOT EXISTS journal_entries
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    service LowCardinality(String),
    run_topic Array(LowCardinality(String)),
    run_partition Array(UInt32) CODEC(ZSTD(1)),
    run_first_offset Array(UInt64) CODEC(ZSTD(1)),
    run_next_offset Array(UInt64) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (topic, partition, offset)
COMMENT 'journal.*: the order in which a service consumed its inputs';

CREATE TABLE IF NOT EXISTS dead_letters
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    service LowCardinality(String),
    reason String CODEC(ZSTD(1)),
    source_topic LowCardinality(String),
    source_partition UInt32,
    source_offset UInt64,
    source_key String CODEC(ZSTD(1)),
    payload String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (topic, partition, offset)
COMMENT 'dead.*: what could not be decoded or handled';

CREATE TABLE IF NOT EXISTS core_snapshots
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    payload String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 30 DAY
COMMENT 'state.*: snapshots, as they are';

CREATE TABLE IF NOT EXISTS undecodable
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    payload String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (topic, partition, offset)
COMMENT 'payloads that are not what their topic carries';
