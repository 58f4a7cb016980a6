"""Golden messages: bytes that were written once and must decode for ever.

`python -m tests.kit.golden` adds messages for kinds that have none yet; it never changes one that is there.
"""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from libs.domain.accounts import VenueAccount, VenuePosition
from libs.domain.bars import BarRevision
from libs.domain.control import Alert, AuditEntry, AuditOutcome, ControlState, Severity, TradingState
from libs.domain.events import Event
from libs.domain.features import FeatureVector
from libs.domain.market import (
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    Liquidation,
    OpenInterest,
    OutsideReading,
    Side,
)
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.domain.orders import (
    CancelOrder,
    CheckResult,
    Liquidity,
    OrderApproved,
    OrderEvent,
    OrderRefused,
    OrderStatus,
    OrderType,
    Origin,
    PlaceOrder,
    ReportKind,
    TimeInForce,
    VenueReport,
    client_order_id_of,
    verdict_id_of,
)
from libs.domain.venues import (
    CallOutcome,
    VenueAccountSnapshot,
    VenueAnswer,
    VenueCall,
    VenueCallKind,
    VenueFill,
    VenueOrderState,
    VenueTick,
)
from libs.wire import decode, encode
from libs.wire.topics import DATA_TOPICS, TOPICS
from tests.kit import builders
from tests.kit.builders import BTC, START
from tests.kit.examples import make_example

FILE = Path(__file__).resolve().parent.parent / "data" / "golden_messages.json"


def examples() -> dict[str, Event]:
    """Return one event of every kind, every optional field filled somewhere."""
    by_hand = _by_hand()
    kinds = {each.kind: each.type for name in DATA_TOPICS for each in TOPICS[name].carries}
    return by_hand | {kind: make_example(kinds[kind]) for kind in kinds if kind not in by_hand}


def _by_hand() -> dict[str, Event]:
    head = (BTC, f"{BTC}/golden/1", START, START + 5_000_000)
    book = ((6_000_000_000_000, 5_999_990_000_000), (SCALE, 2 * SCALE), (6_000_010_000_000,), (0,))
    intent = builders.an_intent(limit_price=Decimal("59999.9"), confidence=0.25, cause_ids=("a", "b"), reason="why")
    client_order_id = client_order_id_of(intent.event_id)
    checks = (CheckResult("max_order_notional_usdt", True, "600", "2000"),)
    verdict = (verdict_id_of(intent.event_id), START, "paper", BTC, intent.event_id, intent)
    return {
        "trade": builders.a_trade(),
        "best_quote": builders.a_quote(),
        "mark_price": builders.a_mark(),
        "clock_tick": builders.a_tick(1),
        "depth_snapshot": DepthSnapshot(*head, 77, *book),
        "depth_delta": DepthDelta(*head, 78, 80, 77, *book),
        "funding_settled": FundingSettled(*head, -1_012, 6_000_000_000_000),
        "open_interest": OpenInterest(*head, 8_000_000_000_000),
        "outside_reading": OutsideReading(*head, "fear_greed_index", START - NANOSECONDS, 74.0),
        "liquidation": Liquidation(*head, Side.SELL, 5_900_000_000_000, SCALE),
        "exchange_bar": ExchangeBar(
            *head, "1m", START, START + 60 * NANOSECONDS, 10, 12, 9, 11, 100, 1_000, 50, 7, is_history=False
        ),
        "bar": builders.a_bar(
            spread_mean_bps=0.5, depth_imbalance_1=-0.25, open_interest_e8=SCALE, funding_rate_e8=0, is_history=True
        ),
        "bar_revision": BarRevision(
            BTC,
            f"{BTC}/1m/{START}/revision/1",
            START,
            f"{BTC}/1m/{START}",
            1,
            (f"{BTC}/gap/trades/7",),
            "1m",
            START,
            START + 60 * NANOSECONDS,
            6 * SCALE,
            7 * SCALE,
            5 * SCALE,
            6 * SCALE,
            SCALE,
            None,
            0,
            3,
            True,
        ),
        "feature_vector": FeatureVector(
            BTC, "v/1", START, "b/1", "1m", "core_v1", "ab" * 32, b"\x00\x00\x00\x00\x00\x00\xf8\x3f", 1, 6 * SCALE
        ),
        "forecast": builders.a_forecast(expected_return_bps=-1.5),
        "order_intent": intent,
        "order_approved": OrderApproved(*verdict, Origin.STRATEGY, 3, checks),
        "order_refused": OrderRefused(*verdict, 3, ("too large",), (replace(checks[0], has_passed=False),)),
        "place_order": PlaceOrder(
            f"place/{client_order_id}",
            START,
            "paper",
            BTC,
            client_order_id,
            intent.event_id,
            verdict[0],
            Side.SELL,
            OrderType.TRAILING_STOP_MARKET,
            Decimal("0.5"),
            TimeInForce.GTC,
            True,
            trigger_price=Decimal("61000"),
            callback_rate=Decimal("0.01"),
        ),
        "cancel_order": CancelOrder("cancel/1", START, "paper", BTC, client_order_id, "intent/2"),
        "venue_report": VenueReport(
            "report/1",
            START,
            "paper",
            BTC,
            client_order_id,
            "9001",
            ReportKind.FILL,
            Decimal("0.5"),
            Decimal("60000.1"),
            Decimal("-0.006"),
            Liquidity.MAKER,
            "55",
            "",
            '{"e":"ORDER_TRADE_UPDATE"}',
            "trade/1",
        ),
        "venue_account": VenueAccount(
            "venue-account/paper/1",
            START,
            "paper",
            Decimal("9876.5"),
            (VenuePosition(BTC, Decimal("-0.5"), Decimal("60000.1")),),
        ),
        "order_event": OrderEvent(
            "order/1",
            START,
            "paper",
            BTC,
            client_order_id,
            "9001",
            intent.event_id,
            OrderStatus.PARTIALLY_FILLED,
            Side.BUY,
            OrderType.LIMIT,
            Decimal(1),
            Decimal("0.5"),
            Decimal("60000.1"),
            Decimal("60001"),
            False,
            Decimal("0.5"),
            Decimal("60000.1"),
            Decimal("0.006"),
            Liquidity.TAKER,
            Decimal("-3.25"),
            "",
            "report/1",
        ),
        "account_state": builders.an_account("-0.75"),
        "control_command": builders.a_control(arguments={"max_leverage": "2", "a": "b"}),
        "control_state": ControlState(
            "state/1", START, "paper", TradingState.REDUCING, "drawdown", 4, {"max_leverage": "2"}, "control/1"
        ),
        "alert": Alert("alert/1", START, "bars", "stale", Severity.CRITICAL, True, "nothing for 10 s"),
        "audit_entry": AuditEntry(
            "audit/1",
            START,
            "monitoring",
            "ada",
            "operator",
            "halt",
            "paper",
            AuditOutcome.DONE,
            "10.0.0.7",
            "news",
            "control/1",
        ),
        **_of_a_venue(),
    }


