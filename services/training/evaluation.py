"""Evaluates models out of sample: the same folds for the model, for simpler ones and for rules, then the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.training.core.bars import BarTable
from services.training.core.baselines import rule_scores
from services.training.core.distribution import ScoredReturns
from services.training.core.examples import gather_windows
from services.training.core.labels import LabelOptions, classify
from services.training.core.measures import Forecasts, Measured, measure, side_score
from services.training.core.outlook import OutlookScore, score_outlook
from services.training.core.splits import Fold
from services.training.core.trading import Costs, Traded, decide, resample_mean, sharpe_ratio, trade
from services.training.core.verdict import Evidence, Verdict, deflated_sharpe_of, judge, overfitting_of
from services.training.families import Explained, Looking
from services.training.fitting import FittedModel, ModelChoice, Sample, fit_model

Places: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Progress: TypeAlias = Callable[[str, int, int, float], None]
"""Receives the current stage, the steps done, the steps in all, and the loss, NaN where there is none."""

FitKept: TypeAlias = Callable[[str, Callable[[], FittedModel]], FittedModel]

SUSPECT_AUC = 0.65
"""A single input that ranks the returns of bars better than this knows more than the past."""

_VOLATILITY_INPUTS = 6
_SHOWN = 20
_AT_ONCE = 2048
_EXPLAINED, _LEAST_EXPLAINED = 1000, 200


@dataclass(frozen=True, slots=True)
class Competitor:
    """A model to evaluate, under a name; `wanted` are its inputs, all of the sample's where empty."""

    name: str
    choice: ModelChoice
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """What one model or rule reached out of sample."""

    name: str
    forecasts: Forecasts
    measures: Mapping[str, Measured]
    traded: Traded
    net_bps_per_day: float
    net_interval: tuple[float, float]
    sharpe: float
    gross_sharpe: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything a report shows. The model is the first of `scored`."""

    scored: tuple[Scored, ...]
    verdict: Verdict
    reason: str
    evidence: Evidence
    costs: Costs
    label: LabelOptions
    folds: int
    importance: Mapping[str, float] = field(default_factory=dict)
    suspects: tuple[str, ...] = ()
    contributions: Mapping[str, float] = field(default_factory=dict)
    outlook: OutlookScore | None = None
    variables: Mapping[str, float] = field(default_factory=dict)
    attention: tuple[float, ...] = ()


def evaluate(
    bars: BarTable,
    sample: Sample,
    folds: Sequence[Fold],
    competitors: Sequence[Competitor],
    label: LabelOptions,
    costs: Costs,
    seed: int,
    progress: Progress,
    fit_kept: FitKept = lambda _name, fit: fit(),
) -> Evaluation:
    """Fit every competitor in every fold, pool what it forecasts of the tested bars, and judge the first.

    `fit_kept` receives a name and a fit, and may return what an earlier run of the same training fitted.
    """
    tested = np.unique(np.concatenate([fold.test for fold in folds]))
    horizon_ns = label.horizon * bars.step_ns
    scored = []
    fitted: list[FittedModel] = []
    for competitor in competitors:
        own = Sample(sample.names, sample.values, sample.labels, competitor.wanted or sample.wanted)
        pooled = _forecast_folds(own, folds, tested, competitor, progress, fit_kept)
        fitted = fitted or pooled.fitted
        classes = (
            classify(sample.labels.moves[tested], pooled.dead_bands)
            if sample.labels.classes is None
            else sample.labels.classes[tested]
        )
        forecasts = Forecasts(
            bars.open_times[tested],
            side_score(pooled.probabilities),
            classes,
            sample.labels.moved_bps[tested],
            pooled.expected,
            pooled.probabilities,
            pooled.returns,
        )
        scored.append(_score(competitor.name, forecasts, decide(pooled.expected, costs), horizon_ns, costs, seed))
    shared = scored[0].forecasts
    for name, score in rule_scores(bars.close, tested, label.horizon).items():
        forecasts = Forecasts(shared.times, score, shared.classes, shared.moved_bps)
        scored.append(_score(name, forecasts, np.sign(score), horizon_ns, costs, seed))
    deviation_bps = sample.labels.deviation_bps[tested]
    scored.append(_majority(shared, horizon_ns, costs, seed, _places_of(folds, tested), fitted, deviation_bps))
    last = fitted[-1]
    suspects = find_suspects(sample, folds[-1].test)
    evidence, verdict, reason = _judge(scored, suspects)
    return Evaluation(
        tuple(scored),
        verdict,
        reason,
        evidence,
        costs,
        label,
        len(folds),
        permutation_importance(last, sample, folds[-1].test, seed),
        suspects,
        explain(last, sample, folds[-1].test, seed),
        judge_outlook(fitted, sample, folds),
        *look(last, sample, folds[-1].test, seed),
    )


def find_suspects(sample: Sample, places: Places) -> tuple[str, ...]:
    """Name the inputs that alone rank the returns of bars better than anything past can."""
    moved = sample.labels.moved_bps[places]
    place_of = {name: place for place, name in enumerate(sample.names)}
    found = []
    for name in sample.wanted:
        values = sample.values[places, place_of[name]]
        known = np.isfinite(values) & (moved != 0.0)
        if known.sum() < 100:
            continue
        ranks = _mean_ranks(values[known])
        ups = moved[known] > 0.0
        pairs = float(ups.sum() * (~ups).sum())
        area = (float(ranks[ups].sum()) - ups.sum() * (ups.sum() + 1) / 2.0) / pairs if pairs else 0.5
        if max(area, 1.0 - area) > SUSPECT_AUC:
            found.append(name)
    return tuple(found)


def permutation_importance(model: FittedModel, sample: Sample, places: Places, seed: int) -> dict[str, float]:
    """Return how much the log loss of the last tested bars grows when an input's values are shuffled among them.

    Breiman 2001; over 1,000 windows at most, fewer of long ones, the twenty inputs that matter most.
    """
    chance = np.random.default_rng(seed)
    count = min(len(places), max(_LEAST_EXPLAINED, _EXPLAINED // model.window))
    chosen = np.sort(chance.choice(places, count, replace=False))
    windows = gather_windows(model.raw_rows(sample), chosen, model.window)
    classes = sample.classes(chosen, model.dead_band)
    own = np.arange(len(chosen))

    def loss(given: npt.NDArray[np.float32]) -> float:
        probabilities, _ = model.forecast(given)
        return float(-np.log(np.clip(probabilities[own, classes], 1e-12, 1.0)).mean())

    plain = loss(windows)
    grown = {}
    for place, name in enumerate(model.inputs.names):
        shuffled = windows.copy()
        shuffled[:, :, place] = windows[chance.permutation(len(chosen)), :, place]
        grown[name] = loss(shuffled) - plain
    return dict(sorted(grown.items(), key=lambda one: -one[1])[:_SHOWN])


def explain(model: FittedModel, sample: Sample, places: Places, seed: int) -> dict[str, float]:
    """Return the mean magnitude of each input's SHAP values (Lundberg and Lee 2017) over the last tested bars.

    Over 1,000 windows at most, the twenty inputs that matter most; nothing for a family that cannot say.
    """
    if not isinstance(model.fitted, Explained):
        return {}
    chosen = np.sort(np.random.default_rng(seed).choice(places, min(_EXPLAINED, len(places)), replace=False))
    windows = model.inputs.scale(gather_windows(model.raw_rows(sample), chosen, model.window))
    means = np.abs(model.fitted.contributions(windows)).mean(axis=0).reshape(model.window, -1).sum(axis=0)
    found = zip(model.inputs.names, means.tolist(), strict=True)
    return dict(sorted(found, key=lambda one: -one[1])[:_SHOWN])


def judge_outlook(fitted: Sequence[FittedModel], sample: Sample, folds: Sequence[Fold]) -> OutlookScore | None:
    """Score the outlooks of all folds together, bars of the day's scale, or None where there is none."""
    parts = []
    for model, fold in zip(fitted, folds, strict=True):
        if sample.paths is None or not isinstance(model.fitted, Looking):
            return None
        rows = model.inputs.scale(model.raw_rows(sample))
        forecast = np.concatenate(
            [
                model.fitted.outlook(gather_windows(rows, fold.test[first : first + _AT_ONCE], model.window))
                for first in range(0, len(fold.test), _AT_ONCE)
            ]
        )
        parts.append((forecast, sample.paths[fold.test], fold.train))
    forecasts, paths = np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts])
    assert sample.paths is not None
    return score_outlook(forecasts, paths, sample.paths[parts[0][2]])


