"""Searches the choices of a sweep instead of trying all: optuna's tree-structured Parzen estimator proposes the next.

Finished runs are lines of the file of a sweep, so that a search goes on where it was stopped. Reproducible by its
seed as long as it is not stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from libs.runtime.errors import BadInput
from services.backtest.sweep import SweepPlan, SweepPoint, key_of, open_results, run_point, worth_of

_ASKED_PER_RUN = 20
_WORST = -1e9


def run_search(
    plan: SweepPlan,
    runs: int,
    results: Path,
    *,
    by: str,
    seed: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[SweepPoint]:
    """Run so many choices, each chosen by how those before it did by a measure; return all, in order.

    Fewer where the choices end or no new one is proposed any more. Raises `BadInput` where optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise BadInput('optuna is not installed; in the checkout of perpflow: pip install -e ".[research]"') from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = open_results(results, plan)
    distributions = {name: _distribution(optuna.distributions, values) for name, values in plan.varied}
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed + len(known), n_startup_trials=10)
    )
    for point in known.values():
        study.add_trial(
            optuna.trial.create_trial(params=point.parameters, distributions=distributions, value=_value(point, by))
        )
    possible = math.prod(len(values) for _, values in plan.varied)
    wanted = min(runs, possible)
    progress(len(known), wanted)
    with results.open("ab") as file:
        for _ in range(wanted * _ASKED_PER_RUN):
            if len(known) >= wanted:
                break
            trial = study.ask(distributions)
            found = known.get(key_of(trial.params))
            if found is None:
                found = known[key_of(trial.params)] = run_point(plan, trial.params)
                found.write(file)
                progress(len(known), wanted)
            study.tell(trial, _value(found, by))
    return list(known.values())


def _value(point: SweepPoint, by: str) -> float:
    return _WORST if point.error else max(_WORST, worth_of(point, by))


def _distribution(kinds: Any, values: tuple[Any, ...]) -> Any:
    """Return numbers at equal steps as a range, which has an order, and anything else as a choice."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) > 1:
        step = numbers[1] - numbers[0]
        is_even = step > 0 and all(
            math.isclose(value, numbers[0] + at * step, rel_tol=1e-9) for at, value in enumerate(numbers)
        )
        if is_even and all(isinstance(value, int) for value in numbers):
            return kinds.IntDistribution(numbers[0], numbers[-1], step=step)
    return kinds.CategoricalDistribution(values)
