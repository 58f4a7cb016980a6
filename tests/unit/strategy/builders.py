"""Builders for strategy's tests: each names only what matters."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState, Position
from libs.domain.bars import Bar, bar_event_id
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.instruments import INSTRUMENTS
from libs.domain.numbers import NANOSECONDS, to_e8
from libs.domain.orders import OrderApproved, OrderEvent, OrderIntent, OrderRefused, OrderStatus, OrderType, Origin
from services.strategy.core import StrategyCore
from services.strategy.core.ema_cross import EmaCross

BTC = "BTCUSDT.BINANCE"
MINUTE = 60 * NANOSECONDS
START = 1_767_225_600 * NANOSECONDS


def a_bar(minute: int, close: str = "60000", *, is_history: bool = False, timeframe: str = "1m") -> Bar:
    """Build the bar that closes `minute` minutes after the start."""
    close_time = START + minute * MINUTE
    price = to_e8(Decimal(close))
    return Bar(
        instrument=BTC,
        event_id=bar_event_id(BTC, timeframe, close_time - MINUTE),
        event_time=close_time,
        timeframe=timeframe,
        open_time=close_time - MINUTE,
        close_time=close_time,
        open_e8=price,
        high_e8=price,
        low_e8=price,
        close_e8=price,
        volume_e8=to_e8(Decimal(10)),
        quote_volume_e8=None,
        taker_buy_volume_e8=None,
        trade_count=None,
        is_history=is_history,
    )


def a_forecast(
    minute: int,
    *,
    up: float = 0.6,
    down: float = 0.1,
    confidence: float = 0.4,
    price: str = "60000",
    role: ModelRole = ModelRole.CHAMPION,
) -> Forecast:
    """Build the forecast made at the bar that closes `minute` minutes after the start."""
    return Forecast(
        instrument=BTC,
        event_id=f"forecast/{minute}",
        event_time=START + minute * MINUTE,
        vector_id=f"vector/{minute}",
        horizon_ns=5 * MINUTE,
        probability_down=down,
        probability_flat=1.0 - up - down,
        probability_up=up,
        confidence=confidence,
        coverage=1.0,
        expected_return_bps=None,
        model_name="m",
        model_version="1",
        model_sha256="0" * 64,
        role=role,
        feature_set="core_v1",
        schema_hash="0" * 64,
        reference_price_e8=to_e8(Decimal(price)),
    )


def an_account(sequence: int, quantity: str = "0", *, cause_id: str = "", minute: int = 0) -> AccountState:
    """Build the account's state number `sequence`."""
    return AccountState(
        event_id=f"account/paper/{sequence}",
        event_time=START + minute * MINUTE,
        account="paper",
        sequence=sequence,
        wallet_balance=Decimal(10000),
        equity=Decimal(10000),
        initial_margin=Decimal(0),
        available_balance=Decimal(10000),
        positions=(Position(BTC, quantity=Decimal(quantity)),),
        open_order_count=0,
        cause_id=cause_id,
    )


def an_approval(intent: OrderIntent) -> OrderApproved:
    """Approve an intent."""
    return OrderApproved(
        event_id=f"verdict/{intent.event_id}",
        event_time=intent.event_time,
        account=intent.account,
        instrument=intent.instrument,
        intent_id=intent.event_id,
        intent=intent,
        origin=Origin.STRATEGY,
        limits_version=1,
        checks=(),
    )


def a_refusal(intent: OrderIntent) -> OrderRefused:
    """Refuse an intent."""
    return OrderRefused(
        event_id=f"verdict/{intent.event_id}",
        event_time=intent.event_time,
        account=intent.account,
        instrument=intent.instrument,
        intent_id=intent.event_id,
        intent=intent,
        limits_version=1,
        reasons=("no",),
        checks=(),
    )


def an_order(
    intent: OrderIntent,
    status: OrderStatus,
    *,
    last: str | None = None,
    filled: str = "0",
    report: str = "report/1",
) -> OrderEvent:
    """Build a step of an intent's order."""
    return OrderEvent(
        event_id=f"order/{report}",
        event_time=intent.event_time,
        account=intent.account,
        instrument=intent.instrument,
        client_order_id="pf-x",
        venue_order_id="1",
        intent_id=intent.event_id,
        status=status,
        side=intent.side,
        order_type=OrderType.MARKET,
        quantity=intent.quantity,
        filled_quantity=Decimal(filled),
        average_price=None,
        limit_price=None,
        reduce_only=intent.reduce_only,
        last_quantity=None if last is None else Decimal(last),
        last_price=None if last is None else Decimal(60000),
        report_id=report,
    )


def a_core(*strategies: Any, model: str = "") -> StrategyCore:
    """Build a core for the paper account that knows the account to be flat."""
    core = StrategyCore(
        account="paper",
        strategies=strategies or (EmaCross(),),
        instruments=INSTRUMENTS,
        model=model,
    )
    core.handle(an_account(0))
    return core
