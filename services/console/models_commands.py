"""`perpflow models`: list, score, compare, promote, roll back and prune models.

Promotion is a command on the control topic of a running session: a shadow becomes the champion and the champion a
shadow between two vectors. It refuses a model without an edge unless that is accepted, and one that the session does
not run.
"""

from __future__ import annotations

import json as json_module
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from libs.runtime.errors import EXIT_CHECK_FAILED, BadInput
from services.console.models_registry import shorten
from services.console.output import print_json

if TYPE_CHECKING:
    from services.console.models_registry import ModelEntry
    from services.console.models_scores import SessionModel
    from services.console.session import SessionDescription

models_app = typer.Typer(name="models", help="List, compare, promote, roll back and prune models.")

RegistryOption = Annotated[Path, typer.Option("--models", help="The registry that train-models writes to.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
SessionOption = Annotated[str | None, typer.Option("--session", help="A running session; the only one by default.")]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]
PeriodOption = Annotated[str, typer.Option(metavar="TIME", help="Periods of market time by which accounts are held.")]
_REGISTRY = Path("var/models")
_COMPARED = ("auc", "balanced_accuracy", "log_loss", "calibration_error", "r2")


@models_app.callback(invoke_without_command=True)
def _models(context: typer.Context, folder: RegistryOption = _REGISTRY, json: JsonOption = False) -> None:
    """List, compare, promote, roll back and prune models. Without a command: list."""
    if context.invoked_subcommand is None:
        list_models(folder, json)


@models_app.command("list")
def list_models(folder: RegistryOption = _REGISTRY, json: JsonOption = False) -> None:
    """List the models there are, the one that ships and those that train-models has made, and how those that run did.

    Example: perpflow models list --json
    """
    from services.console.models_registry import list_entries

    entries = list_entries(folder)
    running = _score_running()
    if json:
        listed = []
        for entry in entries:
            name = f"{entry.name}/{entry.version}"
            found = [
                {"session": session.name, **model.describe()}
                for session, models in running
                for model in models
                if model.reference == name
            ]
            listed.append({**entry.describe(), "sessions": found})
        print_json(listed)
        return
    for entry in entries:
        manifest = entry.manifest
        print(
            f"{entry.reference:<32} {manifest['family']:<12} {manifest['timeframe']:<4} "
            f"horizon {_minutes(manifest['horizon_ns'])}, window {manifest['window']}, "
            f"{len(manifest['inputs'])} inputs  "
            f"{manifest['verdict']}  {entry.folder}"
        )
    for session, models in running:
        print(f"session {session.name} runs")
        _print_scores(models)


@models_app.command("scores")
def show_scores(
    session: Annotated[str | None, typer.Option("--session", help="A session; the latest one by default.")] = None,
    period: PeriodOption = "1h",
    json: JsonOption = False,
) -> None:
    """Show what the paper account of each of a session's models came to after costs, against the champion's.

    Example: perpflow models scores --session paper-live --period 1h
    """
    from services.console.models_scores import score_session
    from services.console.session import demand_bus, load_session

    found = load_session(session)
    demand_bus(found)
    models = score_session(found, _period_ns(period))
    if json:
        print_json([model.describe() for model in models])
        return
    _print_scores(models)
    if not models:
        print(f"session {found.name} has no forecast and no model with a paper account")


@models_app.command("compare")
def compare_models(
    references: Annotated[list[str], typer.Argument(metavar="MODEL...", help="NAME/VERSION, or starter.")],
    folder: RegistryOption = _REGISTRY,
    json: JsonOption = False,
) -> None:
    """Compare models by what they reached out of sample, with intervals by resampling days.

    Example: perpflow models compare btc/0123456789abcdef eth/0123456789abcdef
    """
    from services.console.models_registry import find_entry

    entries = [find_entry(folder, reference) for reference in references]
    if json:
        print_json(
            [{"reference": one.reference, "verdict": one.manifest["verdict"], **_reached(one)} for one in entries]
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(entry.reference for entry in entries))
    for row in ("family", "timeframe", "verdict"):
        table.add_row(row, *(str(entry.manifest[row]) for entry in entries))
    for name in _COMPARED:
        table.add_row(name, *(_interval(_reached(entry).get(name)) for entry in entries))
    for name in ("net_bps_per_day", "sharpe_net", "trades"):
        table.add_row(name, *(str(_reached(entry).get(name)) for entry in entries))
    Console().print(table)


@models_app.command("promote")
def promote_model(
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="NAME/VERSION of a shadow of the session.")] = "",
    session: SessionOption = None,
    folder: RegistryOption = _REGISTRY,
    reason: ReasonOption = "by hand",
    accept_no_edge: Annotated[
        bool, typer.Option("--accept-no-edge", help="Promote although its report shows no edge after costs.")
    ] = False,
    at_start: Annotated[
        bool,
        typer.Option("--at-start", help="Have new sessions begin with it; no running one changes."),
    ] = False,
    by_rule: Annotated[
        bool,
        typer.Option("--by-rule", help="Promote the shadow, if any, whose account did significantly better."),
    ] = False,
    min_samples: Annotated[
        int, typer.Option(min=3, help="--by-rule: periods in which it must have differed from the champion.")
    ] = 100,
    significance: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="--by-rule: the greatest chance of a mistake, for all shadows.")
    ] = 0.05,
    period: PeriodOption = "1h",
    json: JsonOption = False,
) -> None:
    """Make a shadow of a running session the champion; the champion becomes a shadow. No vector is missed or doubled.

    --by-rule chooses by what the models' paper accounts came to after costs, and promotes none where no shadow passes:
    run it by a schedule.

    Examples:

      perpflow models promote btc/0123456789abcdef --session paper-live --reason "better for 30 days"

      perpflow models promote btc/0123456789abcdef --at-start

      perpflow models promote --by-rule --min-samples 200 --significance 0.01
    """
    from services.console.models_registry import find_entry, write_default

    if by_rule == bool(reference) or (by_rule and at_start):
        raise BadInput("name a MODEL, or give --by-rule to have a running session's accounts choose, one of them")
    if by_rule:
        _promote_by_rule(_find_session(session), min_samples, significance, _period_ns(period), json)
        return
    entry = find_entry(folder, reference)
    demand_edge(entry, accept_no_edge)
    if at_start:
        write_default(folder, entry)
        print(f"sessions begin with {entry.reference}, but those on the simulated market")
        return
    found = _find_session(session)
    running = _running_models(found)
    if entry.reference not in running:
        raise BadInput(
            f"session {found.name} does not run {entry.reference}; it runs {', '.join(running) or 'no model'}. A new "
            "model starts as a shadow: set PERPFLOW_INFERENCE_SHADOWS and start the session again"
        )
    # The core knows models by name and version, the starter too.
    _send(found, f"{entry.name}/{entry.version}", reason, json)


