from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_BUY: _ClassVar[Side]
    SIDE_SELL: _ClassVar[Side]

class GapKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAP_KIND_UNSPECIFIED: _ClassVar[GapKind]
    GAP_KIND_TRADES: _ClassVar[GapKind]
    GAP_KIND_BOOK: _ClassVar[GapKind]

class GapState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAP_STATE_UNSPECIFIED: _ClassVar[GapState]
    GAP_STATE_OPEN: _ClassVar[GapState]
    GAP_STATE_FILLED: _ClassVar[GapState]
    GAP_STATE_LATE: _ClassVar[GapState]
    GAP_STATE_LOST: _ClassVar[GapState]
SIDE_UNSPECIFIED: Side
SIDE_BUY: Side
SIDE_SELL: Side
GAP_KIND_UNSPECIFIED: GapKind
GAP_KIND_TRADES: GapKind
GAP_KIND_BOOK: GapKind
GAP_STATE_UNSPECIFIED: GapState
GAP_STATE_OPEN: GapState
GAP_STATE_FILLED: GapState
GAP_STATE_LATE: GapState
GAP_STATE_LOST: GapState

class MarketEvent(_message.Message):
    __slots__ = ("event_id", "instrument", "event_time", "received_time", "trade", "depth_snapshot", "depth_delta", "best_quote", "mark_price", "funding_settled", "open_interest", "liquidation", "exchange_bar", "clock_tick", "gap", "late_trade", "outside_reading")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_TIME_FIELD_NUMBER: _ClassVar[int]
    TRADE_FIELD_NUMBER: _ClassVar[int]
    DEPTH_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    DEPTH_DELTA_FIELD_NUMBER: _ClassVar[int]
    BEST_QUOTE_FIELD_NUMBER: _ClassVar[int]
    MARK_PRICE_FIELD_NUMBER: _ClassVar[int]
    FUNDING_SETTLED_FIELD_NUMBER: _ClassVar[int]
    OPEN_INTEREST_FIELD_NUMBER: _ClassVar[int]
    LIQUIDATION_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_BAR_FIELD_NUMBER: _ClassVar[int]
    CLOCK_TICK_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    LATE_TRADE_FIELD_NUMBER: _ClassVar[int]
    OUTSIDE_READING_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    instrument: str
    event_time: int
    received_time: int
    trade: Trade
    depth_snapshot: DepthSnapshot
    depth_delta: DepthDelta
    best_quote: BestQuote
    mark_price: MarkPrice
    funding_settled: FundingSettled
    open_interest: OpenInterest
    liquidation: Liquidation
    exchange_bar: ExchangeBar
    clock_tick: ClockTick
    gap: Gap
    late_trade: LateTrade
    outside_reading: OutsideReading
    def __init__(self, event_id: _Optional[str] = ..., instrument: _Optional[str] = ..., event_time: _Optional[int] = ..., received_time: _Optional[int] = ..., trade: _Optional[_Union[Trade, _Mapping]] = ..., depth_snapshot: _Optional[_Union[DepthSnapshot, _Mapping]] = ..., depth_delta: _Optional[_Union[DepthDelta, _Mapping]] = ..., best_quote: _Optional[_Union[BestQuote, _Mapping]] = ..., mark_price: _Optional[_Union[MarkPrice, _Mapping]] = ..., funding_settled: _Optional[_Union[FundingSettled, _Mapping]] = ..., open_interest: _Optional[_Union[OpenInterest, _Mapping]] = ..., liquidation: _Optional[_Union[Liquidation, _Mapping]] = ..., exchange_bar: _Optional[_Union[ExchangeBar, _Mapping]] = ..., clock_tick: _Optional[_Union[ClockTick, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., late_trade: _Optional[_Union[LateTrade, _Mapping]] = ..., outside_reading: _Optional[_Union[OutsideReading, _Mapping]] = ...) -> None: ...

class Trade(_message.Message):
    __slots__ = ("price_e8", "quantity_e8", "is_buyer_maker", "venue_trade_id")
    PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    IS_BUYER_MAKER_FIELD_NUMBER: _ClassVar[int]
    VENUE_TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    price_e8: int
    quantity_e8: int
    is_buyer_maker: bool
    venue_trade_id: int
    def __init__(self, price_e8: _Optional[int] = ..., quantity_e8: _Optional[int] = ..., is_buyer_maker: _Optional[bool] = ..., venue_trade_id: _Optional[int] = ...) -> None: ...

class DepthSnapshot(_message.Message):
    __slots__ = ("last_update_id", "bid_prices_e8", "bid_quantities_e8", "ask_prices_e8", "ask_quantities_e8")
    LAST_UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    BID_PRICES_E8_FIELD_NUMBER: _ClassVar[int]
    BID_QUANTITIES_E8_FIELD_NUMBER: _ClassVar[int]
    ASK_PRICES_E8_FIELD_NUMBER: _ClassVar[int]
    ASK_QUANTITIES_E8_FIELD_NUMBER: _ClassVar[int]
    last_update_id: int
    bid_prices_e8: _containers.RepeatedScalarFieldContainer[int]
    bid_quantities_e8: _containers.RepeatedScalarFieldContainer[int]
    ask_prices_e8: _containers.RepeatedScalarFieldContainer[int]
    ask_quantities_e8: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, last_update_id: _Optional[int] = ..., bid_prices_e8: _Optional[_Iterable[int]] = ..., bid_quantities_e8: _Optional[_Iterable[int]] = ..., ask_prices_e8: _Optional[_Iterable[int]] = ..., ask_quantities_e8: _Optional[_Iterable[int]] = ...) -> None: ...

class DepthDelta(_message.Message):
    __slots__ = ("first_update_id", "final_update_id", "previous_final_update_id", "bid_prices_e8", "bid_quantities_e8", "ask_prices_e8", "ask_quantities_e8")
    FIRST_UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    FINAL_UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FINAL_UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    BID_PRICES_E8_FIELD_NUMBER: _ClassVar[int]
    BID_QUANTITIES_E8_FIELD_NUMBER: _ClassVar[int]
    ASK_PRICES_E8_FIELD_NUMBER: _ClassVar[int]
    ASK_QUANTITIES_E8_FIELD_NUMBER: _ClassVar[int]
    first_update_id: int
    final_update_id: int
    previous_final_update_id: int
    bid_prices_e8: _containers.RepeatedScalarFieldContainer[int]
    bid_quantities_e8: _containers.RepeatedScalarFieldContainer[int]
    ask_prices_e8: _containers.RepeatedScalarFieldContainer[int]
    ask_quantities_e8: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, first_update_id: _Optional[int] = ..., final_update_id: _Optional[int] = ..., previous_final_update_id: _Optional[int] = ..., bid_prices_e8: _Optional[_Iterable[int]] = ..., bid_quantities_e8: _Optional[_Iterable[int]] = ..., ask_prices_e8: _Optional[_Iterable[int]] = ..., ask_quantities_e8: _Optional[_Iterable[int]] = ...) -> None: ...

