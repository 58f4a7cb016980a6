from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class Bar(_message.Message):
    __slots__ = ("event_id", "instrument", "event_time", "timeframe", "open_time", "close_time", "open_e8", "high_e8", "low_e8", "close_e8", "volume_e8", "quote_volume_e8", "taker_buy_volume_e8", "trade_count", "spread_mean_bps", "depth_imbalance_1", "depth_imbalance_5", "depth_imbalance_10", "order_flow_imbalance", "microprice_deviation_bps", "realised_variance", "mark_close_e8", "index_close_e8", "funding_rate_e8", "next_funding_time", "open_interest_e8", "liquidation_buy_e8", "liquidation_sell_e8", "is_history", "is_incomplete")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
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
    SPREAD_MEAN_BPS_FIELD_NUMBER: _ClassVar[int]
    DEPTH_IMBALANCE_1_FIELD_NUMBER: _ClassVar[int]
    DEPTH_IMBALANCE_5_FIELD_NUMBER: _ClassVar[int]
    DEPTH_IMBALANCE_10_FIELD_NUMBER: _ClassVar[int]
    ORDER_FLOW_IMBALANCE_FIELD_NUMBER: _ClassVar[int]
    MICROPRICE_DEVIATION_BPS_FIELD_NUMBER: _ClassVar[int]
    REALISED_VARIANCE_FIELD_NUMBER: _ClassVar[int]
    MARK_CLOSE_E8_FIELD_NUMBER: _ClassVar[int]
    INDEX_CLOSE_E8_FIELD_NUMBER: _ClassVar[int]
    FUNDING_RATE_E8_FIELD_NUMBER: _ClassVar[int]
    NEXT_FUNDING_TIME_FIELD_NUMBER: _ClassVar[int]
    OPEN_INTEREST_E8_FIELD_NUMBER: _ClassVar[int]
    LIQUIDATION_BUY_E8_FIELD_NUMBER: _ClassVar[int]
    LIQUIDATION_SELL_E8_FIELD_NUMBER: _ClassVar[int]
    IS_HISTORY_FIELD_NUMBER: _ClassVar[int]
    IS_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    instrument: str
    event_time: int
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
    spread_mean_bps: float
    depth_imbalance_1: float
    depth_imbalance_5: float
    depth_imbalance_10: float
    order_flow_imbalance: float
    microprice_deviation_bps: float
    realised_variance: float
    mark_close_e8: int
    index_close_e8: int
    funding_rate_e8: int
    next_funding_time: int
    open_interest_e8: int
    liquidation_buy_e8: int
    liquidation_sell_e8: int
    is_history: bool
    is_incomplete: bool
    def __init__(self, event_id: _Optional[str] = ..., instrument: _Optional[str] = ..., event_time: _Optional[int] = ..., timeframe: _Optional[str] = ..., open_time: _Optional[int] = ..., close_time: _Optional[int] = ..., open_e8: _Optional[int] = ..., high_e8: _Optional[int] = ..., low_e8: _Optional[int] = ..., close_e8: _Optional[int] = ..., volume_e8: _Optional[int] = ..., quote_volume_e8: _Optional[int] = ..., taker_buy_volume_e8: _Optional[int] = ..., trade_count: _Optional[int] = ..., spread_mean_bps: _Optional[float] = ..., depth_imbalance_1: _Optional[float] = ..., depth_imbalance_5: _Optional[float] = ..., depth_imbalance_10: _Optional[float] = ..., order_flow_imbalance: _Optional[float] = ..., microprice_deviation_bps: _Optional[float] = ..., realised_variance: _Optional[float] = ..., mark_close_e8: _Optional[int] = ..., index_close_e8: _Optional[int] = ..., funding_rate_e8: _Optional[int] = ..., next_funding_time: _Optional[int] = ..., open_interest_e8: _Optional[int] = ..., liquidation_buy_e8: _Optional[int] = ..., liquidation_sell_e8: _Optional[int] = ..., is_history: _Optional[bool] = ..., is_incomplete: _Optional[bool] = ...) -> None: ...

class BarRevision(_message.Message):
    __slots__ = ("event_id", "instrument", "event_time", "bar_id", "revision", "causes", "timeframe", "open_time", "close_time", "open_e8", "high_e8", "low_e8", "close_e8", "volume_e8", "quote_volume_e8", "taker_buy_volume_e8", "trade_count", "is_incomplete")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    BAR_ID_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CAUSES_FIELD_NUMBER: _ClassVar[int]
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
    IS_INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    instrument: str
    event_time: int
    bar_id: str
    revision: int
    causes: _containers.RepeatedScalarFieldContainer[str]
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
    is_incomplete: bool
    def __init__(self, event_id: _Optional[str] = ..., instrument: _Optional[str] = ..., event_time: _Optional[int] = ..., bar_id: _Optional[str] = ..., revision: _Optional[int] = ..., causes: _Optional[_Iterable[str]] = ..., timeframe: _Optional[str] = ..., open_time: _Optional[int] = ..., close_time: _Optional[int] = ..., open_e8: _Optional[int] = ..., high_e8: _Optional[int] = ..., low_e8: _Optional[int] = ..., close_e8: _Optional[int] = ..., volume_e8: _Optional[int] = ..., quote_volume_e8: _Optional[int] = ..., taker_buy_volume_e8: _Optional[int] = ..., trade_count: _Optional[int] = ..., is_incomplete: _Optional[bool] = ...) -> None: ...