def look(model: FittedModel, sample: Sample, places: Places, seed: int) -> tuple[dict[str, float], tuple[float, ...]]:
    """Return the mean weights of the variables that weigh most and of the bars, oldest first; empty without them."""
    if not isinstance(model.fitted, Looking):
        return {}, ()
    chosen = np.sort(np.random.default_rng(seed).choice(places, min(_LEAST_EXPLAINED, len(places)), replace=False))
    windows = model.inputs.scale(gather_windows(model.raw_rows(sample), chosen, model.window))
    variables, bars = model.fitted.looked_at(windows)
    found = sorted(zip(model.inputs.names, variables.tolist(), strict=True), key=lambda one: -one[1])
    return dict(found[:_SHOWN]), tuple(bars.tolist())


def volatility_inputs(wanted: Sequence[str]) -> tuple[str, ...]:
    """Name the inputs of the volatility-only baseline."""
    return tuple(one for one in wanted if "volatility" in one or one.startswith("natr"))[:_VOLATILITY_INPUTS]


@dataclass(frozen=True, slots=True)
class _Pooled:
    """What a competitor forecast of the tested bars, and the models that did, fold by fold."""

    probabilities: Floats
    expected: Floats
    dead_bands: Floats
    returns: ScoredReturns
    fitted: list[FittedModel]


