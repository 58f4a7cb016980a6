"""An example of any message, filled in from the types of its fields, so that a new message needs none by hand."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from enum import IntEnum
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from tests.kit.builders import BTC, START

_TEXTS = {"instrument": BTC, "account": "paper", "timeframe": "1m", "schema_hash": "ab" * 32}


def make_example(kind: type) -> Any:
    """Return a value of a message's type with every field set."""
    hints = get_type_hints(kind)
    return kind(**{field.name: _value(field.name, hints[field.name]) for field in dataclasses.fields(kind)})


def _value(name: str, hint: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return _value(name, next(each for each in get_args(hint) if each is not type(None)))
    if get_origin(hint) is tuple:
        return (_value(name, get_args(hint)[0]),)
    if get_origin(hint) is dict:
        return {name: "1"}
    if hint is str:
        return _TEXTS.get(name, f"{name}/1")
    if hint is int:
        return START if name.endswith("_time") else 6_000_000_000_000 if name.endswith("_e8") else 7
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return list(hint)[-1]
    if dataclasses.is_dataclass(hint):
        return make_example(hint)  # type: ignore[arg-type]
    plain: dict[Any, Any] = {bool: True, float: 0.25, bytes: b"\x00" * 8, Decimal: Decimal("1.25000000")}
    return plain[hint]
