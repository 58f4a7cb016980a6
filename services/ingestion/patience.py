"""Asks a venue that may not answer yet, for a while; then the failure is one of the process, with its fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.venues.errors import VenueRefused, VenueUnavailable

AnswerT = TypeVar("AnswerT")


def ask_for(
    ask: Callable[[], AnswerT],
    seconds: float,
    *,
    pause_s: float,
    monotonic: Callable[[], float],
    sleep: Callable[[float], None],
    where_unavailable: str,
    where_refused: str,
) -> AnswerT:
    """Ask until there is an answer, at most for some seconds. The last two texts say how to fix each failure.

    Raises `DependencyUnavailable`, or `BadInput` at once where the venue refuses.
    """
    deadline_s = monotonic() + seconds
    while True:
        try:
            return ask()
        except VenueRefused as error:
            raise BadInput(f"{error}; {where_refused}") from error
        except VenueUnavailable as error:
            if monotonic() >= deadline_s:
                raise DependencyUnavailable(f"{error}; {where_unavailable}") from error
            sleep(pause_s)
