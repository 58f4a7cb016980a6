"""Where a bus's prefix is put before a name and taken away again: what keeps sessions on one log apart."""

from __future__ import annotations

from libs.bus.api import TopicPartition


class Names:
    """Stored names begin with the prefix: those of topics, groups, static members and transactional ids."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._length = len(prefix)

    @property
    def are_stored_as_they_are(self) -> bool:
        """Whether there is no prefix."""
        return not self._prefix

    def stored(self, name: str) -> str:
        """Return the name that the log has."""
        return self._prefix + name

    def plain(self, stored: str) -> str:
        """Return the name that users of the bus have."""
        return stored[self._length :]

    def has(self, stored: str) -> bool:
        """Whether a name of the log is one of this bus's."""
        return stored.startswith(self._prefix)

    def stored_place(self, place: TopicPartition) -> TopicPartition:
        """Return the place that the log has."""
        return TopicPartition(self._prefix + place.topic, place.partition) if self._prefix else place

    def plain_place(self, stored: TopicPartition) -> TopicPartition:
        """Return the place that users of the bus have."""
        return TopicPartition(stored.topic[self._length :], stored.partition)
