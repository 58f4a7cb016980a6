"""Settings: frozen values read once in `main` and handed down.

A value comes from the environment, else from the configuration file (`configuration.py`), else from the model's
default. A name that no model has is refused: a misspelt limit must not pass for a set one.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError
from pydantic_settings.sources.utils import parse_env_vars

from libs.bus.security import SaslMechanism, SecurityProtocol
from libs.domain.validation import place_of
from libs.runtime.configuration import PREFIX, PROCESS_VARIABLES, Configuration, read_configuration
from libs.runtime.errors import BadInput
from libs.runtime.masking import MASK, MIN_SECRET_LENGTH, SECRETS
from libs.runtime.placement import AccountPlacement

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

# The cores of six services in one process, in their place.
CHAIN = "chain"
# Every service that has settings of its own, in the order in which events flow.
SERVICE_NAMES = (
    *("ingestion", "bars", "features", "inference", "strategy", "risk", "execution", "recorder", "monitoring"),
    *("exchange", CHAIN),
)
# No variable begins with it, so that a model reads nothing but what it is given.
_NO_PREFIX = "\0"


class PlatformSettings(BaseSettings):
    """Where the platform is: what every service needs, from ``PERPFLOW_*``."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)

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
    kafka_replication_factor: int = Field(0, ge=0, le=99, description="of new topics; 0 is the cluster's default")
    kafka_min_in_sync_replicas: int = Field(0, ge=0, le=99, description="of new topics; 0 is the cluster's default")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="put before every topic of this session")
    partitions: int = Field(1, ge=1, le=1024, description="partitions of this session, which never change")
    instruments: dict[str, int] = Field({}, description="partition of each instrument that is placed; others by hash")
    accounts: dict[str, AccountPlacement] = Field({}, description="partition, instruments and settings of each account")
    replica: int | None = Field(None, ge=0, description="number of this replica of its service, from 0")
    standby: bool = Field(
        False, description="replicas follow the tasks of the others too, to take them over at once; costs their memory"
    )
    run_dir: Path = Field(Path("var/run"), description="where processes announce their pid and ports")
    log_format: Literal["console", "json"] = Field("console", description="how log lines are written")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")
    metrics_host: str = Field("127.0.0.1", min_length=1, description="0.0.0.0 in a container, to be scraped")
    metrics_port: int = Field(0, ge=0, le=65535, description="health and metrics; 0 takes a free port")
    log_max_mb: float = Field(20.0, gt=0, description="size at which a process's log file is rotated")
    log_files: int = Field(5, ge=1, le=1000, description="rotated log files kept for each process")
    log_max_age_days: float = Field(14.0, gt=0, description="age at which rotated log files are deleted")
    batch_max_records: int = Field(1000, ge=1, le=100_000, description="records handled in one transaction")
    snapshot_every_records: int = Field(20_000, ge=1, description="a service's snapshot is due after so many records")
    snapshot_every_s: float = Field(3_600.0, gt=0, description="or so long after its last one")


class StoreSettings(BaseSettings):
    """Where ClickHouse is and who asks, from ``PERPFLOW_CLICKHOUSE*``: recorder and console alone read it."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)

    clickhouse: str = Field("http://127.0.0.1:8123", description="http[s]://HOST:PORT, without user and password")
    clickhouse_database: str = Field(
        "perpflow", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="database of this session's tables"
    )
    clickhouse_user: str = Field("default", description="user that may create and write that database")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="password of that user")
    clickhouse_ca_file: Path | None = Field(None, description="PEM of the server's authority; the system's if unset")


def load_settings(kind: type[SettingsT], environment: Mapping[str, str] | Configuration | None = None) -> SettingsT:
    """Read settings from `environment`, by default this process's and its configuration file.

    A secret's variable with ``_FILE`` behind its name names a file that holds the secret. Raises `BadInput` that names
    each variable, its value and what it should be. Secrets read are masked from now on.
    """
    if isinstance(environment, Configuration):
        configuration = environment
    elif environment is None:
        configuration = read_configuration()
    else:
        configuration = Configuration(environment)
    check_names(configuration, [kind])
    configuration = read_secret_files(configuration, [kind])
    prefix = prefix_of(kind)
    source = EnvSettingsSource(kind, env_prefix=prefix)
    source.env_vars = parse_env_vars(configuration.variables)
    try:
        values = source()
        settings = kind(_env_prefix=_NO_PREFIX, **values)
    except SettingsError as error:
        raise BadInput(_describe_unparsable(kind, configuration, error)) from None
    except ValidationError as error:
        described = "; ".join(_describe(kind, detail, configuration) for detail in error.errors())
        raise BadInput(described) from None
    _take_secrets(settings, configuration)
    return settings


def prefix_of(kind: type[BaseSettings]) -> str:
    """Return what the variables of a model begin with."""
    return str(kind.model_config.get("env_prefix", ""))


def variables_of(kind: type[BaseSettings]) -> dict[str, str]:
    """Return the variable of each field of a model, by the field's name."""
    return {name: f"{prefix_of(kind)}{name}".upper() for name in kind.model_fields}


