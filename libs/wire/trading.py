"""Intents, verdicts, commands, reports, orders and accounts to bytes and back."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from libs.domain.accounts import AccountState, Position, VenueAccount, VenuePosition
from libs.domain.market import Side
from libs.domain.numbers import from_e8, to_e8
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
from libs.schemas.perpflow.execution.v1 import execution_pb2
from libs.schemas.perpflow.risk.v1 import risk_pb2
from libs.schemas.perpflow.strategy.v1 import strategy_pb2
from libs.wire.errors import DecodeError
from libs.wire.fields import optional_decimal, optional_e8, read_enum, read_message, write_message

# Stands for the instrument in answers on the whole account.
WHOLE_ACCOUNT = "*"


def _intent_message(event: OrderIntent) -> strategy_pb2.OrderIntent:
    return strategy_pb2.OrderIntent(
        event_id=event.event_id,
        event_time=event.event_time,
        account=event.account,
        instrument=event.instrument,
        strategy=event.strategy,
        action=int(event.action),  # type: ignore[arg-type]
        side=int(event.side),  # type: ignore[arg-type]
        order_type=int(event.order_type),  # type: ignore[arg-type]
        quantity_e8=to_e8(event.quantity),
        time_in_force=int(event.time_in_force),  # type: ignore[arg-type]
        reduce_only=event.reduce_only,
        limit_price_e8=optional_e8(event.limit_price),
        trigger_price_e8=optional_e8(event.trigger_price),
        callback_rate_e8=optional_e8(event.callback_rate),
        reference_price_e8=optional_e8(event.reference_price),
        confidence=event.confidence,
        target_client_order_id=event.target_client_order_id,
        reason=event.reason,
        cause_ids=event.cause_ids,
    )


def _intent(message: strategy_pb2.OrderIntent) -> OrderIntent:
    where = message.event_id
    return OrderIntent(
        event_id=where,
        event_time=message.event_time,
        account=message.account,
        instrument=message.instrument,
        strategy=message.strategy,
        action=read_enum(IntentAction, message.action, where),
        side=read_enum(Side, message.side, where),
        order_type=read_enum(OrderType, message.order_type, where),
        quantity=from_e8(message.quantity_e8),
        time_in_force=read_enum(TimeInForce, message.time_in_force, where),
        reduce_only=message.reduce_only,
        limit_price=optional_decimal(message, "limit_price_e8"),
        trigger_price=optional_decimal(message, "trigger_price_e8"),
        callback_rate=optional_decimal(message, "callback_rate_e8"),
        reference_price=optional_decimal(message, "reference_price_e8"),
        confidence=message.confidence if message.HasField("confidence") else None,
        target_client_order_id=message.target_client_order_id,
        reason=message.reason,
        cause_ids=tuple(message.cause_ids),
    )


def encode_order_intent(event: OrderIntent) -> bytes:
    """Write an intent. Raises `EncodeError` where a number has more than eight decimals."""
    return write_message(event, lambda: _intent_message(event))


def decode_order_intent(payload: bytes) -> OrderIntent:
    """Read an intent."""
    return _intent(read_message(strategy_pb2.OrderIntent, payload))


def encode_verdict(event: OrderApproved | OrderRefused) -> bytes:
    """Write a verdict."""

    def make() -> risk_pb2.Verdict:
        message = risk_pb2.Verdict(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            instrument=event.instrument,
            intent_id=event.intent_id,
            intent=_intent_message(event.intent),
            limits_version=event.limits_version,
            checks=[
                risk_pb2.CheckResult(name=c.name, has_passed=c.has_passed, value=c.value, limit=c.limit)
                for c in event.checks
            ],
        )
        if isinstance(event, OrderApproved):
            message.approved.origin = int(event.origin)  # type: ignore[assignment]
        else:
            message.refused.SetInParent()
            message.refused.reasons.extend(event.reasons)
        return message

    return write_message(event, make)


def decode_verdict(payload: bytes) -> OrderApproved | OrderRefused:
    """Read a verdict."""
    message = read_message(risk_pb2.Verdict, payload)
    if not message.intent_id or not message.HasField("intent"):
        raise DecodeError(f"{message.event_id}: a verdict without its intent")
    intent = _intent(message.intent)
    checks = tuple(CheckResult(c.name, c.has_passed, c.value, c.limit) for c in message.checks)
    kind = message.WhichOneof("verdict")
    if kind == "approved":
        return OrderApproved(
            message.event_id,
            message.event_time,
            message.account,
            message.instrument,
            message.intent_id,
            intent,
            read_enum(Origin, message.approved.origin, message.event_id),
            message.limits_version,
            checks,
        )
    if kind == "refused":
        return OrderRefused(
            message.event_id,
            message.event_time,
            message.account,
            message.instrument,
            message.intent_id,
            intent,
            message.limits_version,
            tuple(message.refused.reasons),
            checks,
        )
    raise DecodeError(f"{message.event_id}: a verdict that neither approves nor refuses")


def command_message(event: PlaceOrder | CancelOrder) -> execution_pb2.Command:
    """Return a command's message."""
    message = execution_pb2.Command(
        event_id=event.event_id,
        event_time=event.event_time,
        account=event.account,
        instrument=event.instrument,
        client_order_id=event.client_order_id,
        intent_id=event.intent_id,
    )
    if isinstance(event, CancelOrder):
        message.cancel.SetInParent()
        return message
    message.place.CopyFrom(
        execution_pb2.PlaceOrder(
            verdict_id=event.verdict_id,
            side=int(event.side),  # type: ignore[arg-type]
            order_type=int(event.order_type),  # type: ignore[arg-type]
            quantity_e8=to_e8(event.quantity),
            time_in_force=int(event.time_in_force),  # type: ignore[arg-type]
            reduce_only=event.reduce_only,
            limit_price_e8=optional_e8(event.limit_price),
            trigger_price_e8=optional_e8(event.trigger_price),
            callback_rate_e8=optional_e8(event.callback_rate),
        )
    )
    return message


