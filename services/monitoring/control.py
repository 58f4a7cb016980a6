"""Commands and audit entries from the page: how they get onto the bus."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import structlog

from libs.bus.api import Bus, BusError, Producer
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy
from libs.domain.control import AuditEntry, AuditOutcome, ControlAction, ControlCommand
from libs.domain.events import Event
from libs.runtime.records import commit_records, stamped_record
from libs.wire import encode
from services.monitoring.access import Identity
from services.monitoring.core import SERVICE
from services.monitoring.requests import ControlRequest, Refusal

PENDING_LIMIT = 1000


class ControlPublisher:
    """Appends commands and audit entries to the bus. Used from one thread; opens the bus anew after a failure.

    A command and its audit entry commit together or not at all. Other audit entries wait in memory while the bus is
    away, at most `PENDING_LIMIT` of them; each is in the page's log as well.
    """

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock = SYSTEM_CLOCK,
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._open_bus = open_bus
        self._logger = logger
        self._clock = clock
        self._entropy = entropy
        self._bus: Bus | None = None
        self._producer: Producer | None = None
        self._pending: deque[AuditEntry] = deque(maxlen=PENDING_LIMIT)

    def send(self, request: ControlRequest, identity: Identity) -> ControlCommand:
        """Append the command in a transaction and return it. Raises `Refusal` where the bus cannot take it."""
        now_ns = self._clock.now_ns()
        command = ControlCommand(
            event_id=f"control/{SERVICE}/{now_ns}/{self._entropy.token_hex(4)}",
            event_time=now_ns,
            account=request.account,
            action=ControlAction[request.action.upper()],
            issued_by=f"{SERVICE}/{identity.name}",
            reason=request.reason,
        )
        entry = self._entry(
            AuditOutcome.DONE,
            identity.name,
            identity.role.label,
            request.action,
            identity.source_address,
            target=request.account,
            detail=request.reason,
            command_id=command.event_id,
        )
        try:
            self._commit([*self._pending, command, entry])
        except BusError as error:
            raise Refusal(503, f"the bus did not take the command: {error}; use perpflow {request.action}") from error
        self._log(entry)
        return command

    def record(
        self,
        outcome: AuditOutcome,
        actor: str,
        role: str,
        action: str,
        source_address: str,
        *,
        target: str = "",
        detail: str = "",
    ) -> None:
        """Note who did what; it is on the bus when this returns, or later where the bus is away."""
        entry = self._entry(outcome, actor, role, action, source_address, target=target, detail=detail)
        self._log(entry)
        if len(self._pending) == PENDING_LIMIT:
            self._logger.error("audit entry lost, the bus is away for too long", event_id=self._pending[0].event_id)
        self._pending.append(entry)
        self.flush()

    def flush(self) -> None:
        """Append the entries that wait; they go on waiting where the bus is away."""
        if not self._pending:
            return
        try:
            self._commit(list(self._pending))
        except BusError as error:
            self._logger.error("audit entries wait for the bus", waiting=len(self._pending), reason=str(error))

    def close(self) -> None:
        """Free the bus."""
        producer, bus, self._producer, self._bus = self._producer, self._bus, None, None
        if producer is not None:
            producer.close()
        if bus is not None:
            bus.close()

    def _commit(self, events: list[Event]) -> None:
        try:
            if self._bus is None:
                self._bus = self._open_bus()
            if self._producer is None:
                # Ids per process: a second page on the same bus must not fence this one's commands.
                self._producer = self._bus.producer(f"monitoring-control-{self._entropy.token_hex(4)}")
            now_ns = self._clock.now_ns()
            commit_records(self._producer, [stamped_record(encode(event), SERVICE, now_ns) for event in events])
        except BusError:
            self.close()
            raise
        self._pending.clear()

    def _entry(
        self,
        outcome: AuditOutcome,
        actor: str,
        role: str,
        action: str,
        source_address: str,
        *,
        target: str = "",
        detail: str = "",
        command_id: str = "",
    ) -> AuditEntry:
        now_ns = self._clock.now_ns()
        return AuditEntry(
            event_id=f"audit/{SERVICE}/{now_ns}/{self._entropy.token_hex(4)}",
            event_time=now_ns,
            service=SERVICE,
            actor=actor,
            role=role,
            action=action,
            target=target,
            outcome=outcome,
            source_address=source_address,
            detail=detail,
            command_id=command_id,
        )

    def _log(self, entry: AuditEntry) -> None:
        self._logger.warning(
            "audit",
            actor=entry.actor,
            action=entry.action,
            target=entry.target,
            outcome=entry.outcome.name.lower(),
            source_address=entry.source_address,
            detail=entry.detail,
        )
