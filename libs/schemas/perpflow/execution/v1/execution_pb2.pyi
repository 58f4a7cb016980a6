from libs.schemas.perpflow.market.v1 import market_pb2 as _market_pb2
from libs.schemas.perpflow.strategy.v1 import strategy_pb2 as _strategy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Liquidity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIQUIDITY_UNSPECIFIED: _ClassVar[Liquidity]
    LIQUIDITY_MAKER: _ClassVar[Liquidity]
    LIQUIDITY_TAKER: _ClassVar[Liquidity]

class ReportKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPORT_KIND_UNSPECIFIED: _ClassVar[ReportKind]
    REPORT_KIND_ACCEPTED: _ClassVar[ReportKind]
    REPORT_KIND_REJECTED: _ClassVar[ReportKind]
    REPORT_KIND_FILL: _ClassVar[ReportKind]
    REPORT_KIND_CANCELLED: _ClassVar[ReportKind]
    REPORT_KIND_EXPIRED: _ClassVar[ReportKind]
    REPORT_KIND_UNKNOWN: _ClassVar[ReportKind]
    REPORT_KIND_CANCEL_REJECTED: _ClassVar[ReportKind]
    REPORT_KIND_TRIGGERED: _ClassVar[ReportKind]
    REPORT_KIND_ACCOUNT: _ClassVar[ReportKind]

class OrderStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ORDER_STATUS_UNSPECIFIED: _ClassVar[OrderStatus]
    ORDER_STATUS_SUBMITTING: _ClassVar[OrderStatus]
    ORDER_STATUS_ACCEPTED: _ClassVar[OrderStatus]
    ORDER_STATUS_PARTIALLY_FILLED: _ClassVar[OrderStatus]
    ORDER_STATUS_FILLED: _ClassVar[OrderStatus]
    ORDER_STATUS_CANCELLED: _ClassVar[OrderStatus]
    ORDER_STATUS_REJECTED: _ClassVar[OrderStatus]
    ORDER_STATUS_EXPIRED: _ClassVar[OrderStatus]
    ORDER_STATUS_UNKNOWN: _ClassVar[OrderStatus]

class VenueCallKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VENUE_CALL_KIND_UNSPECIFIED: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_PREPARE: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_READ_CLOCK: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_PLACE: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_CANCEL: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_QUERY: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_LIST_OPEN_ORDERS: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_READ_ACCOUNT: _ClassVar[VenueCallKind]
    VENUE_CALL_KIND_SET_COUNTDOWN: _ClassVar[VenueCallKind]

class CallOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALL_OUTCOME_UNSPECIFIED: _ClassVar[CallOutcome]
    CALL_OUTCOME_DONE: _ClassVar[CallOutcome]
    CALL_OUTCOME_REFUSED: _ClassVar[CallOutcome]
    CALL_OUTCOME_UNAVAILABLE: _ClassVar[CallOutcome]
    CALL_OUTCOME_NOT_SENT: _ClassVar[CallOutcome]
LIQUIDITY_UNSPECIFIED: Liquidity
LIQUIDITY_MAKER: Liquidity
LIQUIDITY_TAKER: Liquidity
REPORT_KIND_UNSPECIFIED: ReportKind
REPORT_KIND_ACCEPTED: ReportKind
REPORT_KIND_REJECTED: ReportKind
REPORT_KIND_FILL: ReportKind
REPORT_KIND_CANCELLED: ReportKind
REPORT_KIND_EXPIRED: ReportKind
REPORT_KIND_UNKNOWN: ReportKind
REPORT_KIND_CANCEL_REJECTED: ReportKind
REPORT_KIND_TRIGGERED: ReportKind
REPORT_KIND_ACCOUNT: ReportKind
ORDER_STATUS_UNSPECIFIED: OrderStatus
ORDER_STATUS_SUBMITTING: OrderStatus
ORDER_STATUS_ACCEPTED: OrderStatus
ORDER_STATUS_PARTIALLY_FILLED: OrderStatus
ORDER_STATUS_FILLED: OrderStatus
ORDER_STATUS_CANCELLED: OrderStatus
ORDER_STATUS_REJECTED: OrderStatus
ORDER_STATUS_EXPIRED: OrderStatus
ORDER_STATUS_UNKNOWN: OrderStatus
VENUE_CALL_KIND_UNSPECIFIED: VenueCallKind
VENUE_CALL_KIND_PREPARE: VenueCallKind
VENUE_CALL_KIND_READ_CLOCK: VenueCallKind
VENUE_CALL_KIND_PLACE: VenueCallKind
VENUE_CALL_KIND_CANCEL: VenueCallKind
VENUE_CALL_KIND_QUERY: VenueCallKind
VENUE_CALL_KIND_LIST_OPEN_ORDERS: VenueCallKind
VENUE_CALL_KIND_READ_ACCOUNT: VenueCallKind
VENUE_CALL_KIND_SET_COUNTDOWN: VenueCallKind
CALL_OUTCOME_UNSPECIFIED: CallOutcome
CALL_OUTCOME_DONE: CallOutcome
CALL_OUTCOME_REFUSED: CallOutcome
CALL_OUTCOME_UNAVAILABLE: CallOutcome
CALL_OUTCOME_NOT_SENT: CallOutcome

