"""Watches the kill switch's file and variable beside the service and puts a HALT on the control topic.

Fails closed: a command that nobody can read halts as well, and where it cannot look or cannot write the command, it
stops the whole process, so that no verdict follows.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Sequence

import structlog

from libs.bus.api import Bus, BusError, NewRecord, Producer, Record, TopicPartition
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.orders import IntentAction, OrderApproved
from libs.runtime.platform_bus import open_platform_bus
from libs.runtime.records import commit_records, read_range, stamped_record
from libs.runtime.settings import PlatformSettings
from libs.wire import DecodeError, decode, encode
from libs.wire.topics import CONTROL_COMMANDS, VERDICTS
from services.risk.kill_switch import HALT_VARIABLE, check_kill_switch, kill_command
from services.risk.settings import RiskSettings

INTERVAL_MS = 20

PRODUCER = "risk-kill-switch"
GROUP = "risk"
WHERE = TopicPartition(CONTROL_COMMANDS, 0)


def open_producer(bus: Bus, account: str, entropy: Entropy = SYSTEM_ENTROPY) -> Producer:
    """Open a producer that fences no other: the switch's thread, the check and a second process all may halt."""
    return bus.producer(f"{PRODUCER}-{account}-{entropy.token_hex(4)}")


def publish_command(producer: Producer, command: ControlCommand, made_at: int) -> None:
    """Append a control command durably. Raises `BusError` where the bus cannot."""
    # Not stamped as risk's: the core did not make it, so a replay must not expect the core to.
    commit_records(producer, [stamped_record(encode(command), PRODUCER, made_at)])


class KillSwitchWatch:
    """Looks once before the service starts, then every 20 ms from a thread, and once more before new risk goes out.

    It sends a HALT when the switch is thrown, again after any RESUME while it still is, and for every command that
    cannot be read. So a halt by the switch is lifted by releasing the switch first and resuming after.
    """

    def __init__(
        self, platform: PlatformSettings, settings: RiskSettings, group: str = GROUP, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._group = group
        self._clock = clock
        self._platform = platform
        self._settings = settings
        self.is_thrown = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kill-switch", daemon=True)
        self._position = 0
        self._logger: structlog.stdlib.BoundLogger = structlog.get_logger("risk")

    def start(self) -> None:
        """Look, halt where the switch is thrown or a waiting command is unreadable, then go on looking from a thread.

        Nothing may be judged before it returns. Raises `BusError` where the control topic cannot be read or written.
        """
        with open_platform_bus(self._platform) as bus:
            producer = open_producer(bus, self._settings.account)
            try:
                handled = bus.committed(self._group, [WHERE])[WHERE] or 0
                self._position = bus.end_offsets([WHERE])[WHERE]
                waiting = read_range(bus, WHERE.topic, WHERE.partition, handled, self._position)
                self._halt_unreadable(producer, waiting)
                self._look(producer)
            finally:
                producer.close()
        self._thread.start()

    def stop(self) -> None:
        """Stop looking and wait for the thread."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def check_outputs(self, outputs: Sequence[NewRecord]) -> None:
        """Raise `BusError` where outputs would let new risk out though the switch is thrown; the HALT is sent first.

        The service may have been stopped since the switch was thrown, and be faster than the thread when it goes on.
        """
        if not any(_adds_risk(output) for output in outputs):
            return
        command = self._check()
        if command is None:
            return
        with open_platform_bus(self._platform) as bus:
            producer = open_producer(bus, self._settings.account)
            try:
                publish_command(producer, command, self._clock.now_ns())
            finally:
                producer.close()
        raise BusError(f"nothing of this batch was committed, it approves an order while {command.reason}")

    def _check(self) -> ControlCommand | None:
        environment = {HALT_VARIABLE: self._settings.halt}
        settings = self._settings
        return check_kill_switch(settings.account, self._clock.now_ns(), settings.kill_switch_file, environment)

    def _run(self) -> None:
        try:
            with open_platform_bus(self._platform) as bus:
                self._watch(bus)
        except Exception as error:
            # Whatever it is: without the watch the switch would be dead and nobody would know.
            self._logger.exception("the kill switch's watch failed; stopping", reason=str(error))
            os.kill(os.getpid(), signal.SIGTERM)

    def _watch(self, bus: Bus) -> None:
        producer = open_producer(bus, self._settings.account)
        consumer = bus.consumer([CONTROL_COMMANDS])
        try:
            consumer.assign({WHERE: self._position})
            while not self._stopped.is_set():
                self._look(producer)
                # The wait for the next look is the wait for somebody's RESUME.
                records = consumer.poll(100, INTERVAL_MS)
                self._halt_unreadable(producer, records)
                if any(_resumes(record) for record in records):
                    self.is_thrown = False
        finally:
            consumer.close()
            producer.close()

    def _look(self, producer: Producer) -> None:
        command = self._check()
        if command is not None and not self.is_thrown:
            publish_command(producer, command, self._clock.now_ns())
            self._logger.warning("kill switch thrown", reason=command.reason)
        self.is_thrown = command is not None

    def _halt_unreadable(self, producer: Producer, records: Iterable[Record]) -> None:
        for record in records:
            try:
                decode(CONTROL_COMMANDS, record.value)
            except DecodeError as error:
                reason = f"the command at offset {record.offset} cannot be read, it may have been a halt: {error}"
                now = self._clock.now_ns()
                publish_command(producer, kill_command(self._settings.account, now, reason), now)
                self._logger.error("unreadable command", reason=reason)


def _resumes(record: Record) -> bool:
    try:
        command = decode(CONTROL_COMMANDS, record.value)
    except DecodeError:
        # The core puts it among the dead letters.
        return False
    return isinstance(command, ControlCommand) and command.action is ControlAction.RESUME


def _adds_risk(output: NewRecord) -> bool:
    if output.topic != VERDICTS:
        return False
    verdict = decode(VERDICTS, output.value)
    if not isinstance(verdict, OrderApproved):
        return False
    return verdict.intent.action is IntentAction.PLACE and not verdict.intent.reduce_only
