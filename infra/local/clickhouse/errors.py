"""ClickHouse errors as values: the code, the text and the HTTP status a real server answers with."""

from __future__ import annotations

import re
from http import HTTPStatus

NOT_IMPLEMENTED = 48
UNKNOWN_COMPRESSION_METHOD = 89
READONLY = 164
CANNOT_DECOMPRESS = 271
ACCESS_DENIED = 497
SESSION_NOT_FOUND = 372
SESSION_IS_LOCKED = 373
INVALID_SESSION_TIMEOUT = 374
BAD_ARGUMENTS = 36
AUTHENTICATION_FAILED = 516
UNKNOWN_EXCEPTION = 1002
# What chDB's own signal handler makes every query fail with once the engine has crashed.
ENGINE_CRASHED = 236

_NAMES = {
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    UNKNOWN_COMPRESSION_METHOD: "UNKNOWN_COMPRESSION_METHOD",
    READONLY: "READONLY",
    ACCESS_DENIED: "ACCESS_DENIED",
    CANNOT_DECOMPRESS: "CANNOT_DECOMPRESS",
    SESSION_NOT_FOUND: "SESSION_NOT_FOUND",
    SESSION_IS_LOCKED: "SESSION_IS_LOCKED",
    INVALID_SESSION_TIMEOUT: "INVALID_SESSION_TIMEOUT",
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    UNKNOWN_EXCEPTION: "UNKNOWN_EXCEPTION",
}

# The server's own table of statuses (ClickHouse, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp); all others are 500.
_STATUSES: dict[HTTPStatus, tuple[int, ...]] = {
    HTTPStatus.UNAUTHORIZED: (194,),
    HTTPStatus.FORBIDDEN: (192, 193, 497, 512, 516),
    HTTPStatus.BAD_REQUEST: (
        *(6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123),
        *(167, 168, 223, 321, 376, 427, 441, 675, 676),
    ),
    HTTPStatus.NOT_FOUND: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: (229,),
    HTTPStatus.NOT_IMPLEMENTED: (48,),
    HTTPStatus.SERVICE_UNAVAILABLE: (76, 209, 439),
    HTTPStatus.LENGTH_REQUIRED: (381,),
    HTTPStatus.REQUEST_TIMEOUT: (159,),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: (779,),
}
_STATUS_OF_CODE = {code: status for status, codes in _STATUSES.items() for code in codes}
_CODE = re.compile(r"Code: (\d+)\. ")


class EngineError(Exception):
    """An error with a ClickHouse code; `text` is the whole message from ``Code: N.`` on, without the version."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status a ClickHouse server gives this code."""
        return _STATUS_OF_CODE.get(self.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def refuse(code: int, reason: str) -> EngineError:
    """Make an error of this server's own, in the form of the engine's."""
    return EngineError(code, f"Code: {code}. DB::Exception: {reason}. ({_NAMES[code]})")


def read_engine_error(message: str) -> EngineError:
    """Read chDB's error text, whatever chDB put before it; a text without a code becomes UNKNOWN_EXCEPTION."""
    found = _CODE.search(message)
    if found is None:
        return refuse(UNKNOWN_EXCEPTION, message.strip() or "the engine gave no reason")
    text = re.sub(r" \(version [^)]*\)\s*$", "", message[found.start() :].strip())
    return EngineError(int(found.group(1)), text)
