"""Compiles a message's encoder and decoder out of its dataclass's fields and its proto descriptor, once, at import.

The pair is written as Python source, because reading the descriptors for every event would be sixty times slower.
A field `quantity` of type Decimal travels as `quantity_e8`. A dict keyed by `Annotated[tuple[str, int], "topic",
"partition"]` travels as entries sorted by their key, which have one further field: the value. A dataclass whose name is
that of a sub-message (an arm of a oneof, mostly) has its own fields there and those that all share in the message
around it. What does not fit is refused with `DeclarationError` when the program starts, never when an event arrives.
"""

from __future__ import annotations

import dataclasses
import linecache
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import IntEnum
from operator import methodcaller
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from libs.domain.numbers import from_e8, to_e8
from libs.wire.errors import DeclarationError, DecodeError, EncodeError, Refusal

# The stubs know two Descriptor types, one of which is the other's implementation.
Descriptor: TypeAlias = Any
FieldDescriptor: TypeAlias = Any

Check: TypeAlias = Callable[[Any], str | None]
"""Looks at a decoded value; returns what is wrong with it, or None."""


class Codec(NamedTuple):
    """How a type becomes bytes, and how its parsed message becomes the type again."""

    kind: type
    arm: str | None
    fields: frozenset[str]
    encode: Callable[[Any], bytes]
    read: Callable[[Any], Any]


def compile_codec(
    kind: type,
    schema: type[Message],
    *,
    required: Sequence[str] = (),
    fixed: Mapping[str, int | str] | None = None,
    check: Check | None = None,
) -> Codec:
    """Compile one dataclass against one proto message.

    `required` fields must not be empty (texts) or must be above 0 (times). `fixed` gives fields of the message that the
    type implies, such as a kind. Raises `DeclarationError` where a field has no counterpart.
    """
    source = _Source(schema.DESCRIPTOR.full_name)
    descriptor = schema.DESCRIPTOR
    arm = arm_of(kind, descriptor)
    if arm is None and descriptor.name != kind.__name__:
        raise DeclarationError(
            f"{descriptor.full_name} is not named {kind.__name__} and has no sub-message of that name"
        )
    placed = place_fields(kind, descriptor, arm)
    constants = dict(fixed or {})
    for name in constants:
        if name not in descriptor.fields_by_name:
            raise DeclarationError(f"{descriptor.full_name} has no field {name}, which {kind.__name__} fixes")
    source.globals |= {
        "Kind": kind,
        "Schema": schema,
        "refuse": _refuse_required,
        "refuse_fixed": _refuse_fixed,
        "Refusal": Refusal,
    }
    _write_encoder(source, placed, arm, constants)
    _write_reader(source, placed, arm, required, constants, check)
    scope = source.execute()
    encode = scope["encode"]

    def encode_checked(value: Any) -> bytes:
        try:
            return encode(value)  # type: ignore[no-any-return]
        except (ValueError, TypeError) as error:
            raise EncodeError(f"{_name_of(kind.__name__, value)}: {error}") from error

    names = frozenset((each.wrapper or each.field).name for each in placed if not each.is_in_arm)
    return Codec(kind, None if arm is None else arm.name, names, encode_checked, scope["read"])


def compile_decoder(schema: type[Message], codecs: Sequence[Codec]) -> Callable[[bytes], Any]:
    """Compile the decoder of a message that carries one of several types, distinguished by the sub-message present.

    Raises `DeclarationError` where two types look alike or a field of the message belongs to none of them.
    """
    name = schema.DESCRIPTOR.name
    readers = {codec.arm: codec.read for codec in codecs}
    if len(readers) != len(codecs):
        kinds = ", ".join(codec.kind.__name__ for codec in codecs)
        raise DeclarationError(f"{schema.DESCRIPTOR.full_name} cannot tell {kinds} apart")
    parse, pick = schema.FromString, _picker(schema.DESCRIPTOR, [arm for arm in readers if arm is not None])

    def decode(payload: bytes) -> Any:
        try:
            message = parse(payload)
        except ProtobufError as error:
            raise DecodeError(f"not a {name}: {error}") from error
        try:
            reader = readers.get(pick(message))
            if reader is None:
                raise Refusal("it carries nothing that this version knows")
            return reader(message)
        except Refusal as refusal:
            raise DecodeError(f"{_name_of(name, message)}: {refusal}") from None

    return decode