@models_app.command("rollback")
def roll_back(session: SessionOption = None, reason: ReasonOption = "by hand", json: JsonOption = False) -> None:
    """Make the champion before the last promotion the champion again.

    Example: perpflow models rollback --session paper-live
    """
    found = _find_session(session)
    if not _is_promoted(found):
        raise BadInput(
            f"session {found.name} has had no model promoted that is still in force: nothing to roll back to"
        )
    _send(found, "previous", reason, json)


@models_app.command("prune")
def prune_models(
    keep: Annotated[int, typer.Option(min=1, help="How many of each name to keep, the newest.")] = 3,
    folder: RegistryOption = _REGISTRY,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only what would be is said.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove old versions; those that new sessions begin with are kept, and those that a session on this machine names:
    its replay needs them.

    Example: perpflow models prune --keep 2 --yes
    """
    from services.console.models_registry import STARTER, list_entries, read_default, read_shadows

    needed = _models_of_sessions() | {shorten(one) for one in (read_default(folder), *read_shadows(folder)) if one}
    by_name: dict[str, list[ModelEntry]] = {}
    for entry in list_entries(folder):
        if entry.reference != STARTER:
            by_name.setdefault(entry.name, []).append(entry)
    removed = []
    for entries in by_name.values():
        # The newest data first; of equal ones the one written last.
        entries.sort(key=lambda one: (one.manifest["training"]["last_open_time"], one.folder.stat().st_mtime_ns))
        removed += [one for one in entries[:-keep] if one.reference not in needed]
    for entry in removed:
        if yes:
            shutil.rmtree(entry.folder)
    if json:
        print_json({"removed": yes, "models": [entry.reference for entry in removed]})
        return
    for entry in removed:
        print(f"{'removed' if yes else 'would remove'} {entry.reference}  {entry.folder}")
    if not removed:
        print("nothing to remove")


def demand_edge(entry: ModelEntry, accept_no_edge: bool) -> None:
    """Refuse to have a model without an edge traded on, unless that is accepted."""
    if not entry.has_edge and not accept_no_edge:
        sys.stderr.write(
            f"perpflow: {entry.reference}: {entry.manifest['verdict']}: {entry.manifest['metrics'].get('reason', '')}; "
            "give --accept-no-edge to have it traded on all the same\n"
        )
        raise typer.Exit(EXIT_CHECK_FAILED)


def _promote_by_rule(
    session: SessionDescription, min_samples: int, significance: float, period_ns: int, json: bool
) -> None:
    from libs.portfolio.model_scores import PromotionRule
    from services.console.models_scores import choose_promoted, describe_score, score_session

    models = score_session(session, period_ns)
    chosen = choose_promoted(models, PromotionRule(min_samples, significance))
    if chosen is not None:
        _send(session, chosen.reference, f"by rule: {describe_score(chosen)}", json)
    elif json:
        print_json({"session": session.name, "model": None, "models": [model.describe() for model in models]})
    else:
        _print_scores(models)
        print(f"{session.name}: no shadow passes the rule; the champion stays")


def _score_running() -> list[tuple[SessionDescription, list[SessionModel]]]:
    from libs.bus.api import BusError
    from services.console.models_scores import score_session
    from services.console.running import running_folders
    from services.console.session import read_session

    found = []
    for folder in running_folders():
        session = read_session(folder)
        try:
            found.append((session, score_session(session)))
        except BusError as error:
            # The models there are do not depend on it.
            sys.stderr.write(f"perpflow: session {session.name} cannot be read: {error}\n")
    return found


def _print_scores(models: Sequence[SessionModel]) -> None:
    from services.console.models_scores import describe_score

    for model in models:
        print(f"  {model.role.name.lower():<9} {model.reference:<32} {model.account:<23} {describe_score(model)}")


def _period_ns(text: str) -> int:
    from services.console.durations import parse_duration_s

    return int(parse_duration_s("--period", text) * 1e9)


def _find_session(name: str | None) -> SessionDescription:
    from libs.runtime.errors import DependencyUnavailable
    from services.console.running import running_folders
    from services.console.session import demand_bus, load_session, read_session

    folders = running_folders()
    if name is not None:
        if name not in {folder.name for folder in folders}:
            load_session(name)
            raise DependencyUnavailable(f"session {name} is not running, so nothing was sent; start it first")
        folders = [folder for folder in folders if folder.name == name]
    if not folders:
        raise DependencyUnavailable("no session is running on this machine; start one with `perpflow up`")
    if len(folders) > 1:
        raise BadInput(f"several sessions run: {', '.join(folder.name for folder in folders)}; name one with --session")
    found = read_session(folders[0])
    demand_bus(found)
    return found


def _running_models(session: SessionDescription) -> list[str]:
    environment = session.environment
    shadows = json_module.loads(environment.get("PERPFLOW_INFERENCE_SHADOWS") or "[]")
    champion = environment.get("PERPFLOW_INFERENCE_CHAMPION", "")
    return [shorten(one) for one in (champion, *shadows) if one]


def _is_promoted(session: SessionDescription) -> bool:
    """Whether more promotions than rollbacks have been commanded."""
    from libs.bus.api import TopicPartition
    from libs.domain.control import ControlAction, ControlCommand
    from libs.runtime.records import read_range
    from libs.wire.topics import CONTROL_COMMANDS
    from services.console.accounts import read_event
    from services.console.session_bus import open_session_bus

    champions = [one for one in [session.environment.get("PERPFLOW_INFERENCE_CHAMPION")] if one]
    with open_session_bus(session) as bus:
        where = TopicPartition(CONTROL_COMMANDS, 0)
        first, end = bus.beginning_offsets([where])[where], bus.end_offsets([where])[where]
        for record in read_range(bus, CONTROL_COMMANDS, 0, first, end):
            command = read_event(record)
            if not isinstance(command, ControlCommand) or command.action is not ControlAction.PROMOTE_MODEL:
                continue
            model = command.arguments.get("model", "")
            if model != "previous":
                champions.append(model)
            elif len(champions) > 1:
                champions.pop()
    return len(champions) > 1


def _models_of_sessions() -> set[str]:
    from services.console.session import read_session, sessions_root

    needed: set[str] = set()
    for path in sessions_root().glob("*/session.json"):
        needed |= set(_running_models(read_session(path.parent)))
    return needed


def _send(session: SessionDescription, model: str, reason: str, json: bool) -> None:
    from libs.domain.control import ALL_ACCOUNTS, ControlAction
    from services.console.control import name_of_user, send_commands
    from services.console.session_bus import open_session_bus

    with open_session_bus(session) as bus:
        (command,) = send_commands(
            bus,
            ControlAction.PROMOTE_MODEL,
            [ALL_ACCOUNTS],
            reason,
            actor=name_of_user(),
            arguments={"model": model},
        )
    if json:
        print_json({"session": session.name, "model": model, "command_id": command.event_id})
    else:
        print(f"{session.name}: {model} is champion from the next vector on ({command.event_id})")


def _reached(entry: ModelEntry) -> dict[str, Any]:
    reached: dict[str, Any] = entry.manifest["metrics"].get("model", {})
    return reached


def _interval(measured: Any) -> str:
    if not isinstance(measured, dict):
        return "-"
    return f"{measured['value']:.4f} [{measured['low']:.4f}, {measured['high']:.4f}]"


def _minutes(horizon_ns: int) -> str:
    return f"{horizon_ns / 6e10:g} min"
