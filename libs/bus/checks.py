"""What every bus refuses, and how it says so: the checks that the three implementations share."""

from __future__ import annotations

from collections.abc import Container

from libs.bus.api import BusError, TopicPartition, TopicSpec, TransactionState


class TransactionGuard:
    """Whether a producer has a transaction open; refuses calls that do not fit."""

    def __init__(self, producer: str) -> None:
        self._producer = producer
        self.is_open = False
        self.is_closed = False

    def require_none(self) -> None:
        """Raise `TransactionState` where one is open already, or the producer was closed."""
        if self.is_closed:
            raise TransactionState(f"producer {self._producer} was closed: open another")
        if self.is_open:
            raise TransactionState(f"producer {self._producer} has a transaction open: commit or abort it first")

    def begin(self) -> None:
        """Note that one is open. Raises as `require_none`."""
        self.require_none()
        self.is_open = True

    def require(self, call: str) -> None:
        """Raise `TransactionState` where none is open."""
        if not self.is_open:
            raise TransactionState(f"producer {self._producer} has no transaction open: call begin before {call}")

    def end(self) -> None:
        """Note that none is open."""
        self.is_open = False


def foreign_consumer(producer: str) -> BusError:
    """Return the error for a transaction that is to commit the offsets of another bus's consumer."""
    return BusError(f"producer {producer} commits offsets of this bus's consumers only: pass one of them")


def check_member(group: str | None, member_id: str | None) -> None:
    """Raise `BusError` for a member of no group."""
    if member_id is not None and group is None:
        raise BusError(f"member {member_id} needs a group: pass one, or no member_id")


def check_open(group: str | None, *, is_closed: bool) -> None:
    """Raise `BusError` for a call to a closed consumer."""
    if is_closed:
        raise BusError(f"this consumer of group {group} was closed: open another")


def check_group(group: str | None) -> str:
    """Return the group whose offsets are meant. Raises `BusError` where a consumer has none."""
    if group is None:
        raise BusError("a consumer without a group has no offsets to commit: open it with a group")
    return group


def check_assigned(where: TopicPartition, assigned: Container[TopicPartition]) -> None:
    """Raise `BusError` for a partition that a consumer does not read."""
    if where not in assigned:
        raise BusError(
            f"{where.topic}[{where.partition}] is not assigned to this consumer: "
            "assign it, or poll until the group does"
        )


def check_spec(spec: TopicSpec) -> None:
    """Raise `BusError` for a topic without partitions."""
    if spec.partitions < 1:
        raise BusError(f"topic {spec.name} needs at least one partition, not {spec.partitions}")


def check_same_partitions(spec: TopicSpec, existing: int) -> None:
    """Raise `BusError` where a topic exists with another number of partitions."""
    if existing != spec.partitions:
        raise BusError(
            f"topic {spec.name} exists with {existing} partitions, not {spec.partitions}: "
            "use that number or another topic"
        )


def check_partition(where: TopicPartition, count: int) -> None:
    """Raise `BusError` for a partition that its topic does not have."""
    if not 0 <= where.partition < count:
        raise BusError(f"topic {where.topic} has {count} partitions: {where.partition} is not one of 0 to {count - 1}")
