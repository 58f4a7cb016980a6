"""How a core's state becomes bytes and comes back: each core declares one dataclass, a name and a version.

A class with state extends the dataclass of what it keeps and calls `adopt` to go on from it; what it is configured
with stays its own. The bytes are a line of JSON and, behind it, the arrays that the state holds, as they lie in memory.
Equal states give equal bytes: dicts keep their order, sets are sorted. A state of another name is refused, one of an
older version is brought up step by step or refused, each by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, cast

import orjson
from pydantic import PlainSerializer, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, core_schema, from_json

from libs.domain.validation import place_of

T = TypeVar("T")
Migration: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a state's JSON values of one version, returns those of the next."""

_STATE_KEY = b',"state":'

Words: TypeAlias = Annotated[set[str], PlainSerializer(sorted)]
"""A set of texts, kept in order."""


class StateMismatch(ValueError):
    """A kept state is not one that this core can go on from."""


def adopt(owner: object, state: object) -> None:
    """Give an object every field of a state, whose class it extends."""
    for each in fields(cast(Any, state)):
        setattr(owner, each.name, getattr(state, each.name))


class StateFormat(Generic[T]):
    """The kept form of one core's state. `migrations` are keyed by the version that they take.

    What was kept before versions came is version 0; `read_unversioned` makes JSON values of such bytes.
    """

    def __init__(
        self,
        name: str,
        version: int,
        kind: type[T],
        *,
        migrations: Mapping[int, Migration] | None = None,
        read_unversioned: Callable[[bytes], dict[str, Any]] | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self._adapter = TypeAdapter(kind)
        self._migrations = dict(migrations or {})
        self._read_unversioned = read_unversioned

    def encode(self, state: T) -> bytes:
        """Return the state as bytes."""
        arrays: list[bytes] = []
        body = self._adapter.dump_json(state, context=arrays)
        head = orjson.dumps({"name": self.name, "version": self.version})
        return b"".join((head[:-1], _STATE_KEY, body, b"}\n", *arrays))

    def decode(self, data: bytes) -> T:
        """Return the state that bytes hold. Raises `StateMismatch`."""
        head, _, arrays = data.partition(b"\n")
        name_and_version, _, body = head.partition(_STATE_KEY)
        values: dict[str, Any] = {}
        version = self._read_version(name_and_version + b"}") if body else 0
        if not body:
            values = self._from_before_versions(data)
        elif version < self.version:
            values = from_json(body[:-1])
        try:
            if version == self.version and body:
                return self._adapter.validate_json(body[:-1], context=arrays)
            return self._adapter.validate_python(self._migrate(version, values), context=arrays)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = place_of(first["loc"])
            raise StateMismatch(f"the kept state of {self.name} cannot be read: {where}: {first['msg']}") from error

    def _migrate(self, version: int, values: dict[str, Any]) -> dict[str, Any]:
        while version < self.version:
            migrate = self._migrations.get(version)
            if migrate is None:
                raise StateMismatch(
                    f"the kept state of {self.name} is version {version} and this build reads {self.version}; "
                    "go on with the build that wrote it, or start a new session"
                )
            values = migrate(values)
            version += 1
        return values

    def _read_version(self, head: bytes) -> int:
        kept = orjson.loads(head)
        if kept["name"] != self.name:
            raise StateMismatch(f"the kept state is of {kept['name']}, not of {self.name}")
        version: int = kept["version"]
        if version > self.version:
            raise StateMismatch(
                f"the kept state of {self.name} is version {version}, newer than the {self.version} that this build "
                "reads; go on with the build that wrote it"
            )
        return version

    def _from_before_versions(self, data: bytes) -> dict[str, Any]:
        if self._read_unversioned is None:
            raise StateMismatch(
                f"the kept state of {self.name} is of a build before states had versions and this one cannot read it; "
                "go on with the build that wrote it, or start a new session"
            )
        try:
            return self._read_unversioned(data)
        except (ValueError, KeyError, TypeError) as error:
            raise StateMismatch(f"the kept bytes are no state of {self.name}: {error}") from error


def describe_state(data: bytes) -> dict[str, Any] | None:
    """Return the plain values of any core's kept state, its arrays as lists, records by their fields' names.

    None where the bytes are not of this form.
    """
    head, _, arrays = data.partition(b"\n")
    if _STATE_KEY not in head:
        return None
    described: dict[str, Any] = _with_arrays(orjson.loads(head), arrays)
    return described


_ARRAY_KEYS = {"dtype", "shape", "at"}


def _with_arrays(value: Any, arrays: bytes) -> Any:
    if isinstance(value, list):
        return [_with_arrays(each, arrays) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) != _ARRAY_KEYS:
        return {name: _with_arrays(each, arrays) for name, each in value.items()}
    import numpy as np

    dtype = np.lib.format.descr_to_dtype(_as_descr(value["dtype"]))
    kept = np.frombuffer(arrays, dtype, int(np.prod(value["shape"])), value["at"]).reshape(value["shape"])
    return _plain(kept)


def _as_descr(descr: Any) -> Any:
    if isinstance(descr, str):
        return descr
    return [tuple(_as_descr(part) if isinstance(part, list) and place == 1 else _as_shape(part)
                  for place, part in enumerate(field)) for field in descr]  # fmt: skip


def _as_shape(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part


def _plain(kept: Any) -> Any:
    if kept.dtype.names is None:
        return kept.tolist()
    if kept.shape:
        return [_plain(each) for each in kept]
    import numpy as np

    return {name: _plain(np.asarray(kept[name])) for name in kept.dtype.names}


class ArrayOf:
    """Marks a field that is a numpy array of one dtype: ``Annotated[npt.NDArray[np.void], ArrayOf(RECORD)]``.

    Kept as it lies in memory; records with other fields are refused.
    """

    def __init__(self, dtype: Any) -> None:
        # Here and below: who keeps no array needs no numpy.
        import numpy as np

        self._dtype = np.dtype(dtype)

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        """Tell pydantic how to keep and read the array."""
        return core_schema.with_info_plain_validator_function(
            self._read,
            serialization=core_schema.plain_serializer_function_ser_schema(self._keep, info_arg=True),
        )

    def _describe(self) -> Any:
        import numpy as np

        # A tuple would come back from JSON as a list.
        return orjson.loads(orjson.dumps(np.lib.format.dtype_to_descr(self._dtype)))

    def _keep(self, array: Any, info: Any) -> dict[str, Any]:
        import numpy as np

        arrays: list[bytes] = info.context
        kept = np.ascontiguousarray(array, dtype=self._dtype).tobytes()
        at = sum(map(len, arrays))
        arrays.append(kept)
        return {"dtype": self._describe(), "shape": array.shape, "at": at}

    def _read(self, value: Any, info: Any) -> Any:
        import numpy as np

        if value["dtype"] != self._describe():
            raise ValueError("it holds records of other fields than this build's")
        shape = tuple(value["shape"])
        count = int(np.prod(shape))
        return np.frombuffer(info.context, self._dtype, count, value["at"]).reshape(shape).copy()
