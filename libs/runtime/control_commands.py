"""Appends control commands, each with its audit entry, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from libs.bus.api import Bus
from libs.clock import Clock, Entropy
from libs.domain.control import AuditEntry, AuditOutcome, ControlCommand
from libs.runtime.records import commit_records, stamped_record
from libs.wire import encode

TOKEN_BYTES = 16
"""How many random bytes tell apart what processes of one service append."""


def append_commands(
    bus: Bus,
    service: str,
    commands: Sequence[ControlCommand],
    *,
    actor: str,
    source_address: str,
    clock: Clock,
    entropy: Entropy,
) -> None:
    """Append commands that a service issues on behalf of an actor. They are durable when this returns."""
    entries = [
        AuditEntry(
            event_id=f"audit/{service}/{entropy.token_hex(TOKEN_BYTES)}",
            event_time=command.event_time,
            service=service,
            actor=actor,
            # Roles are the page's; who may open the session's log may do everything.
            role="",
            action=command.action.name.lower(),
            target=command.account,
            outcome=AuditOutcome.DONE,
            source_address=source_address,
            detail=command.reason,
            command_id=command.event_id,
        )
        for command in commands
    ]
    producer = bus.producer(f"{service}-{entropy.token_hex(TOKEN_BYTES)}")
    try:
        # Stamped when it is sent: opening the bus took its time, and reaction is measured from here.
        made_at = clock.now_ns()
        messages = [*map(encode, commands), *map(encode, entries)]
        commit_records(producer, [stamped_record(message, service, made_at) for message in messages])
    finally:
        producer.close()