class PlaceOrder(_message.Message):
    __slots__ = ("verdict_id", "side", "order_type", "quantity_e8", "time_in_force", "reduce_only", "limit_price_e8", "trigger_price_e8", "callback_rate_e8")
    VERDICT_ID_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ORDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    TIME_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    REDUCE_ONLY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_RATE_E8_FIELD_NUMBER: _ClassVar[int]
    verdict_id: str
    side: _market_pb2.Side
    order_type: _strategy_pb2.OrderType
    quantity_e8: int
    time_in_force: _strategy_pb2.TimeInForce
    reduce_only: bool
    limit_price_e8: int
    trigger_price_e8: int
    callback_rate_e8: int
    def __init__(self, verdict_id: _Optional[str] = ..., side: _Optional[_Union[_market_pb2.Side, str]] = ..., order_type: _Optional[_Union[_strategy_pb2.OrderType, str]] = ..., quantity_e8: _Optional[int] = ..., time_in_force: _Optional[_Union[_strategy_pb2.TimeInForce, str]] = ..., reduce_only: _Optional[bool] = ..., limit_price_e8: _Optional[int] = ..., trigger_price_e8: _Optional[int] = ..., callback_rate_e8: _Optional[int] = ...) -> None: ...

class CancelOrder(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Command(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "instrument", "client_order_id", "intent_id", "place", "cancel")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    INTENT_ID_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    instrument: str
    client_order_id: str
    intent_id: str
    place: PlaceOrder
    cancel: CancelOrder
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., instrument: _Optional[str] = ..., client_order_id: _Optional[str] = ..., intent_id: _Optional[str] = ..., place: _Optional[_Union[PlaceOrder, _Mapping]] = ..., cancel: _Optional[_Union[CancelOrder, _Mapping]] = ...) -> None: ...

class VenueAccount(_message.Message):
    __slots__ = ("wallet_balance_e8", "positions")
    WALLET_BALANCE_E8_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    wallet_balance_e8: int
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    def __init__(self, wallet_balance_e8: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ...) -> None: ...

class VenueReport(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "instrument", "client_order_id", "venue_order_id", "kind", "last_quantity_e8", "last_price_e8", "fee_e8", "liquidity", "venue_trade_id", "reason", "raw", "cause_id", "account_books")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LAST_QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    LAST_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    FEE_E8_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_FIELD_NUMBER: _ClassVar[int]
    VENUE_TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    CAUSE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_BOOKS_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    instrument: str
    client_order_id: str
    venue_order_id: str
    kind: ReportKind
    last_quantity_e8: int
    last_price_e8: int
    fee_e8: int
    liquidity: Liquidity
    venue_trade_id: str
    reason: str
    raw: str
    cause_id: str
    account_books: VenueAccount
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., instrument: _Optional[str] = ..., client_order_id: _Optional[str] = ..., venue_order_id: _Optional[str] = ..., kind: _Optional[_Union[ReportKind, str]] = ..., last_quantity_e8: _Optional[int] = ..., last_price_e8: _Optional[int] = ..., fee_e8: _Optional[int] = ..., liquidity: _Optional[_Union[Liquidity, str]] = ..., venue_trade_id: _Optional[str] = ..., reason: _Optional[str] = ..., raw: _Optional[str] = ..., cause_id: _Optional[str] = ..., account_books: _Optional[_Union[VenueAccount, _Mapping]] = ...) -> None: ...