def secret_fields(kind: type[BaseSettings]) -> frozenset[str]:
    """Return the names of the fields that are secrets."""
    return frozenset(name for name, field in kind.model_fields.items() if _is_secret(field.annotation))


def secret_file_variables(kind: type[BaseSettings]) -> dict[str, str]:
    """Return, by the variable of each secret of a model, the one that may name a file with it instead."""
    variables = variables_of(kind)
    return {variables[name]: f"{variables[name]}_FILE" for name in secret_fields(kind)}


def read_secret_files(configuration: Configuration, kinds: Iterable[type[BaseSettings]]) -> Configuration:
    """Return the configuration with the secrets of the models in place of the variables that name their files.

    Raises `BadInput` for a file that cannot be read, or where both are set.
    """
    variables = dict(configuration.variables)
    for kind in kinds:
        own = set(variables_of(kind).values())
        for variable, file_variable in secret_file_variables(kind).items():
            # Kafka's password has a setting for its file.
            if file_variable in own or file_variable not in variables:
                continue
            if variable in variables:
                raise BadInput(f"{variable} and {configuration.origin_of(file_variable)} are both set; unset one")
            path = Path(variables.pop(file_variable))
            try:
                variables[variable] = path.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise BadInput(
                    f"{configuration.origin_of(file_variable)}={path} cannot be read ({reason}); correct the path "
                    "or its permissions"
                ) from error
    return replace(configuration, variables=variables)


def check_names(configuration: Configuration, kinds: Iterable[type[BaseSettings]]) -> None:
    """Raise `BadInput` for a variable that belongs to one of the models by its beginning and is none of its fields.

    Variables of services whose models are not given are theirs to check.
    """
    kinds = list(kinds)
    read: tuple[type[BaseSettings], ...] = (*kinds, PlatformSettings, StoreSettings)
    known = {variable for kind in read for variable in variables_of(kind).values()}
    known |= {variable for kind in read for variable in secret_file_variables(kind).values()}
    own = {prefix_of(kind) for kind in kinds} - {PREFIX}
    checks_rest = len(own) < len(kinds)
    others = {service_prefix(name) for name in SERVICE_NAMES} - own
    for name in sorted(configuration.variables):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or upper in PROCESS_VARIABLES:
            continue
        is_own = any(upper.startswith(prefix) for prefix in own)
        is_others = any(upper.startswith(prefix) for prefix in others)
        if is_own or (checks_rest and not is_others):
            raise BadInput(_describe_unknown(name, configuration, known, others))


def service_prefix(service: str) -> str:
    """Return what the variables of a service begin with."""
    return f"{PREFIX}{service.upper()}_"


def _describe_unknown(name: str, configuration: Configuration, known: set[str], others: set[str]) -> str:
    upper = name.upper()
    service, _, field = upper.removeprefix(PREFIX).partition("_")
    # A slip in the service's name first: it decides with which settings the rest is to be compared.
    services = difflib.get_close_matches(service, [each.upper() for each in SERVICE_NAMES], 1, 0.7)
    if services and service != services[0]:
        upper = f"{service_prefix(services[0])}{field}"
    is_others = any(upper.startswith(prefix) for prefix in others)
    nearest = [upper] if is_others else difflib.get_close_matches(upper, known, 1, 0.6)
    advice = f"did you mean {nearest[0]}?" if nearest else "`perpflow config show` lists those that there are"
    return f"unknown setting {configuration.origin_of(name)}; {advice}"


def _describe(kind: type[BaseSettings], detail: Mapping[str, Any], configuration: Configuration) -> str:
    field = str(next(iter(detail["loc"]), ""))
    message = str(detail["msg"])
    if field not in kind.model_fields:
        return f"{prefix_of(kind)}*: {message}; correct it"
    variable = variables_of(kind)[field]
    inner = f" (at {place_of(detail['loc'][1:])})" if detail["loc"][1:] else ""
    value = MASK if field in secret_fields(kind) else repr(configuration.variables.get(variable, detail.get("input")))
    return f"{configuration.origin_of(variable)}={value}{inner}: {message}; correct it or unset it to take the default"


def _describe_unparsable(kind: type[BaseSettings], configuration: Configuration, error: SettingsError) -> str:
    for field, variable in variables_of(kind).items():
        if f'"{field}"' in str(error):
            value = MASK if field in secret_fields(kind) else repr(configuration.variables.get(variable))
            return f'{configuration.origin_of(variable)}={value}: not JSON; write a list as ["a", "b"]'
    return str(error)


def _take_secrets(settings: BaseSettings, configuration: Configuration) -> None:
    kind = type(settings)
    for field in secret_fields(kind):
        secret = getattr(settings, field)
        value = secret.get_secret_value() if isinstance(secret, SecretStr) else ""
        if not value or secret == kind.model_fields[field].default:
            continue
        variable = variables_of(kind)[field]
        if len(value) < MIN_SECRET_LENGTH:
            raise BadInput(
                f"{configuration.origin_of(variable)} has {len(value)} characters; a secret needs "
                f"{MIN_SECRET_LENGTH} or more, or logs could not be kept free of it"
            )
        configuration.demand_private(variable)
        SECRETS.add(value)


def _is_secret(annotation: object) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is_secret(part) for part in typing.get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, SecretStr)
