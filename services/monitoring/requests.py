"""What a request must look like before it is acted on: host, origin, size and body. Each refusal says how to fix it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.domain.validation import place_of
from services.monitoring.settings import MonitoringSettings

BODY_LIMIT_BYTES = 4096
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
# What cannot be taken back, or starts trading again, is typed out in full.
TYPED_ACTIONS = frozenset({"resume", "flatten"})

BodyT = TypeVar("BodyT", bound=BaseModel)


class Refusal(Exception):
    """A request that is not carried out: HTTP status and a sentence that says what is wrong and how to fix it."""

    def __init__(self, status: int, reason: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class ControlRequest(BaseModel):
    """The body of a command. `confirmation` repeats action and account where the action must be typed out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["halt", "resume", "reduce", "flatten"]
    account: str = Field(pattern=r"^(\*|[A-Za-z0-9_.-]{1,64})$")
    reason: str = Field(min_length=1, max_length=200)
    confirmation: str = Field(default="", max_length=100)


def read_body(kind: type[BodyT], body: bytes) -> BodyT:
    """Read a JSON body. Raises `Refusal` that names the field, never the value."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = place_of(first["loc"]) or "the body"
        raise Refusal(422, f"{where}: {first['msg']}; send {', '.join(kind.model_fields)}") from None


def read_control_request(body: bytes) -> ControlRequest:
    """Read the body of a command. Raises `Refusal`."""
    request = read_body(ControlRequest, body)
    wanted = f"{request.action} {request.account}"
    if request.action in TYPED_ACTIONS and request.confirmation != wanted:
        raise Refusal(422, f"confirmation: type {wanted!r} to confirm")
    return request


async def read_limited(request: Request) -> bytes:
    """Read a body that is no longer than any of ours. Raises `Refusal`."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_LIMIT_BYTES:
            raise Refusal(413, f"a body has at most {BODY_LIMIT_BYTES} bytes")
    return bytes(body)


def check_host(host: str | None, settings: MonitoringSettings) -> None:
    """Refuse a request under a foreign host name, which is how a page elsewhere would reach us (DNS rebinding)."""
    name = _host_name(host)
    if name not in LOOPBACK_NAMES and name not in settings.allowed_hosts:
        raise Refusal(421, f"this page is not {name!r}; add it to PERPFLOW_MONITORING_ALLOWED_HOSTS if it is")


def check_is_own_page(headers: Mapping[str, str]) -> None:
    """Let a request that changes something through only from this page or from a program. Raises `Refusal`.

    A browser names the page that asks (Origin, Sec-Fetch-Site), and cannot send JSON to another host without asking
    first; a program sends neither header.
    """
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "send the body as application/json")
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise Refusal(403, f"taken from this page only, not from a {site} page")
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise Refusal(403, f"taken from this page only, not from {origin}")


def _host_name(host: str | None) -> str:
    try:
        return urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return ""
