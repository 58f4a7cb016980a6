"""Parameters and state that a strategy declares as class attributes: checked, typed, listed, saved by their types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter with its default and its range."""

    default: Any
    minimum: Any = None
    maximum: Any = None
    above: Any = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """Something that a strategy remembers; `initial` is a value or, if callable, makes one."""

    initial: Any


def parameter(
    default: Any, *, minimum: Any = None, maximum: Any = None, above: Any = None, description: str = ""
) -> Any:
    """Declare a parameter: ``bars: int = parameter(20, minimum=2, maximum=500)``. Both bounds are included."""
    return Parameter(default, minimum, maximum, above, description)


def state(initial: Any) -> Any:
    """Declare state: ``highs: list[float] = state(list)``; it is saved and restored by its annotated type."""
    return State(initial)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a class of strategies declares, in order, base classes first."""

    parameters: dict[str, tuple[Parameter, TypeAdapter[Any], Any]]
    state: dict[str, tuple[State, TypeAdapter[Any]]]

    def read_parameters(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return every parameter's value, the default where none was given. Raises ValueError naming the wrong one."""
        unknown = sorted(set(given) - set(self.parameters))
        if unknown:
            raise ValueError(f"there is no parameter {unknown[0]!r}; known: {', '.join(self.parameters)}")
        return {name: self._read(name, given[name]) if name in given else self._read_default(name)
                for name in self.parameters}  # fmt: skip

    def _read_default(self, name: str) -> Any:
        default = self.parameters[name][0].default
        return None if default is None else self._read(name, default)

    def _read(self, name: str, value: Any) -> Any:
        _, adapter, kind = self.parameters[name]
        if isinstance(value, bool) and kind is not bool:
            raise ValueError(f"{name} is {value!r}, must be a {getattr(kind, '__name__', kind)}")
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            raise ValueError(f"{name} is {value!r}: {error.errors()[0]['msg']}") from None

    def make_state(self) -> dict[str, Any]:
        """Return the initial state."""
        return {name: one.initial() if callable(one.initial) else one.initial for name, (one, _) in self.state.items()}


def declaration_of(kind: type) -> Declaration:
    """Return what a class and its bases declare. Raises TypeError where an annotation is missing."""
    declared = _DECLARATIONS.get(kind)
    if declared is None:
        declared = _DECLARATIONS[kind] = _collect(kind)
    return declared


_DECLARATIONS: dict[type, Declaration] = {}


def _collect(kind: type) -> Declaration:
    hints = get_type_hints(kind)
    parameters: dict[str, tuple[Parameter, TypeAdapter[Any], Any]] = {}
    states: dict[str, tuple[State, TypeAdapter[Any]]] = {}
    for base in reversed(kind.__mro__):
        for name, declared in vars(base).items():
            if not isinstance(declared, Parameter | State):
                continue
            if name not in hints:
                raise TypeError(f"{kind.__name__}.{name} needs a type: {name}: int = ...")
            if isinstance(declared, State):
                states[name] = (declared, TypeAdapter(hints[name]))
                continue
            bounds = {"ge": declared.minimum, "le": declared.maximum, "gt": declared.above}
            ranged = Field(**{key: bound for key, bound in bounds.items() if bound is not None})
            adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, Annotated[hints[name], ranged]))
            parameters[name] = (declared, adapter, hints[name])
    return Declaration(parameters, states)
