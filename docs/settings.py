"""Writes settings.md, the reference of every setting, from the settings models: python docs/settings.py"""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from libs.runtime.settings import secret_fields, variables_of
from services.console.registry import settings_models

PAGE = Path(__file__).resolve().parent / "settings.md"
_HEAD = """# Settings

Written by `python docs/settings.py` from the settings models; do not edit it by hand.

A setting comes from, first to last: the command line of `perpflow up`, the environment (`PERPFLOW_...`), the
configuration file, the default. The file is `perpflow.toml` in the working directory, or what `PERPFLOW_CONFIG` names;
an empty `PERPFLOW_CONFIG` means none. It has a table per heading below and a key per setting:

```toml
[platform]
bus = "kafka:localhost:9092"

[risk]
max_leverage = 2.5
```

A name that is none of these is refused with the nearest one that is. A file that holds a secret must be of mode 0600.
A secret may come from a file of its own: the variable with `_FILE` behind its name names it, as container secrets do.
Lists and tables are JSON in the environment: `PERPFLOW_RISK_INSTRUMENTS='["BTCUSDT.BINANCE"]'`. `perpflow config show`
prints what is in force and where it came from, secrets masked; `perpflow config check FILE` says what is wrong with a
file. `PERPFLOW_VAR` is read from the environment alone.

`perpflow up` reads the file and hands each process its own settings and secrets, and no others.
"""


def render() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *(_section(table, kind) for table, kind in settings_models().items())])


def _section(table: str, kind: type[BaseSettings]) -> str:
    meaning = " ".join((kind.__doc__ or "").split())
    lines = [f"## {table}", "", meaning, "", "| key | variable | default | meaning |", "|---|---|---|---|"]
    variables = variables_of(kind)
    secrets = secret_fields(kind)
    for name, field in kind.model_fields.items():
        words = [field.description or "", *(["secret"] if name in secrets else []), _bounds(field)]
        cells = (f"`{name}`", f"`{variables[name]}`", _default(field), "; ".join(word for word in words if word))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, SecretStr) or value is None or value in ("", (), {}) or value is PydanticUndefined:
        return ""
    if isinstance(value, tuple):
        return f"`{', '.join(str(getattr(item, 'path', item)) for item in value)}`"
    return f"`{value}`"


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(limit, key)}"
        for limit in field.metadata
        for key, sign in signs.items()
        if getattr(limit, key, None) is not None
    ]
    return ", ".join(found)


if __name__ == "__main__":
    PAGE.write_text(render())
