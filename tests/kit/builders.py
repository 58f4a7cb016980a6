"""Builders of domain values, so that a test names only what matters to it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState, Position
from libs.domain.bars import TIMEFRAMES, Bar, bar_event_id
from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.market import BestQuote, ClockTick, MarkPrice, Side, Trade
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.domain.orders import IntentAction, OrderIntent, OrderType, TimeInForce

BTC = "BTCUSDT.BINANCE"
START = 1_767_225_600 * NANOSECONDS
"""2026-01-01T00:00:00Z, ns."""


def a_trade(
    number: int = 1, price: str = "60000", quantity: str = "0.01", seconds: float = 0.0, **changes: Any
) -> Trade:
    """A taker's buy at START + seconds."""
    at = START + round(seconds * NANOSECONDS)
    trade = Trade(
        BTC, f"{BTC}/trade/{number}", at, at, int(Decimal(price) * SCALE), int(Decimal(quantity) * SCALE), False, number
    )
    return replace(trade, **changes)


def a_quote(
    number: int = 1, bid: str = "59999.9", ask: str = "60000", seconds: float = 0.0, **changes: Any
) -> BestQuote:
    """A best quote with one unit on each side."""
    at = START + round(seconds * NANOSECONDS)
    quote = BestQuote(
        BTC, f"{BTC}/quote/{number}", at, at, number, int(Decimal(bid) * SCALE), SCALE, int(Decimal(ask) * SCALE), SCALE
    )
    return replace(quote, **changes)


def a_mark(number: int = 1, price: str = "60000", seconds: float = 0.0, **changes: Any) -> MarkPrice:
    """A mark price with a funding rate of 1 bp."""
    at = START + round(seconds * NANOSECONDS)
    price_e8 = int(Decimal(price) * SCALE)
    mark = MarkPrice(BTC, f"{BTC}/mark/{number}", at, at, price_e8, price_e8, 10_000, START + 8 * 3600 * NANOSECONDS)
    return replace(mark, **changes)


def a_tick(seconds: int = 0) -> ClockTick:
    """A tick of the market's clock."""
    at = START + seconds * NANOSECONDS
    return ClockTick(BTC, f"{BTC}/tick/{at // NANOSECONDS}", at, at)


def a_bar(number: int = 0, close: str = "60000", timeframe: str = "1m", **changes: Any) -> Bar:
    """The bar `number` timeframes after START, flat but for its close."""
    length = TIMEFRAMES[timeframe]
    open_time = START + number * length
    close_e8 = int(Decimal(close) * SCALE)
    bar = Bar(
        BTC,
        bar_event_id(BTC, timeframe, open_time),
        open_time + length,
        timeframe,
        open_time,
        open_time + length,
        close_e8,
        close_e8 + SCALE,
        close_e8 - SCALE,
        close_e8,
        10 * SCALE,
        10 * close_e8,
        5 * SCALE,
        100,
    )
    return replace(bar, **changes)


def a_forecast(number: int = 0, up: float = 0.6, flat: float = 0.2, down: float = 0.2, **changes: Any) -> Forecast:
    """A champion's forecast on the bar `number`."""
    bar = a_bar(number)
    vector_id = f"{bar.event_id}/0123456789ab"
    forecast = Forecast(
        instrument=BTC,
        event_id=f"{vector_id}/test-1",
        event_time=bar.event_time,
        vector_id=vector_id,
        horizon_ns=300 * NANOSECONDS,
        probability_down=down,
        probability_flat=flat,
        probability_up=up,
        confidence=0.4,
        coverage=1.0,
        expected_return_bps=None,
        model_name="test",
        model_version="1",
        model_sha256="0" * 64,
        role=ModelRole.CHAMPION,
        feature_set="core_v1",
        schema_hash="0123456789ab" + "0" * 52,
        reference_price_e8=bar.close_e8,
    )
    return replace(forecast, **changes)


def an_intent(number: int = 1, quantity: str = "0.01", side: Side = Side.BUY, **changes: Any) -> OrderIntent:
    """A market order of the paper account."""
    intent = OrderIntent(
        event_id=f"intent/paper/{number}",
        event_time=START + number * NANOSECONDS,
        account="paper",
        instrument=BTC,
        strategy="test",
        action=IntentAction.PLACE,
        side=side,
        order_type=OrderType.MARKET,
        quantity=Decimal(quantity),
        time_in_force=TimeInForce.GTC,
        reduce_only=False,
        reference_price=Decimal("60000"),
    )
    return replace(intent, **changes)


def an_account(quantity: str = "0", balance: str = "10000", **changes: Any) -> AccountState:
    """A paper account, its position entered and marked at 60000."""
    held = Decimal(quantity)
    price = Decimal(60000) if held else Decimal(0)
    state = AccountState(
        event_id="account/paper/1",
        event_time=START,
        account="paper",
        sequence=1,
        wallet_balance=Decimal(balance),
        equity=Decimal(balance),
        initial_margin=Decimal(0),
        available_balance=Decimal(balance),
        positions=(Position(BTC, held, price, price),) if held else (),
        open_order_count=0,
    )
    return replace(state, **changes)


def a_control(action: ControlAction = ControlAction.HALT, number: int = 1, **changes: Any) -> ControlCommand:
    """A command to every account."""
    command = ControlCommand(f"control/test/{number}", START, ALL_ACCOUNTS, action, "test", "because")
    return replace(command, **changes)