class OrderEvent(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "instrument", "client_order_id", "venue_order_id", "intent_id", "status", "side", "order_type", "quantity_e8", "filled_quantity_e8", "average_price_e8", "limit_price_e8", "reduce_only", "last_quantity_e8", "last_price_e8", "fee_e8", "liquidity", "realised_pnl_e8", "reason", "report_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    INTENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ORDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    FILLED_QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    LIMIT_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    REDUCE_ONLY_FIELD_NUMBER: _ClassVar[int]
    LAST_QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    LAST_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    FEE_E8_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_FIELD_NUMBER: _ClassVar[int]
    REALISED_PNL_E8_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    instrument: str
    client_order_id: str
    venue_order_id: str
    intent_id: str
    status: OrderStatus
    side: _market_pb2.Side
    order_type: _strategy_pb2.OrderType
    quantity_e8: int
    filled_quantity_e8: int
    average_price_e8: int
    limit_price_e8: int
    reduce_only: bool
    last_quantity_e8: int
    last_price_e8: int
    fee_e8: int
    liquidity: Liquidity
    realised_pnl_e8: int
    reason: str
    report_id: str
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., instrument: _Optional[str] = ..., client_order_id: _Optional[str] = ..., venue_order_id: _Optional[str] = ..., intent_id: _Optional[str] = ..., status: _Optional[_Union[OrderStatus, str]] = ..., side: _Optional[_Union[_market_pb2.Side, str]] = ..., order_type: _Optional[_Union[_strategy_pb2.OrderType, str]] = ..., quantity_e8: _Optional[int] = ..., filled_quantity_e8: _Optional[int] = ..., average_price_e8: _Optional[int] = ..., limit_price_e8: _Optional[int] = ..., reduce_only: _Optional[bool] = ..., last_quantity_e8: _Optional[int] = ..., last_price_e8: _Optional[int] = ..., fee_e8: _Optional[int] = ..., liquidity: _Optional[_Union[Liquidity, str]] = ..., realised_pnl_e8: _Optional[int] = ..., reason: _Optional[str] = ..., report_id: _Optional[str] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("instrument", "quantity_e8", "entry_price_e8", "mark_price_e8", "realised_pnl_e8", "fees_paid_e8", "funding_paid_e8")
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    ENTRY_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    MARK_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    REALISED_PNL_E8_FIELD_NUMBER: _ClassVar[int]
    FEES_PAID_E8_FIELD_NUMBER: _ClassVar[int]
    FUNDING_PAID_E8_FIELD_NUMBER: _ClassVar[int]
    instrument: str
    quantity_e8: int
    entry_price_e8: int
    mark_price_e8: int
    realised_pnl_e8: int
    fees_paid_e8: int
    funding_paid_e8: int
    def __init__(self, instrument: _Optional[str] = ..., quantity_e8: _Optional[int] = ..., entry_price_e8: _Optional[int] = ..., mark_price_e8: _Optional[int] = ..., realised_pnl_e8: _Optional[int] = ..., fees_paid_e8: _Optional[int] = ..., funding_paid_e8: _Optional[int] = ...) -> None: ...

class AccountState(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "sequence", "wallet_balance_e8", "equity_e8", "initial_margin_e8", "available_balance_e8", "positions", "open_order_count", "cause_id")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WALLET_BALANCE_E8_FIELD_NUMBER: _ClassVar[int]
    EQUITY_E8_FIELD_NUMBER: _ClassVar[int]
    INITIAL_MARGIN_E8_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_BALANCE_E8_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    OPEN_ORDER_COUNT_FIELD_NUMBER: _ClassVar[int]
    CAUSE_ID_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    sequence: int
    wallet_balance_e8: int
    equity_e8: int
    initial_margin_e8: int
    available_balance_e8: int
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    open_order_count: int
    cause_id: str
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., sequence: _Optional[int] = ..., wallet_balance_e8: _Optional[int] = ..., equity_e8: _Optional[int] = ..., initial_margin_e8: _Optional[int] = ..., available_balance_e8: _Optional[int] = ..., positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ..., open_order_count: _Optional[int] = ..., cause_id: _Optional[str] = ...) -> None: ...

