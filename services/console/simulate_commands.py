"""`perpflow simulate`: seeded sessions of the whole platform in one process, to find what breaks."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from libs.clock import SYSTEM_CLOCK
from libs.runtime.errors import EXIT_CHECK_FAILED, EXIT_OK
from services.console.output import print_json

# A shrink runs a dozen sessions: the first few failures tell enough.
_SHRUNK = 3

if TYPE_CHECKING:
    from services.simulation.running import SeedOutcome, Tally


def simulate(
    seeds: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many sessions, a seed each.")] = 100,
    from_: Annotated[int, typer.Option("--from", min=0, metavar="SEED", help="The first seed.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes side by side; 0 is one per core.")] = 0,
    shrink: Annotated[bool, typer.Option(help="Find the smallest mix that still fails, for three failures.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Run simulated sessions with kills, zombies, hangs, full disks, repeats and halts, and check what must hold.

    Exit code 1 where anything did not hold; every failure is printed with the command that repeats it.

    Examples:

      perpflow simulate --seeds 1000

      perpflow simulate --seeds 1 --from 4711
    """
    from services.simulation.running import Tally, run_seeds

    started = SYSTEM_CLOCK.monotonic_s()
    tally = Tally()
    console = Console(stderr=True)
    columns = (TextColumn("sessions"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("sessions", total=seeds)
        for outcome in run_seeds(range(from_, from_ + seeds), workers or None):
            tally.add(outcome)
            progress.advance(task)
    elapsed_s = SYSTEM_CLOCK.monotonic_s() - started
    smallest = [_describe(failure, shrink and at < _SHRUNK) for at, failure in enumerate(tally.failures)]
    if json:
        print_json(_facts(tally, from_, elapsed_s, smallest))
    else:
        _print(tally, from_, elapsed_s, smallest)
    raise typer.Exit(EXIT_CHECK_FAILED if tally.failures else EXIT_OK)


def _describe(failure: SeedOutcome, shrinks: bool) -> dict[str, Any]:
    from services.simulation.shrinking import shrink

    described: dict[str, Any] = {
        "seed": failure.seed,
        "broken": failure.broken,
        "mishaps": failure.mishaps,
        "repeat": f"perpflow simulate --seeds 1 --from {failure.seed}",
    }
    if shrinks:
        smallest, events = shrink(failure)
        described["smallest"] = {"mix": smallest.mix, "events": events, "broken": smallest.broken}
    return described


def _facts(tally: Tally, first: int, elapsed_s: float, failures: list[dict[str, Any]]) -> dict[str, Any]:
    facts = asdict(tally) | {"failures": failures, "mishaps": dict(sorted(tally.mishaps.items()))}
    return {"first_seed": first, "last_seed": first + tally.sessions - 1, "elapsed_s": round(elapsed_s, 3), **facts}


def _print(tally: Tally, first: int, elapsed_s: float, failures: list[dict[str, Any]]) -> None:
    last = first + tally.sessions - 1
    print(
        f"seeds {first} to {last}: {tally.sessions - len(failures)} hold, {len(failures)} fail; "
        f"{tally.intents / tally.sessions:.1f} intents a session, {tally.restarts:,} restarts, "
        f"{tally.sessions / elapsed_s * 60:,.0f} sessions a minute"
    )
    print("happened: " + ", ".join(f"{name} {count:,}" for name, count in sorted(tally.mishaps.items())))
    for failure in failures:
        print(f"seed {failure['seed']}: {failure['broken'][0]}; repeat: {failure['repeat']}")
        if "smallest" in failure:
            mix = ", ".join(failure["smallest"]["mix"]) or "no mishap"
            print(f"  smallest: {failure['smallest']['events']} events with {mix}")