def encode_command(event: PlaceOrder | CancelOrder) -> bytes:
    """Write a command to the venue."""
    return write_message(event, lambda: command_message(event))


def decode_command(payload: bytes) -> PlaceOrder | CancelOrder:
    """Read a command."""
    return read_command(read_message(execution_pb2.Command, payload))


def read_command(message: execution_pb2.Command) -> PlaceOrder | CancelOrder:
    """Read a command's message, whole or part of another one. Raises `DecodeError`."""
    where = message.event_id
    if not message.client_order_id:
        raise DecodeError(f"{where}: a command without client_order_id")
    kind = message.WhichOneof("command")
    if kind == "cancel":
        return CancelOrder(
            where, message.event_time, message.account, message.instrument, message.client_order_id, message.intent_id
        )
    if kind != "place":
        raise DecodeError(f"{where}: a command that neither places nor cancels")
    place = message.place
    return PlaceOrder(
        event_id=where,
        event_time=message.event_time,
        account=message.account,
        instrument=message.instrument,
        client_order_id=message.client_order_id,
        intent_id=message.intent_id,
        verdict_id=place.verdict_id,
        side=read_enum(Side, place.side, where),
        order_type=read_enum(OrderType, place.order_type, where),
        quantity=from_e8(place.quantity_e8),
        time_in_force=read_enum(TimeInForce, place.time_in_force, where),
        reduce_only=place.reduce_only,
        limit_price=optional_decimal(place, "limit_price_e8"),
        trigger_price=optional_decimal(place, "trigger_price_e8"),
        callback_rate=optional_decimal(place, "callback_rate_e8"),
    )


def encode_venue_report(event: VenueReport) -> bytes:
    """Write what a venue answered."""
    return write_message(
        event,
        lambda: execution_pb2.VenueReport(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            instrument=event.instrument,
            client_order_id=event.client_order_id,
            venue_order_id=event.venue_order_id,
            kind=int(event.kind),  # type: ignore[arg-type]
            last_quantity_e8=optional_e8(event.last_quantity),
            last_price_e8=optional_e8(event.last_price),
            fee_e8=optional_e8(event.fee),
            liquidity=int(event.liquidity or 0),  # type: ignore[arg-type]
            venue_trade_id=event.venue_trade_id,
            reason=event.reason,
            raw=event.raw,
            cause_id=event.cause_id,
        ),
    )


