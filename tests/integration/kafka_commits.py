"""Commits that Kafka answers just before it is killed: each must be there afterwards, whatever the producer does next.

``python -m tests.integration.kafka_commits [TRIES]`` (`make kafka-commits`: thirty). A try commits a record, kills the
broker (-9) as soon as the commit is answered, starts it again, and aborts a transaction of the same producer; half of
the tries use a topic that was made just before. It prints how many commits Kafka itself had lost. Not part of the
suite: a try takes some ten seconds.
"""

from __future__ import annotations

import argparse
import logging
import sys

from libs.bus.api import NewRecord, TopicSpec
from libs.bus.kafka import KafkaBus
from libs.runtime.records import read_topic
from tests.kit.kafka import KafkaBroker, NoKafka, a_kafka
from tests.kit.waiting import eventually


class _Counted(logging.Handler):
    """Counts how often something that Kafka had lost was sent again."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += "sent again" in record.getMessage()


def main() -> int:
    """Try as often as asked; return 1 where a commit was lost or doubled, 3 where there is no Kafka."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.kafka_commits", description=__doc__)
    parser.add_argument("tries", type=int, nargs="?", default=30)
    tries = parser.parse_args().tries
    lost = _Counted()
    logging.getLogger("libs.bus.kafka_producer").addHandler(lost)
    try:
        with a_kafka() as broker:
            wrong = _try_all(broker, tries)
    except NoKafka as error:
        print(f"kafka-commits: {error}", file=sys.stderr)
        return 3
    print(f"{tries} commits, the broker killed after each: Kafka lost {lost.count}, {wrong} are wrong", flush=True)
    return 1 if wrong else 0


def _try_all(broker: KafkaBroker, tries: int) -> int:
    expected: dict[str, list[bytes]] = {}
    wrong = 0
    for number in range(tries):
        topic = f"new-{number}" if number % 2 else "old"
        value = b"%d" % number
        with KafkaBus(broker.address) as bus:
            bus.create_topics([TopicSpec(topic)])
            producer = bus.producer("writer")
            producer.begin()
            producer.send([NewRecord(topic, b"", value)])
            producer.commit()
            broker.kill()
            broker.start()
            producer.begin()
            producer.send([NewRecord(topic, b"", b"aborted")])
            producer.abort()
            expected.setdefault(topic, []).append(value)
            try:
                eventually(lambda: _values(bus, topic) == expected[topic], within_s=10)  # noqa: B023
                outcome = "is there once"
            except AssertionError:
                wrong += 1
                expected[topic] = _values(bus, topic)
                outcome = "is lost or doubled"
        print(f"commit {number + 1}/{tries} to {topic} {outcome}", flush=True)
    return wrong


def _values(bus: KafkaBus, topic: str) -> list[bytes]:
    return [record.value for record in read_topic(bus, topic)]


if __name__ == "__main__":
    raise SystemExit(main())
