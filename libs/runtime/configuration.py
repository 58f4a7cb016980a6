"""The configuration file beside the environment: ``perpflow.toml``, or what ``PERPFLOW_CONFIG`` names.

A table per service and a key per setting, all optional::

    [platform]
    bus = "kafka:localhost:9092"

    [risk]
    max_leverage = 2.5

Precedence: command line, environment, file, default. An empty ``PERPFLOW_CONFIG`` means no file.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.runtime.errors import BadInput

PREFIX = "PERPFLOW_"
CONFIG_VARIABLE = "PERPFLOW_CONFIG"
DEFAULT_FILE = Path("perpflow.toml")
# Tables whose settings have no service's name in their variable.
PLAIN_TABLES = ("platform", "store", "console")
# Set by what starts a process, or read before there are settings; the last two are the tests'.
PROCESS_VARIABLES = frozenset(
    {CONFIG_VARIABLE, "PERPFLOW_VAR", "PERPFLOW_SUPERVISOR_PID", "PERPFLOW_SHARED", "PERPFLOW_SOAK"}
    | {"PERPFLOW_TEST_KAFKA"}
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """Variables from environment and file. `in_file` says where in the file those stand that came from it."""

    variables: Mapping[str, str]
    in_file: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None

    def origin_of(self, variable: str) -> str:
        """Name a variable as the person who set it knows it."""
        return self.in_file.get(variable, variable)

    def demand_private(self, variable: str) -> None:
        """Raise `BadInput` where a secret stands in a file that others may read."""
        if variable in self.in_file and self.file is not None and stat.S_IMODE(self.file.stat().st_mode) & 0o077:
            raise BadInput(f"{self.file} holds a secret and others may read it; chmod 600 {self.file}")


def read_configuration(environment: Mapping[str, str] | None = None) -> Configuration:
    """Read the environment and the file beside it. Raises `BadInput` for a file that cannot be read."""
    variables = os.environ if environment is None else environment
    named = variables.get(CONFIG_VARIABLE)
    file = DEFAULT_FILE if named is None else Path(named)
    if named == "" or (named is None and not file.is_file()):
        return Configuration(dict(variables))
    settings = _read_file(file)
    in_file = {variable: place for variable, (place, _value) in settings.items() if variable not in variables}
    values = {variable: settings[variable][1] for variable in in_file}
    return Configuration({**values, **variables}, in_file, file)


def _read_file(file: Path) -> dict[str, tuple[str, str]]:
    try:
        # Numbers stay as they are written: 0.1 is a decimal, not a double.
        tables = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=str)
    except OSError as error:
        raise BadInput(f"{file} cannot be read ({error.strerror}); correct {CONFIG_VARIABLE} or unset it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} is not TOML: {error}; correct it") from None
    settings: dict[str, tuple[str, str]] = {}
    for table, keys in tables.items():
        if not isinstance(keys, dict):
            raise BadInput(f"{file}: {table} stands outside of a table; put it under [platform] or a service's name")
        prefix = PREFIX if table in PLAIN_TABLES else f"{PREFIX}{table.upper()}_"
        for key, value in keys.items():
            settings[f"{prefix}{key}".upper()] = (f"{file} [{table}] {key}", _as_variable(value))
    return settings


def _as_variable(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