def _picker(descriptor: Descriptor, arms: Sequence[str]) -> Callable[[Any], str | None]:
    """Return the function that says which arm a message has, None for none."""
    if not arms:
        return lambda _: None
    choice = descriptor.fields_by_name[arms[0]].containing_oneof
    if choice is not None:
        return methodcaller("WhichOneof", choice.name)
    return lambda message: next((arm for arm in arms if message.HasField(arm)), None)


def demand_all_used(schema: type[Message], codecs: Sequence[Codec], fixed: Sequence[str]) -> None:
    """Raise `DeclarationError` where the message has a field that no type fills.

    A part of a message may be filled in part only: a venue's position has three of a position's fields.
    """
    arms = {codec.arm for codec in codecs}
    taken = {*fixed, *arms}
    for codec in codecs:
        taken |= codec.fields
    unused = [name for name in schema.DESCRIPTOR.fields_by_name if name not in taken]
    if unused:
        kinds = ", ".join(codec.kind.__name__ for codec in codecs)
        raise DeclarationError(f"{schema.DESCRIPTOR.full_name} has {', '.join(unused)}, which {kinds} lacks")


class Placed(NamedTuple):
    """A field of the dataclass and where the message keeps it."""

    name: str
    hint: Any
    is_optional: bool
    field: FieldDescriptor
    is_in_arm: bool
    wrapper: FieldDescriptor | None

    def path(self, target: str) -> str:
        """Return the expression of the message that has the field."""
        return f"{target}.{self.wrapper.name}" if self.wrapper is not None else target

    def presence(self, target: str) -> str:
        """Return the expression that says whether an optional field was sent."""
        return f'{target}.HasField("{(self.wrapper or self.field).name}")'


class _Source:
    """Source text with the names it needs, compiled so that tracebacks show its lines."""

    def __init__(self, name: str) -> None:
        self._file = f"<codec of {name}>"
        self.lines: list[str] = []
        self.globals: dict[str, Any] = {"from_e8": from_e8, "to_e8": to_e8, "absent": _refuse_absent}

    def name(self, prefix: str, value: Any) -> str:
        """Return the name by which the source may call a value."""
        name = f"{prefix}_{value.__name__}"
        self.globals.setdefault(name, value)
        return name

    def execute(self) -> dict[str, Any]:
        text = "\n".join(self.lines) + "\n"
        file = f"{self._file[:-1]} {len(linecache.cache)}>"
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec"), self.globals)
        return self.globals


def arm_of(kind: type, descriptor: Descriptor) -> FieldDescriptor | None:
    """Return the sub-message that has the type's name, None where the message itself stands for the type."""
    if descriptor.name == kind.__name__:
        return None
    for field in descriptor.fields:
        if field.message_type is not None and not field.is_repeated and field.message_type.name == kind.__name__:
            return field
    return None


