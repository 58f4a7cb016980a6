"""Asks Bybit's REST interface, whose answers carry a code of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from libs.venues.errors import VenueRefused, VenueUnavailable
from libs.venues.rest import RestClient

# Too many visits, and the server's own trouble: worth another try later.
_LATER = frozenset({10000, 10006, 10016, 10018, 10429})


def ask(rest: RestClient, path: str, parameters: Mapping[str, str | int] | None = None) -> Any:
    """Return the result of an answer. Raises `VenueUnavailable` or `VenueRefused`."""
    answer = rest.get_json(path, parameters)
    if not isinstance(answer, dict) or "retCode" not in answer:
        raise VenueUnavailable(f"{rest.base_url}{path} answers {orjson.dumps(answer)[:80]!r}")
    code = answer["retCode"]
    text = f"{rest.base_url}{path} answers {answer.get('retMsg')} (code {code})"
    if code in _LATER:
        raise VenueUnavailable(text)
    if code:
        raise VenueRefused(text, code)
    return answer.get("result", {})
