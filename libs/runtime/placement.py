"""Placement: which partition an instrument or an account has, and so which task of a service handles it.

A task is a service and a partition. Topics keyed by instrument share one partitioning and so do topics keyed by
account; both have as many partitions as the session, for ever. Control and operations have one partition, which every
task reads. An instrument task reads and writes its own partition alone; an account task owns the partition of its one
account and reads, of the market's partitions, those of the instruments that the account trades.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from libs.bus.api import Footprint, TopicPartition, TopicSpec, partition_of
from libs.runtime.errors import BadInput
from libs.wire.topics import (
    CONTROL_TOPICS,
    CORE_SERVICES,
    CORES,
    OUTBOX,
    SOURCES,
    TOPICS,
    KeyKind,
    journal_topic,
    state_topic,
    tasks_topic,
)

_ACCOUNT_SERVICES = frozenset({"strategy", "risk", "execution", OUTBOX})


def task_name(service: str, partition: int) -> str:
    """Name a task: its transactional id, and who its records say made them.

    Task 0 is called after its service, as sessions of one partition always were.
    """
    return service if partition == 0 else f"{service}.{partition}"


def replica_name(service: str, replica: int | None) -> str:
    """Name a replica's process: the first after its service."""
    return f"{service}-{replica}" if replica else service


def chain_name(tasks: Iterable[Task]) -> str:
    """Name the chain of these tasks, as its transactional id, after its first account's partition."""
    return task_name("chain", min(task.partition for task in tasks if is_account_service(task.service)))


def service_of(process: str) -> str:
    """Return the service that a process is a replica of."""
    service, _, number = process.rpartition("-")
    return service if number.isdecimal() else process


def is_account_service(service: str) -> bool:
    """Whether the tasks of a service are accounts; those of the others are instruments."""
    return service in _ACCOUNT_SERVICES


@cache
def key_kind(topic: str) -> KeyKind:
    """Return what decides the partition of a topic's records; a dead letter's is its source's."""
    declared = TOPICS[topic].key
    return TOPICS[topic.removeprefix("dead.")].key if declared == "as source" else declared


def is_divided(topic: str) -> bool:
    """Whether a topic has the session's partitions, not one for all."""
    if topic.removeprefix("dead.") in CONTROL_TOPICS or topic in map(state_topic, SOURCES):
        return False
    return key_kind(topic) != "service"


def has_outside_producers(topic: str) -> bool:
    """Whether others may write where a task writes: anybody in a partition that all share, or no core at all."""
    return not is_divided(topic) or not set(TOPICS[topic].producers) <= set(CORE_SERVICES)


@dataclass(frozen=True, slots=True)
class Task:
    """A core and a partition. `market` holds the partitions of the market that an account task reads, None for all;
    `instruments` are the keys that it takes from there, None for all."""

    service: str
    partition: int = 0
    market: frozenset[int] | None = None
    instruments: frozenset[bytes] | None = None

    @property
    def name(self) -> str:
        """As `task_name`."""
        return task_name(self.service, self.partition)

    @property
    def group(self) -> str:
        """The group of its offsets: its service's, for no two instrument tasks read the same partition; account tasks
        may, and have one each."""
        return self.name if is_account_service(self.service) else self.service

    def takes(self, topic: str, key: bytes) -> bool:
        """Whether a record of this key concerns it."""
        return self.instruments is None or key in self.instruments or key_kind(topic) != "instrument"

    def places(self, counts: Mapping[str, int], topics: Iterable[str]) -> list[TopicPartition]:
        """Return its partitions of those topics that exist; `counts` says how many partitions each topic has."""
        return [
            TopicPartition(topic, number)
            for topic in topics
            for number in range(counts.get(topic, 0))
            if counts[topic] == 1 or self._has(topic, number)
        ]

    def footprint(self, counts: Mapping[str, int]) -> Footprint:
        """Return where its transactions write; `counts` as in `places`."""
        alone = (journal_topic(self.service), state_topic(self.service))
        written = [name for name, each in TOPICS.items() if self.service in each.producers and name not in alone]
        return Footprint(tuple(self.places(counts, alone)), tuple(self.places(counts, written)), (self.group,))

    def _has(self, topic: str, number: int) -> bool:
        if key_kind(topic) == "instrument" and is_account_service(self.service):
            return self.market is None or number in self.market
        return number == self.partition


