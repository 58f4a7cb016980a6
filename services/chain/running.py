"""Runs a chain, or checks what it would run with."""

from __future__ import annotations

import contextlib

import structlog

from libs.clock import SYSTEM_CLOCK, Clock
from libs.runtime.chain import ChainShell
from libs.runtime.errors import EXIT_OK
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import chain_name, replica_name
from libs.runtime.platform_bus import open_platform_bus, session_placement
from libs.runtime.service import run_loop
from libs.runtime.settings import CHAIN, PlatformSettings, load_settings
from services.chain.building import SERVICES, build_cores, load_task_settings
from services.chain.settings import ChainSettings
from services.risk.guarding import guarded
from services.risk.settings import RiskSettings


def run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger, clock: Clock = SYSTEM_CLOCK) -> int:
    """Run this chain's accounts and all that they trade until asked to stop."""
    placement = session_placement(platform)
    tasks = placement.chain_tasks(load_settings(ChainSettings).accounts)
    cores = build_cores(placement, tasks)
    process = replica_name(CHAIN, platform.replica)
    metrics = ServiceMetrics(CHAIN, [one for service in SERVICES.values() for one in service.collectors])
    health = ServiceHealth(process, platform.run_dir, metrics)
    with contextlib.ExitStack() as entered:
        server = entered.enter_context(HealthServer(health, platform.metrics_host, platform.metrics_port))
        bus = entered.enter_context(open_platform_bus(platform, waiting=health.waiting))
        health.watch("bus", bus.ping)
        checks = {}
        for task in tasks:
            settings = load_task_settings(placement, task)
            if isinstance(settings, RiskSettings):
                checks[settings.account.encode()] = entered.enter_context(guarded(platform, settings, task, logger))
        shell = ChainShell(
            chain_name(tasks),
            cores,
            bus,
            health.metrics,
            logger,
            clock=clock,
            choose=placement.choose,
            batch_max_records=platform.batch_max_records,
            snapshot_every_records=platform.snapshot_every_records,
            snapshot_every_s=platform.snapshot_every_s,
            checks=checks,
            on_progress=health.beat,
        )
        return run_loop(process, platform, logger, server, shell)


def check(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    """Read every setting and build every core, to fail early."""
    placement = session_placement(platform)
    build_cores(placement, placement.chain_tasks(load_settings(ChainSettings).accounts))
    logger.info("settings are good")
    return EXIT_OK
