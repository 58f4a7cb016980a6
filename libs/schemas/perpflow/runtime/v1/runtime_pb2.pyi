from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InputRun(_message.Message):
    __slots__ = ("topic", "partition", "first_offset", "next_offset", "own_producer", "own_records")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    FIRST_OFFSET_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    OWN_PRODUCER_FIELD_NUMBER: _ClassVar[int]
    OWN_RECORDS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    own_producer: str
    own_records: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., first_offset: _Optional[int] = ..., next_offset: _Optional[int] = ..., own_producer: _Optional[str] = ..., own_records: _Optional[int] = ...) -> None: ...

class JournalEntry(_message.Message):
    __slots__ = ("service", "runs")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    service: str
    runs: _containers.RepeatedCompositeFieldContainer[InputRun]
    def __init__(self, service: _Optional[str] = ..., runs: _Optional[_Iterable[_Union[InputRun, _Mapping]]] = ...) -> None: ...

class InputPosition(_message.Message):
    __slots__ = ("topic", "partition", "next_offset")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    next_offset: int
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., next_offset: _Optional[int] = ...) -> None: ...

class SeenIds(_message.Message):
    __slots__ = ("topic", "partition", "event_ids")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    EVENT_IDS_FIELD_NUMBER: _ClassVar[int]
    topic: str
    partition: int
    event_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, topic: _Optional[str] = ..., partition: _Optional[int] = ..., event_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class CoreSnapshot(_message.Message):
    __slots__ = ("service", "core", "positions", "journal_next_offset", "seen", "outputs", "own_positions")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    CORE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    OWN_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    service: str
    core: bytes
    positions: _containers.RepeatedCompositeFieldContainer[InputPosition]
    journal_next_offset: int
    seen: _containers.RepeatedCompositeFieldContainer[SeenIds]
    outputs: _containers.RepeatedCompositeFieldContainer[InputPosition]
    own_positions: _containers.RepeatedCompositeFieldContainer[InputPosition]
    def __init__(self, service: _Optional[str] = ..., core: _Optional[bytes] = ..., positions: _Optional[_Iterable[_Union[InputPosition, _Mapping]]] = ..., journal_next_offset: _Optional[int] = ..., seen: _Optional[_Iterable[_Union[SeenIds, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[InputPosition, _Mapping]]] = ..., own_positions: _Optional[_Iterable[_Union[InputPosition, _Mapping]]] = ...) -> None: ...

class SourceCursor(_message.Message):
    __slots__ = ("service", "cursor")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    service: str
    cursor: bytes
    def __init__(self, service: _Optional[str] = ..., cursor: _Optional[bytes] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("service", "reason", "source_topic", "source_partition", "source_offset", "key", "payload")
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TOPIC_FIELD_NUMBER: _ClassVar[int]
    SOURCE_PARTITION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    service: str
    reason: str
    source_topic: str
    source_partition: int
    source_offset: int
    key: bytes
    payload: bytes
    def __init__(self, service: _Optional[str] = ..., reason: _Optional[str] = ..., source_topic: _Optional[str] = ..., source_partition: _Optional[int] = ..., source_offset: _Optional[int] = ..., key: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...
