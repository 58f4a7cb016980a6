"""`perpflow why`, `at`, `drift` and `rehearse`: what a session decided and why, by its topics and cores."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from libs.runtime.errors import EXIT_CHECK_FAILED, EXIT_OK, BadInput
from services.console.backtest_commands import format_time, parse_time
from services.console.output import print_json

SessionOption = Annotated[str | None, typer.Option("--session", help="A session's name; the latest one by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]

_SHOWN_CHECKS = 5


def why(
    subject: Annotated[str, typer.Argument(metavar="ORDER|TIME", help="An order or intent id, or a UTC market time.")],
    session: SessionOption = None,
    json: JsonOption = False,
) -> None:
    """Say which check, threshold or forecast let an order pass or stopped it; at a time also why nothing was asked for.

    Examples:

      perpflow why pf-3x7q2m5k...

      perpflow why 2026-01-01T00:10:30 --session 20260102-101500-simulated-7
    """
    from services.console.replay import state_at
    from services.console.session import demand_bus, load_session
    from services.console.session_bus import open_session_bus
    from services.console.session_events import SessionEvents
    from services.console.why import explain_order, explain_time

    recorded = load_session(session)
    demand_bus(recorded)
    with open_session_bus(recorded) as bus:
        events = SessionEvents(bus)
        if is_time(subject):
            moment = parse_time("TIME", subject)
            states = state_at(recorded, "strategy", moment)
            explained = explain_time(events, recorded, moment, states[0]["state"]["state"])
        else:
            explained = [explain_order(events, subject)]
    if json:
        print_json(explained)
        return
    for one in explained:
        print(f"{format_time(one.event_time)}  {one.subject}: {one.verdict}")
        for reason in one.reasons:
            print(f"  because {reason}")
        for check in one.checks[:_SHOWN_CHECKS]:
            used = "" if check.used is None else f" ({100 * check.used:.0f} %)"
            word = "passed" if check.has_passed else "FAILED"
            print(f"  {word} {check.name}: {check.value}, must be {check.limit}{used}")
        for line in one.chain:
            print(f"  {line}")


def is_time(text: str) -> bool:
    """Whether a text begins as a date does: no order's id has its second dash there."""
    return len(text) >= len("2026-01-01") and text[4:5] == text[7:8] == "-" and text[:4].isdecimal()


def at(
    session: Annotated[str, typer.Argument(help="A session's name.")],
    time: Annotated[str, typer.Argument(metavar="TIME", help="A UTC market time, such as 2026-01-01T00:10:30.")],
    service: Annotated[str, typer.Argument(help="bars, features, inference, strategy, risk, execution or outbox.")],
    path: Annotated[str, typer.Option(metavar="A.B", help="Print only this part of the state.")] = "",
) -> None:
    """Print a core's whole state at any moment of a session, as JSON: its inputs up to then, replayed.

    Examples:

      perpflow at 20260102-101500-simulated-7 2026-01-01T00:10:30 strategy

      perpflow at 20260102-101500-simulated-7 2026-01-01T00:10:30 execution --path ledger
    """
    from services.console.replay import state_at
    from services.console.session import demand_bus, load_session

    recorded = load_session(session)
    demand_bus(recorded)
    tasks = state_at(recorded, service, parse_time("TIME", time))
    for task in tasks:
        task["state"] = None if task["state"] is None else task["state"]["state"]
        for name in filter(None, path.split(".")):
            task["state"] = _inner(task["state"], name, path)
    print_json(tasks[0] if len(tasks) == 1 else tasks)


def _inner(state: Any, name: str, path: str) -> Any:
    if isinstance(state, dict) and name in state:
        return state[name]
    if isinstance(state, list) and name.isdecimal() and int(name) < len(state):
        return state[int(name)]
    there = ", ".join(state) if isinstance(state, dict) else type(state).__name__
    raise BadInput(f"--path {path}: there is no {name}; there is {there}")


