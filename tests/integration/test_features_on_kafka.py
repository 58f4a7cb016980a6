"""Features in Faust on a real Kafka: killed once bars before its snapshot were removed, its vectors are the same."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libs.bus.api import NewRecord, TopicPartition, TopicSpec
from libs.bus.kafka import KafkaBus
from libs.runtime.records import commit_records, read_last, read_topic
from libs.runtime.verify import verify_service
from libs.wire import encode, topics
from libs.wire.records import decode_core_snapshot
from services.features.core import FeaturesCore
from services.features.main import SERVICE
from services.features.settings import FeaturesSettings
from tests.kit.builders import a_bar
from tests.kit.kafka import NoKafka, find_kafka
from tests.kit.platform import ROOT
from tests.kit.waiting import eventually

BARS = TopicPartition(topics.BARS_CLOSED, 0)
STATE = topics.state_topic("features")
PATIENCE_S = 180.0

pytestmark = pytest.mark.timeout(900)


@contextmanager
def running_features(address: str, prefix: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the service; end it as kill -9 does."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")},
        "PERPFLOW_BUS": f"kafka:{address}",
        "PERPFLOW_TOPIC_PREFIX": prefix,
        "PERPFLOW_RUN_DIR": str(folder),
        "PERPFLOW_SNAPSHOT_EVERY_RECORDS": "20",
        "PYTHONPATH": str(ROOT),
    }
    with (folder / "features.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.features.main"], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def publish_bars(bus: KafkaBus, first: int, count: int) -> None:
    encoded = [encode(a_bar(number)) for number in range(first, first + count)]
    producer = bus.producer("bars")
    commit_records(producer, [NewRecord(each.topic, each.key, each.payload) for each in encoded])
    producer.close()


def vectors(bus: KafkaBus) -> list[bytes]:
    return [record.value for record in read_topic(bus, topics.FEATURE_VECTORS)]


def snapshot_position(bus: KafkaBus) -> int:
    last = read_last(bus, STATE)
    return 0 if last is None else decode_core_snapshot(last.value).positions[BARS.topic, 0]


def committed(bus: KafkaBus) -> int:
    return bus.committed("features", [BARS])[BARS] or 0


def test_a_kill_after_its_old_bars_were_removed_changes_no_vector(tmp_path: Path) -> None:
    try:
        address = find_kafka().address
    except NoKafka as reason:
        pytest.skip(str(reason))
    prefix = f"{secrets.token_hex(6)}."
    with KafkaBus(address, prefix=prefix) as bus:
        bus.create_topics(TopicSpec(name) for name in topics.TOPICS)
        publish_bars(bus, 0, 50)
        with running_features(address, prefix, tmp_path):
            eventually(lambda: len(vectors(bus)) >= 50 and snapshot_position(bus) >= 40, within_s=PATIENCE_S)
            eventually(lambda: committed(bus) >= 40, within_s=PATIENCE_S)
        bus.delete_before({BARS: 40})
        publish_bars(bus, 50, 30)
        with running_features(address, prefix, tmp_path):
            eventually(lambda: len(set(vectors(bus))) >= 80, within_s=PATIENCE_S)
        core = FeaturesCore(*FeaturesSettings().load())
        verified = verify_service("features", core, SERVICE.inputs, bus)
        assert verified.difference is None
        assert verified.verified_from is not None
        assert verified.outputs >= 30
        assert len(set(vectors(bus))) == 80