def place_fields(kind: type, descriptor: Descriptor, arm: FieldDescriptor | None) -> list[Placed]:
    hints = get_type_hints(kind, include_extras=True)
    placed = []
    for each in dataclasses.fields(kind):
        hint, is_optional = _without_none(hints[each.name])
        name = f"{each.name}_e8" if hint is Decimal else each.name
        is_in_arm, (field, wrapper) = False, _find_field(descriptor, name)
        if field is None and arm is not None:
            is_in_arm, (field, wrapper) = True, _find_field(arm.message_type, name)
        if field is None:
            where = f"{descriptor.full_name} or its {arm.name}" if arm is not None else descriptor.full_name
            raise DeclarationError(f"{kind.__name__}.{each.name} has no field {name} in {where}")
        _check_types(kind, each.name, hint, is_optional and wrapper is None, field)
        placed.append(Placed(each.name, hint, is_optional, field, is_in_arm, wrapper))
    if arm is not None:
        known = {(each.wrapper or each.field).name for each in placed if each.is_in_arm}
        unused = [name for name in arm.message_type.fields_by_name if name not in known]
        if unused:
            raise DeclarationError(f"{arm.message_type.full_name} has {', '.join(unused)}, which {kind.__name__} lacks")
    return placed


def _find_field(descriptor: Descriptor, name: str) -> tuple[FieldDescriptor | None, FieldDescriptor | None]:
    """Return a field and what wraps it: a list that may be None is in a message of its own, `health_errors` being
    `health.errors`, because a list in proto cannot be absent."""
    if name in descriptor.fields_by_name:
        return descriptor.fields_by_name[name], None
    words = name.split("_")
    for at in range(1, len(words)):
        wrapper = descriptor.fields_by_name.get("_".join(words[:at]))
        if wrapper is not None and wrapper.message_type is not None:
            field = wrapper.message_type.fields_by_name.get("_".join(words[at:]))
            if field is not None and len(wrapper.message_type.fields) == 1:
                return field, wrapper
    return None, None


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, UnionType):
        arguments = [each for each in get_args(hint) if each is not type(None)]
        return arguments[0], True
    return hint, False


def _key_parts(hint: Any) -> tuple[str, ...]:
    """Return the names of the fields that make the key of a dict's entries, none where it is a map or no dict."""
    if get_origin(hint) is not dict or get_origin(get_args(hint)[0]) is not Annotated:
        return ()
    return tuple(get_args(get_args(hint)[0])[1:])


def _value_name(hint: Any, field: FieldDescriptor) -> str:
    """Return the name of the field that holds the value of a dict's entries."""
    return next(str(each.name) for each in field.message_type.fields if each.name not in _key_parts(hint))


def is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, IntEnum)


def _check_types(kind: type, name: str, hint: Any, is_optional: bool, field: FieldDescriptor) -> None:
    where = f"{kind.__name__}.{name}"
    if is_optional and not field.has_presence and not is_enum(hint):
        raise DeclarationError(f"{where} may be None, so {field.full_name} must be optional")
    if (get_origin(hint) in (tuple, dict)) != field.is_repeated:
        raise DeclarationError(f"{where} and {field.full_name} must both repeat or neither")
    if parts := _key_parts(hint):
        names = [] if field.message_type is None else [each.name for each in field.message_type.fields]
        if len(names) != len(parts) + 1 or not set(parts) < set(names):
            raise DeclarationError(f"{where} needs entries of {', '.join(parts)} and a value in {field.full_name}")
    if is_enum(hint):
        if field.enum_type is None:
            raise DeclarationError(f"{where} is an enum, {field.full_name} is not")
        numbers = {value.number: value.name for value in field.enum_type.values}
        for member in hint:
            if not numbers.get(int(member), "").endswith(f"_{member.name}"):
                raise DeclarationError(
                    f"{hint.__name__}.{member.name} = {int(member)} is not in {field.enum_type.name}"
                )


# Writing.


