"""`perpflow config`: what every setting is, where it came from, and whether the configuration file is right."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from libs.runtime.configuration import CONFIG_VARIABLE, Configuration
from libs.runtime.errors import BadInput
from libs.runtime.masking import MASK
from libs.runtime.settings import load_settings, secret_fields, variables_of
from services.console.output import print_json
from services.console.registry import read_checked, settings_models

config_app = typer.Typer(
    name="config", help="Settings: perpflow.toml beside the environment.", no_args_is_help=True, rich_markup_mode=None
)


@dataclass(frozen=True, slots=True)
class SettingValue:
    """One setting as it stands. `origin` is default, environment, or the place in the file."""

    table: str
    name: str
    variable: str
    value: str
    origin: str


@config_app.command()
def show(
    table: Annotated[str | None, typer.Argument(help="platform, store, console or a service; all by default.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Print every setting with its value and where it came from; secrets are masked.

    Examples:

      perpflow config show risk

      perpflow config show --changed --json
    """
    models = settings_models()
    if table is not None and table not in models:
        raise BadInput(f"no settings {table!r}; there are {', '.join(models)}")
    configuration = read_checked()
    values = [
        value
        for name, kind in models.items()
        if table in (None, name)
        for value in _values_of(name, kind, configuration)
        if not changed or value.origin != "default"
    ]
    if json:
        print_json(values)
        return
    for value in values:
        print(f"{value.table + '.' + value.name:<44} {value.value:<40} {value.origin}")


@config_app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="File to check; by default the one that would be read.")] = None,
) -> None:
    """Read file and environment as `perpflow up` would, and say what is wrong with them.

    Example: perpflow config check perpflow.toml
    """
    environment = dict(os.environ)
    if file is not None:
        if not file.is_file():
            raise BadInput(f"{file}: no such file")
        environment[CONFIG_VARIABLE] = str(file)
    configuration = read_checked(environment)
    source = "no file, the environment alone" if configuration.file is None else str(configuration.file)
    print(f"good: {source}, {len(configuration.in_file)} settings from the file")


def _values_of(table: str, kind: type[BaseSettings], configuration: Configuration) -> list[SettingValue]:
    settings = load_settings(kind, configuration)
    given = {name.upper(): name for name in configuration.variables}

    def origin_of(variable: str) -> str:
        if variable not in given:
            return "default"
        return configuration.in_file.get(given[variable], "environment")

    return [
        SettingValue(table, field, variable, _written(kind, field, getattr(settings, field)), origin_of(variable))
        for field, variable in variables_of(kind).items()
    ]


def _written(kind: type[BaseSettings], field: str, value: object) -> str:
    if field in secret_fields(kind):
        return MASK if isinstance(value, SecretStr) and value.get_secret_value() else ""
    return str(value)
