"""Runs a strategy over many choices of its parameters, in processes of their own, and says how much choosing did.

Each finished run is a line of a file, so that a sweep that was stopped goes on where it was; the file belongs to one
plan, which its first line names.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from libs.portfolio.trials import deflated_sharpe, overfitting_probability
from libs.runtime.errors import BadInput
from services.backtest.bar_sweep import RETURNS, BarSweep
from services.backtest.inputs import MarketInput, open_recording, open_simulation
from services.backtest.options import BacktestOptions
from services.backtest.returns import kurtosis, sample, sharpe_ratio, simple_returns, skewness
from services.backtest.run import run_backtest
from services.backtest.selection import cross_validate_choice, reality_check
from services.backtest.summary import summarise
from services.strategy.settings import StrategyChoice

RANKED = ("sharpe", "sortino", "calmar", "return", "profit_factor", "expectancy_usdt", "max_drawdown")
_KEPT = ("pnl_usdt", "return", "fees_usdt", "sharpe", "sortino", "calmar", "max_drawdown", "trades", "win_rate",
         "profit_factor", "expectancy_usdt", "exposure_share", "turnover")  # fmt: skip
_BATCH = 16
_MOST_POINTS = 100_000


@dataclass(frozen=True, slots=True)
class MarketSource:
    """A market that each process opens for itself: a recording, or the simulated one by its seed."""

    instrument: str
    path: str = ""
    seed: int = 0
    minutes: int = 0

    def open(self) -> MarketInput:
        """Open the market. Raises `BadInput`."""
        if self.path:
            return open_recording(Path(self.path), instrument=self.instrument, history=None, history_bars=0)
        return open_simulation(self.seed, minutes=self.minutes, history_bars=300)


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What to vary: the strategy with its fixed parameters, and the values of each that varies."""

    market: MarketSource
    options: BacktestOptions
    strategy: StrategyChoice
    varied: tuple[tuple[str, tuple[Any, ...]], ...]

    def points(self, random_points: int = 0, seed: int = 0) -> list[dict[str, Any]]:
        """Return every combination in order, or so many of them drawn without repeats. Raises `BadInput`."""
        count = int(np.prod([len(values) for _, values in self.varied]))
        if count > _MOST_POINTS and not random_points:
            raise BadInput(f"{count} combinations are too many for a grid; give --random N or fewer values")
        names = [name for name, _ in self.varied]
        if not random_points or random_points >= count:
            return [
                dict(zip(names, values, strict=True))
                for values in itertools.product(*(values for _, values in self.varied))
            ]
        drawn = np.random.default_rng(seed).choice(count, random_points, replace=False)
        return [self._point(int(place)) for place in sorted(drawn.tolist())]

    def _point(self, place: int) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for name, values in reversed(self.varied):
            place, at = divmod(place, len(values))
            chosen[name] = values[at]
        return dict(reversed(chosen.items()))

    def identity(self) -> str:
        """Name what the runs have in common, so that results of another plan are not mixed in."""
        described = {
            "market": self.market,
            "strategy": self.strategy.model_dump(mode="json"),
            "options": repr(replace(self.options, strategies=())),
        }
        return hashlib.sha256(orjson.dumps(described, option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One run: its parameters, measures, returns over equal steps of the period, and the error that ended it."""

    parameters: dict[str, Any]
    measures: dict[str, Any]
    returns: list[float]
    error: str = ""

    def write(self, file: BinaryIO) -> None:
        """Append it to a file of results."""
        file.write(orjson.dumps(self) + b"\n")
        file.flush()


def run_point(plan: SweepPlan, parameters: Mapping[str, Any]) -> SweepPoint:
    """Run one choice of parameters; bad parameters are an error of the point, not of the sweep."""
    choice = StrategyChoice(path=plan.strategy.path, parameters={**plan.strategy.parameters, **parameters})
    try:
        result = run_backtest(plan.market.open(), replace(plan.options, strategies=(choice,)))
    except BadInput as error:
        return SweepPoint(dict(parameters), {}, [], str(error))
    measured = summarise(result.record, result.start, result.end)
    times, equity, _ = result.record.equity.within(result.start, result.end)
    at = np.linspace(result.start, result.end, RETURNS + 1).astype(np.int64)
    gained = simple_returns(sample(times, equity, at))
    return SweepPoint(dict(parameters), {name: measured[name] for name in _KEPT}, gained.tolist())


def run_sweep(
    plan: SweepPlan,
    points: Sequence[Mapping[str, Any]],
    results: Path,
    *,
    workers: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[SweepPoint]:
    """Run the points that the file of results does not hold yet; return all, in order. Raises `BadInput`."""
    known = open_results(results, plan)
    missing = [dict(point) for point in points if key_of(point) not in known]
    done = len(points) - len(missing)
    progress(done, len(points))
    with results.open("ab") as file:
        for point in _run_all(plan, missing, workers):
            known[key_of(point.parameters)] = point
            point.write(file)
            done += 1
            progress(done, len(points))
    return [known[key_of(point)] for point in points]


def _run_all(plan: SweepPlan, points: Sequence[dict[str, Any]], workers: int) -> Iterator[SweepPoint]:
    swept = _open_swept(plan, points)
    if swept is not None:
        yield from _run_swept(plan, swept, points, workers)
        return
    if workers <= 1:
        for point in points:
            yield run_point(plan, point)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run_point, plan, point) for point in points]):
            yield future.result()


def _open_swept(plan: SweepPlan, points: Sequence[dict[str, Any]]) -> BarSweep | None:
    for point in points:
        try:
            return BarSweep.open(plan, point)
        except BadInput:
            # What is wrong with this choice is said where it runs; another may do.
            continue
    return None


def _run_swept(
    plan: SweepPlan, swept: BarSweep, points: Sequence[dict[str, Any]], workers: int
) -> Iterator[SweepPoint]:
    """Run choices in threads, which the compiled loops let go on side by side; the engine runs what they cannot."""

    def run_some(own: BarSweep, some: Sequence[dict[str, Any]]) -> list[SweepPoint]:
        return [_run_quickly(plan, own, point) for point in some]

    with ThreadPoolExecutor(max(1, workers)) as pool:
        waiting = [points[first : first + _BATCH] for first in range(0, len(points), _BATCH)]
        free = [swept, *(swept.fork() for _ in range(max(1, workers) - 1))]
        running: dict[Future[list[SweepPoint]], BarSweep] = {}
        while waiting or running:
            while waiting and free:
                own = free.pop()
                running[pool.submit(run_some, own, waiting.pop(0))] = own
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                free.append(running.pop(future))
                yield from future.result()


def _run_quickly(plan: SweepPlan, swept: BarSweep, parameters: Mapping[str, Any]) -> SweepPoint:
    try:
        found = swept.run(parameters)
    except BadInput as error:
        return SweepPoint(dict(parameters), {}, [], str(error))
    return run_point(plan, parameters) if found is None else SweepPoint(dict(parameters), *found)


def key_of(parameters: Mapping[str, Any]) -> bytes:
    """Return what tells a choice of parameters from others."""
    return orjson.dumps(dict(parameters), option=orjson.OPT_SORT_KEYS)


def open_results(path: Path, plan: SweepPlan) -> dict[bytes, SweepPoint]:
    """Return the points that a file of results holds; it is made where it is missing. Raises `BadInput`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or not path.stat().st_size:
        path.write_bytes(orjson.dumps({"plan": plan.identity()}) + b"\n")
        return {}
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        # A run was cut off while it wrote its line.
        path.write_bytes(whole)
    head, *lines = whole.splitlines()
    if orjson.loads(head).get("plan") != plan.identity():
        raise BadInput(f"{path} holds the results of another market, period or strategy; give another --output")
    found = [SweepPoint(**orjson.loads(line)) for line in lines]
    return {key_of(point.parameters): point for point in found}


def rank(points: Sequence[SweepPoint], by: str) -> list[SweepPoint]:
    """Return the points that ran, best first by a measure; where it is not defined they come last."""
    ran = [point for point in points if not point.error]
    return sorted(ran, key=lambda point: worth_of(point, by), reverse=True)


def worth_of(point: SweepPoint, by: str) -> float:
    """Return how good a point that ran is by a measure: the higher the better, minus infinity where it is undefined."""
    value = point.measures[by]
    return -float("inf") if value is None else float(value) * (-1.0 if by == "max_drawdown" else 1.0)


def judge_choice(points: Sequence[SweepPoint], best: SweepPoint, seed: int) -> dict[str, float | int | None]:
    """Return how much of the best point is the choosing: of `selection`, over all points that ran.

    Cross-validated ratios are per step of the returns that points keep.
    """
    returns = np.array([point.returns for point in points if not point.error]).T
    chosen = np.array(best.returns)
    ratios = [ratio for column in returns.T if (ratio := sharpe_ratio(column, 1.0)) is not None]
    own = sharpe_ratio(chosen, 1.0)
    deflated = None
    if own is not None and len(ratios) > 1:
        deflated = deflated_sharpe(
            own,
            steps=len(chosen),
            skew=skewness(chosen) or 0.0,
            kurtosis=(kurtosis(chosen) or 0.0) + 3.0,
            trials=len(ratios),
            variance=float(np.var(ratios, ddof=1)),
        )
    validated = cross_validate_choice(returns)
    return {
        "variants": returns.shape[1],
        "deflated_sharpe_probability": deflated,
        "overfitting_probability": overfitting_probability(returns),
        "reality_check_p_value": reality_check(returns, seed=seed),
        "cross_validated_sharpe_5_percent": None if validated is None else validated.sharpe[0],
        "cross_validated_sharpe_median": None if validated is None else validated.sharpe[1],
        "cross_validated_loss_share": None if validated is None else validated.loss_share,
    }


def parse_values(text: str) -> tuple[str, tuple[Any, ...]]:
    """Read ``NAME=1,2,3`` or ``NAME=FROM:TO:STEP``, both ends included. Raises `BadInput`."""
    name, has_values, values = text.partition("=")
    if not has_values or not name or not values:
        raise BadInput(f"--vary {text!r}: write NAME=1,2,3 or NAME=FROM:TO:STEP")
    if ":" not in values:
        return name, tuple(_read_value(value) for value in values.split(","))
    bounds = [_read_value(value) for value in values.split(":")]
    if len(bounds) != 3 or any(isinstance(bound, str | bool) for bound in bounds) or bounds[2] <= 0:
        raise BadInput(f"--vary {text!r}: write NAME=FROM:TO:STEP with three numbers, STEP above 0")
    first, last, step = bounds
    count = int((last - first) / step + 1e-9) + 1
    if count < 1:
        raise BadInput(f"--vary {text!r}: TO is below FROM")
    made = tuple(first + place * step for place in range(count))
    return name, made if all(isinstance(bound, int) for bound in bounds) else tuple(round(value, 12) for value in made)


def _read_value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
