"""The texts of errors that every bus raises alike."""

from __future__ import annotations

from libs.bus.api import BusError, OffsetGone, TopicPartition


def offset_gone(place: TopicPartition, position: int, begin: int | None = None) -> OffsetGone:
    """Say that a reader stands before the oldest record kept, at `begin` where that is known."""
    kept = "the oldest record kept" if begin is None else f"offset {begin}, the oldest record kept"
    return OffsetGone(
        f"{place.topic}/{place.partition} was to be read from offset {position}, which lies before {kept}: the records "
        "between were removed before they were read; restore the topic, or start a new session"
    )


def past_the_end(place: TopicPartition, offset: int, end: int) -> BusError:
    """Say that records were to be removed which do not exist."""
    return BusError(
        f"{place.topic}/{place.partition} ends at {end}: the records before {offset} cannot be removed; "
        "name an offset up to the end"
    )
