"""Credentials for Kafka: what does not go together is refused before anything is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.bus.replication import Replication
from libs.runtime.errors import BadInput
from libs.runtime.platform_bus import kafka_replication, kafka_security
from libs.runtime.settings import PlatformSettings


def platform(**fields: object) -> PlatformSettings:
    return PlatformSettings.model_validate({f"kafka_{name}": value for name, value in fields.items()})


def test_nothing_set_is_a_plain_connection() -> None:
    assert kafka_security(platform()).client_settings() == {"security.protocol": "PLAINTEXT"}


def test_a_login_over_tls_becomes_the_settings_of_the_client(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("PEM")
    password = tmp_path / "password"
    password.write_text("of the file\n")
    security = kafka_security(
        platform(security_protocol="SASL_SSL", username="me", password_file=password, ca_file=authority)
    )
    assert security.client_settings() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "me",
        "sasl.password": "of the file",
        "ssl.endpoint.identification.algorithm": "https",
        "ssl.ca.location": str(authority),
    }
    assert "of the file" not in repr(security)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs PERPFLOW_KAFKA_USERNAME and PERPFLOW_KAFKA_PASSWORD"),
        ({"username": "me", "password": "x"}, "are of no use with PERPFLOW_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"security_protocol": "SSL", "certificate_file": "c.pem"}, "go together; set both or neither"),
        ({"ca_file": "ca.pem"}, "CA_FILE is of no use with PERPFLOW_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"),
        ({"security_protocol": "SSL", "ca_file": "nowhere.pem"}, "CA_FILE=nowhere.pem cannot be read"),
        ({"password": "x", "password_file": "p"}, "are both set; unset one"),
        ({"password_file": "nowhere"}, "PASSWORD_FILE=nowhere cannot be read"),
    ],
)
def test_credentials_that_do_not_go_together_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        kafka_security(platform(**fields))


def test_more_replicas_in_sync_than_there_are_is_refused() -> None:
    assert kafka_replication(platform(replication_factor=3, min_in_sync_replicas=2)) == Replication(3, 2)
    assert kafka_replication(platform()) == Replication()
    with pytest.raises(BadInput, match="MIN_IN_SYNC_REPLICAS=3 is more than PERPFLOW_KAFKA_REPLICATION_FACTOR=2"):
        kafka_replication(platform(replication_factor=2, min_in_sync_replicas=3))
