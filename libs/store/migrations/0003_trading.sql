-- Decisions, orders and accounts. These are the books and never expire, alerts apart.

CREATE TABLE IF NOT EXISTS order_intents
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    instrument LowCardinality(String),
    strategy LowCardinality(String),
    action LowCardinality(String),
    side LowCardinality(String),
    order_type LowCardinality(String),
    quantity Decimal128(8) CODEC(ZSTD(1)),
    time_in_force LowCardinality(String),
    reduce_only Bool,
    limit_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    trigger_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    callback_rate Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    reference_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    confidence Nullable(Float64) CODEC(ZSTD(1)),
    target_client_order_id String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    cause_ids Array(String) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'strategy.intents: what a strategy wants';

CREATE TABLE IF NOT EXISTS verdicts
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    instrument LowCardinality(String),
    intent_id String CODEC(ZSTD(1)),
    limits_version Int64 CODEC(Delta, ZSTD(1)),
    verdict LowCardinality(String),
    origin LowCardinality(String),
    reasons Array(String) CODEC(ZSTD(1)),
    strategy LowCardinality(String),
    action LowCardinality(String),
    side LowCardinality(String),
    order_type LowCardinality(String),
    quantity Decimal128(8) CODEC(ZSTD(1)),
    limit_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    trigger_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    reduce_only Bool,
    reference_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    check_names Array(LowCardinality(String)),
    check_passed Array(Bool),
    check_values Array(String) CODEC(ZSTD(1)),
    check_limits Array(String) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'risk.verdicts: approved or refused, with every check';

CREATE TABLE IF NOT EXISTS order_commands
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    instrument LowCardinality(String),
    client_order_id String CODEC(ZSTD(1)),
    intent_id String CODEC(ZSTD(1)),
    command LowCardinality(String),
    verdict_id String CODEC(ZSTD(1)),
    side LowCardinality(String),
    order_type LowCardinality(String),
    quantity Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    time_in_force LowCardinality(String),
    reduce_only Bool,
    limit_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    trigger_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    callback_rate Nullable(Decimal128(8)) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'execution.commands: place or cancel, written before the call';

CREATE TABLE IF NOT EXISTS venue_reports
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    instrument LowCardinality(String),
    client_order_id String CODEC(ZSTD(1)),
    venue_order_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    last_quantity Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    last_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    fee Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    liquidity LowCardinality(String),
    venue_trade_id String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    raw String CODEC(ZSTD(1)),
    cause_id String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'execution.reports: what the venue answered';

CREATE TABLE IF NOT EXISTS order_events
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    instrument LowCardinality(String),
    client_order_id String CODEC(ZSTD(1)),
    venue_order_id String CODEC(ZSTD(1)),
    intent_id String CODEC(ZSTD(1)),
    status LowCardinality(String),
    side LowCardinality(String),
    order_type LowCardinality(String),
    quantity Decimal128(8) CODEC(ZSTD(1)),
    filled_quantity Decimal128(8) CODEC(ZSTD(1)),
    average_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    limit_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    reduce_only Bool,
    last_quantity Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    last_price Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    fee Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    liquidity LowCardinality(String),
    realised_pnl Nullable(Decimal128(8)) CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    report_id String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'execution.orders: an order changed state';

CREATE TABLE IF NOT EXISTS account_states
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    wallet_balance Decimal128(8) CODEC(ZSTD(1)),
    equity Decimal128(8) CODEC(ZSTD(1)),
    initial_margin Decimal128(8) CODEC(ZSTD(1)),
    available_balance Decimal128(8) CODEC(ZSTD(1)),
    open_order_count UInt32,
    position_instrument Array(LowCardinality(String)),
    position_quantity Array(Decimal128(8)) CODEC(ZSTD(1)),
    position_entry_price Array(Decimal128(8)) CODEC(ZSTD(1)),
    position_mark_price Array(Decimal128(8)) CODEC(ZSTD(1)),
    position_realised_pnl Array(Decimal128(8)) CODEC(ZSTD(1)),
    position_fees_paid Array(Decimal128(8)) CODEC(ZSTD(1)),
    position_funding_paid Array(Decimal128(8)) CODEC(ZSTD(1)),
    cause_id String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'execution.accounts: balances and positions after each change';

CREATE TABLE IF NOT EXISTS control_commands
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    action LowCardinality(String),
    issued_by LowCardinality(String),
    reason String CODEC(ZSTD(1)),
    arguments Map(LowCardinality(String), String) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'control.commands';

CREATE TABLE IF NOT EXISTS control_states
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    account LowCardinality(String),
    state LowCardinality(String),
    reason String CODEC(ZSTD(1)),
    limits_version Int64 CODEC(Delta, ZSTD(1)),
    limits Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    cause_id String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (account, event_time, topic, partition, offset)
COMMENT 'control.states';

CREATE TABLE IF NOT EXISTS alerts
(
    topic LowCardinality(String),
    partition UInt16,
    offset UInt64 CODEC(Delta, ZSTD(1)),
    key LowCardinality(String),
    append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id String CODEC(ZSTD(1)),
    event_time DateTime64(9, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    service LowCardinality(String),
    name LowCardinality(String),
    severity LowCardinality(String),
    is_raised Bool,
    message String CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(append_time)
ORDER BY (service, event_time, topic, partition, offset)
TTL toDateTime(append_time) + INTERVAL 365 DAY
COMMENT 'ops.alerts';
