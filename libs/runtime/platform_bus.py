"""Opens the bus that the platform's settings name, with their credentials."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from libs.bus.api import Bus, Waiting
from libs.bus.open import open_bus
from libs.bus.replication import Replication
from libs.bus.security import KafkaSecurity
from libs.runtime.errors import BadInput
from libs.runtime.masking import SECRETS
from libs.runtime.placement import Placement
from libs.runtime.settings import PlatformSettings


def open_platform_bus(platform: PlatformSettings, *, waiting: Waiting = nullcontext) -> Bus:
    """Open it; as `open_bus`. Raises `BadInput` for credentials that cannot be used."""
    return open_bus(
        platform.bus,
        prefix=platform.topic_prefix,
        security=kafka_security(platform),
        replication=kafka_replication(platform),
        waiting=waiting,
        partitioner=session_placement(platform).choose,
    )


def session_placement(platform: PlatformSettings) -> Placement:
    """Return the placement that the settings describe. Raises `BadInput` for one that cannot be."""
    return Placement(platform.partitions, platform.instruments, platform.accounts)


def kafka_replication(platform: PlatformSettings) -> Replication:
    """Return how topics are replicated that are created on Kafka. Raises `BadInput` for what can never be written."""
    factor, least = platform.kafka_replication_factor, platform.kafka_min_in_sync_replicas
    if factor and least > factor:
        raise BadInput(
            f"PERPFLOW_KAFKA_MIN_IN_SYNC_REPLICAS={least} is more than PERPFLOW_KAFKA_REPLICATION_FACTOR={factor}: "
            "nothing could be written; lower it"
        )
    return Replication(factor, least)


def kafka_security(platform: PlatformSettings) -> KafkaSecurity:
    """Return the credentials for Kafka. Raises `BadInput` naming what is missing, unreadable or of no use."""
    protocol = platform.kafka_security_protocol
    password = platform.kafka_password.get_secret_value()
    if platform.kafka_password_file is not None:
        if password:
            raise BadInput("PERPFLOW_KAFKA_PASSWORD and PERPFLOW_KAFKA_PASSWORD_FILE are both set; unset one")
        password = _read(platform.kafka_password_file, "PERPFLOW_KAFKA_PASSWORD_FILE").rstrip("\r\n")
        SECRETS.add(password)
    security = KafkaSecurity(
        protocol=protocol,
        mechanism=platform.kafka_sasl_mechanism,
        username=platform.kafka_username,
        password=password,
        ca_file=platform.kafka_ca_file,
        certificate_file=platform.kafka_certificate_file,
        key_file=platform.kafka_key_file,
        key_password=platform.kafka_key_password.get_secret_value(),
    )
    if security.has_login and not (security.username and security.password):
        raise BadInput(
            f"PERPFLOW_KAFKA_SECURITY_PROTOCOL={protocol} needs PERPFLOW_KAFKA_USERNAME and PERPFLOW_KAFKA_PASSWORD "
            "(or _PASSWORD_FILE)"
        )
    if not security.has_login and (security.username or security.password):
        raise BadInput(
            f"PERPFLOW_KAFKA_USERNAME and _PASSWORD are of no use with PERPFLOW_KAFKA_SECURITY_PROTOCOL={protocol}; "
            "set it to SASL_SSL, or unset them"
        )
    if (security.certificate_file is None) != (security.key_file is None):
        raise BadInput("PERPFLOW_KAFKA_CERTIFICATE_FILE and PERPFLOW_KAFKA_KEY_FILE go together; set both or neither")
    files = {
        "PERPFLOW_KAFKA_CA_FILE": security.ca_file,
        "PERPFLOW_KAFKA_CERTIFICATE_FILE": security.certificate_file,
        "PERPFLOW_KAFKA_KEY_FILE": security.key_file,
    }
    for variable, path in files.items():
        if path is None:
            continue
        if not security.is_encrypted:
            raise BadInput(
                f"{variable} is of no use with PERPFLOW_KAFKA_SECURITY_PROTOCOL={protocol}; use SSL or SASL_SSL"
            )
        _read(path, variable)
    return security


def _read(path: Path, variable: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise BadInput(f"{variable}={path} cannot be read ({reason}); correct the path or its permissions") from error
