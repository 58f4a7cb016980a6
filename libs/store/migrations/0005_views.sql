-- Views that people and dashboards read; records counted once.

CREATE VIEW IF NOT EXISTS market_events AS
SELECT 'trades' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM trades FINAL
UNION ALL
SELECT 'depth_snapshots' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM depth_snapshots FINAL
UNION ALL
SELECT 'depth_deltas' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM depth_deltas FINAL
UNION ALL
SELECT 'best_quotes' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM best_quotes FINAL
UNION ALL
SELECT 'mark_prices' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM mark_prices FINAL
UNION ALL
SELECT 'funding_settlements' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM funding_settlements FINAL
UNION ALL
SELECT 'open_interests' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM open_interests FINAL
UNION ALL
SELECT 'liquidations' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM liquidations FINAL
UNION ALL
SELECT 'exchange_bars' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM exchange_bars FINAL
UNION ALL
SELECT 'clock_ticks' AS kind, topic, partition, offset, instrument, event_id, event_time, received_time, append_time FROM clock_ticks FINAL;

CREATE VIEW IF NOT EXISTS fills AS
SELECT event_time, account, instrument, client_order_id, venue_order_id, intent_id, side, last_quantity AS quantity,
    last_price AS price, fee, liquidity, realised_pnl, report_id
FROM order_events FINAL
WHERE last_quantity IS NOT NULL AND last_quantity != 0;
