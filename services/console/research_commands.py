"""`perpflow sweep` and `perpflow walk-forward`: many backtests, and how much of the best one is the choosing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from libs.runtime.errors import BadInput
from services.console.backtest_commands import describe_training, format_time, parse_amount, parse_time
from services.console.durations import parse_duration_s
from services.console.output import print_json

if TYPE_CHECKING:
    from services.backtest.sweep import SweepPlan
    from services.backtest.walk_forward import Retraining

StrategyOption = Annotated[
    str, typer.Option(help='NAME, package.module:Class, or either with ={"parameter": value} for what is fixed.')
]
VaryOption = Annotated[
    list[str], typer.Option(metavar="NAME=VALUES", help="A parameter and its values: 3,5,8 or FROM:TO:STEP.")
]
InputOption = Annotated[
    Path | None, typer.Option("--input", metavar="PATH", help="A capture, Parquet bars or trades, or a folder of them.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the simulated market, without --input; and of chance.")]
SpanOption = Annotated[str, typer.Option(metavar="TIME", help="How long the simulated market runs: 30m, 6h.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Trade from this UTC time on.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Stop at this UTC time.")]
BalanceOption = Annotated[str | None, typer.Option(metavar="USDT", help="What the account starts with.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SERVICE.SETTING=VALUE", help="A setting; may be given again.")
]
ByOption = Annotated[str, typer.Option(help="The measure that ranks: sharpe, sortino, calmar, return, profit_factor.")]
WorkersOption = Annotated[int, typer.Option(min=0, help="Processes at once; 0 for one per core.")]
RandomOption = Annotated[int, typer.Option("--random", min=0, help="Draw this many combinations instead of all.")]
OptunaOption = Annotated[
    int, typer.Option("--optuna", min=0, help="Let optuna choose this many combinations, each by those before it.")
]
OutputOption = Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept, and gone on from.")]
InstrumentOption = Annotated[str, typer.Option(help="What to trade, SYMBOL.VENUE.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]

_SHOWN = 20
_MINUTE_S = 60


def sweep(
    strategy: StrategyOption,
    vary: VaryOption,
    output: OutputOption,
    input_: InputOption = None,
    seed: SeedOption = 7,
    span: SpanOption = "2h",
    from_: FromOption = None,
    to: ToOption = None,
    balance: BalanceOption = None,
    set_: SetOption = None,
    by: ByOption = "sharpe",
    random_: RandomOption = 0,
    optuna: OptunaOption = 0,
    workers: WorkersOption = 0,
    instrument: InstrumentOption = "BTCUSDT.BINANCE",
    json: JsonOption = False,
) -> None:
    """Backtest a strategy over many choices of its parameters; say how much of the best one is the choosing.

    Finished runs are kept in the output folder: the same command goes on where it was stopped.

    Examples:

      perpflow sweep --strategy ema_cross --vary fast_bars=3:12:3 --vary slow_bars=20,40,80 --output var/sweep

      perpflow sweep --strategy ema_cross --vary fast_bars=2:50:1 --vary slow_bars=60:300:5 --random 200 --output var/s2

      perpflow sweep --strategy ema_cross --vary fast_bars=2:50:1 --vary slow_bars=60:300:5 --optuna 60 --output var/s3
    """
    from services.backtest.search import run_search
    from services.backtest.sweep import judge_choice, rank, run_sweep

    _check_measure(by)
    if random_ and optuna:
        raise BadInput("give --random or --optuna, not both")
    plan = _make_plan(strategy, vary, input_, seed, span, from_, to, balance, set_, instrument)
    results = output / "sweep.jsonl"
    with _progress("backtests", json) as show:
        if optuna:
            done = run_search(plan, optuna, results, by=by, seed=seed, progress=show)
        else:
            points = plan.points(random_, seed)
            done = run_sweep(plan, points, results, workers=workers or os.cpu_count() or 1, progress=show)
    ranked = rank(done, by)
    if not ranked:
        raise BadInput(f"no choice of parameters ran; the first says: {done[0].error}")
    judged = judge_choice(done, ranked[0], seed)
    failed = [point for point in done if point.error]
    if json:
        best = [{"parameters": point.parameters, **point.measures} for point in ranked]
        print_json({"ranked": best, "choice": judged, "errors": [asdict(point) for point in failed]})
        return
    print(f"{len(ranked)} ran, {len(failed)} could not; best by {by}:")
    for point in ranked[:_SHOWN]:
        print(f"  {_describe(point.parameters):<44} {_measures(point.measures)}")
    print("how much of the best one is the choosing:")
    for name, value in judged.items():
        print(f"  {name.replace('_', ' '):<30} {'-' if value is None else f'{value:.4g}'}")
    for point in failed[:3]:
        print(f"  could not run {_describe(point.parameters)}: {point.error}")


def walk_forward(
    strategy: StrategyOption,
    vary: VaryOption,
    train: Annotated[str, typer.Option(metavar="TIME", help="Length of each training: 30d, 12h.")],
    test: Annotated[str, typer.Option(metavar="TIME", help="Length of each test.")],
    output: OutputOption,
    input_: InputOption = None,
    seed: SeedOption = 7,
    span: SpanOption = "2h",
    from_: FromOption = None,
    to: ToOption = None,
    balance: BalanceOption = None,
    set_: SetOption = None,
    by: ByOption = "sharpe",
    random_: RandomOption = 0,
    workers: WorkersOption = 0,
    embargo: Annotated[str, typer.Option(metavar="TIME", help="Left out between training and test.")] = "0s",
    anchored: Annotated[bool, typer.Option(help="Train from the beginning each time.")] = False,
    retrain: Annotated[
        str, typer.Option(metavar="FAMILY", help="Train a model of this family in each window, on the bars of --input.")
    ] = "",
    retrain_horizon: Annotated[
        str, typer.Option(metavar="TIME", help="--retrain: how far ahead it forecasts; five bars by default.")
    ] = "",
    purge: Annotated[
        str,
        typer.Option(metavar="TIME", help="--retrain: left out before what a model trades; its horizon by default."),
    ] = "",
    instrument: InstrumentOption = "BTCUSDT.BINANCE",
    json: JsonOption = False,
) -> None:
    """Choose parameters on one stretch of time, trade them on the next, and show only what came after the choosing.

    With --retrain each window trains its models too: one to choose by, one on all of the training for the test.

    Examples:

      perpflow walk-forward --strategy ema_cross --vary fast_bars=3,5,8 --train 60m --test 30m --span 3h --output var/w

      perpflow walk-forward --strategy ema_cross --vary fast_bars=5,9 --input b.parquet --train 9d --test 3d --output w

      perpflow walk-forward --strategy forecast_threshold --vary min_confidence=0.1,0.2 --input b.parquet --train 30d
      --test 5d --retrain logistic --retrain-horizon 1h --embargo 1h --output w
    """
    from services.backtest.run import find_period
    from services.backtest.walk_forward import split_windows
    from services.backtest.walk_forward import walk_forward as walk

    _check_measure(by)
    if retrain and input_ is None:
        raise BadInput("--retrain trains on the bars of --input; give it")
    if not retrain and (retrain_horizon or purge):
        raise BadInput("--retrain-horizon and --purge belong to --retrain")
    plan = _make_plan(strategy, vary, input_, seed, span, from_, to, balance, set_, instrument)
    retraining = None
    if retrain and input_ is not None:
        retraining = _make_retraining(input_, retrain, retrain_horizon, purge, output)
    start, end = find_period(plan.market.open(), plan.options)
    windows = split_windows(
        start,
        end,
        train_ns=round(parse_duration_s("--train", train) * 1e9),
        test_ns=round(parse_duration_s("--test", test) * 1e9),
        embargo_ns=0 if embargo == "0s" else round(parse_duration_s("--embargo", embargo) * 1e9),
        is_anchored=anchored,
    )
    with _progress("windows", json) as show:
        walked = walk(
            plan,
            plan.points(random_, seed),
            windows,
            output,
            by=by,
            workers=workers or os.cpu_count() or 1,
            progress=show,
            retraining=retraining,
        )
    if json:
        print_json([asdict(one) for one in walked])
        return
    total = 1.0
    for one in walked:
        measures = one.tested.measures
        total *= 1.0 + (measures["return"] if measures else 0.0)
        trained = one.trained[by]
        print(
            f"{format_time(one.window.test_from)} to {format_time(one.window.test_to)}  "
            f"{_describe(one.chosen):<32} in training {by} {'-' if trained is None else f'{trained:.3g}'}, "
            f"in the test {_measures(measures) if measures else one.tested.error}{one.model and f'  {one.model}'}"
        )
    print(f"compound return over the tests: {100 * (total - 1.0):.3f} %")


def sensitivity(
    strategy: StrategyOption,
    output: OutputOption,
    fees: Annotated[str, typer.Option(metavar="A,B", help="Taker fee rates, of notional.")] = "0,0.0002,0.0005,0.001",
    latency_ms: Annotated[str, typer.Option(metavar="A,B", help="Latencies from decision to venue.")] = "0,50,250,1000",
    slippage_bps: Annotated[str, typer.Option(metavar="A,B", help="Slippages of market orders.")] = "0,1,2,5",
    impact_bps: Annotated[
        str, typer.Option(metavar="A,B", help="Impacts of an order of a bar's whole volume, where bars are the market.")
    ] = "10,50",
    input_: InputOption = None,
    seed: SeedOption = 7,
    span: SpanOption = "2h",
    from_: FromOption = None,
    to: ToOption = None,
    balance: BalanceOption = None,
    set_: SetOption = None,
    instrument: InstrumentOption = "BTCUSDT.BINANCE",
    json: JsonOption = False,
) -> None:
    """Backtest a strategy under other fees, latency and slippage, one changed at a time.

    Finished runs are kept in the output folder: the same command goes on where it was stopped.

    Examples:

      perpflow sensitivity --strategy ema_cross --input bars.parquet --output var/sensitivity

      perpflow sensitivity --strategy ema_cross --fees 0.0002,0.0005 --slippage-bps 0,3 --latency-ms 50 --output var/s
    """
    from services.backtest.sensitivity import ASSUMPTIONS, measure_sensitivity

    plan = _make_plan(strategy, [], input_, seed, span, from_, to, balance, set_, instrument)
    texts = (fees, latency_ms, slippage_bps, impact_bps)
    given = [[value.strip() for value in text.split(",") if value.strip()] for text in texts]
    with _progress("backtests", json) as show:
        base, found = measure_sensitivity(
            plan, dict(zip(ASSUMPTIONS, given, strict=True)), output, workers=1, progress=show
        )
    failed = next((point for point in (base, *(one.point for one in found)) if point.error), None)
    if failed is not None:
        raise BadInput(failed.error)
    if json:
        changed = [{"assumption": one.assumption, "value": one.value, **one.point.measures} for one in found]
        print_json({"as_it_is": base.measures, "changed": changed})
        return
    print(f"{'as it is':<28} {_measures(base.measures)}")
    for one in found:
        print(f"{one.assumption:<18} {one.value:>9} {_measures(one.point.measures)}")


def _check_measure(by: str) -> None:
    from services.backtest.sweep import RANKED

    if by not in RANKED:
        raise BadInput(f"--by {by!r}: choose one of {', '.join(RANKED)}")


def _make_plan(
    strategy: str,
    vary: list[str],
    input_: Path | None,
    seed: int,
    span: str,
    from_: str | None,
    to: str | None,
    balance: str | None,
    set_: list[str] | None,
    instrument: str,
) -> SweepPlan:
    from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
    from services.backtest.sweep import MarketSource, SweepPlan, parse_values

    minutes = 0 if input_ is not None else max(1, round(parse_duration_s("--span", span) / _MINUTE_S))
    options = BacktestOptions(
        instrument=instrument,
        starting_balance_usdt=None if balance is None else parse_amount("--balance", balance),
        trade_from=0 if from_ is None else parse_time("--from", from_),
        until=None if to is None else parse_time("--to", to),
        settings=parse_settings(set_ or []),
    )
    market = MarketSource(instrument, "" if input_ is None else str(input_), seed, minutes)
    return SweepPlan(market, options, parse_strategies([strategy])[0], tuple(parse_values(text) for text in vary))


def _make_retraining(input_: Path, family: str, horizon: str, purge: str, output: Path) -> Retraining:
    from services.backtest.walk_forward import Retraining

    bars, training = describe_training(input_, family, horizon)
    from services.training.retraining import fit_between

    registry = output / "models"
    label_ns = training.label.reach(bars.table.step_ns) * bars.table.step_ns
    purge_ns = round(parse_duration_s("--purge", purge) * 1e9) if purge else label_ns
    fit = fit_between(bars, training, registry, lambda _what, _done, _all, _loss: None)
    return Retraining(fit, str(registry), purge_ns)


@contextmanager
def _progress(what: str, is_quiet: bool) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=is_quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        yield show


def _describe(parameters: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in parameters.items())


def _measures(measures: dict[str, Any]) -> str:
    sharpe = measures["sharpe"]
    return (
        f"net {float(measures['pnl_usdt']):>12,.2f} USDT  Sharpe {'-' if sharpe is None else f'{sharpe:.2f}':>7}  "
        f"drawdown {100 * measures['max_drawdown']:.2f} %  {measures['trades']} trips"
    )
