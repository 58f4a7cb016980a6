"""The command line `perpflow`: it parses arguments, calls the module that does the work, and reports the result."""

from __future__ import annotations

import errno
import os
import runpy
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO, cast

import typer
from rich.console import Console

from libs.bus.api import BusDenied, BusError, BusInvalid, BusUnavailable
from libs.runtime.errors import (
    EXIT_BAD_INPUT,
    EXIT_CHECK_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    BadInput,
    DependencyUnavailable,
)
from libs.runtime.masking import MaskingStream
from libs.version import VERSION, build_id
from services.console.durations import parse_duration_s
from services.console.output import print_json
from services.console.session import SessionDescription, sessions_root

app = typer.Typer(
    name="perpflow",
    help="Trade Bitcoin perpetual futures with machine-learned forecasts: paper by default, every decision replayable.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"perpflow {VERSION}")
        raise typer.Exit


@app.callback()
def perpflow(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that belong to no command."""


SessionOption = Annotated[str | None, typer.Option("--session", help="A session's name; the latest one by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


@app.command()
def up(
    market: Annotated[
        str,
        typer.Option(help="live, simulated, recorded:PATH, or auto: live when the venue answers, else simulated."),
    ] = "auto",
    mode: Annotated[str, typer.Option(help="paper, testnet or live.")] = "paper",
    instrument: Annotated[str, typer.Option(help="What to trade, SYMBOL.VENUE.")] = "BTCUSDT.BINANCE",
    instruments: Annotated[
        str, typer.Option(metavar="A,B", help="Several instruments instead of one; {symbol} in a recording's path.")
    ] = "",
    accounts: Annotated[
        str, typer.Option(metavar="A,B|FILE.toml", help="Accounts, or a file with the settings of each; on paper.")
    ] = "",
    partitions: Annotated[int, typer.Option(min=1, max=1024, help="Partitions, fixed for the session.")] = 1,
    scale: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="Replicas of a service, which share its partitions.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="spread: a process per service; fused: their cores in one process, a chain; auto: fused on paper."
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated market.")] = 7,
    speed: Annotated[
        float | None,
        typer.Option(min=0.0, help="Market seconds per real second (simulated and recorded); 0 is as fast as it goes."),
    ] = None,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Stop after this real time: 60s, 5m.")
    ] = None,
    span: Annotated[str | None, typer.Option(metavar="TIME", help="Stop after this market time: 30m, 2h.")] = None,
    history: Annotated[Path | None, typer.Option(help="Parquet klines from before a recording, to warm up.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what happened as JSON.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the page; a free one by default.")] = None,
    session: Annotated[str | None, typer.Option(help="Name of the session; made up by default.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show every log line of every service.")] = False,
) -> None:
    """Start everything on this machine and trade on paper.

    Examples:

      perpflow up

      perpflow up --market simulated --seed 7 --speed 60 --span 30m --summary out.json

      perpflow up --market recorded:capture.ns-jsonl.gz --history klines.parquet --speed 20

      perpflow up --instruments BTCUSDT.BINANCE,ETHUSDT.BINANCE --accounts a,b --partitions 2 --scale bars=2

      perpflow up --market simulated --layout spread --speed 60 --span 30m
    """
    from services.console.market_choice import choose_market
    from services.console.placing import make_placement, parse_instruments, parse_scale
    from services.console.plan import AUTO_LAYOUT, LAYOUTS
    from services.console.up import UpOptions, run_up

    console = Console(stderr=True)
    several = parse_instruments(instruments or instrument, market)
    instrument = several[0]
    replicas = parse_scale(scale or ())
    placement = make_placement(several, accounts, partitions)
    if mode not in ("paper", "testnet", "live"):
        raise BadInput(f"--mode {mode!r} is not paper, testnet or live")
    if layout not in (*LAYOUTS, AUTO_LAYOUT):
        raise BadInput(f"--layout {layout!r} is not {', '.join(LAYOUTS)} or {AUTO_LAYOUT}")
    # Asks the venue, which may take seconds: what is wrong with the other options is said before.
    chosen, chosen_speed = choose_market(market, speed, instrument, console)
    if chosen == "live" and span is not None:
        raise BadInput("--span bounds market time of simulated and recorded markets; for a live one use --for")
    if history is not None and not history.is_file():
        raise BadInput(f"--history {history}: no such file; give a Parquet file of klines")
    options = UpOptions(
        market=chosen,
        mode=mode,
        instrument=instrument,
        seed=seed,
        speed=chosen_speed,
        for_s=None if for_ is None else parse_duration_s("--for", for_),
        span_s=None if span is None else parse_duration_s("--span", span),
        history=history,
        summary=summary,
        port=port,
        session=session,
        is_verbose=verbose,
        instruments=several,
        placement=placement,
        scale=replicas,
        layout=layout,
    )
    raise typer.Exit(run_up(options, console))


@app.command()
def trade(
    mode: Annotated[str, typer.Option(help="paper, testnet or live.")] = "paper",
    instrument: Annotated[str, typer.Option(help="What to trade, SYMBOL.VENUE.")] = "BTCUSDT.BINANCE",
    for_: Annotated[str | None, typer.Option("--for", metavar="TIME", help="Stop after this time: 60s, 5m.")] = None,
    summary: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what happened as JSON.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the page; a free one by default.")] = None,
) -> None:
    """Trade the live market: `perpflow up --market live` under another name. Goes on where it stopped.

    Example: perpflow trade --mode paper
    """
    up(market="live", mode=mode, instrument=instrument, for_=for_, summary=summary, port=port)


@app.command()
def run(service: Annotated[str, typer.Argument(help="ingestion, bars, features, ... as its container does.")]) -> None:
    """Run one service in this process, with its settings from PERPFLOW_* variables.

    Example: PERPFLOW_BUS=kafka:localhost:9092 perpflow run bars
    """
    from libs.runtime.settings import SERVICE_NAMES

    if service not in SERVICE_NAMES:
        raise BadInput(f"unknown service {service!r}; known: {', '.join(SERVICE_NAMES)}")
    sys.argv = [f"perpflow run {service}"]
    runpy.run_module(f"services.{service}.main", run_name="__main__", alter_sys=True)


@app.command()
def replay(
    verify: Annotated[bool, typer.Option("--verify", help="Compare every output byte for byte.")] = False,
    what_if: Annotated[
        str | None, typer.Option("--what-if", metavar="SERVICE.SETTING=VALUE", help="Replay under another setting.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="With --what-if: follow changed decisions through the paper venue.")
    ] = False,
    session: SessionOption = None,
    json: JsonOption = False,
) -> None:
    """Feed a recorded session through the same cores again.

    Examples:

      perpflow replay --verify

      perpflow replay --what-if risk.max_leverage=2 --session 20260102-101500-simulated-7

      perpflow replay --what-if risk.max_order_notional_usdt=200 --follow
    """
    from services.console import replay as replaying
    from services.console.bus_session import find_session
    from services.console.session import demand_bus

    if verify == (what_if is not None):
        raise BadInput("say either --verify or --what-if SERVICE.SETTING=VALUE")
    if follow and what_if is None:
        raise BadInput("--follow belongs to --what-if SERVICE.SETTING=VALUE")
    recorded = find_session(session)
    demand_bus(recorded)
    if what_if is not None and follow:
        from services.console.session_backtest import follow_change

        _print_followed(follow_change(recorded, what_if), as_json=json)
        return
    if what_if is not None:
        changed = replaying.what_if(recorded, what_if)
        if json:
            print_json(changed)
        else:
            print(
                f"{what_if}: {changed['agreed']:,} decisions of {changed['service']} stay, "
                f"{changed['changed']:,} change, {changed['missing']:,} are no longer made, "
                f"{changed['added']:,} are new"
            )
            if changed["compared_from"] is not None:
                print(f"  compared from {_describe_start(changed['compared_from'])}; what came before passed retention")
            for example in changed["examples"]:
                print(f"  {example['event_id']}")
                print(f"    recorded: {example['recorded']}\n    now:      {example['replayed']}")
        return
    outcomes = replaying.verify_session(recorded)
    if not any(outcome.inputs for outcome in outcomes):
        raise BadInput(f"session {recorded.name} has recorded nothing that could be replayed")
    first = next((outcome for outcome in outcomes if outcome.difference is not None), None)
    if json:
        builds = {"recorded_by": recorded.build or None, "replayed_by": build_id()}
        print_json({"session": recorded.name, "is_identical": first is None, **builds, "services": outcomes})
    else:
        for outcome in outcomes:
            word = "identical" if outcome.difference is None else "DIFFERENT"
            start = outcome.verified_from
            since = "" if start is None else f", from {_describe_start(start)} on: what came before passed retention"
            print(f"{outcome.service:<10} {outcome.inputs:>9,} inputs {outcome.outputs:>9,} outputs  {word}{since}")
        if first is not None and first.difference is not None:
            print(f"{first.service}: {_describe_difference(first.difference)}")
            if recorded.build != build_id():
                print(
                    f"It was recorded by {recorded.build or 'a build that it does not name'}, this is {build_id()}: "
                    f"`perpflow rehearse {recorded.name}` lists what this one decides differently"
                )
        else:
            print(f"{sum(outcome.outputs for outcome in outcomes):,} outputs of {recorded.name} are byte-identical")
    raise typer.Exit(EXIT_OK if first is None else EXIT_CHECK_FAILED)


def _print_followed(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print(
        f"{found['change']}, followed through the paper venue: {found['agreed']:,} decisions stay, "
        f"{found['changed']:,} change, {found['missing']:,} are no longer made, {found['added']:,} are new"
    )
    for name, before in found["before"].items():
        print(f"  {name:<18} {before:>20} -> {found['after'][name]}")
    print(f"  equity differs by {found['equity_difference_usdt']} USDT")
    for example in found["examples"]:
        print(f"  {example['event_id']}\n    before: {example['before']}\n    after:  {example['after']}")


def _describe_start(start: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(start["append_time_ms"] / 1000, UTC).isoformat(timespec="seconds")
    offsets = ", ".join(f"{where}@{offset}" for where, offset in start["inputs"].items() if offset)
    return f"{at} ({offsets})"


def _describe_difference(difference: dict[str, object]) -> str:
    recorded, replayed = str(difference["recorded"]), str(difference["replayed"])
    # Messages are long and alike: show where they part.
    same = next((at for at, (one, other) in enumerate(zip(recorded, replayed, strict=False)) if one != other), 0)
    start = max(0, same - 80)
    return (
        f"output {difference['index']} of {difference['topic']} (recorded at offset {difference['recorded_offset']}) "
        f"differs after {difference['cause']}\n"
        f"  recorded: {_cut(recorded, start)}\n  replayed: {_cut(replayed, start)}"
    )


def _cut(text: str, start: int, length: int = 240) -> str:
    return ("..." if start else "") + text[start : start + length] + ("..." if len(text) > start + length else "")


@app.command()
def trace(
    order_id: Annotated[str, typer.Argument(help="A client order id, a venue order id or an intent id.")],
    session: SessionOption = None,
    json: JsonOption = False,
) -> None:
    """Print the chain from a fill back to the ticks: report, command, verdict, intent, forecast, vector, bar, trades.

    Example: perpflow trace pf-3x7q2m5k...
    """
    from services.console.bus_session import find_session
    from services.console.session import demand_bus
    from services.console.session_bus import open_session_bus
    from services.console.trace import describe, trace_order

    recorded = find_session(session)
    demand_bus(recorded)
    with open_session_bus(recorded) as bus:
        chain = trace_order(bus, order_id)
    for text in chain.missing:
        sys.stderr.write(f"perpflow: {text}\n")
    if json:
        print_json(
            [
                {
                    "step": link.step,
                    "topic": link.topic,
                    "partition": link.partition,
                    "offset": link.offset,
                    "event_id": link.event.event_id,
                    "event_time": link.event.event_time,
                    "says": describe(link),
                }
                for link in chain.links
            ]
        )
        return
    trades = [link for link in chain.links if link.step == "trade"]
    for link in [link for link in chain.links if link.step != "trade"] + trades[-10:]:
        print(f"{link.step:<9} {link.topic}/{link.partition}@{link.offset:<8} {describe(link)}")
    if len(trades) > 10:
        print(f"          the last 10 of {len(trades)} trades; --json prints all")


@app.command()
def status(session: SessionOption = None, json: JsonOption = False) -> None:
    """List the processes and accounts of every running session, or of the one named.

    Processes with pid, state, lag and metrics port; accounts with trading state, equity and positions. Where nothing
    runs, the latest session is shown as it ended; on a machine without sessions, what the bus that PERPFLOW_BUS names
    tells. Exit code 3 where a session's bus does not answer or is gone, 2 where
    it is no bus or the session's description is damaged; what is known all the same is printed.

    Example: perpflow status --json
    """
    from services.console.bus_session import find_session
    from services.console.running import running_folders
    from services.console.session import load_session
    from services.console.status import describe_sessions, print_session

    running = running_folders()
    chosen: Sequence[Path | SessionDescription]
    if session is not None:
        chosen = [folder for folder in running if folder.name == session] or [load_session(session).folder]
    else:
        chosen = running or [find_session(None)]
    sessions, problem = describe_sessions(chosen)
    if json and sessions:
        print_json({**sessions[0], "sessions": sessions})
    else:
        for facts in sessions:
            print_session(facts, Console())
    if problem is not None:
        raise problem


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Look at this machine: is everything there that `perpflow up` needs, and can it run containers?

    In a container: do the bus and the store that settings name answer? Example: perpflow doctor
    """
    from services.console.status import as_rows, examine

    findings = examine()
    if json:
        print_json(as_rows(findings))
    else:
        for finding in findings:
            word = "ok" if finding.is_good else ("MISSING" if finding.is_needed else "absent")
            print(f"{word:<8} {finding.name:<19} {finding.detail}")
    is_well = all(finding.is_good for finding in findings if finding.is_needed)
    raise typer.Exit(EXIT_OK if is_well else EXIT_UNAVAILABLE)


def _mount() -> None:
    from services.console.alternative_commands import collect_alternative
    from services.console.backtest_commands import backtest, check_strategy, prepare_market
    from services.console.backtests_commands import backtests_app
    from services.console.check_commands import check
    from services.console.config_commands import config_app
    from services.console.control_commands import flatten, halt, reduce, resume
    from services.console.explain_commands import at, drift, rehearse, why
    from services.console.features_commands import engineer_features, features_app
    from services.console.history_commands import collect_data, data_app, import_files
    from services.console.models_commands import models_app
    from services.console.research_commands import sensitivity, sweep, walk_forward
    from services.console.risk_commands import risk_app
    from services.console.simulate_commands import simulate
    from services.console.store_commands import sql, store_app
    from services.console.training_commands import train_models, train_sizing
    from services.console.users_commands import users_app

    for command in (halt, reduce, flatten, resume):
        app.command()(command)
    app.command()(check)
    app.command()(collect_data)
    app.command("import")(import_files)
    app.add_typer(data_app)
    app.add_typer(store_app)
    app.command()(sql)
    app.command()(collect_alternative)
    app.command()(why)
    app.command()(at)
    app.command()(drift)
    app.command()(rehearse)
    app.add_typer(models_app)
    app.add_typer(features_app)
    app.command()(engineer_features)
    app.add_typer(risk_app)
    app.add_typer(config_app)
    app.add_typer(users_app)
    app.command()(train_models)
    app.command()(train_sizing)
    app.command()(backtest)
    app.command()(check_strategy)
    app.command()(prepare_market)
    app.command()(sweep)
    app.command("walk-forward")(walk_forward)
    app.command()(sensitivity)
    app.add_typer(backtests_app)
    app.command()(simulate)


_mount()


def main() -> None:
    """Run the command line; known errors become one line on stderr and their exit code."""
    sys.stderr = cast(TextIO, MaskingStream(sys.stderr))
    try:
        app()
    except (BadInput, BusDenied, BusInvalid) as error:
        _fail(str(error), EXIT_BAD_INPUT)
    except (DependencyUnavailable, BusUnavailable) as error:
        _fail(str(error), EXIT_UNAVAILABLE)
    except BusError as error:
        _fail(str(error), EXIT_CHECK_FAILED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            # The reader of our output has gone (`| head`); Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        elif error.errno == errno.ENOSPC:
            _fail(
                f"the disk is full: {error.filename or sessions_root()}; free some space and start again",
                EXIT_UNAVAILABLE,
            )
        elif error.filename is not None:
            _fail(
                f"{os.fsdecode(error.filename)}: {error.strerror}; correct the path or its permissions", EXIT_BAD_INPUT
            )
        else:
            raise


def _fail(text: str, exit_code: int) -> None:
    sys.stderr.write(f"perpflow: {text}\n")
    raise SystemExit(exit_code)


if __name__ == "__main__":
    main()
