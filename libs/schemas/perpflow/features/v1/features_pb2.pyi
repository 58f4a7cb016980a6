from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureVector(_message.Message):
    __slots__ = ("event_id", "instrument", "event_time", "bar_id", "timeframe", "feature_set", "schema_hash", "packed", "known_count", "reference_price_e8", "is_history", "is_incomplete")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    BAR_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEFRAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SET_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_HASH_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    KNOWN_COUNT_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    IS_HISTORY_FIELD_NUMBER: _ClassVar[int]
    IS_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    instrument: str
    event_time: int
    bar_id: str
    timeframe: str
    feature_set: str
    schema_hash: str
    packed: bytes
    known_count: int
    reference_price_e8: int
    is_history: bool
    is_incomplete: bool
    def __init__(self, event_id: _Optional[str] = ..., instrument: _Optional[str] = ..., event_time: _Optional[int] = ..., bar_id: _Optional[str] = ..., timeframe: _Optional[str] = ..., feature_set: _Optional[str] = ..., schema_hash: _Optional[str] = ..., packed: _Optional[bytes] = ..., known_count: _Optional[int] = ..., reference_price_e8: _Optional[int] = ..., is_history: _Optional[bool] = ..., is_incomplete: _Optional[bool] = ...) -> None: ...
