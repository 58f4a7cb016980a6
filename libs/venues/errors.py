"""How a venue fails.

::

    VenueError
      VenueUnavailable   no answer, or one that says to come back. A question may be asked again; whether a command
                         took effect nobody knows: ask before anything else
      VenueRefused       the venue said no; nothing happened, and the same request will not help
"""

from __future__ import annotations


class VenueError(Exception):
    """A venue did not do what was asked."""


class VenueUnavailable(VenueError):
    """No answer, a timeout, a 5xx, or a rate limit. `retry_after_s` is what the venue asks for, or 0."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class VenueRefused(VenueError):
    """The venue answered no: `code` is its own error code, 0 where it gave none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code
