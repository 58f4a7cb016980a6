"""Settings: frozen values read once from the environment in `main` and handed down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.bus.security import SaslMechanism, SecurityProtocol
from libs.runtime.errors import BadInput

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class PlatformSettings(BaseSettings):
    """Where the platform is: what every service needs, from ``PERPFLOW_*``."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PERPFLOW_")

    bus: str = Field("sqlite:var/bus.db", description="sqlite:PATH, kafka:HOST:PORT or memory:NAME")
    kafka_security_protocol: SecurityProtocol = Field("PLAINTEXT", description="SASL_SSL for a login over TLS")
    kafka_sasl_mechanism: SaslMechanism = Field("SCRAM-SHA-512", description="how the login proves the password")
    kafka_username: str = Field("", description="for SASL")
    kafka_password: SecretStr = Field(SecretStr(""), description="for SASL")
    kafka_password_file: Path | None = Field(None, description="file with the password, instead of the password")
    kafka_ca_file: Path | None = Field(None, description="PEM of the brokers' authority; the system's if unset")
    kafka_certificate_file: Path | None = Field(None, description="PEM of this client's certificate, for mutual TLS")
    kafka_key_file: Path | None = Field(None, description="PEM of its key")
    kafka_key_password: SecretStr = Field(SecretStr(""), description="of the key, where it has one")
    clickhouse: str = Field("http://127.0.0.1:8123", description="URL of ClickHouse's HTTP interface")
    clickhouse_database: str = Field("perpflow", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="put before every topic of this session")
    run_dir: Path = Field(Path("var/run"), description="where processes announce their pid and ports")
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_host: str = Field("127.0.0.1", min_length=1, description="0.0.0.0 in a container, to be scraped")
    metrics_port: int = Field(0, ge=0, le=65535, description="health and metrics; 0 takes a free port")
    log_max_mb: float = Field(20.0, gt=0, description="size at which a process's log file is rotated")
    log_files: int = Field(5, ge=1, le=1000, description="rotated log files kept for each process")
    log_max_age_days: float = Field(14.0, gt=0, description="age at which rotated log files are deleted")
    batch_max_records: int = Field(1000, ge=1, le=100_000)
    snapshot_every_records: int = Field(20_000, ge=1, description="a service's snapshot is due after so many records")
    snapshot_every_s: float = Field(3_600.0, gt=0, description="or so long after its last one")


def load_settings(kind: type[SettingsT], environment: Mapping[str, str] | None = None) -> SettingsT:
    """Read settings from the environment. Raises `BadInput` that names each variable, its value and what it should be.

    A variable with the right prefix that is no field is refused as well: a misspelt limit must not pass for a set one.
    """
    variables = os.environ if environment is None else environment
    prefix = str(kind.model_config.get("env_prefix", ""))
    known = {f"{prefix}{name}".upper() for name in kind.model_fields}
    if kind is not PlatformSettings:
        strangers = sorted(
            name for name in variables if name.upper().startswith(prefix.upper()) and name.upper() not in known
        )
        if strangers:
            fields = ", ".join(sorted(known)) or "no settings"
            raise BadInput(f"unknown setting {', '.join(strangers)}; {kind.__name__} has {fields}")
    try:
        return kind()
    except ValidationError as error:
        raise BadInput("; ".join(_describe(prefix, detail, variables) for detail in error.errors())) from error


def _describe(prefix: str, detail: object, variables: Mapping[str, str]) -> str:
    assert isinstance(detail, dict)
    name = prefix + "_".join(str(part) for part in detail["loc"])
    variable = name.upper()
    value = variables.get(variable, detail.get("input"))
    return f"{variable}={value!r}: {detail['msg']}; correct it or unset it to take the default"
