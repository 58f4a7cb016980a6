"""Vectors, forecasts, orders, accounts and control to bytes and back."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from libs.domain.accounts import AccountState, Position
from libs.domain.control import Alert, ControlAction, ControlCommand, ControlState, Severity, TradingState
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
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
from libs.schemas.perpflow.control.v1 import control_pb2
from libs.schemas.perpflow.execution.v1 import execution_pb2
from libs.schemas.perpflow.features.v1 import features_pb2
from libs.schemas.perpflow.inference.v1 import inference_pb2
from libs.schemas.perpflow.risk.v1 import risk_pb2
from libs.schemas.perpflow.strategy.v1 import strategy_pb2
from libs.wire.errors import DecodeError, EncodeError

MessageT = TypeVar("MessageT", bound=Message)
EnumT = TypeVar("EnumT", bound=IntEnum)


def _write(event: Any, make: Callable[[], Message]) -> bytes:
    try:
        # Deterministic, because maps have no order of their own and payloads are compared byte for byte.
        return make().SerializeToString(deterministic=True)
    except (ValueError, TypeError) as error:
        raise EncodeError(f"{type(event).__name__} {event.event_id}: {error}") from error


def _read(kind: type[MessageT], payload: bytes) -> MessageT:
    message = kind()
    try:
        message.ParseFromString(payload)
    except ProtobufError as error:
        raise DecodeError(f"not a {kind.__name__}: {error}") from error
    fields: Any = message
    if not fields.event_id:
        raise DecodeError(f"{kind.__name__} without event_id")
    if fields.event_time <= 0:
        raise DecodeError(f"{kind.__name__} {fields.event_id}: event_time must be above 0")
    for name in ("instrument", "account"):
        if name in kind.DESCRIPTOR.fields_by_name and not getattr(fields, name):
            raise DecodeError(f"{kind.__name__} {fields.event_id} without {name}")
    return message


def _enum(kind: type[EnumT], number: int, event_id: str) -> EnumT:
    try:
        return kind(number)
    except ValueError:
        raise DecodeError(f"{event_id}: {kind.__name__} {number} is unspecified or unknown") from None


def _opt_e8(value: Decimal | None) -> int | None:
    return None if value is None else to_e8(value)


def _decimal(message: Any, name: str) -> Decimal | None:
    return from_e8(getattr(message, name)) if message.HasField(name) else None


def _probability(value: float, name: str, event_id: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise DecodeError(f"{event_id}: {name} {value} is not in [0, 1]")
    return value


_VECTOR_FIELDS = (
    "instrument",
    "event_id",
    "event_time",
    "bar_id",
    "timeframe",
    "feature_set",
    "schema_hash",
    "packed",
    "known_count",
    "reference_price_e8",
    "is_history",
)


def encode_feature_vector(event: FeatureVector) -> bytes:
    """Write a feature vector."""
    return _write(event, lambda: features_pb2.FeatureVector(**{name: getattr(event, name) for name in _VECTOR_FIELDS}))


def decode_feature_vector(payload: bytes) -> FeatureVector:
    """Read a feature vector. Raises `DecodeError` where the packed doubles cannot be."""
    message = _read(features_pb2.FeatureVector, payload)
    if len(message.packed) % 8 or not message.packed:
        raise DecodeError(f"{message.event_id}: packed holds {len(message.packed)} bytes, which are no doubles")
    if len(message.schema_hash) != 64:
        raise DecodeError(f"{message.event_id}: schema_hash must be a sha256 in hex")
    return FeatureVector(*(getattr(message, name) for name in _VECTOR_FIELDS))


def encode_forecast(event: Forecast) -> bytes:
    """Write a forecast."""
    return _write(
        event,
        lambda: inference_pb2.Forecast(
            event_id=event.event_id,
            instrument=event.instrument,
            event_time=event.event_time,
            vector_id=event.vector_id,
            horizon_ns=event.horizon_ns,
            probability_down=event.probability_down,
            probability_flat=event.probability_flat,
            probability_up=event.probability_up,
            confidence=event.confidence,
            coverage=event.coverage,
            expected_return_bps=event.expected_return_bps,
            model_name=event.model_name,
            model_version=event.model_version,
            model_sha256=event.model_sha256,
            role=int(event.role),  # type: ignore[arg-type]
            feature_set=event.feature_set,
            schema_hash=event.schema_hash,
            reference_price_e8=event.reference_price_e8,
        ),
    )


def decode_forecast(payload: bytes) -> Forecast:
    """Read a forecast. Raises `DecodeError` where probabilities are none."""
    message = _read(inference_pb2.Forecast, payload)
    total = message.probability_down + message.probability_flat + message.probability_up
    if not abs(total - 1.0) <= 1e-6:
        raise DecodeError(f"{message.event_id}: the probabilities sum to {total}, not 1")
    return Forecast(
        instrument=message.instrument,
        event_id=message.event_id,
        event_time=message.event_time,
        vector_id=message.vector_id,
        horizon_ns=message.horizon_ns,
        probability_down=_probability(message.probability_down, "probability_down", message.event_id),
        probability_flat=_probability(message.probability_flat, "probability_flat", message.event_id),
        probability_up=_probability(message.probability_up, "probability_up", message.event_id),
        confidence=_probability(message.confidence, "confidence", message.event_id),
        coverage=_probability(message.coverage, "coverage", message.event_id),
        expected_return_bps=message.expected_return_bps if message.HasField("expected_return_bps") else None,
        model_name=message.model_name,
        model_version=message.model_version,
        model_sha256=message.model_sha256,
        role=_enum(ModelRole, message.role, message.event_id),
        feature_set=message.feature_set,
        schema_hash=message.schema_hash,
        reference_price_e8=message.reference_price_e8,
    )


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
        limit_price_e8=_opt_e8(event.limit_price),
        trigger_price_e8=_opt_e8(event.trigger_price),
        callback_rate_e8=_opt_e8(event.callback_rate),
        reference_price_e8=_opt_e8(event.reference_price),
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
        action=_enum(IntentAction, message.action, where),
        side=_enum(Side, message.side, where),
        order_type=_enum(OrderType, message.order_type, where),
        quantity=from_e8(message.quantity_e8),
        time_in_force=_enum(TimeInForce, message.time_in_force, where),
        reduce_only=message.reduce_only,
        limit_price=_decimal(message, "limit_price_e8"),
        trigger_price=_decimal(message, "trigger_price_e8"),
        callback_rate=_decimal(message, "callback_rate_e8"),
        reference_price=_decimal(message, "reference_price_e8"),
        confidence=message.confidence if message.HasField("confidence") else None,
        target_client_order_id=message.target_client_order_id,
        reason=message.reason,
        cause_ids=tuple(message.cause_ids),
    )


def encode_order_intent(event: OrderIntent) -> bytes:
    """Write an intent. Raises `EncodeError` where a number has more than eight decimals."""
    return _write(event, lambda: _intent_message(event))


def decode_order_intent(payload: bytes) -> OrderIntent:
    """Read an intent."""
    return _intent(_read(strategy_pb2.OrderIntent, payload))


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

    return _write(event, make)


def decode_verdict(payload: bytes) -> OrderApproved | OrderRefused:
    """Read a verdict."""
    message = _read(risk_pb2.Verdict, payload)
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
            _enum(Origin, message.approved.origin, message.event_id),
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


def encode_command(event: PlaceOrder | CancelOrder) -> bytes:
    """Write a command to the venue."""

    def make() -> execution_pb2.Command:
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
                limit_price_e8=_opt_e8(event.limit_price),
                trigger_price_e8=_opt_e8(event.trigger_price),
                callback_rate_e8=_opt_e8(event.callback_rate),
            )
        )
        return message

    return _write(event, make)


def decode_command(payload: bytes) -> PlaceOrder | CancelOrder:
    """Read a command."""
    message = _read(execution_pb2.Command, payload)
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
        side=_enum(Side, place.side, where),
        order_type=_enum(OrderType, place.order_type, where),
        quantity=from_e8(place.quantity_e8),
        time_in_force=_enum(TimeInForce, place.time_in_force, where),
        reduce_only=place.reduce_only,
        limit_price=_decimal(place, "limit_price_e8"),
        trigger_price=_decimal(place, "trigger_price_e8"),
        callback_rate=_decimal(place, "callback_rate_e8"),
    )


def encode_venue_report(event: VenueReport) -> bytes:
    """Write what a venue answered."""
    return _write(
        event,
        lambda: execution_pb2.VenueReport(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            instrument=event.instrument,
            client_order_id=event.client_order_id,
            venue_order_id=event.venue_order_id,
            kind=int(event.kind),  # type: ignore[arg-type]
            last_quantity_e8=_opt_e8(event.last_quantity),
            last_price_e8=_opt_e8(event.last_price),
            fee_e8=_opt_e8(event.fee),
            liquidity=int(event.liquidity or 0),  # type: ignore[arg-type]
            venue_trade_id=event.venue_trade_id,
            reason=event.reason,
            raw=event.raw,
            cause_id=event.cause_id,
        ),
    )


def decode_venue_report(payload: bytes) -> VenueReport:
    """Read what a venue answered. A fill without quantity, price or fee is refused."""
    message = _read(execution_pb2.VenueReport, payload)
    kind = _enum(ReportKind, message.kind, message.event_id)
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
        last_quantity=_decimal(message, "last_quantity_e8"),
        last_price=_decimal(message, "last_price_e8"),
        fee=_decimal(message, "fee_e8"),
        liquidity=Liquidity(message.liquidity) if message.liquidity else None,
        venue_trade_id=message.venue_trade_id,
        reason=message.reason,
        raw=message.raw,
        cause_id=message.cause_id,
    )


def encode_order_event(event: OrderEvent) -> bytes:
    """Write an order's change of state."""
    return _write(
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
            average_price_e8=_opt_e8(event.average_price),
            limit_price_e8=_opt_e8(event.limit_price),
            reduce_only=event.reduce_only,
            last_quantity_e8=_opt_e8(event.last_quantity),
            last_price_e8=_opt_e8(event.last_price),
            fee_e8=_opt_e8(event.fee),
            liquidity=int(event.liquidity or 0),  # type: ignore[arg-type]
            realised_pnl_e8=_opt_e8(event.realised_pnl),
            reason=event.reason,
            report_id=event.report_id,
        ),
    )


