"""Runs the outbox as a process of its own, the one that holds the venue's key: `python -m services.execution.outbox`.

It has no part in paper trading.
"""

from __future__ import annotations

import sys

import structlog

from libs.bus.api import Bus, BusError, TopicPartition
from libs.clock import SystemClock
from libs.domain.instruments import UnknownInstrument, find_instrument, split_instrument_id
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.lag import StallDetector
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.platform_bus import open_platform_bus
from libs.runtime.service import CoreService, run_loop, run_process
from libs.runtime.settings import PlatformSettings, load_settings
from libs.venues.api import TradingVenue, Venue, VenueAccess
from libs.venues.registry import UnknownVenue, find_trading_venue
from libs.wire.topics import COMMANDS, CORE_SERVICES, MARKET_EVENTS, OUTBOX
from services.execution.core.outbox import OutboxCore
from services.execution.core.reconciliation import OutboxTerms
from services.execution.outbox_shell import INPUTS, OutboxAccess, OutboxShell
from services.execution.settings import ExecutionSettings

# The group of the outbox that kept no state: what it has sent only the venue can tell.
_STATELESS_GROUP = "execution-outbox"


def make_terms(settings: ExecutionSettings) -> OutboxTerms:
    """Return the times that the settings say."""
    return OutboxTerms(
        reconcile_interval_ns=settings.reconcile_interval_s * NANOSECONDS,
        max_command_age_ns=settings.max_command_age_s * NANOSECONDS,
        countdown_ns=settings.dead_man_countdown_s * NANOSECONDS,
    )


def build_outbox_core(settings: ExecutionSettings) -> OutboxCore:
    """Return the core; it needs no key."""
    return OutboxCore(settings.account, make_terms(settings))


SERVICE = CoreService(name=OUTBOX, inputs=INPUTS, settings_type=ExecutionSettings, build_core=build_outbox_core)


def check_settings(settings: ExecutionSettings) -> Venue:
    """Return the venue that orders go to. Raises `BadInput` for what none could be sent with."""
    if settings.mode == "paper":
        raise BadInput("PERPFLOW_EXECUTION_MODE=paper needs no outbox; start it in modes testnet and live alone")
    if settings.leverage % 1:
        raise BadInput(f"PERPFLOW_EXECUTION_LEVERAGE={settings.leverage}: a venue takes whole numbers alone")
    venues = set()
    for name in settings.instruments:
        try:
            find_instrument(name)
            venues.add(find_trading_venue(split_instrument_id(name)[1]).name)
        except (UnknownInstrument, UnknownVenue) as error:
            raise BadInput(f"PERPFLOW_EXECUTION_INSTRUMENTS: {name}: {error}; correct it") from None
    if len(venues) > 1:
        several = ", ".join(sorted(venues))
        raise BadInput(f"PERPFLOW_EXECUTION_INSTRUMENTS are of several venues ({several}); an account has one")
    venue = find_trading_venue(venues.pop())
    if not settings.api_key.get_secret_value() or not settings.api_secret.get_secret_value():
        raise BadInput(
            f"PERPFLOW_EXECUTION_MODE={settings.mode} needs PERPFLOW_EXECUTION_API_KEY and _API_SECRET, "
            f"a key of {venue.name} that may trade futures and nothing else"
        )
    return venue


def open_venue(settings: ExecutionSettings) -> TradingVenue:
    """Return the venue; nothing is asked yet. Raises `BadInput`."""
    venue = check_settings(settings)
    rest_url, stream_url = venue.trading_addresses[settings.mode]
    assert venue.open_trading is not None, "only a venue that takes orders is found for trading"
    return venue.open_trading(
        VenueAccess(
            settings.rest_url or rest_url,
            settings.stream_url or stream_url,
            settings.api_key.get_secret_value(),
            settings.api_secret.get_secret_value(),
            settings.venue_speed,
            is_testnet=settings.mode == "testnet",
        )
    )


def check_session(bus: Bus) -> None:
    """Raise `BusError` for a session whose commands an outbox without a state has carried out."""
    where = [TopicPartition(COMMANDS, number) for number in range(bus.topics().get(COMMANDS, 0))]
    if any(bus.committed(_STATELESS_GROUP, where).values()):
        raise BusError(
            "this session's orders were sent by an earlier version, which kept no record of what it sent; "
            "drain it and start a new session"
        )


def run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    """Run until asked to stop."""
    settings = load_settings(ExecutionSettings)
    venue = open_venue(settings)
    health = ServiceHealth(OUTBOX, platform.run_dir, ServiceMetrics(OUTBOX))
    try:
        with (
            HealthServer(health, platform.metrics_host, platform.metrics_port) as server,
            open_platform_bus(platform, waiting=health.waiting) as bus,
        ):
            check_session(bus)
            shell = OutboxShell(
                build_outbox_core(settings),
                OutboxAccess(settings.instruments, int(settings.leverage), make_terms(settings).absent_after_ns // 2),
                venue,
                bus,
                health.metrics,
                logger,
                clock=SystemClock(),
                find_health_errors=StallDetector(bus, CORE_SERVICES, [MARKET_EVENTS]).find_stalls,
                waiting=health.waiting,
                on_progress=health.beat,
                snapshot_every_records=platform.snapshot_every_records,
            )
            health.watch("bus", bus.ping)
            health.watch("venue", shell.check_venue)
            return run_loop(OUTBOX, platform, logger, server, shell)
    finally:
        venue.close()


def main() -> int:
    """Run until asked to stop; return the exit code."""
    return run_process(SERVICE.name, run) if sys.argv[1:] in ([], ["run"]) else SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