class BestQuote(_message.Message):
    __slots__ = ("update_id", "bid_price_e8", "bid_quantity_e8", "ask_price_e8", "ask_quantity_e8")
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    BID_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    BID_QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    ASK_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    ASK_QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    update_id: int
    bid_price_e8: int
    bid_quantity_e8: int
    ask_price_e8: int
    ask_quantity_e8: int
    def __init__(self, update_id: _Optional[int] = ..., bid_price_e8: _Optional[int] = ..., bid_quantity_e8: _Optional[int] = ..., ask_price_e8: _Optional[int] = ..., ask_quantity_e8: _Optional[int] = ...) -> None: ...

class MarkPrice(_message.Message):
    __slots__ = ("mark_price_e8", "index_price_e8", "funding_rate_e8", "next_funding_time")
    MARK_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    INDEX_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    FUNDING_RATE_E8_FIELD_NUMBER: _ClassVar[int]
    NEXT_FUNDING_TIME_FIELD_NUMBER: _ClassVar[int]
    mark_price_e8: int
    index_price_e8: int
    funding_rate_e8: int
    next_funding_time: int
    def __init__(self, mark_price_e8: _Optional[int] = ..., index_price_e8: _Optional[int] = ..., funding_rate_e8: _Optional[int] = ..., next_funding_time: _Optional[int] = ...) -> None: ...

class FundingSettled(_message.Message):
    __slots__ = ("funding_rate_e8", "mark_price_e8")
    FUNDING_RATE_E8_FIELD_NUMBER: _ClassVar[int]
    MARK_PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    funding_rate_e8: int
    mark_price_e8: int
    def __init__(self, funding_rate_e8: _Optional[int] = ..., mark_price_e8: _Optional[int] = ...) -> None: ...

