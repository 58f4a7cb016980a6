"""The outbox as a process runs it, over a venue and a bus of the test's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from libs.bus.memory import MemoryBus
from libs.clock import SystemClock
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.venues.api import TradingVenue
from libs.wire.topics import OUTBOX
from services.execution.core.outbox import OutboxCore
from services.execution.core.reconciliation import OutboxTerms
from services.execution.outbox_shell import OutboxAccess, OutboxShell
from tests.kit.builders import BTC


def an_outbox(
    venue: TradingVenue,
    bus: MemoryBus,
    terms: OutboxTerms,
    find_health_errors: Callable[[], Sequence[str]] = tuple,
    snapshot_every_records: int = 20_000,
) -> OutboxShell:
    """An outbox that is not opened yet."""
    return OutboxShell(
        OutboxCore("paper", terms),
        OutboxAccess([BTC], 3, terms.absent_after_ns // 2),
        venue,
        bus,
        ServiceMetrics(OUTBOX),
        configure_logging(OUTBOX, level="critical"),
        clock=SystemClock(),
        find_health_errors=find_health_errors,
        snapshot_every_records=snapshot_every_records,
    )
