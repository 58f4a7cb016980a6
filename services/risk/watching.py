"""Watches the kill switch's file and variable beside the service and puts a HALT on the control topic.

Fails closed: where it cannot look or cannot write the command, it stops the whole process, so that no verdict follows.
"""

from __future__ import annotations

import os
import signal
import threading
import time

import structlog

from libs.bus.api import Bus, BusError, Record, TopicPartition
from libs.bus.open import open_bus
from libs.domain.control import ControlAction, ControlCommand
from libs.runtime.records import commit_records, stamped_record
from libs.runtime.settings import PlatformSettings
from libs.wire import DecodeError, decode, encode
from libs.wire.topics import CONTROL_COMMANDS
from services.risk.kill_switch import HALT_VARIABLE, check_kill_switch
from services.risk.settings import RiskSettings

INTERVAL_MS = 50


PRODUCER = "risk-kill-switch"


def publish_command(bus: Bus, command: ControlCommand) -> None:
    """Append a control command durably. Raises `BusError` where the bus cannot."""
    producer = bus.producer(f"{PRODUCER}-{command.account}")
    try:
        # Not stamped as risk's: the core did not make it, so a replay must not expect the core to.
        commit_records(producer, [stamped_record(encode(command), PRODUCER, command.event_time)])
    finally:
        producer.close()


class KillSwitchWatch:
    """A thread that looks every 50 ms: a HALT when the switch is thrown, and again after any RESUME while it still is.

    So a halt by the switch is lifted by releasing the switch first and resuming after.
    """

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
        try:
            with open_bus(self._platform.bus, prefix=self._platform.topic_prefix) as bus:
                self._watch(bus)
        except (BusError, OSError) as fault:
            self._logger.error("kill switch cannot reach the control topic; stopping", reason=str(fault))
            os.kill(os.getpid(), signal.SIGTERM)

    def _watch(self, bus: Bus) -> None:
        where = TopicPartition(CONTROL_COMMANDS, 0)
        environment = {HALT_VARIABLE: self._settings.halt}
        consumer = bus.consumer([CONTROL_COMMANDS])
        try:
            consumer.assign({where: bus.end_offsets([where])[where]})
            while not self._stopped.is_set():
                command = check_kill_switch(
                    self._settings.account, time.time_ns(), self._settings.kill_switch_file, environment
                )
                if command is not None and not self.is_thrown:
                    publish_command(bus, command)
                    self._logger.warning("kill switch thrown", reason=command.reason)
                self.is_thrown = command is not None
                # The wait for the next look is the wait for somebody's RESUME.
                if any(_resumes(record) for record in consumer.poll(100, INTERVAL_MS)):
                    self.is_thrown = False
        finally:
            consumer.close()


def _resumes(record: Record) -> bool:
    try:
        command = decode(CONTROL_COMMANDS, record.value)
    except DecodeError:
        # The core puts it among the dead letters.
        return False
    return isinstance(command, ControlCommand) and command.action is ControlAction.RESUME
