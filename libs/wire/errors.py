"""What the wire refuses."""

from __future__ import annotations


class DecodeError(ValueError):
    """Bytes are not the message that the topic carries, or a field has a value that has no meaning."""


class EncodeError(ValueError):
    """A domain value cannot be written exactly."""