def _write_encoder(
    source: _Source, placed: Sequence[Placed], arm: FieldDescriptor | None, constants: Mapping[str, int | str]
) -> None:
    inside = [each for each in placed if each.is_in_arm]
    outside = [each for each in placed if not each.is_in_arm]
    plain = [each for each in outside if not _is_filled(each)]
    arguments = [f"{each.field.name}={_argument(each, f'value.{each.name}')}" for each in plain]
    arguments += [f"{name}={value!r}" for name, value in constants.items()]
    body = [f"message = Schema({', '.join(arguments)})"]
    for each in outside:
        if _is_filled(each):
            body += _fill_lines(source, each, "message", f"value.{each.name}")
    if arm is not None:
        body += [f"arm = message.{arm.name}", "arm.SetInParent()"]
        for each in inside:
            body += _fill_lines(source, each, "arm", f"value.{each.name}")
    # Maps have no order of their own, and payloads are compared byte for byte.
    has_map = any(get_origin(each.hint) is dict for each in placed)
    body.append(f"return message.SerializeToString({'deterministic=True' if has_map else ''})")
    source.lines += ["def encode(value):", *(f"    {line}" for line in body)]


def _argument(each: Placed, value: str) -> str:
    if each.hint is Decimal:
        return f"None if {value} is None else to_e8({value})" if each.is_optional else f"to_e8({value})"
    if is_enum(each.hint):
        return f"{value} or 0" if each.is_optional else value
    # The constructor leaves out what is None.
    return value


def _fill_lines(source: _Source, each: Placed, target: str, value: str) -> list[str]:
    field, origin = f"{each.path(target)}.{each.field.name}", get_origin(each.hint)
    lines = [f"{each.path(target)}.SetInParent()"] if each.wrapper is not None else []
    if origin is tuple and _is_nested(each.hint):
        fill = _filler(source, get_args(each.hint)[0], each.field.message_type)
        lines += [f"for each in {value}:", f"    {fill}({field}.add(), each)"]
    elif origin is tuple:
        lines.append(f"{field}.extend({value})")
    elif parts := _key_parts(each.hint):
        arguments = [f"{name}={name}" for name in (*parts, _value_name(each.hint, each.field))]
        unpacked = f"({', '.join(parts)}), {_value_name(each.hint, each.field)}"
        lines += [f"for {unpacked} in sorted({value}.items()):", f"    {field}.add({', '.join(arguments)})"]
    elif origin is dict:
        lines.append(f"{field}.update({value})")
    elif _is_nested(each.hint):
        fill = _filler(source, each.hint, each.field.message_type)
        lines += [f"{field}.SetInParent()", f"{fill}({field}, {value})"]
    else:
        lines.append(f"{field} = {f'to_e8({value})' if each.hint is Decimal else value}")
    return [f"if {value} is not None:", *(f"    {line}" for line in lines)] if each.is_optional else lines


def _filler(source: _Source, kind: type, descriptor: Descriptor) -> str:
    name = f"fill_{descriptor.name}_of_{kind.__name__}"
    if name not in source.globals:
        source.globals[name] = None
        arm = arm_of(kind, descriptor)
        body = [] if arm is None else [f"arm = target.{arm.name}", "arm.SetInParent()"]
        for each in place_fields(kind, descriptor, arm):
            body += _fill_lines(source, each, "arm" if each.is_in_arm else "target", f"value.{each.name}")
        source.lines += [f"def {name}(target, value):", *(f"    {line}" for line in body)]
    return name


def _is_filled(each: Placed) -> bool:
    return each.wrapper is not None or _is_nested(each.hint) or bool(_key_parts(each.hint))


def _is_nested(hint: Any) -> bool:
    if get_origin(hint) is tuple:
        hint = get_args(hint)[0]
    return dataclasses.is_dataclass(hint)


# Reading.


