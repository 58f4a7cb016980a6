"""Wires the recorder, and beside it the retention of the topics: of all processes it alone has read everything."""

from __future__ import annotations

import structlog

from libs.clock import SystemClock
from libs.runtime.errors import BadInput
from libs.runtime.health import ServiceHealth
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.platform_bus import open_platform_bus, session_placement
from libs.runtime.retention import RetentionThread, RetentionTimes
from libs.runtime.service import run_loop, run_process
from libs.runtime.settings import PlatformSettings, StoreSettings, load_settings
from libs.store import Store
from libs.store.errors import StoreError
from libs.wire import decode_any
from libs.wire.topics import RECORDED_TOPICS
from services.recorder.loop import NAME, RecorderLoop
from services.recorder.settings import RecorderSettings


def _run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    settings = load_settings(RecorderSettings)
    health = ServiceHealth(NAME, platform.run_dir, ServiceMetrics(NAME))
    with _open_store() as store, open_platform_bus(platform, waiting=health.waiting) as bus:
        loop = RecorderLoop(
            lambda: bus.consumer(RECORDED_TOPICS, group=NAME, member_id=f"{NAME}-0"),
            store,
            decode_any,
            settings,
            health.metrics,
            logger,
            waiting=health.waiting,
        )
        health.watch("bus", bus.ping)
        health.watch("store", loop.check_store)
        ages = RetentionTimes(settings.retention_every_s, settings.retention_max_age_s)
        placement, clock = session_placement(platform), SystemClock()
        with RetentionThread(NAME, lambda: open_platform_bus(platform), clock, ages, health.metrics, logger, placement):
            return run_loop(NAME, platform, logger, health, loop)


def _open_store() -> Store:
    where = load_settings(StoreSettings)
    password = where.clickhouse_password.get_secret_value()
    try:
        return Store(where.clickhouse, where.clickhouse_database, user=where.clickhouse_user, password=password)
    except StoreError as error:
        raise BadInput(f"PERPFLOW_CLICKHOUSE cannot be used: {error}") from None


def main() -> int:
    """Record until asked to stop."""
    return run_process(NAME, _run)


if __name__ == "__main__":
    raise SystemExit(main())
