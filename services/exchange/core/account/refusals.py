"""Why the exchange refuses a request: Binance's code and message."""

from __future__ import annotations

from typing import NoReturn

BACK_END_TIMEOUT = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."


class Refused(Exception):
    """A request is refused. `code` is Binance's, `status` the HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def refuse_sentence(sentence: str) -> NoReturn:
    """Raise `Refused` of a sentence that begins with its code, as the rules of `libs.matching` say it."""
    code, _, message = sentence.partition(" ")
    raise Refused(int(code), f"{message[:1].upper()}{message[1:]}.")


def missing(name: str) -> Refused:
    """Return the refusal of a mandatory parameter that was not sent."""
    return Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def invalid(name: str, why: str = "") -> Refused:
    """Return the refusal of a parameter whose value is not allowed."""
    return Refused(-1130, f"Data sent for parameter '{name}' is not valid{': ' + why if why else ''}.")
