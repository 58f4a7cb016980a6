"""`perpflow backtest`: runs recorded or simulated events through the services' own cores and writes a report."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from libs.runtime.configuration import read_configuration
from libs.runtime.errors import BadInput, DependencyUnavailable
from services.console.backtests_commands import backtests_root
from services.console.durations import parse_duration_s
from services.console.output import print_json
from services.console.placing import parse_instruments, read_accounts

if TYPE_CHECKING:
    from services.backtest.inputs import MarketInput
    from services.backtest.options import BacktestOptions
    from services.backtest.run import BacktestResult
    from services.training.market_data import TrainingBars
    from services.training.training import TrainingOptions

_MINUTE_S = 60
_SHOWN_ERRORS = 20


def backtest(
    input_: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            metavar="PATH",
            help="A capture, Parquet, CSV or zip of bars or trades, or a folder; one for each of --instruments.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Run over the simulated market of this seed instead.")] = None,
    span: Annotated[str, typer.Option(metavar="TIME", help="How long the simulated market runs: 30m, 6h.")] = "30m",
    session: Annotated[
        str | None, typer.Option(help="Run over the market of this recorded session, from its own log.")
    ] = None,
    from_bus: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run over a session's topic on kafka:HOST:PORT or sqlite:PATH."),
    ] = None,
    from_clickhouse: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Run over a session's tables in ClickHouse at http://HOST:PORT."),
    ] = None,
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parquet 1m klines from before a recording, to warm up.")
    ] = None,
    history_bars: Annotated[int, typer.Option(min=0, max=20_000, help="Bars of history that go first.")] = 1500,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Trade from this UTC time on; before it, only learn.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Stop at this UTC time.")] = None,
    instrument: Annotated[str, typer.Option(help="What to trade, SYMBOL.VENUE.")] = "BTCUSDT.BINANCE",
    instruments: Annotated[
        str, typer.Option(metavar="A,B,...", help="Trade several at once, each with its own --input or seed.")
    ] = "",
    accounts: Annotated[
        str,
        typer.Option(
            metavar="A,B,...|FILE", help="Several accounts by name, or a TOML file with a table for each, as for up."
        ),
    ] = "",
    strategy: Annotated[
        list[str] | None,
        typer.Option(help='NAME, package.module:Class, or either with ={"parameter": value}; may be given again.'),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The champion: NAME/VERSION, or starter, the default with --seed.")
    ] = None,
    models_dir: Annotated[Path | None, typer.Option(help="Registry of models.")] = None,
    retrain_every: Annotated[
        str,
        typer.Option(metavar="TIME", help="Train a model at --from and again every so often, on what was before: 30d."),
    ] = "",
    retrain_family: Annotated[
        str, typer.Option(metavar="FAMILY", help="--retrain-every: of which family.")
    ] = "lightgbm",
    retrain_horizon: Annotated[
        str, typer.Option(metavar="TIME", help="--retrain-every: how far ahead it forecasts; five bars by default.")
    ] = "",
    balance: Annotated[str | None, typer.Option(metavar="USDT", help="What the account starts with.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write report.json and report.html into this folder.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Keep the report under this name, for `perpflow backtests`.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SERVICE.SETTING=VALUE", help="A setting for this run; may be given again."),
    ] = None,
    fill: Annotated[
        str | None, typer.Option(help="Where bars are the market, orders fill at: close, next-open, worst (of bar).")
    ] = None,
    digests: Annotated[
        bool, typer.Option("--digests", help="Run every stage and digest every topic, to compare with a session.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON for a program to read.")] = False,
) -> None:
    """Run the same decision code as live over the past, without a broker, and report what came of it.

    A session that this machine knows gives its settings too (strategies, limits, model); those of the environment and
    the options go before them.

    Examples:

      perpflow backtest --seed 7 --span 2h --output var/backtest

      perpflow backtest --input capture.ns-jsonl.gz --history klines.parquet --json

      perpflow backtest --input bars.parquet --strategy 'ema_cross={"fast_bars": 5, "slow_bars": 20}' --from 2024-08-01

      perpflow backtest --input bars.parquet --fill close --set risk.max_leverage=2 --set execution.slippage_bps=1

      perpflow backtest --from-bus kafka:HOST:PORT --session S --from 2026-01-01 --to 2026-02-01 --strategy ema_cross

      perpflow backtest --input bars.parquet --from 2024-08-01 --retrain-every 30d --retrain-horizon 1h

      perpflow backtest --from-clickhouse http://HOST:8123 --session S

      perpflow backtest --instruments BTCUSDT.BINANCE,ETHUSDT.BINANCE --input btc.parquet --input eth.parquet

      perpflow backtest --seed 7 --accounts alpha,beta --output var/accounts
    """
    is_session = session is not None or from_bus is not None or from_clickhouse is not None
    if bool(input_) + (seed is not None) + is_session != 1:
        raise BadInput(
            "give --input PATH, --seed N or a session (--session, --from-bus, --from-clickhouse): one of them"
        )
    if from_bus is not None and from_clickhouse is not None:
        raise BadInput("give --from-bus or --from-clickhouse, not both")
    if not input_ and history is not None:
        raise BadInput("--history belongs to --input; sessions and the simulated market bring their own")
    traded = parse_instruments(instruments) if instruments else (instrument,)
    if input_ and len(input_) != len(traded):
        raise BadInput(
            f"--input was given {len(input_)} times for {len(traded)} instruments ({', '.join(traded)}); give one for "
            "each, in their order"
        )
    if history is not None and len(traded) > 1:
        raise BadInput("--history is of one instrument; for several let each --input begin early and give --from")
    described = read_accounts(accounts, traded)
    if retrain_every and (not input_ or len(traded) > 1 or from_ is None or model is not None):
        raise BadInput("--retrain-every trains on the bars of one --input before --from; give both, and no --model")
    if name is not None:
        if output is not None:
            raise BadInput("give --name or --output, not both")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise BadInput(f"--name {name!r}: use letters, digits, '.', '_' and '-', at most 64")
        output = backtests_root() / name
    trade_from = 0 if from_ is None else parse_time("--from", from_)
    until = None if to is None else parse_time("--to", to)
    if until is not None and until <= trade_from:
        raise BadInput(f"--to {to} is not after --from {from_}")
    starting_balance = None if balance is None else parse_amount("--balance", balance)

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from services.backtest.inputs import merge_markets, open_recording, open_simulation
    from services.backtest.options import AccountChoice, BacktestOptions, parse_settings, parse_strategies
    from services.backtest.report import build_report, write_report
    from services.backtest.run import run_accounts
    from services.console.session_market import open_clickhouse_market, open_topic_market, session_settings

    settings = parse_settings([*(set_ or []), *([] if fill is None else [f"execution.bar_fill={fill}"])])
    kept = session_settings(session)
    options = BacktestOptions(
        instrument=traded[0],
        further=traded[1:],
        accounts=tuple(AccountChoice(account, *choice) for account, choice in described.items()),
        strategies=parse_strategies(strategy or []),
        champion=model,
        models_dir=None if models_dir is None else str(models_dir),
        starting_balance_usdt=starting_balance,
        trade_from=trade_from,
        until=until,
        settings=settings,
        digests=digests,
        environment=None if not kept else {**kept, **read_configuration().variables},
    )
    opened = ExitStack()
    minutes = max(1, round(parse_duration_s("--span", span) / _MINUTE_S))

    def open_market(number: int, name: str) -> MarketInput:
        if input_:
            return open_recording(input_[number], instrument=name, history=history, history_bars=history_bars)
        if seed is not None:
            # As a session's simulated exchanges do: a seed of its own for each instrument.
            renamed = {} if not instruments else {"instrument": name}
            return open_simulation(seed + number, minutes=minutes, history_bars=history_bars, **renamed)
        if from_clickhouse is not None:
            return open_clickhouse_market(opened, from_clickhouse, session, name)
        return open_topic_market(opened, from_bus, session, name)

    market = merge_markets([open_market(number, each) for number, each in enumerate(traded)])
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    if retrain_every and input_:
        results = _run_retrained(
            market, input_[0], options, retrain_every, retrain_family, retrain_horizon, is_quiet=json
        )
    else:
        with Progress(*columns, console=console, disable=json or not console.is_terminal, transient=True) as bar:
            task = bar.add_task("building the cores", total=None)

            def show(event_time: int) -> None:
                bar.update(task, description=f"market time {format_time(event_time)}")

            with opened:
                results = run_accounts(market, options, show)
    folders = {account: output / account if output and len(results) > 1 else output for account in results}
    reports = {
        account: build_report(result) if (folder := folders[account]) is None else write_report(result, folder)
        for account, result in results.items()
    }
    if json:
        print_json(reports if described else next(iter(reports.values())))
        return
    for account, report in reports.items():
        if described:
            print(f"account {account}")
        _print_report(report)
        if folders[account] is not None:
            print(f"  report                {folders[account]}/report.html")
    first = next(iter(results.values()))
    caveats = dict.fromkeys(caveat for report in reports.values() for caveat in report["caveats"])
    for note in (*caveats, *first.notes, *first.input_errors):
        sys.stderr.write(f"perpflow: {note}\n")


def describe_training(input_: Path, family: str, horizon: str) -> tuple[TrainingBars, TrainingOptions]:
    """Return the bars of a file and how models that walk over them are trained. Raises `BadInput`,
    `DependencyUnavailable`.
    """
    from services.console.training_commands import parse_horizon

    try:
        from services.training.core.labels import LabelOptions
        from services.training.core.trading import Costs
        from services.training.market_data import read_bars
        from services.training.training import TrainingOptions
    except ModuleNotFoundError as error:
        raise DependencyUnavailable(
            f'{error.name} is not installed; in the checkout of perpflow: pip install -e ".[training]"'
        ) from None
    bars = read_bars(input_)
    bars_ahead = parse_horizon(horizon, bars.table.step_ns)
    label = LabelOptions(bars_ahead, round_trip_bps=Costs().round_trip_bps)
    return bars, TrainingOptions(f"walk-{family}", 1, family=family, label=label, folds=1, compares=False)


def _run_retrained(
    market: MarketInput,
    input_: Path,
    options: BacktestOptions,
    every: str,
    family: str,
    horizon: str,
    *,
    is_quiet: bool,
) -> dict[str, BacktestResult]:
    from services.console.training_commands import shown_progress

    bars, training = describe_training(input_, family, horizon)
    from services.training.core.retraining import RetrainRule
    from services.training.retraining import run_retrained

    registry = Path(options.models_dir or "var/models")
    rule = RetrainRule(int(parse_duration_s("--retrain-every", every) * 1e9))
    with shown_progress(is_quiet=is_quiet) as progress:
        run = run_retrained(market, bars, options, training, rule, registry, progress)
    for time, reference in run.models:
        sys.stderr.write(f"trained {reference} at {format_time(time)}\n")
    return run.results


_PRINTED = (
    ("net profit, USDT", "pnl_usdt"),
    ("return", "return"),
    ("fees, USDT", "fees_usdt"),
    ("funding, USDT", "funding_usdt"),
    ("slippage, USDT", "slippage_usdt"),
    ("round trips", "trades"),
    ("fills", "fills"),
    ("win rate", "win_rate"),
    ("profit factor", "profit_factor"),
    ("Sharpe, yearly", "sharpe"),
    ("deepest drawdown", "max_drawdown"),
    ("time in the market", "exposure_share"),
    ("turnover", "turnover"),
)


def _print_report(report: dict[str, Any]) -> None:
    halted = report["halted"]
    if halted is not None:
        print(
            f"Risk stopped new positions at {halted['time']} ({halted['state']}), equity {halted['equity_usdt']} USDT: "
            f"{halted['reason']}. {100 * halted['share_of_period_left']:.1f} % of the period was left."
        )
    print(f"{report['period']['from']} to {report['period']['to']}")
    for label, name in _PRINTED:
        value = report[name]
        print(f"  {label:<21} {'-' if value is None else f'{value:.6g}' if isinstance(value, float) else value}")
    print(f"  ratios are of         {report['grid_returns']} returns per {report['grid']}, the whole period")


def prepare_market(
    input_: Annotated[Path, typer.Option("--input", metavar="PATH", help="A capture or a folder of them.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the market; its name ends in .market.")],
    history: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Parquet 1m klines from before the recording, to warm up.")
    ] = None,
    history_bars: Annotated[int, typer.Option(min=0, max=20_000, help="Bars of history that go first.")] = 1500,
    instrument: Annotated[str, typer.Option(help="Of what, SYMBOL.VENUE.")] = "BTCUSDT.BINANCE",
) -> None:
    """Decode a recorded market of ticks once and write it as columns, for backtests that begin at once.

    A run over the file is equal to one over the recording. Lines that cannot be read are named and left out.

    Examples:

      perpflow prepare-market --input capture.ns-jsonl.gz --output var/capture.market

      perpflow backtest --input var/capture.market --strategy ema_cross
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from services.backtest.inputs import open_recording
    from services.backtest.market_file import SUFFIX, write_market

    if output.suffix != SUFFIX:
        raise BadInput(f"--output {output}: give it a name that ends in {SUFFIX}")
    market = open_recording(input_, instrument=instrument, history=history, history_bars=history_bars)
    if market.columns is not None or market.trades is not None or market.timeframe:
        raise BadInput(f"{input_} is run over as columns as it is; only recordings of ticks need to be prepared")
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    output.parent.mkdir(parents=True, exist_ok=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("decoding", total=None)
        count, dead = write_market(
            output,
            instrument,
            market.events,
            market.description,
            lambda done: bar.update(task, description=f"{done:,} events"),
        )
    for each in dead[:_SHOWN_ERRORS]:
        sys.stderr.write(f"perpflow: {each.source}:{each.position}: {each.reason}; left out\n")
    print(f"{count:,} events in {output}, {len(dead)} inputs left out")


def check_strategy(
    strategy: Annotated[
        list[str], typer.Option(help='NAME, package.module:Class, or either with ={"parameter": value}.')
    ],
    input_: Annotated[
        Path | None, typer.Option("--input", metavar="PATH", help="A capture, Parquet bars or trades.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated market, without --input.")] = 7,
    span: Annotated[str, typer.Option(metavar="TIME", help="How long the simulated market runs.")] = "2h",
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Stop at this UTC time.")] = None,
    instrument: Annotated[str, typer.Option(help="What to trade, SYMBOL.VENUE.")] = "BTCUSDT.BINANCE",
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look for look-ahead, forgotten state, a hidden clock or chance and outside access in a strategy of your own.

    It runs over a market; then fresh copies get the same events again under another clock and restored from snapshots.
    Exit code 0 where nothing was found, 1 with findings.

    Examples:

      perpflow check-strategy --strategy 'my_strategies:Breakout={"bars": 10}'

      perpflow check-strategy --strategy ema_cross --input bars.parquet --to 2023-03-01 --json
    """
    from dataclasses import asdict

    from services.backtest.check_strategy import check_strategy as find
    from services.backtest.inputs import open_recording, open_simulation
    from services.backtest.options import BacktestOptions, parse_strategies

    until = None if to is None else parse_time("--to", to)
    options = BacktestOptions(instrument=instrument, strategies=parse_strategies(strategy), until=until)
    if input_ is not None:
        market = open_recording(input_, instrument=instrument, history=None, history_bars=0)
    else:
        minutes = max(1, round(parse_duration_s("--span", span) / _MINUTE_S))
        market = open_simulation(seed, minutes=minutes, history_bars=300)
    findings = find(market, options)
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.kind}: {finding.detail}")
        print(f"{len(findings)} findings" if findings else "nothing found")
    raise typer.Exit(1 if findings else 0)


def parse_time(option: str, text: str) -> int:
    """Read a UTC time as ns since the epoch. Raises `BadInput` naming the option."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{option} {text!r} is not a time; write 2024-08-08 or 2024-08-08T12:30:00Z") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return (at - epoch).days * 86_400 * 10**9 + (at - epoch).seconds * 10**9 + (at - epoch).microseconds * 1000


def parse_amount(option: str, text: str) -> Decimal:
    """Read an amount above 0. Raises `BadInput` naming the option."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise BadInput(f"{option} {text!r} is not an amount; write 10000") from None
    if not amount.is_finite() or amount <= 0:
        raise BadInput(f"{option} {text!r} must be above 0")
    return amount


def format_time(time_ns: int) -> str:
    """Write a market time (ns) as UTC to the minute."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M")