@dataclass(frozen=True, slots=True)
class AccountPlacement:
    """Where an account is, what it trades, and the settings of its own: variables of strategy, risk and execution."""

    partition: int
    instruments: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placement:
    """The partitions of a session. Instruments that are not placed, and accounts likewise, go where their key hashes.

    Without `accounts` there is one, in partition 0, as the services' own settings describe it.
    """

    partitions: int = 1
    instruments: Mapping[str, int] = field(default_factory=dict)
    accounts: Mapping[str, AccountPlacement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise `BadInput` for what cannot be placed so."""
        held: dict[int, str] = {}
        for name, account in self.accounts.items():
            other = held.setdefault(account.partition, name)
            if other != name:
                raise BadInput(f"accounts {other} and {name} are both placed in partition {account.partition}; an "
                               "account has a partition of its own: place one elsewhere or add partitions")  # fmt: skip
        places = {**self.instruments, **{name: account.partition for name, account in self.accounts.items()}}
        for name, partition in places.items():
            if not 0 <= partition < self.partitions:
                raise BadInput(
                    f"{name} is placed in partition {partition}, but there are {self.partitions}: "
                    f"place it in one of 0 to {self.partitions - 1}, or add partitions"
                )

    def choose(self, topic: str, key: bytes, count: int) -> int:
        """Choose a record's partition: a partitioner for a bus."""
        if count == 1:
            return 0
        kind = key_kind(topic) if topic in TOPICS else "service"
        if kind == "instrument":
            return self.instrument_partition(key.decode(errors="replace"), count)
        if kind == "account" and not self.accounts:
            return 0
        placed = self.accounts.get(key.decode(errors="replace")) if kind == "account" else None
        return partition_of(key, count) if placed is None else placed.partition

    def instrument_partition(self, instrument: str, count: int | None = None) -> int:
        """Return the partition of an instrument."""
        placed = self.instruments.get(instrument)
        return partition_of(instrument.encode(), count or self.partitions) if placed is None else placed

    def topics(self) -> list[TopicSpec]:
        """Return every topic of the registry, and those that the replicas of each service share out."""
        specs = [TopicSpec(name, self.partitions if is_divided(name) else 1) for name in TOPICS]
        return specs + [TopicSpec(tasks_topic(service), self.partitions) for service in CORES]

    def tasks(self, service: str) -> list[Task]:
        """Return the tasks of a service. A partition without an account has no account task."""
        return [task for number in range(self.partitions) if (task := self.task(service, number)) is not None]

    def task(self, service: str, partition: int) -> Task | None:
        """Return the task of a service in a partition, None where there is nothing to do."""
        if not is_account_service(service):
            return Task(service, partition)
        if not self.accounts:
            return Task(service) if partition == 0 else None
        name = self.account_in(partition)
        if name is None:
            return None
        traded = self.accounts[name].instruments
        return Task(
            service,
            partition,
            frozenset(self.instrument_partition(each) for each in traded),
            frozenset(each.encode() for each in traded),
        )

    def account_settings(self, task: Task, prefix: str) -> dict[str, str]:
        """Return the variables with a prefix that the account of a task sets; none where the task has no account."""
        name = self.account_in(task.partition) if is_account_service(task.service) else None
        if name is None:
            return {}
        account = self.accounts[name]
        own = {key: value for key, value in account.settings.items() if key.startswith(prefix)}
        return {**own, f"{prefix}ACCOUNT": name, f"{prefix}INSTRUMENTS": json.dumps(account.instruments)}

    def account_in(self, partition: int) -> str | None:
        """Return the account that is placed in a partition, None where none is."""
        return next((name for name, each in self.accounts.items() if each.partition == partition), None)

    def chain_tasks(self, accounts: Collection[str] = ()) -> list[Task]:
        """Return the tasks of a chain that runs these accounts, by default all, with every instrument that they trade.

        What nobody trades goes to the chain of the first account. Raises `BadInput` for an account that there is not
        and where an account of another chain trades in a partition of this one.
        """
        unknown = sorted(set(accounts) - self.accounts.keys())
        if unknown:
            raise BadInput(f"no account {unknown[0]!r}; the session has {', '.join(self.accounts) or 'none by name'}")
        if not self.accounts or not accounts:
            markets = set(range(self.partitions))
        else:
            markets = set().union(*(self._markets_of(name) for name in accounts))
            for other in self.accounts.keys() - set(accounts):
                self._demand_apart(accounts, other, markets & self._markets_of(other))
            if min(self.accounts, key=lambda name: self.accounts[name].partition) in accounts:
                markets |= set(range(self.partitions)).difference(*map(self._markets_of, self.accounts))
        chosen = set(accounts) or self.accounts.keys()
        return [
            task
            for service in CORE_SERVICES
            for task in self.tasks(service)
            if (
                task.partition in markets
                if not is_account_service(service)
                else not self.accounts or self.account_in(task.partition) in chosen
            )
        ]

    def split_accounts(self, chains: int) -> list[tuple[str, ...]]:
        """Share the accounts out among so many chains; those that trade in one partition stay together.

        Raises `BadInput` where there are fewer such groups than chains.
        """
        groups: list[tuple[set[int], list[str]]] = []
        for name in self.accounts:
            markets, names = set(self._markets_of(name)), [name]
            for tied in [each for each in groups if each[0] & markets]:
                groups.remove(tied)
                markets, names = markets | tied[0], [*tied[1], *names]
            groups.append((markets, names))
        if len(groups) < chains:
            together = "; ".join(", ".join(names) for _, names in groups) or "the one account"
            raise BadInput(
                f"{chains} chains need {chains} groups of accounts that trade in no common partition, and the "
                f"session has {len(groups)} of them ({together}): no instrument may be in two chains; "
                "give --scale chain a smaller number, or let the accounts trade different instruments"
            )
        shares: list[list[str]] = [[] for _ in range(chains)]
        for _, names in sorted(groups, key=lambda each: -len(each[1])):
            min(shares, key=len).extend(names)
        return [tuple(share) for share in shares]

    def _markets_of(self, account: str) -> set[int]:
        return {self.instrument_partition(each) for each in self.accounts[account].instruments}

    def _demand_apart(self, accounts: Collection[str], other: str, common: Collection[int]) -> None:
        for partition in sorted(common):
            mine, theirs = (
                sorted(
                    f"{name} trades {each}"
                    for name in names
                    for each in self.accounts[name].instruments
                    if self.instrument_partition(each) == partition
                )[0]
                for names in (accounts, [other])
            )
            raise BadInput(
                f"{mine} and {theirs}, both in partition {partition}, and no partition may be in two chains: run "
                f"{other} in the same chain, or place the instruments in partitions of their own"
            )


ONE_PARTITION = Placement()


def place_evenly(names: Collection[str], partitions: int) -> dict[str, int]:
    """Place names one after the other, so that no two meet in a partition before every partition has one."""
    return {name: number % partitions for number, name in enumerate(names)}
