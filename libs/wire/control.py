"""Control commands, control states, alerts and audit entries to bytes and back."""

from __future__ import annotations

from libs.domain.control import (
    Alert,
    AuditEntry,
    AuditOutcome,
    ControlAction,
    ControlCommand,
    ControlState,
    Severity,
    TradingState,
)
from libs.schemas.perpflow.control.v1 import control_pb2
from libs.wire.fields import read_enum, read_message, write_message


def encode_control_command(event: ControlCommand) -> bytes:
    """Write a control command."""
    return write_message(
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
    message = read_message(control_pb2.ControlCommand, payload)
    return ControlCommand(
        message.event_id,
        message.event_time,
        message.account,
        read_enum(ControlAction, message.action, message.event_id),
        message.issued_by,
        message.reason,
        dict(sorted(message.arguments.items())),
    )


def encode_control_state(event: ControlState) -> bytes:
    """Write a control state."""
    return write_message(
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
    message = read_message(control_pb2.ControlState, payload)
    return ControlState(
        message.event_id,
        message.event_time,
        message.account,
        read_enum(TradingState, message.state, message.event_id),
        message.reason,
        message.limits_version,
        dict(sorted(message.limits.items())),
        message.cause_id,
    )


def encode_alert(event: Alert) -> bytes:
    """Write an alert."""
    return write_message(
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
    message = read_message(control_pb2.Alert, payload)
    return Alert(
        message.event_id,
        message.event_time,
        message.service,
        message.name,
        read_enum(Severity, message.severity, message.event_id),
        message.is_raised,
        message.message,
    )


def encode_audit_entry(event: AuditEntry) -> bytes:
    """Write an audit entry."""
    return write_message(
        event,
        lambda: control_pb2.AuditEntry(
            event_id=event.event_id,
            event_time=event.event_time,
            service=event.service,
            actor=event.actor,
            role=event.role,
            action=event.action,
            account=event.account,
            outcome=int(event.outcome),  # type: ignore[arg-type]
            source_address=event.source_address,
            detail=event.detail,
            command_id=event.command_id,
        ),
    )


def decode_audit_entry(payload: bytes) -> AuditEntry:
    """Read an audit entry."""
    message = read_message(control_pb2.AuditEntry, payload)
    return AuditEntry(
        message.event_id,
        message.event_time,
        message.service,
        message.actor,
        message.role,
        message.action,
        message.account,
        read_enum(AuditOutcome, message.outcome, message.event_id),
        message.source_address,
        message.detail,
        message.command_id,
    )
