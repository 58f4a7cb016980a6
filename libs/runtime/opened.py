"""What stands behind `open()`: one check for everything that is made there."""

from __future__ import annotations

from typing import TypeVar

_Resource = TypeVar("_Resource")


def opened(resource: _Resource | None) -> _Resource:
    """Return what `open()` has made. Raises `RuntimeError` where it was not called."""
    if resource is None:
        raise RuntimeError("open() comes first")
    return resource
