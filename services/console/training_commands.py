"""`perpflow train-models`: trains a forecast model of any family, or the starter model that ships."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from libs.clock import SYSTEM_CLOCK, Clock
from libs.runtime.errors import BadInput, DependencyUnavailable
from services.console.output import print_json

if TYPE_CHECKING:
    from services.training.evaluation import Progress
    from services.training.training import TrainedModel

_SAY_EVERY_S = 10.0
FAMILIES = (
    "linear",
    "logistic",
    "forest",
    "boosting",
    "lightgbm",
    "xgboost",
    "ensemble",
    "stacked",
    "transformer",
    "tcn",
    "nbeats",
    "patchtst",
    "informer",
    "tft",
)
"""Listed here too, so that help needs no training library; a test compares."""


class LabelChoice(StrEnum):
    """What a model forecasts."""

    TERCILES = "terciles"
    BARRIER = "barrier"
    META = "meta"


class ValidationChoice(StrEnum):
    """How it is tested."""

    WALK_FORWARD = "walk-forward"
    COMBINATORIAL = "combinatorial"


def train_models(
    input_: Annotated[
        Path | None, typer.Option("--input", metavar="BARS.parquet", help="Klines to train on, with a volume column.")
    ] = None,
    settled_funding: Annotated[
        Path | None, typer.Option(metavar="F.parquet", help="Funding beside the bars: columns time, rate.")
    ] = None,
    open_interest: Annotated[
        Path | None, typer.Option(metavar="F.parquet", help="Open interest: columns time, open_interest.")
    ] = None,
    mark: Annotated[Path | None, typer.Option(metavar="F.parquet", help="Mark bars: open_time, close.")] = None,
    index: Annotated[Path | None, typer.Option(metavar="F.parquet", help="Index bars: open_time, close.")] = None,
    readings: Annotated[
        Path | None, typer.Option(metavar="F.parquet", help="Readings of collect-alternative; for outside_v1.")
    ] = None,
    simulated_seed: Annotated[
        int | None, typer.Option(min=0, help="Train on the simulated market of this seed instead of a file.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days of the simulated market.")] = 30,
    output: Annotated[Path, typer.Option(help="The registry: OUTPUT/NAME/VERSION is written.")] = Path("var/models"),
    name: Annotated[str, typer.Option(help="The model's name: letters, digits, '_', '.', '-'.")] = "direction",
    family: Annotated[str, typer.Option(help=f"One of {', '.join(FAMILIES)}.")] = "lightgbm",
    task: Annotated[str, typer.Option(help="classify or regress; the family's own by default.")] = "",
    feature_set: Annotated[str, typer.Option(metavar="SET", help="A feature set that ships.")] = "core_v1",
    horizon: Annotated[
        str, typer.Option(metavar="TIME", help="How far ahead to forecast: 5m, 1h; five bars by default.")
    ] = "",
    window: Annotated[
        int, typer.Option(min=0, max=1000, help="Bars that it looks back on; 0 for the family's own.")
    ] = 0,
    label: Annotated[
        LabelChoice, typer.Option(help="Terciles of returns, triple barrier, or meta-labels.")
    ] = LabelChoice.TERCILES,
    barrier: Annotated[float, typer.Option(min=0.1, max=10.0, help="Barriers' distance, in deviations.")] = 1.0,
    outlook: Annotated[
        int, typer.Option(min=0, max=90, metavar="DAYS", help="Days ahead that tft forecasts moments of too.")
    ] = 0,
    folds: Annotated[int, typer.Option(min=1, max=60, help="Tests before the final fit.")] = 3,
    validation: Annotated[ValidationChoice, typer.Option(help="How to test.")] = ValidationChoice.WALK_FORWARD,
    parameter: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=NUMBER", help="Of the family; may be given again.")
    ] = None,
    fee_bps: Annotated[float, typer.Option(min=0.0, max=100.0, help="Fee a side, in bps.")] = 4.5,
    half_spread_bps: Annotated[float, typer.Option(min=0.0, max=100.0, help="Half the spread, in bps.")] = 0.1,
    funding: Annotated[float, typer.Option(min=-10.0, max=10.0, help="Funding that longs pay, in bps an hour.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of everything that is drawn.")] = 1,
    compare: Annotated[bool, typer.Option("--compare/--no-compare", help="Test simpler models beside it.")] = True,
    track: Annotated[bool, typer.Option("--track", help="Track the training in MLflow.")] = False,
    track_in: Annotated[
        str, typer.Option(metavar="URL", help="Where --track does: a folder, or an MLflow server's URL.")
    ] = "var/mlruns",
    promote: Annotated[bool, typer.Option("--promote", help="Have new sessions begin with it.")] = False,
    accept_no_edge: Annotated[bool, typer.Option("--accept-no-edge", help="Promote it without an edge too.")] = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="Have new sessions run it as a shadow.")] = False,
    retrain_every: Annotated[
        str,
        typer.Option(metavar="TIME", help="Train only where the newest model of that name is this much older: 7d."),
    ] = "",
    retrain_on_drift: Annotated[
        bool, typer.Option("--retrain-on-drift", help="Train only, or sooner, where that model drifts.")
    ] = False,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", metavar="URL", help="Where to see drift; the sessions running here by default."),
    ] = None,
    starter: Annotated[bool, typer.Option("--starter", help="Rebuild the model that ships with perpflow.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Train a model on bars, test it out of sample beside simpler ones, say whether it has an edge after costs.

    Writes one bundle, a graph and its manifest, with a report as HTML and JSON. With --retrain-every or
    --retrain-on-drift it is a job to run by a schedule: it trains only where that is due, and a new model starts as a
    shadow.

    Examples:

      perpflow train-models --input bars_1m.parquet --name btc --horizon 1h

      perpflow train-models --input bars_5m.parquet --family logistic --label barrier --folds 6 --json

      perpflow train-models --input bars_1h.parquet --feature-set outside_v1 --settled-funding funding.parquet

      perpflow train-models --input bars_1h.parquet --family tft --outlook 30

      perpflow train-models --simulated-seed 11 --days 30 --name sim --family transformer --param epochs=2

      perpflow train-models --input bars_1m.parquet --name btc --retrain-every 7d --retrain-on-drift

      perpflow train-models --starter
    """
    import re

    if starter and (input_ is not None or simulated_seed is not None):
        raise BadInput("--starter is made of fixed data; leave out --input and --simulated-seed")
    if not starter and (input_ is None) == (simulated_seed is None):
        raise BadInput("give --input BARS.parquet or --simulated-seed N, one of them")
    if input_ is None and any((settled_funding, open_interest, mark, index, readings)):
        raise BadInput(
            "--settled-funding, --open-interest, --mark, --index and --readings lie beside --input; give that"
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise BadInput(f"--name {name!r}: use letters, digits, '_', '.', '-', at most 64")
    if starter and (shadow or retrain_every or retrain_on_drift):
        raise BadInput("--starter is no model of the registry; leave out --shadow and --retrain-...")
    if promote and (shadow or retrain_every or retrain_on_drift):
        raise BadInput("--promote and --shadow or --retrain-... contradict each other: a shadow is promoted later")
    if metrics and not retrain_on_drift:
        raise BadInput("--metrics belongs to --retrain-on-drift")
    parameters = parse_parameters(parameter or [])
    try:
        from services.training.core.labels import LabelOptions
        from services.training.core.trading import Costs
        from services.training.market_data import read_bars, simulate_bars
        from services.training.published import PublishedFiles
        from services.training.report import describe_line
        from services.training.starter import train_starter
        from services.training.training import TrainingOptions, train_model
    except ModuleNotFoundError as error:
        raise DependencyUnavailable(
            f'{error.name} is not installed; in the checkout of perpflow: pip install -e ".[training]"'
        ) from None
    with shown_progress(is_quiet=json) as progress:
        if starter:
            trained = train_starter(progress)
        else:
            data = (
                read_bars(input_, PublishedFiles(settled_funding, open_interest, mark, index, readings))
                if input_ is not None
                else simulate_bars(simulated_seed or 0, days)
            )
            if (retrain_every or retrain_on_drift) and not _is_due(
                output, name, int(data.table.open_times[-1]), retrain_every, metrics, retrain_on_drift, json
            ):
                return
            costs = Costs(fee_bps, half_spread_bps, funding)
            bars_ahead = parse_horizon(horizon, data.table.step_ns)
            options = TrainingOptions(
                name=name,
                seed=seed,
                family=family,
                task=task,
                feature_set=feature_set,
                window=window,
                label=LabelOptions(bars_ahead, label.value, barrier, costs.round_trip_bps, outlook),
                folds=folds,
                validation=validation.value,
                parameters=parameters,
                costs=costs,
                compares=compare,
            )
            trained = _train_tracked(
                track_in if track else "", name, partial(train_model, data, options, output, progress)
            )
    if json:
        print_json(_describe(trained))
    else:
        print(describe_line(trained.manifest, trained.evaluation))
        print(f"  bundle   {trained.folder}, sha256 {trained.manifest.bundle_sha256}")
        if not starter:
            print(f"  report   {trained.folder / 'report.html'}")
        print(f"  memory   {_peak_mib():,.0f} MiB at most")
    if starter:
        return
    from services.console.models_registry import add_shadow, find_entry, write_default

    reference = trained.manifest.reference
    entry = find_entry(output, reference)
    if promote:
        from services.console.models_commands import demand_edge

        demand_edge(entry, accept_no_edge)
        write_default(output, entry)
    elif shadow or retrain_every or retrain_on_drift:
        add_shadow(output, entry)
        if not json:
            print("  shadow   of new sessions, but those on the simulated market")
    elif not json:
        shadows = f"PERPFLOW_INFERENCE_SHADOWS='[\"{reference}\"]'"
        print(f"  shadow   PERPFLOW_INFERENCE_MODELS_DIR={output} {shadows} perpflow up")


def train_sizing(
    input_: Annotated[Path, typer.Option("--input", metavar="BARS.parquet", help="Klines, with a volume column.")],
    instrument: Annotated[str, typer.Option(help="Whose trading rules and margin, SYMBOL.VENUE.")] = "BTCUSDT.BINANCE",
    family: Annotated[str, typer.Option(help=f"Of the model that forecasts: one of {', '.join(FAMILIES)}.")] = (
        "lightgbm"
    ),
    feature_set: Annotated[str, typer.Option(metavar="SET", help="A feature set that ships.")] = "core_v1",
    horizon: Annotated[
        str, typer.Option(metavar="TIME", help="How far ahead to forecast and for how long to hold: 4h; five bars.")
    ] = "",
    steps: Annotated[int, typer.Option(min=256, max=10_000_000, help="Decisions that the agent learns from.")] = 20_000,
    max_leverage: Annotated[float, typer.Option(min=0.1, max=125.0, help="Of every size.")] = 3.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of everything that is drawn.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Learn position sizes by reinforcement (PPO) and hold them against the five sizing rules on bars not seen.

    The first half of the bars trains a model, its forecasts of the third quarter an agent; the fourth quarter tests.

    Example: perpflow train-sizing --input bars_1h.parquet --horizon 4h
    """
    from decimal import Decimal

    from libs.domain.instruments import UnknownInstrument, find_instrument

    try:
        find_instrument(instrument)
    except UnknownInstrument as error:
        raise BadInput(str(error)) from error
    try:
        from services.training.core.labels import LabelOptions
        from services.training.market_data import read_bars
        from services.training.sizing import SizingTerms, learn_sizes
        from services.training.training import TrainingOptions
    except ModuleNotFoundError as error:
        raise DependencyUnavailable(
            f'{error.name} is not installed; in the checkout of perpflow: pip install -e ".[training]"'
        ) from None
    data = read_bars(input_)
    label = LabelOptions(parse_horizon(horizon, data.table.step_ns))
    options = TrainingOptions("sizing", seed, family=family, feature_set=feature_set, label=label)
    terms = SizingTerms(max_leverage=Decimal(str(max_leverage)))
    with shown_progress(is_quiet=json) as progress:
        described = learn_sizes(data, options, terms, instrument, steps, progress).describe()
    if json:
        print_json(described)
        return
    for name, walk in described["walks"].items():
        chance = f"  p that ppo is better by chance {walk['p_agent_is_better']:.3f}" if name != "ppo" else ""
        print(
            f"{name:<18} {walk['return']:+8.2%}  Sharpe {walk['sharpe']:+.2f}  drawdown {walk['drawdown']:.1%}"
            f"{'  LIQUIDATED' if walk['is_liquidated'] else ''}{chance}"
        )
    print(f"the agent is {described['verdict']}, over {described['walks']['ppo']['decisions']} decisions")


def _is_due(
    output: Path, name: str, data_to: int, every: str, urls: Sequence[str] | None, on_drift: bool, json: bool
) -> bool:
    from services.console.durations import parse_duration_s
    from services.console.retraining import describe_drift, fetch_metrics, newest_model, running_metrics
    from services.training.core.retraining import RetrainRule

    rule = RetrainRule(int(parse_duration_s("--retrain-every", every) * 1e9) if every else 0, on_drift)
    newest = newest_model(output, name)
    drift = ""
    if newest is not None and on_drift:
        drift = describe_drift(fetch_metrics(urls or running_metrics()), newest.name, newest.version)
    reason = rule.why_due(
        None if newest is None else int(newest.manifest["training"]["last_open_time"]), data_to, drift
    )
    if reason:
        sys.stderr.write(f"training {name}: {reason}\n")
    elif json:
        print_json({"is_due": False, "newest": None if newest is None else newest.reference})
    else:
        print(f"{name}: not due, {'no model' if newest is None else newest.reference} is the newest")
    return bool(reason)


def _train_tracked(uri: str, name: str, train: Callable[[], TrainedModel]) -> TrainedModel:
    if not uri:
        return train()
    from services.training.tracking import Tracker

    tracker = Tracker(uri, name)
    try:
        trained = train()
    except BaseException:
        tracker.fail()
        raise
    sys.stderr.write(f"tracked as run {tracker.finish(trained)} in {uri}\n")
    return trained


def parse_parameters(texts: Sequence[str]) -> dict[str, int | float]:
    """Read NAME=NUMBER texts. Raises `BadInput`."""
    parameters: dict[str, int | float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not name or not math.isfinite(number):
            raise BadInput(f"--param {text!r}: write NAME=NUMBER, such as trees=200")
        parameters[name] = int(number) if number.is_integer() else number
    return parameters


def parse_horizon(text: str, step_ns: int) -> int:
    """Return a horizon in bars. Raises `BadInput` where it is no whole number of them."""
    from services.console.durations import parse_duration_s

    if not text:
        return 5
    bars = parse_duration_s("--horizon", text) * 1e9 / step_ns
    if bars < 1 or not float(bars).is_integer():
        raise BadInput(f"--horizon {text} is no whole number of the input's bars of {step_ns / 1e9:g} s")
    return int(bars)


class shown_progress:  # noqa: N801
    """Shows stages: bars with loss and time left on a terminal, else a line to stderr now and then."""

    def __init__(self, *, is_quiet: bool, clock: Clock = SYSTEM_CLOCK) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._writes = not is_quiet and not console.is_terminal
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=console, disable=is_quiet or not console.is_terminal)
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, float] = {}
        self._clock = clock
        self._said_at = -math.inf

    def __enter__(self) -> Progress:
        self._bars.start()
        return self._show

    def __exit__(self, *_details: object) -> None:
        self._bars.stop()

    def _show(self, what: str, done: int, total: int, loss: float) -> None:
        now = self._clock.monotonic_s()
        said = "" if math.isnan(loss) else f"loss {loss:.4f}"
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, loss=said)
            self._began[what] = now
        self._bars.update(self._tasks[what], completed=done, total=total, loss=said)
        if self._writes and (now - self._said_at >= _SAY_EVERY_S or done == total):
            self._said_at = now
            spent = now - self._began[what]
            left = f", {spent / done * (total - done):.0f} s left" if 0 < done < total else ""
            sys.stderr.write(f"{what}: {done} of {total}{', ' if said else ''}{said}{left}\n")


def _describe(trained: TrainedModel) -> dict[str, Any]:
    manifest = trained.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "reference": manifest.reference,
        "family": manifest.family,
        "folder": str(trained.folder),
        "onnx_sha256": manifest.onnx_sha256,
        "bundle_sha256": manifest.bundle_sha256,
        "feature_set": manifest.feature_set,
        "schema_hash": manifest.schema_hash,
        "timeframe": manifest.timeframe,
        "window": manifest.window,
        "horizon_ns": manifest.horizon_ns,
        "inputs": [one.name for one in manifest.inputs],
        "label": manifest.label,
        "training": manifest.training,
        "verdict": manifest.verdict,
        "metrics": manifest.metrics,
        "peak_memory_mib": round(_peak_mib()),
    }


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
