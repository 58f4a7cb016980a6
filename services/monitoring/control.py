"""Commands from the page: who may give them, and how they get onto the bus."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.bus.api import Bus, BusError, Producer
from libs.domain.control import ControlAction, ControlCommand
from libs.runtime.records import commit_records, stamped_record
from libs.wire import encode
from services.monitoring.core import SERVICE
from services.monitoring.settings import MonitoringSettings

BODY_LIMIT_BYTES = 4096
TOKEN_HEADER = "x-perpflow-token"


class Refusal(Exception):
    """A request that is not carried out: HTTP status and a sentence that names fault and mend."""

    def __init__(self, status: int, fault: str) -> None:
        super().__init__(fault)
        self.status = status
        self.fault = fault


class ControlRequest(BaseModel):
    """The body of a command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["halt", "resume", "reduce", "flatten"]
    account: str = Field(pattern=r"^(\*|[A-Za-z0-9_.-]{1,64})$")
    reason: str = Field(min_length=1, max_length=200)


def read_control_request(body: bytes) -> ControlRequest:
    """Read the body of a command. Raises `Refusal` that names the field."""
    try:
        return ControlRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Refusal(422, f"{where}: {first['msg']}; send action, account and reason") from None


def check_host(host: str | None, settings: MonitoringSettings) -> None:
    """Refuse a request under a stranger's host name, which is how a page elsewhere would reach us (DNS rebinding)."""
    name = urlsplit(f"//{host or ''}").hostname or ""
    known = {"127.0.0.1", "localhost", "::1", settings.host, *settings.allowed_hosts}
    if name not in known and (settings.is_loopback or settings.allowed_hosts):
        raise Refusal(421, f"this page is not {name!r}; add it to PERPFLOW_MONITORING_ALLOWED_HOSTS if it is")


def check_may_command(headers: Mapping[str, str], settings: MonitoringSettings) -> None:
    """Let a command through only from this page or from a program, with the token where one is set.

    A browser names the page that asks (Origin, Sec-Fetch-Site), and cannot send JSON to a stranger without asking
    first; a program sends neither header. Raises `Refusal`.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "send the command as application/json")
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise Refusal(403, f"commands are taken from this page only, not from a {site} page")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise Refusal(403, f"commands are taken from this page only, not from {origin}")
    token = settings.token.get_secret_value()
    if token:
        if not hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), token.encode()):
            raise Refusal(401, "the token is missing or wrong; it is the value of PERPFLOW_MONITORING_TOKEN")
    elif not settings.is_loopback:
        raise Refusal(403, "commands over a network need a token; set PERPFLOW_MONITORING_TOKEN")


class ControlDesk:
    """Appends commands to the bus. Used from one thread; opens the bus at the first command, anew after a failure."""

    def __init__(self, open_bus: Callable[[], Bus], *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._open_bus = open_bus
        self._clock_ns = clock_ns
        self._bus: Bus | None = None
        self._producer: Producer | None = None

    def send(self, request: ControlRequest) -> ControlCommand:
        """Append the command in a transaction and return it. Raises `Refusal` where the bus cannot take it."""
        now_ns = self._clock_ns()
        command = ControlCommand(
            event_id=f"control/{SERVICE}/{now_ns}/{secrets.token_hex(4)}",
            event_time=now_ns,
            account=request.account,
            action=ControlAction[request.action.upper()],
            issued_by=SERVICE,
            reason=request.reason,
        )
        try:
            if self._bus is None:
                self._bus = self._open_bus()
            if self._producer is None:
                # Ids per process: a second page on the same bus must not fence this one's commands.
                self._producer = self._bus.producer(f"monitoring-control-{secrets.token_hex(4)}")
            commit_records(self._producer, [stamped_record(encode(command), SERVICE, now_ns)])
        except BusError as error:
            self.close()
            raise Refusal(503, f"the bus did not take the command: {error}; use perpflow {request.action}") from error
        return command

    def close(self) -> None:
        """Free the bus."""
        producer, bus, self._producer, self._bus = self._producer, self._bus, None, None
        if producer is not None:
            producer.close()
        if bus is not None:
            bus.close()
