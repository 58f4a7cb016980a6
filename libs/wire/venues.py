"""Calls to a venue, their answers and the outbox's ticks to bytes and back."""

from __future__ import annotations

from libs.domain.accounts import VenuePosition
from libs.domain.numbers import from_e8, to_e8
from libs.domain.orders import Liquidity, OrderStatus, PlaceOrder
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
from libs.schemas.perpflow.execution.v1 import execution_pb2
from libs.wire.errors import DecodeError
from libs.wire.fields import read_enum, read_message, write_message
from libs.wire.trading import command_message, read_command, read_venue_positions, venue_account_message


def encode_venue_call(event: VenueCall) -> bytes:
    """Write a call that is about to be made."""
    return write_message(
        event,
        lambda: execution_pb2.VenueCall(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            kind=int(event.kind),  # type: ignore[arg-type]
            order=None if event.order is None else command_message(event.order),
            booked_quantity_e8=to_e8(event.booked_quantity),
            countdown_ms=event.countdown_ms,
            expires_at=event.expires_at,
        ),
    )


def decode_venue_call(payload: bytes) -> VenueCall:
    """Read a call."""
    message = read_message(execution_pb2.VenueCall, payload)
    order = None
    if message.HasField("order"):
        command = read_command(message.order)
        if not isinstance(command, PlaceOrder):
            raise DecodeError(f"{message.event_id}: a call must carry the order itself")
        order = command
    return VenueCall(
        event_id=message.event_id,
        event_time=message.event_time,
        account=message.account,
        kind=read_enum(VenueCallKind, message.kind, message.event_id),
        order=order,
        booked_quantity=from_e8(message.booked_quantity_e8),
        countdown_ms=message.countdown_ms,
        expires_at=message.expires_at,
    )


def encode_outbox_input(event: VenueAnswer | VenueTick) -> bytes:
    """Write an answer or a tick."""

    def make() -> execution_pb2.OutboxInput:
        message = execution_pb2.OutboxInput(event_id=event.event_id, event_time=event.event_time, account=event.account)
        if isinstance(event, VenueAnswer):
            message.answer.CopyFrom(_answer_message(event))
        else:
            message.tick.CopyFrom(_tick_message(event))
        return message

    return write_message(event, make)


def decode_outbox_input(payload: bytes) -> VenueAnswer | VenueTick:
    """Read an answer or a tick."""
    message = read_message(execution_pb2.OutboxInput, payload)
    kind = message.WhichOneof("input")
    if kind == "answer":
        return _answer(message, message.answer)
    if kind == "tick":
        tick = message.tick
        return VenueTick(
            event_id=message.event_id,
            event_time=message.event_time,
            account=message.account,
            is_start=tick.is_start,
            interrupted_call_id=tick.interrupted_call_id,
            has_account_update=tick.has_account_update,
            health_errors=tuple(tick.health.errors) if tick.HasField("health") else None,
        )
    raise DecodeError(f"{message.event_id}: neither an answer nor a tick")


def _tick_message(event: VenueTick) -> execution_pb2.VenueTick:
    message = execution_pb2.VenueTick(
        is_start=event.is_start,
        interrupted_call_id=event.interrupted_call_id,
        has_account_update=event.has_account_update,
    )
    if event.health_errors is not None:
        message.health.SetInParent()
        message.health.errors.extend(event.health_errors)
    return message


def _answer_message(event: VenueAnswer) -> execution_pb2.VenueAnswer:
    return execution_pb2.VenueAnswer(
        call_id=event.call_id,
        outcome=int(event.outcome),  # type: ignore[arg-type]
        reason=event.reason,
        order=None if event.order is None else _order_state_message(event.order),
        open_order_ids=event.open_order_ids,
        snapshot=None
        if event.snapshot is None
        else venue_account_message(event.snapshot.wallet_balance, event.snapshot.positions),
        clock_correction=event.clock_correction,
    )


def _order_state_message(order: VenueOrderState) -> execution_pb2.VenueOrderState:
    return execution_pb2.VenueOrderState(
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        instrument=order.instrument,
        status=int(order.status),  # type: ignore[arg-type]
        filled_quantity_e8=to_e8(order.filled_quantity),
        event_time=order.event_time,
        fills=[
            execution_pb2.VenueFill(
                venue_trade_id=fill.venue_trade_id,
                event_time=fill.event_time,
                quantity_e8=to_e8(fill.quantity),
                price_e8=to_e8(fill.price),
                fee_e8=to_e8(fill.fee),
                liquidity=int(fill.liquidity),  # type: ignore[arg-type]
            )
            for fill in order.fills
        ],
        is_triggered=order.is_triggered,
        reason=order.reason,
        raw=order.raw,
    )


def _answer(envelope: execution_pb2.OutboxInput, message: execution_pb2.VenueAnswer) -> VenueAnswer:
    where = envelope.event_id
    if not message.call_id:
        raise DecodeError(f"{where}: an answer without call_id")
    snapshot = None
    if message.HasField("snapshot"):
        positions: tuple[VenuePosition, ...] = read_venue_positions(message.snapshot, where)
        snapshot = VenueAccountSnapshot(from_e8(message.snapshot.wallet_balance_e8), positions)
    return VenueAnswer(
        event_id=where,
        event_time=envelope.event_time,
        account=envelope.account,
        call_id=message.call_id,
        outcome=read_enum(CallOutcome, message.outcome, where),
        reason=message.reason,
        order=_order_state(message.order, where) if message.HasField("order") else None,
        open_order_ids=tuple(message.open_order_ids),
        snapshot=snapshot,
        clock_correction=message.clock_correction,
    )


def _order_state(message: execution_pb2.VenueOrderState, where: str) -> VenueOrderState:
    return VenueOrderState(
        client_order_id=message.client_order_id,
        venue_order_id=message.venue_order_id,
        instrument=message.instrument,
        status=read_enum(OrderStatus, message.status, where),
        filled_quantity=from_e8(message.filled_quantity_e8),
        event_time=message.event_time,
        fills=tuple(
            VenueFill(
                fill.venue_trade_id,
                fill.event_time,
                from_e8(fill.quantity_e8),
                from_e8(fill.price_e8),
                from_e8(fill.fee_e8),
                read_enum(Liquidity, fill.liquidity, where),
            )
            for fill in message.fills
        ),
        is_triggered=message.is_triggered,
        reason=message.reason,
        raw=message.raw,
    )
