"""Feature sets: named, versioned, hashed lists of features over one base timeframe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Self

from libs.indicators.catalog import CATALOG
from libs.indicators.kinds import Kind, Number, Output

BASE: Final = "base"
"""The timeframe of features that follow the set's base timeframe."""

TIMEFRAME_SECONDS: Final[dict[str, int]] = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400}


class FeatureSetError(ValueError):
    """A feature set is unknown, malformed or not the one that was promised."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature of a set: an output of a kind with its parameters on a timeframe."""

    kind: Kind
    output: int
    params: tuple[tuple[str, Number], ...]
    timeframe: str = BASE

    @property
    def definition(self) -> Output:
        """The output's entry in the catalog."""
        return self.kind.outputs[self.output]

    @property
    def name(self) -> str:
        """Column name: the pattern filled in, and the timeframe where it is not the base."""
        filled = self.definition.name.format(**dict(self.params))
        return filled if self.timeframe == BASE else f"{filled}_{self.timeframe}"

    @property
    def warm_up(self) -> int:
        """Bars of its timeframe, the current one included, until the first value."""
        return self.definition.warm_up(dict(self.params))

    def describe(self) -> dict[str, Any]:
        """List what a reader of the catalog wants to know, ready for JSON."""
        made = self.definition
        return {
            "name": self.name,
            "group": self.kind.group,
            "unit": made.unit,
            "range": [made.low, made.high],
            "warm_up": self.warm_up,
            "timeframe": self.timeframe,
            "inputs": list(self.kind.inputs),
            "formula_source": self.kind.source,
            "description": made.description,
            "kind": self.kind.name,
            "params": dict(self.params),
            "formula_version": self.kind.version,
        }

    def canonical(self) -> dict[str, object]:
        """What the schema hash covers."""
        return {
            "name": self.name,
            "kind": self.kind.name,
            "output": self.output,
            "params": {name: float(value) for name, value in self.params},
            "timeframe": self.timeframe,
            "formula_version": self.kind.version,
        }


def features_of(kind_name: str, timeframe: str = BASE, only: Iterable[str] = (), **params: Number) -> list[Feature]:
    """List a kind's features on a timeframe, all outputs or those whose name patterns are in `only`.

    Raises FeatureSetError for an unknown kind, parameter, timeframe or pattern.
    """
    if kind_name not in CATALOG:
        raise FeatureSetError(f"no kind of feature {kind_name!r}; there are {', '.join(sorted(CATALOG))}")
    if timeframe != BASE and timeframe not in TIMEFRAME_SECONDS:
        raise FeatureSetError(f"no timeframe {timeframe!r}; there are {', '.join(TIMEFRAME_SECONDS)}")
    chosen = CATALOG[kind_name]
    try:
        complete = tuple(sorted(chosen.complete(params).items()))
    except ValueError as error:
        raise FeatureSetError(str(error)) from error
    patterns = [made.name for made in chosen.outputs]
    wanted = list(only) or patterns
    missing = [pattern for pattern in wanted if pattern not in patterns]
    if missing:
        raise FeatureSetError(f"{kind_name} has no output {missing[0]!r}; it has {', '.join(patterns)}")
    return [Feature(chosen, patterns.index(pattern), complete, timeframe) for pattern in wanted]


@dataclass(frozen=True)
class FeatureSet:
    """An ordered list of features. Its hash rides on every vector, model and table made with it."""

    name: str
    version: int
    features: tuple[Feature, ...]
    base_timeframe: str = "1m"
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(feature.name for feature in self.features)
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise FeatureSetError(f"feature set {self.name} has {repeated[0]} twice")
        if not names:
            raise FeatureSetError(f"feature set {self.name} is empty")
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def schema_hash(self) -> str:
        """The sha256 of the set's canonical JSON: base timeframe, and each feature's name, operands and version."""
        body = {
            "name": self.name,
            "version": self.version,
            "base_timeframe": self.base_timeframe,
            "features": [feature.canonical() for feature in self.features],
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @cached_property
    def timeframes(self) -> tuple[str, ...]:
        """Timeframes of the set, the base first, then the higher ones in order of length."""
        named = {feature.timeframe for feature in self.features} - {BASE, self.base_timeframe}
        return (self.base_timeframe, *sorted(named, key=lambda timeframe: TIMEFRAME_SECONDS[timeframe]))

    def on(self, base_timeframe: str) -> Self:
        """The same list over another base timeframe; another hash."""
        return replace(self, base_timeframe=base_timeframe)

    def check_hash(self, schema_hash: str, owner: str) -> None:
        """Refuse loudly what was made with another definition: FeatureSetError names both hashes."""
        if schema_hash != self.schema_hash:
            raise FeatureSetError(
                f"{owner} was made with feature set hash {schema_hash[:12]}, but {self.name} over {self.base_timeframe}"
                f" here is {self.schema_hash[:12]}; retrain it, or run the version of perpflow that it was made with"
            )
