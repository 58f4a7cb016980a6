"""The monitoring page over a bus in memory: for the page's test, and by hand with ``python -m tests.e2e.page_server``.

By hand it plays on: a trade and a tick every quarter second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from libs.bus.api import Bus
from libs.bus.memory import MemoryBus
from libs.domain.market import Trade
from libs.domain.numbers import SCALE
from services.monitoring.app import MonitoringApp
from services.monitoring.settings import MonitoringSettings
from tests.kit.waiting import eventually
from tests.unit.monitoring import builders


@contextmanager
def serving(
    settings: MonitoringSettings, run_dir: Path | None = None, *, open_bus: Callable[[], Bus] | None = None
) -> Iterator[tuple[MonitoringApp, MemoryBus]]:
    """Serve the page from a thread over an empty bus with all topics."""
    name = f"page-{secrets.token_hex(4)}"
    bus = MemoryBus(name)
    builders.create_topics(bus)
    app = MonitoringApp(open_bus or (lambda: MemoryBus(name)), settings, run_dir=run_dir)
    thread = threading.Thread(target=app.serve, name="page")
    thread.start()
    try:
        eventually(lambda: app.is_serving or not thread.is_alive())
        assert app.is_serving, "the page ended before it came up"
        yield app, bus
    finally:
        app.stop()
        thread.join(15)
        bus.close()
        assert not thread.is_alive(), "the page did not stop within 15 s"


def announce_services(run_dir: Path) -> None:
    """Write what the supervisor's processes would announce."""
    run_dir.mkdir(parents=True, exist_ok=True)
    for service in ("ingestion", "bars", "features", "inference", "strategy", "risk", "execution", "recorder"):
        facts = {"service": service, "pid": os.getpid(), "state": "running", "restarts": int(service == "bars")}
        (run_dir / f"{service}.json").write_text(json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8420)
    parser.add_argument("--empty", action="store_true")
    parser.add_argument("--for-s", type=float, default=600)
    parser.add_argument("--run-dir", type=Path, required=True)
    arguments = parser.parse_args()
    settings = MonitoringSettings(
        port=arguments.port, session_market="simulated", session_seed=7, session_speed=60, session_mode="paper"
    )
    if not arguments.empty:
        announce_services(arguments.run_dir)
    with serving(settings, arguments.run_dir) as (app, bus):
        print(app.url, flush=True)
        stop = threading.Event()
        if arguments.empty:
            stop.wait(arguments.for_s)
            return
        session = list(builders.a_session())
        builders.publish(bus, session)
        session_end_price = next(event for event in reversed(session) if isinstance(event, Trade)).price_e8 / SCALE
        rng = random.Random(1)
        last = builders.START + 240 * builders.MINUTE + 30 * builders.SECOND
        price = session_end_price
        for turn in range(int(arguments.for_s * 4)):
            at = last + turn * 250_000_000
            price += rng.gauss(0, 4)
            trade = builders.a_trade(event_time=at, price_e8=builders.e8(price), venue_trade_id=100 + turn)
            builders.publish(bus, [trade, builders.a_tick(at - at % builders.SECOND)])
            if stop.wait(0.25):
                break


if __name__ == "__main__":
    main()