_TERMS = {
    "start": "another equity at the start",
    "decisions": "orders that only one of them had",
    "order_timing": "the market moved until the same order was filled",
    "fills": "fills at another distance from the market, or of another size",
    "fees": "fees",
    "funding": "funding",
    "valuation": "marks of what was open at the end, and rounding",
}


def drift(
    session: Annotated[str, typer.Argument(help="A session's name.")],
    json: JsonOption = False,
) -> None:
    """Hold a session against the backtest over the same market; split the difference into terms that sum to it.

    Examples:

      perpflow drift 20260102-101500-simulated-7

      perpflow drift 20260102-101500-simulated-7 --json
    """
    from services.console.session import demand_bus, load_session
    from services.console.session_backtest import measure_drift

    recorded = load_session(session)
    demand_bus(recorded)
    found = measure_drift(recorded)
    if json:
        terms = {name: str(amount) for name, amount in found.terms.items()}
        print_json(
            {
                "session": recorded.name,
                "difference_usdt": str(found.difference),
                "terms_usdt": terms,
                "matched_orders": found.matched_orders,
                "only_in_session": found.only_in_session,
                "only_in_backtest": found.only_in_backtest,
                "other_verdicts": found.other_verdicts,
                "mean_delay_ms": found.mean_delay_ms,
            }
        )
        return
    print(f"{recorded.name} ended {found.difference:+.8f} USDT from its backtest:")
    for name, amount in found.terms.items():
        print(f"  {amount:>+18.8f}  {name:<13} {_TERMS[name]}")
    print(f"  {found.difference:>+18.8f}  sum")
    alone = f"{len(found.only_in_session)} only in the session, {len(found.only_in_backtest)} only in the backtest"
    delay = (
        "" if found.mean_delay_ms is None else f", filled {found.mean_delay_ms:+.1f} ms from the backtest's on average"
    )
    print(f"{found.matched_orders} orders in both{delay}; {alone}")
    for line in found.other_verdicts[:_SHOWN_CHECKS]:
        print(f"  {line}")


def rehearse(
    sessions: Annotated[list[str] | None, typer.Argument(help="Names of sessions; all by default.")] = None,
    json: JsonOption = False,
) -> None:
    """Run this build over old sessions and say which of their decisions it would make differently.

    Exit code 0 where all would be the same, 1 where some differ.

    Examples:

      perpflow rehearse

      perpflow rehearse 20260102-101500-simulated-7 --json
    """
    from services.console.replay import rehearse as replay_decisions
    from services.console.session import DESCRIPTION, demand_bus, load_session, sessions_root

    names = sessions or sorted(path.parent.name for path in sessions_root().glob(f"*/{DESCRIPTION}"))
    if not names:
        raise BadInput(f"no session under {sessions_root()}; start one with `perpflow up`")
    answers: dict[str, Any] = {}
    differing = 0
    for name in names:
        recorded = load_session(name)
        demand_bus(recorded)
        answers[name] = replay_decisions(recorded)
        changed = sum(task["changed"] + task["missing"] + task["added"] for task in answers[name])
        differing += changed
        if json:
            continue
        agreed = sum(task["agreed"] for task in answers[name])
        print(f"{name}: {agreed:,} decisions stay, {changed:,} differ")
        for task in answers[name]:
            if task["changed"] or task["missing"] or task["added"]:
                counts = f"{task['changed']:,} change, {task['missing']:,} fall away, {task['added']:,} are new"
                print(f"  {task['service']}: {counts}")
            for example in task["examples"][:3]:
                print(f"    {example['event_id']}")
                print(f"      then: {example['recorded']:.200}")
                print(f"      now:  {example['replayed']:.200}")
    if json:
        print_json({"is_same": not differing, "sessions": answers})
    raise typer.Exit(EXIT_CHECK_FAILED if differing else EXIT_OK)