def encode_venue_account(event: VenueAccount) -> bytes:
    """Write an account's books as its venue keeps them."""
    return write_message(
        event,
        lambda: execution_pb2.VenueReport(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            instrument=WHOLE_ACCOUNT,
            kind=execution_pb2.REPORT_KIND_ACCOUNT,
            cause_id=event.cause_id,
            account_books=venue_account_message(event.wallet_balance, event.positions),
        ),
    )


def venue_account_message(wallet_balance: Decimal, positions: Iterable[VenuePosition]) -> execution_pb2.VenueAccount:
    """Return the message of a venue's wallet and positions."""
    return execution_pb2.VenueAccount(
        wallet_balance_e8=to_e8(wallet_balance),
        positions=[
            execution_pb2.Position(
                instrument=held.instrument,
                quantity_e8=to_e8(held.quantity),
                entry_price_e8=to_e8(held.entry_price),
            )
            for held in positions
        ],
    )


def read_venue_positions(message: execution_pb2.VenueAccount, where: str) -> tuple[VenuePosition, ...]:
    """Read the positions of a venue's account. Raises `DecodeError`."""
    positions = []
    for held in message.positions:
        if not held.instrument or not held.quantity_e8 or held.entry_price_e8 <= 0:
            raise DecodeError(f"{where}: a position must have an instrument, a quantity and an entry price")
        positions.append(VenuePosition(held.instrument, from_e8(held.quantity_e8), from_e8(held.entry_price_e8)))
    return tuple(positions)


def decode_report(payload: bytes) -> VenueReport | VenueAccount:
    """Read what a venue answered, on an order or on the account."""
    message = read_message(execution_pb2.VenueReport, payload)
    if message.kind == execution_pb2.REPORT_KIND_ACCOUNT:
        return _venue_account(message)
    return _venue_report(message)


def _venue_account(message: execution_pb2.VenueReport) -> VenueAccount:
    if not message.HasField("account_books"):
        raise DecodeError(f"{message.event_id}: an answer on the account without its books")
    return VenueAccount(
        event_id=message.event_id,
        event_time=message.event_time,
        account=message.account,
        wallet_balance=from_e8(message.account_books.wallet_balance_e8),
        positions=read_venue_positions(message.account_books, message.event_id),
        cause_id=message.cause_id,
    )


def _venue_report(message: execution_pb2.VenueReport) -> VenueReport:
    kind = read_enum(ReportKind, message.kind, message.event_id)
    if kind is ReportKind.FILL and not (
        message.last_quantity_e8 > 0 and message.last_price_e8 > 0 and message.HasField("fee_e8")
    ):
        raise DecodeError(f"{message.event_id}: a fill must have a quantity and a price above 0 and a fee")
    return VenueReport(
        event_id=message.event_id,
        event_time=message.event_time,
        account=message.account,
        instrument=message.instrument,
        client_order_id=message.client_order_id,
        venue_order_id=message.venue_order_id,
        kind=kind,
        last_quantity=optional_decimal(message, "last_quantity_e8"),
        last_price=optional_decimal(message, "last_price_e8"),
        fee=optional_decimal(message, "fee_e8"),
        liquidity=Liquidity(message.liquidity) if message.liquidity else None,
        venue_trade_id=message.venue_trade_id,
        reason=message.reason,
        raw=message.raw,
        cause_id=message.cause_id,
    )