class VenueCall(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "kind", "order", "booked_quantity_e8", "countdown_ms", "expires_at")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    BOOKED_QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    COUNTDOWN_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    kind: VenueCallKind
    order: Command
    booked_quantity_e8: int
    countdown_ms: int
    expires_at: int
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., kind: _Optional[_Union[VenueCallKind, str]] = ..., order: _Optional[_Union[Command, _Mapping]] = ..., booked_quantity_e8: _Optional[int] = ..., countdown_ms: _Optional[int] = ..., expires_at: _Optional[int] = ...) -> None: ...

class VenueFill(_message.Message):
    __slots__ = ("venue_trade_id", "event_time", "quantity_e8", "price_e8", "fee_e8", "liquidity")
    VENUE_TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    FEE_E8_FIELD_NUMBER: _ClassVar[int]
    LIQUIDITY_FIELD_NUMBER: _ClassVar[int]
    venue_trade_id: str
    event_time: int
    quantity_e8: int
    price_e8: int
    fee_e8: int
    liquidity: Liquidity
    def __init__(self, venue_trade_id: _Optional[str] = ..., event_time: _Optional[int] = ..., quantity_e8: _Optional[int] = ..., price_e8: _Optional[int] = ..., fee_e8: _Optional[int] = ..., liquidity: _Optional[_Union[Liquidity, str]] = ...) -> None: ...

class VenueOrderState(_message.Message):
    __slots__ = ("client_order_id", "venue_order_id", "instrument", "status", "filled_quantity_e8", "event_time", "fills", "is_triggered", "reason", "raw")
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FILLED_QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    FILLS_FIELD_NUMBER: _ClassVar[int]
    IS_TRIGGERED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    client_order_id: str
    venue_order_id: str
    instrument: str
    status: OrderStatus
    filled_quantity_e8: int
    event_time: int
    fills: _containers.RepeatedCompositeFieldContainer[VenueFill]
    is_triggered: bool
    reason: str
    raw: str
    def __init__(self, client_order_id: _Optional[str] = ..., venue_order_id: _Optional[str] = ..., instrument: _Optional[str] = ..., status: _Optional[_Union[OrderStatus, str]] = ..., filled_quantity_e8: _Optional[int] = ..., event_time: _Optional[int] = ..., fills: _Optional[_Iterable[_Union[VenueFill, _Mapping]]] = ..., is_triggered: _Optional[bool] = ..., reason: _Optional[str] = ..., raw: _Optional[str] = ...) -> None: ...

class VenueAnswer(_message.Message):
    __slots__ = ("call_id", "outcome", "reason", "order", "open_order_ids", "snapshot", "clock_correction")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    OPEN_ORDER_IDS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_CORRECTION_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    outcome: CallOutcome
    reason: str
    order: VenueOrderState
    open_order_ids: _containers.RepeatedScalarFieldContainer[str]
    snapshot: VenueAccount
    clock_correction: int
    def __init__(self, call_id: _Optional[str] = ..., outcome: _Optional[_Union[CallOutcome, str]] = ..., reason: _Optional[str] = ..., order: _Optional[_Union[VenueOrderState, _Mapping]] = ..., open_order_ids: _Optional[_Iterable[str]] = ..., snapshot: _Optional[_Union[VenueAccount, _Mapping]] = ..., clock_correction: _Optional[int] = ...) -> None: ...

class HealthCheck(_message.Message):
    __slots__ = ("errors",)
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    errors: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, errors: _Optional[_Iterable[str]] = ...) -> None: ...

class VenueTick(_message.Message):
    __slots__ = ("is_start", "interrupted_call_id", "has_account_update", "health")
    IS_START_FIELD_NUMBER: _ClassVar[int]
    INTERRUPTED_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    HAS_ACCOUNT_UPDATE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    is_start: bool
    interrupted_call_id: str
    has_account_update: bool
    health: HealthCheck
    def __init__(self, is_start: _Optional[bool] = ..., interrupted_call_id: _Optional[str] = ..., has_account_update: _Optional[bool] = ..., health: _Optional[_Union[HealthCheck, _Mapping]] = ...) -> None: ...

class OutboxInput(_message.Message):
    __slots__ = ("event_id", "event_time", "account", "answer", "tick")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    TICK_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_time: int
    account: str
    answer: VenueAnswer
    tick: VenueTick
    def __init__(self, event_id: _Optional[str] = ..., event_time: _Optional[int] = ..., account: _Optional[str] = ..., answer: _Optional[_Union[VenueAnswer, _Mapping]] = ..., tick: _Optional[_Union[VenueTick, _Mapping]] = ...) -> None: ...
