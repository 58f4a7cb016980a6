"""What the page shows of each event, as plain JSON values: times in ms, money as decimal strings. No I/O."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeAlias

from libs.domain.accounts import AccountState, Position
from libs.domain.control import Alert, AuditEntry, ControlState
from libs.domain.forecasts import Forecast
from libs.domain.numbers import format_decimal
from libs.domain.orders import OrderEvent, OrderIntent, OrderRefused

Row: TypeAlias = dict[str, Any]

_NS_PER_MS = 1_000_000


def to_ms(time_ns: int) -> int:
    """Turn ns since epoch into ms, which a browser's numbers hold exactly."""
    return time_ns // _NS_PER_MS


def text_of(value: Decimal | None) -> str | None:
    """Write a decimal plainly, None as None."""
    return None if value is None else format_decimal(value)


def account_row(state: AccountState) -> Row:
    """Show an account with its leverage: the notional of all positions at mark over equity."""
    notional = sum((abs(held.quantity) * (held.mark_price or held.entry_price) for held in state.positions), Decimal(0))
    leverage = notional / state.equity if state.equity > 0 else None
    return {
        "account": state.account,
        "time_ms": to_ms(state.event_time),
        "equity": text_of(state.equity),
        "wallet_balance": text_of(state.wallet_balance),
        "available_balance": text_of(state.available_balance),
        "initial_margin": text_of(state.initial_margin),
        "notional": text_of(notional),
        "leverage": None if leverage is None else round(float(leverage), 4),
        "open_order_count": state.open_order_count,
        "positions": [position_row(held) for held in state.positions],
    }


def position_row(position: Position) -> Row:
    """Show a position."""
    return {
        "instrument": position.instrument,
        "quantity": text_of(position.quantity),
        "entry_price": text_of(position.entry_price),
        "mark_price": text_of(position.mark_price),
        "unrealised_pnl": text_of(position.unrealised_pnl),
        "realised_pnl": text_of(position.realised_pnl),
        # After what it cost: what the wallet really gained.
        "net_pnl": text_of(position.realised_pnl - position.fees_paid - position.funding_paid),
        "fees_paid": text_of(position.fees_paid),
        "funding_paid": text_of(position.funding_paid),
    }


def forecast_row(forecast: Forecast) -> Row:
    """Show a forecast."""
    return {
        "time_ms": to_ms(forecast.event_time),
        "instrument": forecast.instrument,
        "horizon_ms": to_ms(forecast.horizon_ns),
        "down": forecast.probability_down,
        "flat": forecast.probability_flat,
        "up": forecast.probability_up,
        "confidence": forecast.confidence,
        "coverage": forecast.coverage,
        "expected_return_bps": forecast.expected_return_bps,
        "model": forecast.model_name,
        "version": forecast.model_version,
        "sha256": forecast.model_sha256,
        "role": forecast.role.name,
        "feature_set": forecast.feature_set,
    }


def order_row(event: OrderEvent) -> Row:
    """Show where an order stands."""
    return {
        "time_ms": to_ms(event.event_time),
        "account": event.account,
        "instrument": event.instrument,
        "client_order_id": event.client_order_id,
        "intent_id": event.intent_id,
        "status": event.status.name,
        "is_open": event.status.is_open,
        "side": event.side.name,
        "order_type": event.order_type.name,
        "quantity": text_of(event.quantity),
        "filled_quantity": text_of(event.filled_quantity),
        "price": text_of(event.average_price if event.average_price is not None else event.limit_price),
        "reduce_only": event.reduce_only,
        "reason": event.reason,
    }


def fill_row(event: OrderEvent) -> Row:
    """Show the fill that an order event carries."""
    return {
        "event_id": event.event_id,
        "time_ms": to_ms(event.event_time),
        "account": event.account,
        "instrument": event.instrument,
        "client_order_id": event.client_order_id,
        "side": event.side.name,
        "quantity": text_of(event.last_quantity),
        "price": text_of(event.last_price),
        "fee": text_of(event.fee),
        "liquidity": event.liquidity.name if event.liquidity is not None else None,
        "realised_pnl": text_of(event.realised_pnl),
    }


def refusal_row(event: OrderRefused) -> Row:
    """Show a refusal: what was asked, why not, and the numbers of the checks that failed."""
    intent: OrderIntent = event.intent
    return {
        "event_id": event.event_id,
        "time_ms": to_ms(event.event_time),
        "account": event.account,
        "instrument": event.instrument,
        "strategy": intent.strategy,
        "action": intent.action.name,
        "side": intent.side.name,
        "quantity": text_of(intent.quantity),
        "reasons": list(event.reasons),
        "failed": [
            {"name": check.name, "value": check.value, "limit": check.limit}
            for check in event.checks
            if not check.has_passed
        ],
    }


def control_row(state: ControlState) -> Row:
    """Show the trading state in force."""
    return {
        "account": state.account,
        "state": state.state.name,
        "reason": state.reason,
        "time_ms": to_ms(state.event_time),
        "limits_version": state.limits_version,
        "cause_id": state.cause_id,
    }


def alert_row(alert: Alert) -> Row:
    """Show an alert."""
    return {
        "service": alert.service,
        "name": alert.name,
        "severity": alert.severity.name,
        "message": alert.message,
        "time_ms": to_ms(alert.event_time),
    }


def audit_row(entry: AuditEntry) -> Row:
    """Show who did what."""
    return {
        "event_id": entry.event_id,
        "time_ms": to_ms(entry.event_time),
        "actor": entry.actor,
        "role": entry.role,
        "action": entry.action,
        "target": entry.target,
        "outcome": entry.outcome.name,
        "source_address": entry.source_address,
        "detail": entry.detail,
    }