def encode_order_event(event: OrderEvent) -> bytes:
    """Write an order's change of state."""
    return write_message(
        event,
        lambda: execution_pb2.OrderEvent(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            instrument=event.instrument,
            client_order_id=event.client_order_id,
            venue_order_id=event.venue_order_id,
            intent_id=event.intent_id,
            status=int(event.status),  # type: ignore[arg-type]
            side=int(event.side),  # type: ignore[arg-type]
            order_type=int(event.order_type),  # type: ignore[arg-type]
            quantity_e8=to_e8(event.quantity),
            filled_quantity_e8=to_e8(event.filled_quantity),
            average_price_e8=optional_e8(event.average_price),
            limit_price_e8=optional_e8(event.limit_price),
            reduce_only=event.reduce_only,
            last_quantity_e8=optional_e8(event.last_quantity),
            last_price_e8=optional_e8(event.last_price),
            fee_e8=optional_e8(event.fee),
            liquidity=int(event.liquidity or 0),  # type: ignore[arg-type]
            realised_pnl_e8=optional_e8(event.realised_pnl),
            reason=event.reason,
            report_id=event.report_id,
        ),
    )


def decode_order_event(payload: bytes) -> OrderEvent:
    """Read an order's change of state."""
    message = read_message(execution_pb2.OrderEvent, payload)
    where = message.event_id
    return OrderEvent(
        event_id=where,
        event_time=message.event_time,
        account=message.account,
        instrument=message.instrument,
        client_order_id=message.client_order_id,
        venue_order_id=message.venue_order_id,
        intent_id=message.intent_id,
        status=read_enum(OrderStatus, message.status, where),
        side=read_enum(Side, message.side, where),
        order_type=read_enum(OrderType, message.order_type, where),
        quantity=from_e8(message.quantity_e8),
        filled_quantity=from_e8(message.filled_quantity_e8),
        average_price=optional_decimal(message, "average_price_e8"),
        limit_price=optional_decimal(message, "limit_price_e8"),
        reduce_only=message.reduce_only,
        last_quantity=optional_decimal(message, "last_quantity_e8"),
        last_price=optional_decimal(message, "last_price_e8"),
        fee=optional_decimal(message, "fee_e8"),
        liquidity=Liquidity(message.liquidity) if message.liquidity else None,
        realised_pnl=optional_decimal(message, "realised_pnl_e8"),
        reason=message.reason,
        report_id=message.report_id,
    )


def encode_account_state(event: AccountState) -> bytes:
    """Write an account's state."""
    return write_message(
        event,
        lambda: execution_pb2.AccountState(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            sequence=event.sequence,
            wallet_balance_e8=to_e8(event.wallet_balance),
            equity_e8=to_e8(event.equity),
            initial_margin_e8=to_e8(event.initial_margin),
            available_balance_e8=to_e8(event.available_balance),
            positions=[
                execution_pb2.Position(
                    instrument=held.instrument,
                    quantity_e8=to_e8(held.quantity),
                    entry_price_e8=to_e8(held.entry_price),
                    mark_price_e8=to_e8(held.mark_price),
                    realised_pnl_e8=to_e8(held.realised_pnl),
                    fees_paid_e8=to_e8(held.fees_paid),
                    funding_paid_e8=to_e8(held.funding_paid),
                )
                for held in event.positions
            ],
            open_order_count=event.open_order_count,
            cause_id=event.cause_id,
        ),
    )


def decode_account_state(payload: bytes) -> AccountState:
    """Read an account's state."""
    message = read_message(execution_pb2.AccountState, payload)
    return AccountState(
        event_id=message.event_id,
        event_time=message.event_time,
        account=message.account,
        sequence=message.sequence,
        wallet_balance=from_e8(message.wallet_balance_e8),
        equity=from_e8(message.equity_e8),
        initial_margin=from_e8(message.initial_margin_e8),
        available_balance=from_e8(message.available_balance_e8),
        positions=tuple(
            Position(
                held.instrument,
                from_e8(held.quantity_e8),
                from_e8(held.entry_price_e8),
                from_e8(held.mark_price_e8),
                from_e8(held.realised_pnl_e8),
                from_e8(held.fees_paid_e8),
                from_e8(held.funding_paid_e8),
            )
            for held in message.positions
        ),
        open_order_count=message.open_order_count,
        cause_id=message.cause_id,
    )
