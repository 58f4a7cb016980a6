"""Builders of what the page is fed with, and a seeded session of plausible events."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from libs.bus.api import Bus, NewRecord, TopicSpec
from libs.domain.accounts import AccountState, Position
from libs.domain.bars import Bar, bar_event_id
from libs.domain.control import Alert, ControlState, Severity, TradingState
from libs.domain.events import Event
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.market import BestQuote, ClockTick, MarkPrice, Side, Trade
from libs.domain.orders import (
    CheckResult,
    IntentAction,
    Liquidity,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    OrderType,
    TimeInForce,
    client_order_id_of,
)
from libs.runtime.records import stamp_headers
from libs.wire import encode
from libs.wire.topics import TOPICS

BTC = "BTCUSDT.BINANCE"
ACCOUNT = "paper"
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
START = 1_767_225_600 * SECOND


def e8(value: float) -> int:
    return round(value * 10) * 10_000_000


def a_trade(**changes: Any) -> Trade:
    values: dict[str, Any] = {
        "instrument": BTC,
        "event_time": START,
        "price_e8": e8(61_800.0),
        "quantity_e8": 5_000_000,
        "is_buyer_maker": False,
        "venue_trade_id": 1,
    } | changes
    values.setdefault("received_time", values["event_time"])
    values.setdefault("event_id", f"{values['instrument']}/trade/{values['venue_trade_id']}")
    return Trade(**values)


def a_tick(at: int = START) -> ClockTick:
    return ClockTick(BTC, f"{BTC}/tick/{at // SECOND}", at, at)


def a_mark(at: int = START, price: float = 61_800.0, **changes: Any) -> MarkPrice:
    values: dict[str, Any] = {
        "instrument": BTC,
        "event_id": f"{BTC}/mark/{at}",
        "event_time": at,
        "received_time": at,
        "mark_price_e8": e8(price),
        "index_price_e8": e8(price),
        "funding_rate_e8": 10_000,
        "next_funding_time": START + 8 * 60 * MINUTE,
    }
    return MarkPrice(**values | changes)


def a_quote(at: int = START, price: float = 61_800.0, update_id: int = 1) -> BestQuote:
    return BestQuote(BTC, f"{BTC}/quote/{update_id}", at, at, update_id, e8(price), 2 * 10**8, e8(price + 0.1), 10**8)


def a_bar(minute: int = 0, close: float = 61_800.0, **changes: Any) -> Bar:
    open_time = START + minute * MINUTE
    opened = changes.pop("opened", close)
    timeframe = changes.get("timeframe", "1m")
    values: dict[str, Any] = {
        "instrument": BTC,
        "event_id": bar_event_id(BTC, timeframe, open_time),
        "event_time": open_time + MINUTE,
        "timeframe": timeframe,
        "open_time": open_time,
        "close_time": open_time + MINUTE,
        "open_e8": e8(opened),
        "high_e8": e8(max(opened, close)),
        "low_e8": e8(min(opened, close)),
        "close_e8": e8(close),
        "volume_e8": 12 * 10**8,
        "quote_volume_e8": 741_600 * 10**8,
        "taker_buy_volume_e8": 7 * 10**8,
        "trade_count": 120,
    }
    return Bar(**values | changes)


def a_forecast(minute: int = 0, down: float = 0.2, flat: float = 0.3, **changes: Any) -> Forecast:
    at = START + minute * MINUTE
    values: dict[str, Any] = {
        "instrument": BTC,
        "event_id": f"forecast/{minute}",
        "event_time": at,
        "vector_id": "v",
        "horizon_ns": 15 * MINUTE,
        "probability_down": down,
        "probability_flat": flat,
        "probability_up": 1 - down - flat,
        "confidence": 0.21,
        "coverage": 0.97,
        "expected_return_bps": 2.4,
        "model_name": "starter",
        "model_version": "1",
        "model_sha256": "ab" * 32,
        "role": ModelRole.CHAMPION,
        "feature_set": "standard",
        "schema_hash": "cd" * 32,
        "reference_price_e8": e8(61_800.0),
    }
    return Forecast(**values | changes)


def an_account(sequence: int = 1, at: int = START, equity: str = "10000", **changes: Any) -> AccountState:
    values: dict[str, Any] = {
        "event_id": f"account/{ACCOUNT}/{sequence}",
        "event_time": at,
        "account": ACCOUNT,
        "sequence": sequence,
        "wallet_balance": Decimal("10000"),
        "equity": Decimal(equity),
        "initial_margin": Decimal(0),
        "available_balance": Decimal("10000"),
        "positions": (),
        "open_order_count": 0,
    }
    return AccountState(**values | changes)


def an_intent(name: str = "1", side: Side = Side.BUY, quantity: str = "0.02", at: int = START) -> OrderIntent:
    return OrderIntent(
        event_id=f"intent/{name}",
        event_time=at,
        account=ACCOUNT,
        instrument=BTC,
        strategy="forecast_threshold",
        action=IntentAction.PLACE,
        side=side,
        order_type=OrderType.MARKET,
        quantity=Decimal(quantity),
        time_in_force=TimeInForce.GTC,
        reduce_only=False,
    )


def a_refusal(name: str = "1", at: int = START, reason: str = "leverage would be 3.42, the limit is 3") -> OrderRefused:
    intent = an_intent(name, at=at)
    checks = (CheckResult("leverage", False, "3.42", "3"), CheckResult("order_notional_usdt", True, "1236", "5000"))
    return OrderRefused(f"verdict/{intent.event_id}", at, ACCOUNT, BTC, intent.event_id, intent, 1, (reason,), checks)


def an_order_event(name: str = "1", status: OrderStatus = OrderStatus.ACCEPTED, **changes: Any) -> OrderEvent:
    values: dict[str, Any] = {
        "event_id": f"order/{name}/{status.name}",
        "event_time": START,
        "account": ACCOUNT,
        "instrument": BTC,
        "client_order_id": client_order_id_of(f"intent/{name}"),
        "venue_order_id": "7",
        "intent_id": f"intent/{name}",
        "status": status,
        "side": Side.BUY,
        "order_type": OrderType.MARKET,
        "quantity": Decimal("0.02"),
        "filled_quantity": Decimal(0),
        "average_price": None,
        "limit_price": None,
        "reduce_only": False,
    }
    return OrderEvent(**values | changes)


def a_fill(name: str = "1", price: str = "61800.1", side: Side = Side.BUY, **changes: Any) -> OrderEvent:
    values: dict[str, Any] = {
        "side": side,
        "filled_quantity": Decimal("0.02"),
        "average_price": Decimal(price),
        "last_quantity": Decimal("0.02"),
        "last_price": Decimal(price),
        "fee": Decimal("0.61800100"),
        "liquidity": Liquidity.TAKER,
        "realised_pnl": Decimal(0),
    }
    return an_order_event(name, OrderStatus.FILLED, **values | changes)


def a_control_state(state: TradingState = TradingState.ACTIVE, **changes: Any) -> ControlState:
    values: dict[str, Any] = {
        "event_id": f"control/{state.name}",
        "event_time": START,
        "account": ACCOUNT,
        "state": state,
        "reason": "start of session",
        "limits_version": 1,
        "limits": {},
        "cause_id": "",
    }
    return ControlState(**values | changes)


def an_alert(name: str = "trading_halted/paper", *, is_raised: bool = True, **changes: Any) -> Alert:
    values: dict[str, Any] = {
        "event_id": f"alert/{name}/{is_raised}",
        "event_time": START,
        "service": "monitoring",
        "name": name,
        "severity": Severity.CRITICAL,
        "is_raised": is_raised,
        "message": "Trading of account paper is halted: test",
    }
    return Alert(**values | changes)


def create_topics(bus: Bus) -> None:
    bus.create_topics(TopicSpec(topic) for topic in TOPICS)


def publish(bus: Bus, events: Iterable[Event], *, now_ns: int = START) -> int:
    """Append events in one transaction, as their services would."""
    records = []
    for event in events:
        encoded = encode(event)
        headers = stamp_headers(encoded.kind, "test", now_ns, None)
        records.append(NewRecord(encoded.topic, encoded.key, encoded.payload, headers))
    producer = bus.producer("test-feed")
    producer.begin()
    producer.send(records)
    producer.commit()
    producer.close()
    return len(records)


def a_session(minutes: int = 240, seed: int = 7) -> Iterator[Event]:
    """Yield a session that a page can show, with a strategy that trades and is refused now and then."""
    rng = random.Random(seed)
    price, drift, sequence = 61_800.0, 0.0, 1
    held = Position(BTC)
    wallet = Decimal(10_000)
    yield a_control_state()
    yield an_account()
    for minute in range(minutes):
        drift = 0.92 * drift + rng.gauss(0, 6)
        opened, price = price, price + drift + rng.gauss(0, 14)
        reach = abs(rng.gauss(0, 14))
        yield a_bar(
            minute,
            price,
            opened=opened,
            high_e8=e8(max(opened, price) + reach),
            low_e8=e8(min(opened, price) - reach),
            volume_e8=int((8 + abs(price - opened) / 3 + rng.expovariate(0.2)) * 10**8),
        )
        close_time = START + (minute + 1) * MINUTE
        lean = 1 / (1 + math.exp(-drift / 9))
        flat = 0.22 + 0.2 * rng.random()
        yield a_forecast(minute + 1, (1 - lean) * (1 - flat), flat, confidence=abs(lean - 0.5) * 0.9)
        wanted = Decimal("0.02") * (1 if lean > 0.62 else -1 if lean < 0.38 else 0)
        if minute % 9 == 4 and wanted != held.quantity:
            change = wanted - held.quantity
            side = Side.BUY if change > 0 else Side.SELL
            fill_price = Decimal(str(round(price, 1)))
            fee = (abs(change) * fill_price * Decimal("0.0005")).quantize(Decimal("1E-8"))
            held, realised = held.apply_fill(change, fill_price, fee)
            wallet += realised - fee
            name = str(minute)
            shape: dict[str, Any] = {"event_time": close_time + SECOND, "side": side, "quantity": abs(change)}
            yield an_order_event(name, OrderStatus.SUBMITTING, **shape)
            yield a_fill(
                name,
                str(fill_price),
                fee=fee,
                realised_pnl=realised,
                last_quantity=abs(change),
                filled_quantity=abs(change),
                **shape,
            )
        if minute % 41 == 30:
            yield a_refusal(str(minute), close_time)
        if minute % 53 == 40:
            yield a_refusal(f"{minute}c", close_time, "confidence 0.04 is below the least of 0.05")
        for step in range(6):
            sequence += 1
            mark = Decimal(str(round(opened + (price - opened) * (step + 1) / 6, 1)))
            position = Position(
                BTC, held.quantity, held.entry_price, mark, held.realised_pnl, held.fees_paid, held.funding_paid
            )
            margin = (abs(held.quantity) * mark / 3).quantize(Decimal("1E-8"))
            equity = wallet + position.unrealised_pnl
            yield an_account(
                sequence,
                START + minute * MINUTE + step * 10 * SECOND,
                str(equity),
                wallet_balance=wallet,
                initial_margin=margin,
                available_balance=equity - margin,
                positions=(position,),
            )
    at = START + minutes * MINUTE
    yield a_mark(at, price)
    yield a_quote(at, price)
    for second in range(1, 31):
        yield a_trade(event_time=at + second * SECOND, price_e8=e8(price + rng.gauss(0, 5)), venue_trade_id=second)
    yield a_tick(at + 30 * SECOND)
