"""Commands to a running session: halt, resume, flatten."""

from __future__ import annotations

import time
import uuid

from libs.bus.open import open_bus
from libs.domain.control import ControlAction, ControlCommand, ControlState
from libs.runtime.records import commit_records, read_topic, stamped_record
from libs.wire import decode, encode
from libs.wire.topics import CONTROL_STATES
from services.console.session import Session


def send_control(session: Session, action: ControlAction, account: str, reason: str) -> ControlCommand:
    """Append a control command and return it; it is durable when this returns."""
    now = time.time_ns()
    command = ControlCommand(f"control/console/{uuid.uuid4()}", now, account, action, "console", reason)
    with open_bus(session.bus, prefix=session.topic_prefix) as bus:
        producer = bus.producer(f"console-{uuid.uuid4()}")
        try:
            # Stamped when it is sent: opening the bus took its time, and reaction is measured from here.
            commit_records(producer, [stamped_record(encode(command), "console", time.time_ns())])
        finally:
            producer.close()
    return command


def wait_for_state(session: Session, command: ControlCommand, timeout_s: float) -> ControlState | None:
    """Return the state that the command led to, None when risk has not answered within the time."""
    deadline = time.monotonic() + timeout_s
    with open_bus(session.bus, prefix=session.topic_prefix) as bus:
        while True:
            for record in read_topic(bus, CONTROL_STATES):
                state = decode(CONTROL_STATES, record.value)
                if isinstance(state, ControlState) and state.cause_id == command.event_id:
                    return state
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.05)
