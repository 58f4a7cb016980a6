"""Who may talk to the server: a program that knows the password, on this machine unless told otherwise; no web page.

A browser sends a page's requests to any address with the page's own `Host` or `Origin`; both must be this server's. A
server that listens beyond this machine (in a container) cannot know its names: there `Origin` and the password decide.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import stat
from email.message import Message
from pathlib import Path

from infra.local.clickhouse.errors import AUTHENTICATION_FAILED, refuse

USER = "perpflow"
# What ClickHouse's own image and our users.d take the password's hash from.
HASH_VARIABLE = "CLICKHOUSE_PASSWORD_SHA256"
_MIN_PASSWORD_LENGTH = 16
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


class Credential:
    """The one user and the SHA-256 of its password."""

    def __init__(self, password_sha256: str) -> None:
        """Raises `ValueError` where it is no SHA-256 in hexadecimal digits."""
        if re.fullmatch("[0-9a-fA-F]{64}", password_sha256) is None:
            raise ValueError("it is no SHA-256: 64 hexadecimal digits")
        self._hash = bytes.fromhex(password_sha256)

    @classmethod
    def read(cls, path: Path) -> Credential:
        """Read the password from a file. Raises `ValueError` where others may read it or it is too short."""
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ValueError("others may read it; chmod 600")
        password = path.read_text().strip()
        if len(password) < _MIN_PASSWORD_LENGTH:
            raise ValueError(f"it holds fewer than {_MIN_PASSWORD_LENGTH} characters")
        return cls(hashlib.sha256(password.encode()).hexdigest())

    def check(self, headers: Message) -> None:
        """Raise `EngineError` where a request's headers do not carry user and password."""
        user = headers.get("X-ClickHouse-User", "")
        password = headers.get("X-ClickHouse-Key", "")
        scheme, _, encoded = headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            user, password = _decode_basic(encoded)
        known = hmac.compare_digest(user.encode(errors="replace"), USER.encode())
        shown = hashlib.sha256(password.encode(errors="replace")).digest()
        if not (hmac.compare_digest(shown, self._hash) and known):
            raise refuse(
                AUTHENTICATION_FAILED,
                "Authentication failed: password is incorrect, or there is no user with such name. Send user and "
                "password as Basic authentication or in X-ClickHouse-User and X-ClickHouse-Key",
            )


def find_foreign_origin(headers: Message, *, is_local: bool = True) -> str:
    """Say why a request is a web page's or, where this server is for its own machine, is meant for another host; empty
    for one that is neither."""
    host = headers.get("Host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if is_local and name.lower() not in _LOOPBACK_NAMES:
        return f"Host {host!r} is not this server; it answers as 127.0.0.1 and localhost"
    if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none":
        return "requests of web pages are refused"
    return ""


def _decode_basic(encoded: str) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise refuse(AUTHENTICATION_FAILED, "Authorization is not valid Basic authentication") from None
    return user, password
