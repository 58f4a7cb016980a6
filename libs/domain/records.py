"""A quicker initialiser for frozen dataclasses that are made for every event of a market."""

from __future__ import annotations

import dataclasses
import linecache
from typing import Any, TypeVar

T = TypeVar("T")


def quickly_made(kind: type[T]) -> type[T]:
    """Give a frozen dataclass with slots an initialiser of less than half the cost; nothing else changes.

    A frozen dataclass stores each field by a call of ``object.__setattr__``, because its own refuses. Here the new
    instance is of an ordinary class with the same slots while its fields are stored, and of its own class from then on.
    Raises `TypeError` for a class that is none of these, or whose defaults are made by a factory.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    names = [field.name for field in fields]
    is_plain = kind.__bases__ == (object,) and tuple(getattr(kind, "__slots__", ())) == tuple(names)
    if not is_plain or hasattr(kind, "__post_init__"):
        raise TypeError(f"{kind.__name__} is no dataclass with slots of its own alone")
    if any(field.default_factory is not dataclasses.MISSING or not field.init for field in fields):
        raise TypeError(f"{kind.__name__} has a field that is not simply given")
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    arguments = [f"{name}=_default_{name}" if name in defaults else name for name in names]
    lines = [
        f"def __init__(self, {', '.join(arguments)}):",
        "    _set(self, '__class__', _Open)",
        *(f"    self.{name} = {name}" for name in names),
        "    self.__class__ = _Closed",
    ]
    text, file = "\n".join(lines) + "\n", f"<initialiser of {kind.__qualname__}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, Any] = {f"_default_{name}": value for name, value in defaults.items()}
    scope |= {
        "_set": object.__setattr__,
        "_Closed": kind,
        "_Open": type(kind.__name__, (), {"__slots__": tuple(names)}),
    }
    exec(compile(text, file, "exec"), scope)
    made = scope["__init__"]
    made.__qualname__, made.__module__ = f"{kind.__qualname__}.__init__", kind.__module__
    made.__annotations__ = dict(kind.__init__.__annotations__)
    kind.__init__ = made  # type: ignore[method-assign]
    return kind
