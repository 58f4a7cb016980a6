"""Kafka over TLS with a login: the right credentials work for every client, wrong ones fail at once and say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from libs.bus.api import BusDenied, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.bus.security import KafkaSecurity
from libs.runtime.metrics import read_announcement
from libs.wire.topics import BARS_CLOSED, TOPICS, dead_topic
from tests.kit.certificates import Certificates, make_certificates
from tests.kit.kafka import REPOSITORY, NoKafka, a_kafka
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(900)
PASSWORD = "Wa5-nicht-stimmt"


@dataclass(frozen=True)
class Secured:
    """A broker that wants TLS and a login, and the credentials it takes."""

    url: str
    security: KafkaSecurity
    certificates: Certificates


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on the path to make certificates with")
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    listener = "listener.name.client.plain.sasl.jaas.config"
    security = KafkaSecurity(
        "SASL_SSL", "PLAIN", "perpflow", PASSWORD, certificates.authority, certificates.client, certificates.client_key
    )
    properties = {
        "listeners": "CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": "CLIENT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        listener: f'{login} required username="broker" password="inside" user_broker="inside" '
        f'user_perpflow="{PASSWORD}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": certificates.broker,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certificates.authority,
        # Without the listener's name it does not count beside a login.
        "listener.name.client.ssl.client.auth": "required",
    }
    try:
        with a_kafka(properties, security) as broker:
            yield Secured(f"kafka:{broker.address}", security, certificates)
    except NoKafka as reason:
        pytest.skip(str(reason))


def test_right_credentials_commit_read_and_keep_offsets(secured: Secured) -> None:
    with open_bus(secured.url, prefix="right.", security=secured.security) as bus:
        bus.create_topics([TopicSpec("a")])
        producer = bus.producer("p")
        producer.begin()
        producer.send([NewRecord("a", b"k", b"v")])
        producer.commit()
        consumer = bus.consumer(["a"], group="g", member_id="g-0")
        found: list[bytes] = []
        eventually(lambda: found, step=lambda: found.extend(each.value for each in consumer.poll(10, 200)), within_s=60)
        assert found == [b"v"]
        consumer.commit({TopicPartition("a", 0): 1})
        assert bus.committed("g", [TopicPartition("a", 0)]) == {TopicPartition("a", 0): 1}
        bus.ping()


def test_wrong_password_wrong_authority_and_missing_certificate_are_refused_by_name(secured: Secured) -> None:
    wrong = {
        "password": (replace(secured.security, password="wrong"), "(?i)authentication"),
        "authority": (replace(secured.security, ca_file=secured.certificates.stranger), "(?i)certificate"),
        "certificate": (replace(secured.security, certificate_file=None, key_file=None), "(?i)certificate|SSL"),
    }
    for security, reason in wrong.values():
        with pytest.raises(BusDenied, match=f"{reason}.*check PERPFLOW_KAFKA_SECURITY_PROTOCOL"):
            open_bus(secured.url, security=security)


def test_a_key_that_does_not_fit_its_certificate_is_refused(secured: Secured) -> None:
    with pytest.raises(BusDenied, match="correct PERPFLOW_KAFKA_"):
        open_bus(secured.url, security=replace(secured.security, key_file=secured.certificates.broker))


def test_a_service_takes_its_credentials_from_the_environment_and_ends_with_2_where_they_are_wrong(
    secured: Secured, tmp_path: Path
) -> None:
    password_file = tmp_path / "password"
    password_file.write_text("wrong\n")
    ended = subprocess.run(
        [sys.executable, "-m", "services.bars.main"],
        env={**environment(secured, tmp_path), "PERPFLOW_KAFKA_PASSWORD_FILE": str(password_file)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "do not trust each other" in ended.stderr
    assert PASSWORD not in ended.stderr and "Traceback" not in ended.stderr


def test_features_in_faust_log_in_over_tls(secured: Secured, tmp_path: Path) -> None:
    with open_bus(secured.url, prefix="faust.", security=secured.security) as bus:
        bus.create_topics(TopicSpec(name) for name in TOPICS)
        process = subprocess.Popen(
            [sys.executable, "-m", "services.features.main"],
            env={
                **environment(secured, tmp_path),
                "PERPFLOW_TOPIC_PREFIX": "faust.",
                "PERPFLOW_KAFKA_PASSWORD": PASSWORD,
            },
            cwd=REPOSITORY,
        )
        try:
            announced = tmp_path / "features.json"
            eventually(
                lambda: process.poll() is not None or read_announcement(announced).get("state") == "running",
                within_s=200,
            )
            assert process.poll() is None
            producer = bus.producer("p")
            producer.begin()
            producer.send([NewRecord(BARS_CLOSED, b"k", b"no bar")])
            producer.commit()
            dead = TopicPartition(dead_topic(BARS_CLOSED), 0)
            eventually(lambda: bus.end_offsets([dead])[dead], within_s=100)
        finally:
            process.terminate()
            assert process.wait(timeout=60) == 0


def environment(secured: Secured, run_dir: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")}
    return {
        **inherited,
        "PERPFLOW_BUS": secured.url,
        "PERPFLOW_RUN_DIR": str(run_dir),
        "PERPFLOW_LOG_FORMAT": "json",
        "PERPFLOW_KAFKA_SECURITY_PROTOCOL": secured.security.protocol,
        "PERPFLOW_KAFKA_SASL_MECHANISM": secured.security.mechanism,
        "PERPFLOW_KAFKA_USERNAME": secured.security.username,
        "PERPFLOW_KAFKA_CA_FILE": str(secured.certificates.authority),
        "PERPFLOW_KAFKA_CERTIFICATE_FILE": str(secured.certificates.client),
        "PERPFLOW_KAFKA_KEY_FILE": str(secured.certificates.client_key),
    }
