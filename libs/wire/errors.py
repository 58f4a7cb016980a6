"""What the wire refuses."""

from __future__ import annotations


class DecodeError(ValueError):
    """Bytes are not the message that the topic carries, or a field has a value that has no meaning."""


class EncodeError(ValueError):
    """A domain value cannot be written exactly."""


class DeclarationError(TypeError):
    """A dataclass and its proto message do not fit each other; raised at import."""


class Refusal(ValueError):
    """A field has no meaning; the decoder adds which message it was and raises `DecodeError`."""
