"""Wires the recorder, and beside its first replica the retention of the topics: it alone has read everything."""

from __future__ import annotations

import gc
from contextlib import nullcontext

import structlog

from libs.clock import SystemClock
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import replica_name
from libs.runtime.platform_bus import open_platform_bus, session_placement
from libs.runtime.retention import RetentionThread, RetentionTimes
from libs.runtime.service import run_loop, run_process
from libs.runtime.settings import PlatformSettings, load_settings
from libs.store.batches import build_batch
from libs.wire.topics import RECORDED_TOPICS
from services.recorder.loop import NAME, RecorderLoop
from services.recorder.opening import open_store
from services.recorder.settings import RecorderSettings


def _run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    settings = load_settings(RecorderSettings)
    name, number = replica_name(NAME, platform.replica), platform.replica or 0
    health = ServiceHealth(name, platform.run_dir, ServiceMetrics(NAME))
    with (
        open_store() as store,
        HealthServer(health, platform.metrics_host, platform.metrics_port) as server,
        open_platform_bus(platform, waiting=health.waiting) as bus,
    ):
        loop = RecorderLoop(
            lambda: bus.consumer(RECORDED_TOPICS, group=NAME, member_id=f"{NAME}-{number}"),
            store,
            build_batch,
            settings,
            health.metrics,
            logger,
            waiting=health.waiting,
        )
        health.watch("bus", bus.ping)
        health.watch("store", loop.check_store)
        ages = RetentionTimes(settings.retention_every_s, settings.retention_max_age_s, settings.retention_max_bytes)
        # What start-up made stays as long as the process: collections need not look through it.
        gc.freeze()
        clock, placed = SystemClock(), session_placement(platform)
        beside = RetentionThread(NAME, lambda: open_platform_bus(platform), clock, ages, health.metrics, logger, placed)
        with nullcontext() if number else beside:
            return run_loop(name, platform, logger, server, loop)


def main() -> int:
    """Record until asked to stop."""
    return run_process(NAME, _run)


if __name__ == "__main__":
    raise SystemExit(main())
