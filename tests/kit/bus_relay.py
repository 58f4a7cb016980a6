"""A consume-transform-produce process for tests that kill it: copies `in` to `out` and `copy`, one transaction a batch.

Run as `python -m tests.kit.bus_relay URL PREFIX BATCH`. It ends when killed, or at a record of value `end`.
"""

from __future__ import annotations

import sys

from libs.bus.api import NewRecord, TopicPartition
from libs.bus.open import open_bus


def main() -> None:
    """Relay until the end record."""
    url, prefix, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open_bus(url, prefix=prefix) as bus:
        producer = bus.producer("relay")
        consumer = bus.consumer(["in"], group="relay", member_id="relay-0")
        is_running = True
        while is_running:
            records = consumer.poll(batch, 500)
            if not records:
                continue
            is_running = all(record.value != b"end" for record in records)
            producer.begin()
            for topic in ("out", "copy"):
                producer.send(NewRecord(topic, each.key, each.value + b"!", each.headers) for each in records)
            producer.send_offsets(
                consumer, {TopicPartition(each.topic, each.partition): each.offset + 1 for each in records}
            )
            producer.commit()


if __name__ == "__main__":
    main()
