"""The parameters of one request, read as what they must be. Refuses with Binance's codes for missing and odd ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from services.exchange.core.account.refusals import Refused, invalid, missing
from services.exchange.core.frames import SYMBOL

CLIENT_ID = r"^[\.A-Z\:/a-z0-9_-]{1,36}$"
_NUMBER = r"^-?([0-9]{1,20})(\.[0-9]{1,20})?$"
_INTEGER = r"^[0-9]{1,18}$"


class Parameters:
    """Parameters as they were sent, name to text; an empty text counts as not sent."""

    def __init__(self, sent: Mapping[str, str]) -> None:
        self.sent = {name: text for name, text in sent.items() if text != ""}

    def text(self, name: str) -> str:
        """Return a mandatory parameter."""
        if name not in self.sent:
            raise missing(name)
        return self.sent[name]

    def check_symbol(self, *, is_optional: bool = False) -> None:
        """Refuse any symbol but the one that is listed."""
        if is_optional and "symbol" not in self.sent:
            return
        if self.text("symbol").upper() != SYMBOL:
            raise Refused(-1121, "Invalid symbol.")

    def word(self, name: str, known: tuple[str, ...], refusal: Refused, default: str | None = None) -> str:
        """Return one of the known words; `refusal` is raised for another."""
        value = self.sent.get(name, default)
        if value is None:
            raise missing(name)
        if value.upper() not in known:
            raise refusal
        return value.upper()

    def only(self, name: str, *known: str) -> None:
        """Refuse an optional word that stands for something this exchange does not do."""
        value = self.sent.get(name)
        if value is not None and value.upper() not in known:
            raise invalid(name, f"this exchange knows {' and '.join(known)}")

    def flag(self, name: str) -> bool:
        """Return true or false; not sent is false."""
        value = self.sent.get(name, "false").lower()
        if value not in ("true", "false"):
            raise _illegal(name, "true or false")
        return value == "true"

    def decimal(self, name: str) -> Decimal:
        """Return a mandatory decimal number."""
        text = self.text(name)
        if re.fullmatch(_NUMBER, text) is None:
            raise _illegal(name, _NUMBER)
        return Decimal(text)

    def optional_decimal(self, *names: str) -> Decimal | None:
        """Return the first of some decimal numbers that was sent."""
        return next((self.decimal(name) for name in names if name in self.sent), None)

    def integer(self, name: str, default: int | None = None, low: int = 0, high: int = 2**60) -> int:
        """Return a whole number of a range; without a default it is mandatory."""
        text = self.sent.get(name)
        if text is None:
            if default is None:
                raise missing(name)
            return default
        if re.fullmatch(_INTEGER, text) is None:
            raise _illegal(name, _INTEGER)
        if not low <= int(text) <= high:
            raise invalid(name, f"it must be from {low} to {high}")
        return int(text)

    def optional_integer(self, name: str) -> int | None:
        """Return a whole number, None where it was not sent."""
        return self.integer(name) if name in self.sent else None

    def new_client_id(self, name: str) -> str:
        """Return the id a client gives its order, empty where it gives none."""
        value = self.sent.get(name, "")
        if len(value) > 36:
            raise Refused(-4015, "Client order id length should be less than 36 chars.")
        if value and re.fullmatch(CLIENT_ID, value) is None:
            raise _illegal(name, CLIENT_ID)
        return value


def _illegal(name: str, legal: str) -> Refused:
    return Refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")