def _write_reader(
    source: _Source,
    placed: Sequence[Placed],
    arm: FieldDescriptor | None,
    required: Sequence[str],
    constants: Mapping[str, int | str],
    check: Check | None,
) -> None:
    values = [_read(source, each, "arm" if each.is_in_arm else "message") for each in placed]
    body = []
    for name, expected in constants.items():
        body += [f"if message.{name} != {expected!r}:", f"    refuse_fixed({name!r}, message.{name}, {expected!r})"]
    if arm is not None and any(each.is_in_arm for each in placed):
        body.append(f"arm = message.{arm.name}")
    body += ["value = Kind(", *(f"    {value}," for value in values), ")"]
    hints = {each.name: each.hint for each in placed}
    missing = [f"not value.{name}" if hints[name] is str else f"value.{name} <= 0" for name in required]
    if missing:
        body += [f"if {' or '.join(missing)}:", f"    refuse(value, {tuple(required)!r})"]
    if check is not None:
        source.globals["check"] = check
        body += ["reason = check(value)", "if reason is not None:", "    raise Refusal(reason)"]
    source.lines += ["def read(message):", *(f"    {line}" for line in body), "    return value"]


def _read(source: _Source, each: Placed, target: str) -> str:
    value, hint = f"{each.path(target)}.{each.field.name}", each.hint
    if is_enum(hint):
        members = source.globals.setdefault(f"members_{hint.__name__}", _Members(hint))
        read = f"members_{members.name}[{value}]"
        return f"{read} if {value} else None" if each.is_optional else read
    if get_origin(hint) is tuple and _is_nested(hint):
        reader = _nested_reader(source, get_args(hint)[0], each.field.message_type)
        read = f"tuple([{reader}(each) for each in {value}])"
    elif get_origin(hint) is tuple:
        read = f"tuple({value})"
    elif parts := _key_parts(hint):
        held = f"each.{_value_name(hint, each.field)}"
        if get_origin(get_args(hint)[1]) is tuple:
            held = f"tuple({held})"
        read = f"{{({', '.join(f'each.{name}' for name in parts)}): {held} for each in {value}}}"
    elif get_origin(hint) is dict:
        read = f"dict(sorted({value}.items()))"
    elif _is_nested(hint):
        read = f"{_nested_reader(source, hint, each.field.message_type)}({value})"
        if not each.is_optional:
            return f"{read} if {each.presence(target)} else absent({each.field.name!r})"
    else:
        read = f"from_e8({value})" if hint is Decimal else value
    return f"{read} if {each.presence(target)} else None" if each.is_optional else read


def _nested_reader(source: _Source, kind: type, descriptor: Descriptor) -> str:
    name = f"read_{descriptor.name}_as_{kind.__name__}"
    if name not in source.globals:
        source.globals[name] = None
        arm = arm_of(kind, descriptor)
        values = [
            _read(source, each, "arm" if each.is_in_arm else "part") for each in place_fields(kind, descriptor, arm)
        ]
        built = source.name("Kind", kind)
        body = []
        if arm is not None:
            body += [f'if not part.HasField("{arm.name}"):', f"    absent({arm.name!r})", f"arm = part.{arm.name}"]
        body += [f"return {built}(", *(f"    {value}," for value in values), ")"]
        source.lines += [f"def {name}(part):", *(f"    {line}" for line in body)]
    return name


class _Members(dict[int, IntEnum]):
    """An enum's members by number; zero is unspecified and refused, like every number that is unknown."""

    def __init__(self, kind: type[IntEnum]) -> None:
        super().__init__({int(member): member for member in kind})
        self.name = kind.__name__

    def __missing__(self, number: int) -> IntEnum:
        raise Refusal(f"{self.name} {number} is unspecified or unknown")


def _refuse_absent(name: str) -> Any:
    raise Refusal(f"it has no {name}")


def _refuse_fixed(name: str, found: int | str, expected: int | str) -> None:
    raise Refusal(f"{name} is {found!r}; it must be {expected!r}")


def _refuse_required(value: Any, required: Sequence[str]) -> None:
    for name in required:
        found = getattr(value, name)
        if found == "":
            raise Refusal(f"{name} is empty")
        if not isinstance(found, str) and found <= 0:
            raise Refusal(f"{name} is {found}; it must be above 0")


def _name_of(name: str, value: Any) -> str:
    event_id = getattr(value, "event_id", "")
    return f"{name} {event_id}" if event_id else name
