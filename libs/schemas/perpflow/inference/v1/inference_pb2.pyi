from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_ROLE_UNSPECIFIED: _ClassVar[ModelRole]
    MODEL_ROLE_CHAMPION: _ClassVar[ModelRole]
    MODEL_ROLE_SHADOW: _ClassVar[ModelRole]
MODEL_ROLE_UNSPECIFIED: ModelRole
MODEL_ROLE_CHAMPION: ModelRole
MODEL_ROLE_SHADOW: ModelRole

class Forecast(_message.Message):
    __slots__ = ("event_id", "instrument", "event_time", "vector_id", "horizon_ns", "probability_down", "probability_flat", "probability_up", "confidence", "coverage", "expected_return_bps", "model_name", "model_version", "model_sha256", "role", "feature_set", "schema_hash", "reference_price_e8", "is_incomplete")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    VECTOR_ID_FIELD_NUMBER: _ClassVar[int]
    HORIZON_NS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_DOWN_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FLAT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_UP_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_RETURN_BPS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    IS_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    instrument: str
    event_time: int
    vector_id: str
    horizon_ns: int
    probability_down: float
    probability_flat: float
    probability_up: float
    confidence: float
    coverage: float
    expected_return_bps: float
    model_name: str
    model_version: str
    model_sha256: str
    role: ModelRole
    feature_set: str
    schema_hash: str
    reference_price_e8: int
    is_incomplete: bool
    def __init__(self, event_id: _Optional[str] = ..., instrument: _Optional[str] = ..., event_time: _Optional[int] = ..., vector_id: _Optional[str] = ..., horizon_ns: _Optional[int] = ..., probability_down: _Optional[float] = ..., probability_flat: _Optional[float] = ..., probability_up: _Optional[float] = ..., confidence: _Optional[float] = ..., coverage: _Optional[float] = ..., expected_return_bps: _Optional[float] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., model_sha256: _Optional[str] = ..., role: _Optional[_Union[ModelRole, str]] = ..., feature_set: _Optional[str] = ..., schema_hash: _Optional[str] = ..., reference_price_e8: _Optional[int] = ..., is_incomplete: _Optional[bool] = ...) -> None: ...
