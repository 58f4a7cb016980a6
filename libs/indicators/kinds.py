"""What a kind of feature is: its name, step, inputs, outputs, warm-up, range, unit and the source of its formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from libs.indicators.columns import series_inputs

Number: TypeAlias = int | float
Params: TypeAlias = Mapping[str, Number]
Count: TypeAlias = Callable[[Params], int]

GROUPS: Final = (
    "price",
    "technical",
    "liquidity",
    "volatility",
    "trend",
    "statistics",
    "derivatives",
    "outside",
    "microstructure",
    "time",
)

_CHANGES: Final = frozenset(
    {
        "log_return",
        "absolute_return",
        "squared_return",
        "overnight",
        "true_range",
        "illiquidity",
        "higher_high",
        "lower_low",
        "path",
        "flow_up",
        "flow_down",
        "signed_square",
    }
)
"""Series that need the bar before, so that their first value comes with the second bar."""

PERIODS: Final = ("n", "p", "q")
LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Output:
    """One number that a step writes. `name` is a pattern over the parameters; `low` and `high` bound it, None if open.

    `warm_up` counts the bars of its timeframe, the current one included, that the first value needs.
    """

    name: str
    unit: str
    low: float | None
    high: float | None
    warm_up: Count
    description: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A definition: one compiled step with its operands.

    `constant` is a number, or the name of a parameter, that the step finds first in its state; `state` counts the
    floats after it; `reach` is how many bars back its windows look; `least` is the shortest period that its formula
    allows; with `is_ordered` period `n` must be shorter than `p`. `version` changes when the formula does.
    """

    name: str
    group: str
    step: str
    series: tuple[str, ...]
    outputs: tuple[Output, ...]
    source: str
    state: Count
    reach: Count
    defaults: tuple[tuple[str, Number], ...]
    constant: Number | str | None
    least: int
    is_ordered: bool
    version: int

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns of a bar that the kind reads."""
        seen: dict[str, None] = {}
        for name in self.series:
            seen.update(dict.fromkeys(series_inputs(name)))
        return tuple(seen)

    def complete(self, params: Params) -> dict[str, Number]:
        """Fill in defaults and check names and ranges; ValueError names the parameter."""
        merged = dict(self.defaults)
        for name, value in params.items():
            if name not in merged:
                raise ValueError(f"{self.name} has no parameter {name!r}; it has {', '.join(merged) or 'none'}")
            merged[name] = value
        for name, value in merged.items():
            if name in PERIODS and (not isinstance(value, int) or not self.least <= value <= LONGEST):
                raise ValueError(
                    f"{self.name} {name}={value!r} must be a whole number of bars from {self.least} to {LONGEST}"
                )
            if name not in PERIODS and not 0.0 < value < 1000.0:
                raise ValueError(f"{self.name} {name}={value!r} must be above 0 and below 1000")
        if self.is_ordered and not merged["n"] < merged["p"]:
            raise ValueError(f"{self.name} n={merged['n']!r} must be below p={merged['p']!r}")
        return merged


def lead_of(series: tuple[str, ...]) -> int:
    """Count the bars that pass before all of the series have a value."""
    return 1 if any(name in _CHANGES for name in series) else 0


def output(
    name: str,
    unit: str,
    low: float | None,
    high: float | None,
    warm_up: Count,
    description: str,
) -> Output:
    """Describe one number of a kind."""
    return Output(name, unit, low, high, warm_up, description)


def kind(
    name: str,
    group: str,
    step: str,
    series: tuple[str, ...],
    outputs: tuple[Output, ...],
    source: str,
    *,
    state: Count | int = 0,
    reach: Count | None = None,
    constant: Number | str | None = None,
    least: int = 1,
    is_ordered: bool = False,
    version: int = 1,
    **defaults: Number,
) -> Kind:
    """Define a kind; without `reach` its windows look back the longest of its periods."""

    def longest(params: Params) -> int:
        return max([int(params[p]) for p in PERIODS if p in params], default=1)

    def fixed(_params: Params) -> int:
        return state if isinstance(state, int) else 0

    return Kind(
        name=name,
        group=group,
        step=step,
        series=series,
        outputs=outputs,
        source=source,
        state=state if callable(state) else fixed,
        reach=reach or longest,
        defaults=tuple(defaults.items()),
        constant=constant,
        least=least,
        is_ordered=is_ordered,
        version=version,
    )
