"""Sharing partitions out, and the partition of a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.bus.api import TopicPartition, partition_of
from libs.bus.groups import share_partitions

TOPICS = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 12), min_size=1)
MEMBERS = st.dictionaries(st.text("mn0123", min_size=1, max_size=4), st.sets(st.sampled_from("abcd")), min_size=1)


@pytest.mark.slow
@given(MEMBERS, TOPICS)
def test_every_partition_has_exactly_one_reader_that_wants_it(
    members: dict[str, set[str]], topics: dict[str, int]
) -> None:
    shares = share_partitions(members, topics)
    given_out = [place for share in shares.values() for place in share]
    wanted = set().union(*members.values())
    assert len(given_out) == len(set(given_out))
    assert set(given_out) == {TopicPartition(t, n) for t, count in topics.items() if t in wanted for n in range(count)}
    assert all(place.topic in members[member] for member, share in shares.items() for place in share)


@given(st.integers(1, 6), st.integers(1, 12))
def test_topics_with_equal_counts_are_shared_alike_and_evenly(members: int, partitions: int) -> None:
    shares = share_partitions({f"m{n}": ["a", "b"] for n in range(members)}, {"a": partitions, "b": partitions})
    sizes = []
    for share in shares.values():
        numbers = {topic: {place.partition for place in share if place.topic == topic} for topic in "ab"}
        assert numbers["a"] == numbers["b"]
        sizes.append(len(numbers["a"]))
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_land_where_kafkas_own_clients_put_them(key: bytes, murmur2: int) -> None:
    """The hashes are those of Apache Kafka's own test (UtilsTest.testMurmur2)."""
    for partitions in (1, 2, 3, 7, 64):
        assert partition_of(key, partitions) == (murmur2 & 0x7FFFFFFF) % partitions
