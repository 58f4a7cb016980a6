"""Every settings model there is, by the name of its table in the configuration file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.runtime.configuration import PLAIN_TABLES, PREFIX, PROCESS_VARIABLES, Configuration, read_configuration
from libs.runtime.errors import BadInput
from libs.runtime.settings import (
    SERVICE_NAMES,
    PlatformSettings,
    StoreSettings,
    check_names,
    load_settings,
    read_secret_files,
    secret_fields,
    variables_of,
)


class ConsoleSettings(BaseSettings):
    """Settings of the command line itself."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)

    var: Path = Field(Path("var"), description="folder of sessions, models and whatever else is written")


def settings_models() -> dict[str, type[BaseSettings]]:
    """Return the models: the platform's, the store's, the command line's, and one per service."""
    models: dict[str, type[BaseSettings]] = {
        "platform": PlatformSettings,
        "store": StoreSettings,
        "console": ConsoleSettings,
    }
    for service in SERVICE_NAMES:
        module = importlib.import_module(f"services.{service}.settings")
        (models[service],) = (
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, BaseSettings) and kind.__module__ == module.__name__
        )
    return models


def read_checked(environment: Mapping[str, str] | None = None) -> Configuration:
    """Read environment and file, and load every model from them.

    Raises `BadInput` for a name that no model has, with the nearest one that there is, and for a value that is wrong.
    """
    configuration = read_configuration(environment)
    models = settings_models()
    check_names(configuration, models.values())
    configuration = read_secret_files(configuration, models.values())
    for place in configuration.in_file.values():
        table = place.rpartition("[")[2].partition("]")[0]
        if table not in models:
            raise BadInput(f"{configuration.file}: no table [{table}]; there are {', '.join(models)}")
    for kind in models.values():
        load_settings(kind, configuration)
    return configuration


def secret_variables(models: Mapping[str, type[BaseSettings]]) -> frozenset[str]:
    """Return the variables that hold secrets."""
    return frozenset(variables_of(kind)[name] for kind in models.values() for name in secret_fields(kind))


def recorded_variables(configuration: Configuration, models: Mapping[str, type[BaseSettings]]) -> dict[str, str]:
    """Return what was set for services and may be written down: what replay needs to decide the same again."""
    known = {variable for kind in models.values() for variable in variables_of(kind).values()}
    kept = known - secret_variables(models) - PROCESS_VARIABLES
    return {name.upper(): value for name, value in configuration.variables.items() if name.upper() in kept}


__all__ = [
    "PLAIN_TABLES",
    "ConsoleSettings",
    "read_checked",
    "recorded_variables",
    "secret_variables",
    "settings_models",
]
