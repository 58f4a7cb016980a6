from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ControlAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTROL_ACTION_UNSPECIFIED: _ClassVar[ControlAction]
    CONTROL_ACTION_HALT: _ClassVar[ControlAction]
    CONTROL_ACTION_RESUME: _ClassVar[ControlAction]
    CONTROL_ACTION_REDUCE: _ClassVar[ControlAction]
    CONTROL_ACTION_FLATTEN: _ClassVar[ControlAction]
    CONTROL_ACTION_SET_LIMITS: _ClassVar[ControlAction]
    CONTROL_ACTION_PROMOTE_MODEL: _ClassVar[ControlAction]

class TradingState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRADING_STATE_UNSPECIFIED: _ClassVar[TradingState]
    TRADING_STATE_ACTIVE: _ClassVar[TradingState]
    TRADING_STATE_REDUCING: _ClassVar[TradingState]
    TRADING_STATE_HALTED: _ClassVar[TradingState]

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    SEVERITY_INFO: _ClassVar[Severity]
    SEVERITY_WARNING: _ClassVar[Severity]
    SEVERITY_CRITICAL: _ClassVar[Severity]

class AuditOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIT_OUTCOME_UNSPECIFIED: _ClassVar[AuditOutcome]
    AUDIT_OUTCOME_DONE: _ClassVar[AuditOutcome]
    AUDIT_OUTCOME_REFUSED: _ClassVar[AuditOutcome]
CONTROL_ACTION_UNSPECIFIED: ControlAction
CONTROL_ACTION_HALT: ControlAction
CONTROL_ACTION_RESUME: ControlAction
CONTROL_ACTION_REDUCE: ControlAction
CONTROL_ACTION_FLATTEN: ControlAction
CONTROL_ACTION_SET_LIMITS: ControlAction
CONTROL_ACTION_PROMOTE_MODEL: ControlAction
TRADING_STATE_UNSPECIFIED: TradingState
TRADING_STATE_ACTIVE: TradingState
TRADING_STATE_REDUCING: TradingState
TRADING_STATE_HALTED: TradingState
SEVERITY_UNSPECIFIED: Severity
SEVERITY_INFO: Severity
SEVERITY_WARNING: Severity
SEVERITY_CRITICAL: Severity
AUDIT_OUTCOME_UNSPECIFIED: AuditOutcome
AUDIT_OUTCOME_DONE: AuditOutcome
AUDIT_OUTCOME_REFUSED: AuditOutcome

class ControlCommand(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "action", "issued_by", "reason", "arguments")
    class ArgumentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ISSUED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    action: ControlAction
    issued_by: str
    reason: str
    arguments: _containers.ScalarMap[str, str]
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., action: _Optional[_Union[ControlAction, str]] = ..., issued_by: _Optional[str] = ..., reason: _Optional[str] = ..., arguments: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ControlState(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "state", "reason", "limits_version", "limits", "cause_id")
    class LimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LIMITS_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    state: TradingState
    reason: str
    limits_version: int
    limits: _containers.ScalarMap[str, str]
    cause_id: str
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., state: _Optional[_Union[TradingState, str]] = ..., reason: _Optional[str] = ..., limits_version: _Optional[int] = ..., limits: _Optional[_Mapping[str, str]] = ..., cause_id: _Optional[str] = ...) -> None: ...

class Alert(_message.Message):
    __slots__ = ("event_id", "event_time", "service", "name", "severity", "is_raised", "message")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    IS_RAISED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    service: str
    name: str
    severity: Severity
    is_raised: bool
    message: str
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., service: _Optional[str] = ..., name: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., is_raised: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("event_id", "event_time", "service", "actor", "role", "action", "target", "outcome", "source_address", "detail", "command_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    COMMAND_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    service: str
    actor: str
    role: str
    action: str
    target: str
    outcome: AuditOutcome
    source_address: str
    detail: str
    command_id: str
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., service: _Optional[str] = ..., actor: _Optional[str] = ..., role: _Optional[str] = ..., action: _Optional[str] = ..., target: _Optional[str] = ..., outcome: _Optional[_Union[AuditOutcome, str]] = ..., source_address: _Optional[str] = ..., detail: _Optional[str] = ..., command_id: _Optional[str] = ...) -> None: ...
