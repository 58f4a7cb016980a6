"""Watches the kill switch's file and variable beside the service and puts a HALT on the control topic.

Fails closed: where it cannot look or cannot write the command, it stops the whole process, so that no verdict follows.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import structlog

from libs.bus.api import BusError, NewRecord
from libs.bus.open import open_bus
from libs.domain.control import ControlCommand
from libs.runtime.records import stamp_headers
from libs.runtime.settings import PlatformSettings
from libs.wire import encode
from services.risk.kill_switch import HALT_VARIABLE, check_kill_switch
from services.risk.settings import RiskSettings

INTERVAL_S = 0.05


def publish_command(platform: PlatformSettings, command: ControlCommand) -> None:
    """Append a control command durably. Raises `BusError` where the bus cannot."""
    encoded = encode(command)
    with open_bus(platform.bus, prefix=platform.topic_prefix) as bus:
        producer = bus.producer(f"risk-kill-switch-{command.account}")
        try:
            producer.begin()
            headers = stamp_headers(encoded.kind, "risk", command.event_time, None)
            producer.send([NewRecord(encoded.topic, encoded.key, encoded.payload, headers)])
            producer.commit()
        finally:
            producer.close()


class KillSwitchWatch:
    """A thread that looks every 50 ms; one HALT each time the switch is thrown, again only after it was released."""

    def __init__(self, platform: PlatformSettings, settings: RiskSettings) -> None:
        self._platform = platform
        self._settings = settings
        self.is_thrown = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kill-switch", daemon=True)
        self._logger: structlog.stdlib.BoundLogger = structlog.get_logger("risk")

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking and wait for the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        environment = {HALT_VARIABLE: self._settings.halt}
        while not self._stopped.wait(INTERVAL_S):
            command = check_kill_switch(
                self._settings.account, time.time_ns(), self._settings.kill_switch_file, environment
            )
            if command is not None and not self.is_thrown:
                try:
                    publish_command(self._platform, command)
                except (BusError, OSError) as fault:
                    self._logger.error("kill switch cannot reach the control topic; stopping", reason=str(fault))
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self._logger.warning("kill switch thrown", reason=command.reason)
            self.is_thrown = command is not None