def _forecast_folds(
    sample: Sample,
    folds: Sequence[Fold],
    tested: Places,
    competitor: Competitor,
    progress: Progress,
    fit_kept: FitKept,
) -> _Pooled:
    probabilities = np.zeros((len(tested), 3))
    expected, dead_bands, crps, low, high, times = np.zeros((6, len(tested)))
    models = []
    labels = sample.labels
    for number, (fold, at) in enumerate(zip(folds, _places_of(folds, tested), strict=True), start=1):
        what = f"{competitor.name}, fold {number} of {len(folds)}"
        on_step = partial(progress, what)
        fit = partial(fit_model, sample, fold.train, fold.calibrate, competitor.choice, on_step)
        fitted = fit_kept(what, fit)
        own_probabilities, own_expected = fitted.forecast_bars(sample, fold.test)
        scored = fitted.returns.score(own_probabilities, labels.deviation_bps[fold.test], labels.moved_bps[fold.test])
        probabilities[at] += own_probabilities
        expected[at] += own_expected
        dead_bands[at] += fitted.dead_band
        crps[at] += scored.crps_bps
        low[at] += scored.low_bps
        high[at] += scored.high_bps
        times[at] += 1.0
        models.append(fitted)
        chosen = own_probabilities[np.arange(len(at)), sample.classes(fold.test, fitted.dead_band)]
        progress(f"{what}, out of sample", 1, 1, float(-np.log(np.clip(chosen, 1e-12, 1.0)).mean()))
    returns = ScoredReturns(crps / times, low / times, high / times)
    return _Pooled(probabilities / times[:, np.newaxis], expected / times, dead_bands / times, returns, models)


def _places_of(folds: Sequence[Fold], tested: Places) -> list[Places]:
    return [np.searchsorted(tested, fold.test) for fold in folds]


def _score(name: str, forecasts: Forecasts, positions: Floats, horizon_ns: int, costs: Costs, seed: int) -> Scored:
    traded = trade(forecasts.times, positions, forecasts.moved_bps, horizon_ns, costs)
    measures = measure(forecasts, seed)
    return Scored(
        name,
        forecasts,
        measures,
        traded,
        float(traded.net_bps.mean()),
        resample_mean(traded.net_bps, seed),
        sharpe_ratio(traded.net_bps),
        sharpe_ratio(traded.gross_bps),
    )


def _majority(
    shared: Forecasts,
    horizon_ns: int,
    costs: Costs,
    seed: int,
    places: Sequence[Places],
    fitted: Sequence[FittedModel],
    deviation_bps: Floats,
) -> Scored:
    """Score the forecast that knows only how often each class comes: expanding shares, each bar's own past alone.

    Its distribution of returns has the classes' parts as each fold's training bars had them, and no wider an interval.
    """
    counts = np.cumsum(np.eye(3)[shared.classes], axis=0)
    reach = int(np.searchsorted(shared.times, shared.times[0] + horizon_ns, side="right"))
    past = np.vstack([np.zeros((reach, 3)), counts])[: len(shared)] + 1.0
    probabilities = past / past.sum(axis=1, keepdims=True)
    crps, low, high = np.zeros((3, len(shared)))
    for at, model in zip(places, fitted, strict=True):
        own = replace(model.returns, widening=0.0).score(probabilities[at], deviation_bps[at], shared.moved_bps[at])
        crps[at], low[at], high[at] = own.crps_bps, own.low_bps, own.high_bps
    zeros = np.zeros(len(shared))
    returns = ScoredReturns(crps, low, high)
    forecasts = Forecasts(shared.times, zeros, shared.classes, shared.moved_bps, zeros, probabilities, returns)
    return _score("majority", forecasts, zeros, horizon_ns, costs, seed)


def weigh_evidence(auc_low: float, daily: Floats, net_interval: tuple[float, float], trials: Floats) -> Evidence:
    """Return what the verdict on a model stands on.

    `daily` are its net returns in bps by day, `trials` those of everything that was tried, it included, (days, trials).
    """
    deviations = trials.std(axis=0)
    sharpes = np.where(deviations > 0.0, trials.mean(axis=0) / np.where(deviations > 0.0, deviations, 1.0), 0.0)
    return Evidence(
        auc_low=auc_low,
        mean_net_bps=float(daily.mean()),
        mean_net_low_bps=net_interval[0],
        deflated_sharpe=deflated_sharpe_of(daily, sharpes),
        overfitting=overfitting_of(trials),
    )


def _judge(scored: Sequence[Scored], suspects: Sequence[str]) -> tuple[Evidence, Verdict, str]:
    model = scored[0]
    trials = np.column_stack([one.traded.net_bps for one in scored])
    evidence = weigh_evidence(model.measures["auc"].low, model.traded.net_bps, model.net_interval, trials)
    if suspects:
        reason = f"{', '.join(suspects)} alone ranks returns with an AUC above {SUSPECT_AUC}: it knows the future"
        return evidence, Verdict.LEAK, reason
    verdict, reason = judge(evidence)
    return evidence, verdict, reason


def _mean_ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[place]
    return ranks


__all__ = ["Competitor", "Evaluation", "Progress", "Scored", "evaluate", "volatility_inputs"]