class OpenInterest(_message.Message):
    __slots__ = ("open_interest_e8",)
    OPEN_INTEREST_E8_FIELD_NUMBER: _ClassVar[int]
    open_interest_e8: int
    def __init__(self, open_interest_e8: _Optional[int] = ...) -> None: ...

class Liquidation(_message.Message):
    __slots__ = ("side", "price_e8", "quantity_e8")
    SIDE_FIELD_NUMBER: _ClassVar[int]
    PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    side: Side
    price_e8: int
    quantity_e8: int
    def __init__(self, side: _Optional[_Union[Side, str]] = ..., price_e8: _Optional[int] = ..., quantity_e8: _Optional[int] = ...) -> None: ...

class ExchangeBar(_message.Message):
    __slots__ = ("timeframe", "open_time", "close_time", "open_e8", "high_e8", "low_e8", "close_e8", "volume_e8", "quote_volume_e8", "taker_buy_volume_e8", "trade_count", "is_history")
    TIMEFRAME_FIELD_NUMBER: _ClassVar[int]
    OPEN_TIME_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_FIELD_NUMBER: _ClassVar[int]
    OPEN_E8_FIELD_NUMBER: _ClassVar[int]
    HIGH_E8_FIELD_NUMBER: _ClassVar[int]
    LOW_E8_FIELD_NUMBER: _ClassVar[int]
    CLOSE_E8_FIELD_NUMBER: _ClassVar[int]
    VOLUME_E8_FIELD_NUMBER: _ClassVar[int]
    QUOTE_VOLUME_E8_FIELD_NUMBER: _ClassVar[int]
    TAKER_BUY_VOLUME_E8_FIELD_NUMBER: _ClassVar[int]
    TRADE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IS_HISTORY_FIELD_NUMBER: _ClassVar[int]
    timeframe: str
    open_time: int
    close_time: int
    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_e8: int
    quote_volume_e8: int
    taker_buy_volume_e8: int
    trade_count: int
    is_history: bool
    def __init__(self, timeframe: _Optional[str] = ..., open_time: _Optional[int] = ..., close_time: _Optional[int] = ..., open_e8: _Optional[int] = ..., high_e8: _Optional[int] = ..., low_e8: _Optional[int] = ..., close_e8: _Optional[int] = ..., volume_e8: _Optional[int] = ..., quote_volume_e8: _Optional[int] = ..., taker_buy_volume_e8: _Optional[int] = ..., trade_count: _Optional[int] = ..., is_history: _Optional[bool] = ...) -> None: ...

class ClockTick(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Gap(_message.Message):
    __slots__ = ("gap_id", "kind", "state", "from_time", "to_time", "first_number", "last_number", "reason")
    GAP_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_FIELD_NUMBER: _ClassVar[int]
    TO_TIME_FIELD_NUMBER: _ClassVar[int]
    FIRST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LAST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    gap_id: str
    kind: GapKind
    state: GapState
    from_time: int
    to_time: int
    first_number: int
    last_number: int
    reason: str
    def __init__(self, gap_id: _Optional[str] = ..., kind: _Optional[_Union[GapKind, str]] = ..., state: _Optional[_Union[GapState, str]] = ..., from_time: _Optional[int] = ..., to_time: _Optional[int] = ..., first_number: _Optional[int] = ..., last_number: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class LateTrade(_message.Message):
    __slots__ = ("price_e8", "quantity_e8", "is_buyer_maker", "venue_trade_id", "gap_id")
    PRICE_E8_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_E8_FIELD_NUMBER: _ClassVar[int]
    IS_BUYER_MAKER_FIELD_NUMBER: _ClassVar[int]
    VENUE_TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    GAP_ID_FIELD_NUMBER: _ClassVar[int]
    price_e8: int
    quantity_e8: int
    is_buyer_maker: bool
    venue_trade_id: int
    gap_id: str
    def __init__(self, price_e8: _Optional[int] = ..., quantity_e8: _Optional[int] = ..., is_buyer_maker: _Optional[bool] = ..., venue_trade_id: _Optional[int] = ..., gap_id: _Optional[str] = ...) -> None: ...

class OutsideReading(_message.Message):
    __slots__ = ("series", "published_time", "value")
    SERIES_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_TIME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    series: str
    published_time: int
    value: float
    def __init__(self, series: _Optional[str] = ..., published_time: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
