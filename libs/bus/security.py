"""How a client proves who it is to Kafka, and whom it believes: TLS and SASL, as values handed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Empty strings and None are not set. Without `ca_file` the system's certificates are believed. The broker's name
    is always checked against its certificate."""

    protocol: SecurityProtocol = "PLAINTEXT"
    mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password: str = field(default="", repr=False)

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is TLS."""
        return self.protocol.endswith("SSL")

    @property
    def has_login(self) -> bool:
        """Whether the client logs in with a name and a password."""
        return self.protocol.startswith("SASL")

    def client_settings(self) -> dict[str, str]:
        """Return the settings of librdkafka."""
        settings: dict[str, str] = {"security.protocol": self.protocol}
        if self.has_login:
            settings |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        if self.is_encrypted:
            settings |= {
                "ssl.endpoint.identification.algorithm": "https",
                "ssl.ca.location": _text(self.ca_file),
                "ssl.certificate.location": _text(self.certificate_file),
                "ssl.key.location": _text(self.key_file),
                "ssl.key.password": self.key_password,
            }
        return {name: value for name, value in settings.items() if value}


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)