def _of_a_venue() -> dict[str, Event]:
    order = PlaceOrder(
        "place/pf-1",
        START,
        "paper",
        BTC,
        "pf-1",
        "intent/1",
        "verdict/intent/1",
        Side.BUY,
        OrderType.LIMIT,
        Decimal("0.5"),
        TimeInForce.GTC,
        False,
        limit_price=Decimal("60000.1"),
    )
    fill = VenueFill("55", START + 1, Decimal("0.2"), Decimal("60000.1"), Decimal("-0.006"), Liquidity.MAKER)
    state = VenueOrderState(
        "pf-1",
        "9001",
        BTC,
        OrderStatus.PARTIALLY_FILLED,
        Decimal("0.2"),
        START + 1,
        (fill,),
        is_triggered=True,
        reason="why",
        raw='{"orderId":9001}',
    )
    held = VenueAccountSnapshot(Decimal("9876.5"), (VenuePosition(BTC, Decimal("-0.5"), Decimal("60000.1")),))
    return {
        "venue_call": VenueCall(
            "call/paper/7", START, "paper", VenueCallKind.PLACE, order, Decimal("0.2"), 60_000, START + NANOSECONDS
        ),
        "venue_answer": VenueAnswer(
            "answer/call/paper/7",
            START + 2,
            "paper",
            "call/paper/7",
            CallOutcome.UNAVAILABLE,
            "503 service unavailable",
            state,
            ("pf-1", "pf-2"),
            held,
            -5_000_000,
        ),
        "venue_tick": VenueTick("tick/paper/1", START, "paper", True, "call/paper/7", True, ("risk stands still",)),
    }


def main() -> None:
    """Add what is missing."""
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    for kind, event in examples().items():
        encoded = encode(event)
        kept.setdefault(
            f"{encoded.topic}/{kind}",
            {
                "topic": encoded.topic,
                "payload": encoded.payload.hex(),
                "reads": repr(decode(encoded.topic, encoded.payload)),
            },
        )
    FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
