from libs.schemas.perpflow.strategy.v1 import strategy_pb2 as _strategy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Origin(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORIGIN_UNSPECIFIED: _ClassVar[Origin]
    ORIGIN_STRATEGY: _ClassVar[Origin]
    ORIGIN_RISK: _ClassVar[Origin]
ORIGIN_UNSPECIFIED: Origin
ORIGIN_STRATEGY: Origin
ORIGIN_RISK: Origin

class CheckResult(_message.Message):
    __slots__ = ("name", "has_passed", "value", "limit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HAS_PASSED_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    has_passed: bool
    value: str
    limit: str
    def __init__(self, name: _Optional[str] = ..., has_passed: _Optional[bool] = ..., value: _Optional[str] = ..., limit: _Optional[str] = ...) -> None: ...

class OrderApproved(_message.Message):
    __slots__ = ("origin",)
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    origin: Origin
    def __init__(self, origin: _Optional[_Union[Origin, str]] = ...) -> None: ...

class OrderRefused(_message.Message):
    __slots__ = ("reasons",)
    REASONS_FIELD_NUMBER: _ClassVar[int]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, reasons: _Optional[_Iterable[str]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "instrument", "intent_id", "intent", "limits_version", "checks", "approved", "refused")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    INTENT_ID_FIELD_NUMBER: _ClassVar[int]
    INTENT_FIELD_NUMBER: _ClassVar[int]
    LIMITS_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    APPROVED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    instrument: str
    intent_id: str
    intent: _strategy_pb2.OrderIntent
    limits_version: int
    checks: _containers.RepeatedCompositeFieldContainer[CheckResult]
    approved: OrderApproved
    refused: OrderRefused
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., instrument: _Optional[str] = ..., intent_id: _Optional[str] = ..., intent: _Optional[_Union[_strategy_pb2.OrderIntent, _Mapping]] = ..., limits_version: _Optional[int] = ..., checks: _Optional[_Iterable[_Union[CheckResult, _Mapping]]] = ..., approved: _Optional[_Union[OrderApproved, _Mapping]] = ..., refused: _Optional[_Union[OrderRefused, _Mapping]] = ...) -> None: ...
