from libs.schemas.perpflow.market.v1 import market_pb2 as _market_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OrderType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORDER_TYPE_UNSPECIFIED: _ClassVar[OrderType]
    ORDER_TYPE_MARKET: _ClassVar[OrderType]
    ORDER_TYPE_LIMIT: _ClassVar[OrderType]
    ORDER_TYPE_STOP_MARKET: _ClassVar[OrderType]
    ORDER_TYPE_TAKE_PROFIT_MARKET: _ClassVar[OrderType]
    ORDER_TYPE_TRAILING_STOP_MARKET: _ClassVar[OrderType]

class TimeInForce(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIME_IN_FORCE_UNSPECIFIED: _ClassVar[TimeInForce]
    TIME_IN_FORCE_GTC: _ClassVar[TimeInForce]
    TIME_IN_FORCE_IOC: _ClassVar[TimeInForce]
    TIME_IN_FORCE_FOK: _ClassVar[TimeInForce]
    TIME_IN_FORCE_GTX: _ClassVar[TimeInForce]

class IntentAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTENT_ACTION_UNSPECIFIED: _ClassVar[IntentAction]
    INTENT_ACTION_PLACE: _ClassVar[IntentAction]
    INTENT_ACTION_CANCEL: _ClassVar[IntentAction]
ORDER_TYPE_UNSPECIFIED: OrderType
ORDER_TYPE_MARKET: OrderType
ORDER_TYPE_LIMIT: OrderType
ORDER_TYPE_STOP_MARKET: OrderType
ORDER_TYPE_TAKE_PROFIT_MARKET: OrderType
ORDER_TYPE_TRAILING_STOP_MARKET: OrderType
TIME_IN_FORCE_UNSPECIFIED: TimeInForce
TIME_IN_FORCE_GTC: TimeInForce
TIME_IN_FORCE_IOC: TimeInForce
TIME_IN_FORCE_FOK: TimeInForce
TIME_IN_FORCE_GTX: TimeInForce
INTENT_ACTION_UNSPECIFIED: IntentAction
INTENT_ACTION_PLACE: IntentAction
INTENT_ACTION_CANCEL: IntentAction

class OrderIntent(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "instrument", "strategy", "action", "side", "order_type", "quantity_e8", "time_in_force", "reduce_only", "limit_price_e8", "trigger_price_e8", "callback_rate_e8", "reference_price_e8", "confidence", "target_client_order_id", "reason", "cause_ids")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ORDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    TIME_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    REDUCE_ONLY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_RATE_E8_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAUSE_IDS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    instrument: str
    strategy: str
    action: IntentAction
    side: _market_pb2.Side
    order_type: OrderType
    quantity_e8: int
    time_in_force: TimeInForce
    reduce_only: bool
    limit_price_e8: int
    trigger_price_e8: int
    callback_rate_e8: int
    reference_price_e8: int
    confidence: float
    target_client_order_id: str
    reason: str
    cause_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., instrument: _Optional[str] = ..., strategy: _Optional[str] = ..., action: _Optional[_Union[IntentAction, str]] = ..., side: _Optional[_Union[_market_pb2.Side, str]] = ..., order_type: _Optional[_Union[OrderType, str]] = ..., quantity_e8: _Optional[int] = ..., time_in_force: _Optional[_Union[TimeInForce, str]] = ..., reduce_only: _Optional[bool] = ..., limit_price_e8: _Optional[int] = ..., trigger_price_e8: _Optional[int] = ..., callback_rate_e8: _Optional[int] = ..., reference_price_e8: _Optional[int] = ..., confidence: _Optional[float] = ..., target_client_order_id: _Optional[str] = ..., reason: _Optional[str] = ..., cause_ids: _Optional[_Iterable[str]] = ...) -> None: ...
