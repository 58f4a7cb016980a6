"""A state comes back as it was, whatever it holds; another core's, a newer and a damaged one are refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.market import Side
from libs.domain.orders import CancelOrder, PlaceOrder
from libs.domain.state import ArrayOf, StateFormat, StateMismatch, Words, describe_state
from tests.kit.golden import examples

RECORD = np.dtype([("count", "<i8"), ("mean", "<f8")])


@dataclass(slots=True)
class Inner:
    amount: Decimal
    side: Side | None = None


@dataclass(slots=True)
class Sample:
    """A field of every kind that cores keep."""

    name: str = ""
    count: int = 0
    big: int = 0
    rate: float = 0.0
    by_name: dict[str, Inner] = field(default_factory=dict)
    pairs: list[tuple[int, str]] = field(default_factory=list)
    words: Words = field(default_factory=set)
    command: PlaceOrder | CancelOrder | None = None
    records: Annotated[npt.NDArray[np.void], ArrayOf(RECORD)] = field(default_factory=lambda: np.zeros(0, RECORD))
    table: Annotated[npt.NDArray[np.float64], ArrayOf("<f8")] = field(default_factory=lambda: np.zeros((0, 2)))


FORMAT = StateFormat("sample", 1, Sample)


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.text(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(
        st.text(), st.builds(Inner, st.decimals(allow_nan=False, allow_infinity=False), st.sampled_from([None, *Side]))
    ),
    st.lists(st.tuples(st.integers(-(2**31), 2**31), st.text())),
    st.sets(st.text()),
    st.lists(st.tuples(st.integers(-5, 5), st.floats())),
)
def test_a_state_comes_back_as_it_was(
    name: str, count: int, rate: float, by_name: Any, pairs: Any, words: Any, rows: Any
) -> None:
    state = Sample(
        name, count, count * 10**30, rate, by_name, pairs, words, None, np.array(rows, RECORD), np.full((2, 3), np.nan)
    )
    kept = FORMAT.encode(state)
    again = FORMAT.decode(kept)
    assert FORMAT.encode(again) == kept
    assert again.big == count * 10**30
    assert (again.name, again.count, again.rate, again.pairs, again.words) == (name, count, rate, pairs, words)
    assert list(again.by_name.items()) == list(by_name.items())
    assert [str(inner.amount) for inner in again.by_name.values()] == [str(inner.amount) for inner in by_name.values()]
    assert again.records.tobytes() == state.records.tobytes()
    assert np.isnan(again.table).all() and again.table.shape == (2, 3)
    again.table[0, 0] = 1.0


@pytest.mark.parametrize("kind", ["place_order", "cancel_order"])
def test_a_command_of_either_kind_comes_back_as_that_kind(kind: str) -> None:
    command: Any = examples()[kind]
    assert FORMAT.decode(FORMAT.encode(Sample(command=command))).command == command


def test_a_state_that_is_brought_up_keeps_its_arrays_and_big_numbers() -> None:
    kept = FORMAT.encode(Sample(big=10**40, records=np.array([(1, 0.5)], RECORD)))
    again = StateFormat("sample", 2, Sample, migrations={1: lambda values: values}).decode(kept)
    assert again.big == 10**40 and again.records.tolist() == [(1, 0.5)]


def test_another_cores_state_and_a_newer_one_are_refused_by_name() -> None:
    kept = FORMAT.encode(Sample())
    with pytest.raises(StateMismatch, match="the kept state is of sample, not of other"):
        StateFormat("other", 1, Sample).decode(kept)
    newer = StateFormat("sample", 7, Sample).encode(Sample())
    with pytest.raises(StateMismatch, match="version 7, newer than the 1 that this build reads"):
        FORMAT.decode(newer)


def test_an_older_version_is_brought_up_step_by_step_or_refused() -> None:
    kept = FORMAT.encode(Sample(name="old"))
    steps = {1: lambda values: values | {"count": 5}, 2: lambda values: values | {"count": values["count"] * 2}}
    assert StateFormat("sample", 3, Sample, migrations=steps).decode(kept).count == 10
    with pytest.raises(StateMismatch, match="is version 1 and this build reads 2; go on with the build that wrote it"):
        StateFormat("sample", 2, Sample).decode(kept)


def test_bytes_from_before_versions_are_read_or_refused() -> None:
    with pytest.raises(StateMismatch, match="the kept state of sample is of a build before states had"):
        FORMAT.decode(b'{"name": "x"}')
    reader = StateFormat(
        "sample", 1, Sample, migrations={0: lambda values: values}, read_unversioned=lambda _: {"count": 3}
    )
    assert reader.decode(b"anything").count == 3


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"count":4', b'"count":"x"', "the kept state of sample cannot be read: count: "),
        (b'"mean"', b'"meal"', "records: .* records of other fields"),
    ],
)
def test_a_damaged_state_is_refused_naming_the_field(old: bytes, new: bytes, reason: str) -> None:
    kept = FORMAT.encode(Sample(count=4))
    assert old in kept
    with pytest.raises(StateMismatch, match=reason):
        FORMAT.decode(kept.replace(old, new))


def test_a_kept_state_is_described_in_plain_values() -> None:
    records = np.array([(1, 0.5), (2, 1.5)], RECORD)
    described = describe_state(FORMAT.encode(Sample("x", records=records, table=np.array([[1.0, 2.0]]))))
    assert described is not None
    assert (described["name"], described["version"], described["state"]["name"]) == ("sample", 1, "x")
    names = RECORD.names or ()
    assert described["state"]["records"] == [dict(zip(names, values, strict=True)) for values in records.tolist()]
    assert described["state"]["table"] == [[1.0, 2.0]]


def test_bytes_of_another_form_are_not_described() -> None:
    assert describe_state(b"") is None
