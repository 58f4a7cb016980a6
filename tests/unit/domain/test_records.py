"""The quick initialiser: the same instances as a dataclass's own makes, and nothing that it would get wrong."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from inspect import signature
from typing import Any

import pytest

from libs.domain.market import MarketEvent
from libs.domain.records import quickly_made
from tests.kit.examples import make_example


@dataclass(frozen=True, slots=True)
class Plain:
    first: int
    second: str = "two"


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick:
    first: int
    second: str = "two"


def test_instances_are_those_of_a_dataclass() -> None:
    quick, plain = Quick(1), Plain(1)
    assert type(quick) is Quick
    assert repr(quick) == repr(plain).replace("Plain", "Quick")
    assert hash(quick) == hash(plain)
    assert quick == Quick(first=1, second="two") != Quick(2)
    assert pickle.loads(pickle.dumps(quick)) == copy.deepcopy(quick) == quick
    assert replace(quick, second="x") == Quick(1, "x")
    assert str(signature(Quick)).replace(", *", "") == str(signature(Plain)).replace(", *", "")


def test_instances_stay_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Quick(1).first = 2
    with pytest.raises(AttributeError):
        object.__setattr__(Quick(1), "third", 3)


@pytest.mark.parametrize("arguments", [(), (1, 2, 3)])
def test_a_wrong_number_of_arguments_is_refused_by_name(arguments: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match=r"Quick\.__init__\(\)"):
        Quick(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", MarketEvent.__args__)
def test_market_events_hold_what_they_are_given(kind: Any) -> None:
    event = make_example(kind)
    again = kind(*(getattr(event, each.name) for each in fields(kind)))
    assert type(again) is kind
    assert again == event


def test_what_stores_more_than_it_is_given_is_refused() -> None:
    @dataclass(frozen=True)
    class Roomy:
        first: int

    @dataclass(frozen=True, slots=True)
    class Made:
        first: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Inherits(Plain):
        third: int = 3

    @dataclass(frozen=True, slots=True)
    class Checked:
        first: int

        def __post_init__(self) -> None:
            """Check nothing."""

    for kind in (Roomy, Made, Inherits, Checked):
        with pytest.raises(TypeError, match=kind.__name__):
            quickly_made(kind)