def decode_order_event(payload: bytes) -> OrderEvent:
    """Read an order's change of state."""
    message = _read(execution_pb2.OrderEvent, payload)
    where = message.event_id
    return OrderEvent(
        event_id=where,
        event_time=message.event_time,
        account=message.account,
        instrument=message.instrument,
        client_order_id=message.client_order_id,
        venue_order_id=message.venue_order_id,
        intent_id=message.intent_id,
        status=_enum(OrderStatus, message.status, where),
        side=_enum(Side, message.side, where),
        order_type=_enum(OrderType, message.order_type, where),
        quantity=from_e8(message.quantity_e8),
        filled_quantity=from_e8(message.filled_quantity_e8),
        average_price=_decimal(message, "average_price_e8"),
        limit_price=_decimal(message, "limit_price_e8"),
        reduce_only=message.reduce_only,
        last_quantity=_decimal(message, "last_quantity_e8"),
        last_price=_decimal(message, "last_price_e8"),
        fee=_decimal(message, "fee_e8"),
        liquidity=Liquidity(message.liquidity) if message.liquidity else None,
        realised_pnl=_decimal(message, "realised_pnl_e8"),
        reason=message.reason,
        report_id=message.report_id,
    )


def encode_account_state(event: AccountState) -> bytes:
    """Write an account's state."""
    return _write(
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
    message = _read(execution_pb2.AccountState, payload)
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


def encode_control_command(event: ControlCommand) -> bytes:
    """Write a control command."""
    return _write(
        event,
        lambda: control_pb2.ControlCommand(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            action=int(event.action),  # type: ignore[arg-type]
            issued_by=event.issued_by,
            reason=event.reason,
            arguments=event.arguments,
        ),
    )


def decode_control_command(payload: bytes) -> ControlCommand:
    """Read a control command."""
    message = _read(control_pb2.ControlCommand, payload)
    return ControlCommand(
        message.event_id,
        message.event_time,
        message.account,
        _enum(ControlAction, message.action, message.event_id),
        message.issued_by,
        message.reason,
        dict(sorted(message.arguments.items())),
    )


def encode_control_state(event: ControlState) -> bytes:
    """Write a control state."""
    return _write(
        event,
        lambda: control_pb2.ControlState(
            event_id=event.event_id,
            event_time=event.event_time,
            account=event.account,
            state=int(event.state),  # type: ignore[arg-type]
            reason=event.reason,
            limits_version=event.limits_version,
            limits=event.limits,
            cause_id=event.cause_id,
        ),
    )


def decode_control_state(payload: bytes) -> ControlState:
    """Read a control state."""
    message = _read(control_pb2.ControlState, payload)
    return ControlState(
        message.event_id,
        message.event_time,
        message.account,
        _enum(TradingState, message.state, message.event_id),
        message.reason,
        message.limits_version,
        dict(sorted(message.limits.items())),
        message.cause_id,
    )


def encode_alert(event: Alert) -> bytes:
    """Write an alert."""
    return _write(
        event,
        lambda: control_pb2.Alert(
            event_id=event.event_id,
            event_time=event.event_time,
            service=event.service,
            name=event.name,
            severity=int(event.severity),  # type: ignore[arg-type]
            is_raised=event.is_raised,
            message=event.message,
        ),
    )


def decode_alert(payload: bytes) -> Alert:
    """Read an alert."""
    message = _read(control_pb2.Alert, payload)
    return Alert(
        message.event_id,
        message.event_time,
        message.service,
        message.name,
        _enum(Severity, message.severity, message.event_id),
        message.is_raised,
        message.message,
    )
