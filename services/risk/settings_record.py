"""Puts the limits of the settings on the control topic, so that they too are changed by recorded commands only.

Refuses nothing silently: a limit that was changed in the settings since the last start is set by a command that says
so, and one that a command has set otherwise since is named in the log and stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from libs.bus.api import Bus
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy
from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand
from libs.runtime.errors import BadInput
from libs.runtime.platform_bus import open_platform_bus
from libs.runtime.records import commit_records, read_topic, stamped_record
from libs.runtime.settings import PlatformSettings
from libs.wire import DecodeError, decode, encode
from libs.wire.topics import CONTROL_COMMANDS
from services.risk.core.limits import SETTINGS, LimitError, RiskLimits
from services.risk.settings import RiskSettings

PRODUCER = "risk-settings"


def record_limits(
    platform: PlatformSettings,
    settings: RiskSettings,
    logger: structlog.stdlib.BoundLogger,
    clock: Clock = SYSTEM_CLOCK,
    entropy: Entropy = SYSTEM_ENTROPY,
) -> None:
    """Set by a command what the settings say and no command of theirs has said yet: all limits at the first start.

    Raises `BadInput` where the changed limits do not go with those in force.
    """
    wanted = settings.limits().as_strings()
    with open_platform_bus(platform) as bus:
        said: dict[str, str] = {}
        in_force = RiskLimits()
        for command in _limit_commands(bus, settings.account):
            if command.issued_by == SETTINGS:
                said |= command.arguments
            try:
                in_force = in_force.with_changes(command.arguments)
            except LimitError as error:
                logger.warning("a command to set limits was refused", command=command.event_id, reason=str(error))
        changed = {name: text for name, text in wanted.items() if said.get(name) != text}
        before = in_force.as_strings()
        try:
            in_force = in_force.with_changes(changed)
        except LimitError as error:
            raise BadInput(
                f"limits changed in the settings do not go with those in force: {error}; change both, or set the "
                "other by a command first"
            ) from None
        if changed:
            publication = _limits_command(
                settings.account, changed, _reason(said, changed), clock.now_ns(), entropy.token_hex(4)
            )
            _publish(bus, publication)
        for name in sorted(changed) if said else ():
            logger.warning("limit changed by the settings", limit=name, before=before[name], now=changed[name])
    for name, text in in_force.as_strings().items():
        if text != wanted[name]:
            logger.warning(
                "limit in force is not that of the settings, a command has set it", limit=name, in_force=text,
                settings=wanted[name],
            )  # fmt: skip


def _limit_commands(bus: Bus, account: str) -> Iterator[ControlCommand]:
    for record in read_topic(bus, CONTROL_COMMANDS):
        try:
            command = decode(CONTROL_COMMANDS, record.value)
        except DecodeError:
            # The core puts it among the dead letters, the kill switch halts for it.
            continue
        if (
            isinstance(command, ControlCommand)
            and command.action is ControlAction.SET_LIMITS
            and command.account in (account, ALL_ACCOUNTS)
        ):
            yield command


def _reason(said: dict[str, str], changed: dict[str, str]) -> str:
    if not said:
        return "the limits of the settings at the first start"
    return "changed in the settings: " + ", ".join(f"{name}={text}" for name, text in sorted(changed.items()))


def _limits_command(account: str, limits: dict[str, str], reason: str, now: int, token: str) -> ControlCommand:
    return ControlCommand(
        event_id=f"limits/{account}/{now}/{token}",
        event_time=now,
        account=account,
        action=ControlAction.SET_LIMITS,
        issued_by=SETTINGS,
        reason=reason,
        arguments=limits,
    )


def _publish(bus: Bus, command: ControlCommand) -> None:
    producer = bus.producer(f"{PRODUCER}-{command.account}")
    try:
        commit_records(producer, [stamped_record(encode(command), PRODUCER, command.event_time)])
    finally:
        producer.close()
