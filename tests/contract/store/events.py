"""One event of every kind with every field set, and one with every optional field left out."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import numpy as np

from libs.domain.accounts import AccountState, Position, VenueAccount, VenuePosition
from libs.domain.bars import Bar
from libs.domain.control import (
    Alert,
    ControlAction,
    ControlCommand,
    ControlState,
    Severity,
    TradingState,
)
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    Liquidation,
    MarkPrice,
    OpenInterest,
    Side,
    Trade,
)
from libs.domain.orders import (
    CancelOrder,
    CheckResult,
    IntentAction,
    Liquidity,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    OrderType,
    Origin,
    PlaceOrder,
    ReportKind,
    TimeInForce,
    VenueReport,
)
from libs.store.tables import EVENT_TABLES
from libs.wire.records import DeadLetter, JournalEntry
from tests.kit.examples import make_example

BTC = "BTCUSDT.BINANCE"
AT = 1_723_075_200_123_456_789
D = Decimal
_BOOK = ((6_180_030_000_000, 6_180_020_000_000), (1, 2**62), (6_180_040_000_000,), (3,))
_CHECKS = (CheckResult("max_leverage", True, "1.5", "3"), CheckResult("price_collar_bps", False, "120", "100"))

INTENT = OrderIntent(
    *("intent/1", AT, "main", BTC, "threshold", IntentAction.PLACE, Side.BUY, OrderType.STOP_MARKET, D("0.125")),
    *(TimeInForce.GTC, False),
    *(D("61800.1"), D("61700"), D("0.01"), D("61799.99999999")),
    0.75,
    "pf-x",
    "why",
    ("f/1", "b/1"),
)
BAR = Bar(
    *(BTC, f"{BTC}/1m/0", 60_000_000_000, "1m", 0, 60_000_000_000, 1, 4, 1, 3, 2**62, 2**62 + 1, 7, 8),
    *(0.1, -0.5, 0.25, 1.0, -3.5, 0.01, 1e-9),
    *(5, 6, -7, AT, 9, 10, 11),
    True,
)
ACCOUNT = AccountState(
    *("account/main/7", AT, "main", 7, D("10000.00000001"), D("10001"), D("5"), D("9996")),
    (Position(BTC, D("-0.5"), D("60000"), D("60001.5"), D("12"), D("0.3"), D("-0.1")), Position("ETHUSDT.BINANCE")),
    *(2, "cause"),
)

_BY_HAND: tuple[Any, ...] = (
    Trade(BTC, "t/1", AT, AT + 1, 6_180_030_000_000, 1, True, 2**62),
    DepthSnapshot(BTC, "s/1", AT, AT + 1, 5, *_BOOK),
    DepthDelta(BTC, "d/1", AT, AT + 1, 5, 6, 4, *_BOOK),
    BestQuote(BTC, "q/1", AT, AT + 1, 9, 1, 2, 3, 4),
    MarkPrice(BTC, "m/1", AT, AT + 1, 5, 6, -100, AT + 8),
    FundingSettled(BTC, "f/1", AT, AT + 1, -100, 5),
    OpenInterest(BTC, "o/1", AT, AT + 1, 2**62),
    Liquidation(BTC, "l/1", AT, AT + 1, Side.SELL, 5, 6),
    ExchangeBar(BTC, "e/1", AT, AT + 1, "1h", AT, AT + 2, 1, 4, 1, 3, 5, 6, 7, 8, False),
    ClockTick(BTC, "c/1", AT, AT + 1),
    BAR,
    FeatureVector(
        *(BTC, "v/1", AT, "b/1", "1m", "starter", "ab" * 32),
        np.array([1.5, -0.0, 1e300, 5e-324], dtype="<f8").tobytes(),
        *(4, 123, True),
    ),
    Forecast(
        *(BTC, "fc/1", AT, "v/1", 300_000_000_000, 0.2, 0.3, 0.5, 0.25, 1.0, -1.5, "starter", "1", "cd" * 32),
        *(ModelRole.SHADOW, "starter", "ab" * 32, 123),
    ),
    INTENT,
    OrderApproved("verdict/intent/1", AT, "main", BTC, "intent/1", INTENT, Origin.RISK, 3, _CHECKS),
    OrderRefused("verdict/intent/2", AT, "main", BTC, "intent/2", INTENT, 3, ("too big", "too late"), _CHECKS),
    PlaceOrder(
        *("place/pf-1", AT, "main", BTC, "pf-1", "intent/1", "verdict/1", Side.SELL, OrderType.LIMIT, D("0.1")),
        *(TimeInForce.GTX, True, D("61800.1"), D("1"), D("0.01")),
    ),
    CancelOrder("cancel/pf-1/intent/2", AT, "main", BTC, "pf-1", "intent/2"),
    VenueReport(
        *("r/1", AT, "main", BTC, "pf-1", "v-1", ReportKind.FILL, D("0.1"), D("61800.1"), D("-0.5"), Liquidity.MAKER),
        *("vt-1", "because", '{"a": 1}', "cause"),
    ),
    OrderEvent(
        *("oe/1", AT, "main", BTC, "pf-1", "v-1", "intent/1", OrderStatus.PARTIALLY_FILLED, Side.BUY, OrderType.LIMIT),
        *(D("0.2"), D("0.1"), D("61800.1"), D("61900"), True, D("0.1"), D("61800.1"), D("0.02"), Liquidity.TAKER),
        *(D("-3.5"), "reason", "r/1"),
    ),
    VenueAccount("va/1", AT, "main", D("10000.00000001"), (VenuePosition(BTC, D("-0.5"), D("60000")),), "control/1"),
    ACCOUNT,
    ControlCommand("cc/1", AT, "*", ControlAction.SET_LIMITS, "page", "test", {"max_leverage": "2", "x": "y"}),
    ControlState("cs/1", AT, "main", TradingState.REDUCING, "test", 4, {"max_leverage": "2"}, "cc/1"),
    Alert("a/1", AT, "risk", "drawdown", Severity.CRITICAL, True, "5 % down"),
)
_KINDS_BY_HAND = {type(event) for event in _BY_HAND} | {JournalEntry, DeadLetter}
FULL_EVENTS: tuple[Any, ...] = (
    *_BY_HAND,
    *(make_example(kind) for kind in EVENT_TABLES if kind not in _KINDS_BY_HAND),
)


def without_optionals(event: Any) -> Any:
    """Set to None, empty or false whatever the type allows to be."""
    changes: dict[str, Any] = {}
    for field in fields(event):
        if "None" in str(field.type):
            changes[field.name] = None
        elif isinstance(getattr(event, field.name), tuple | dict):
            changes[field.name] = type(getattr(event, field.name))()
    if isinstance(event, OrderApproved | OrderRefused):
        changes["intent"] = without_optionals(event.intent)
    return replace(event, **changes)
