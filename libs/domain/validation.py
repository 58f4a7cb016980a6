"""What pydantic found wrong, in words that fit in one line."""

from __future__ import annotations

from collections.abc import Iterable


def place_of(location: Iterable[object]) -> str:
    """Return the place that an error's ``loc`` names, such as ``users.0.name``; empty for the whole.

    A key of what was read may hold anything, a line break too: what cannot be printed is escaped.
    """
    return ".".join(part if part.isprintable() else ascii(part) for part in map(str, location))
