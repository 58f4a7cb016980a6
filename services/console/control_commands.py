"""`perpflow halt`, `reduce`, `flatten`, `resume`: every running session and account unless one is named."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from libs.domain.control import ControlAction
from libs.runtime.errors import EXIT_CHECK_FAILED, BadInput
from services.console.output import print_json

if TYPE_CHECKING:
    from services.console.control import Confirmation, ControlTarget

SessionOption = Annotated[str | None, typer.Option("--session", help="A session's name; every running one by default.")]
AccountOption = Annotated[str | None, typer.Option(help="An account, or * for all, the default.")]
ResumeAccountOption = Annotated[
    str | None,
    typer.Option(help="Lift the hold of this account alone, or of all accounts with *; every hold by default."),
]
ReasonOption = Annotated[str, typer.Option(help="Why; it is recorded.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def halt(
    session: SessionOption = None,
    account: AccountOption = None,
    reason: ReasonOption = "by hand",
    json: JsonOption = False,
) -> None:
    """Stop trading at once: no new orders, open ones are cancelled, positions stay.

    Examples:

      perpflow halt --reason "exchange announced maintenance"

      perpflow halt --session paper-live --account paper --json
    """
    _carry_out(ControlAction.HALT, session, account, reason, json=json)


def reduce(
    session: SessionOption = None,
    account: AccountOption = None,
    reason: ReasonOption = "by hand",
    json: JsonOption = False,
) -> None:
    """Let only orders through that make a position smaller; the others are refused and open ones cancelled.

    Example: perpflow reduce --account paper --reason "over the weekend"
    """
    _carry_out(ControlAction.REDUCE, session, account, reason, json=json)


def flatten(
    session: SessionOption = None,
    account: AccountOption = None,
    reason: ReasonOption = "by hand",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Halt, cancel all orders and close every position at the market. Asks first.

    Examples:

      perpflow flatten --account paper

      perpflow flatten --yes --json
    """
    _carry_out(ControlAction.FLATTEN, session, account, reason, json=json, asks=not yes)


def resume(
    session: SessionOption = None,
    account: ResumeAccountOption = None,
    reason: ReasonOption = "by hand",
    yes: YesOption = False,
    json: JsonOption = False,
) -> None:
    """Let orders through again. Asks first, unless it concerns one named account of one session.

    A halt of one account and a halt of all accounts are lifted each by itself: with --account only the one named.

    Examples:

      perpflow resume --session paper-live --account paper

      perpflow resume --yes
    """
    _carry_out(ControlAction.RESUME, session, account, reason, json=json, asks=not yes)


def _carry_out(
    action: ControlAction, session: str | None, account: str | None, reason: str, *, json: bool, asks: bool = False
) -> None:
    from services.console.control import command_all, find_targets, with_scopes_that_hold

    targets, failed = find_targets(session, account)
    if action is ControlAction.RESUME and account is None:
        targets = [with_scopes_that_hold(target) for target in targets]
    is_named = action is ControlAction.RESUME and account is not None and len(targets) == 1
    if asks and not is_named and targets:
        _ask(action, targets)
    confirmations = [*command_all(targets, action, reason), *failed]
    is_done = all(confirmation.is_done for confirmation in confirmations)
    if json:
        print_json({"action": action.name.lower(), "is_done": is_done, "accounts": confirmations})
    else:
        _print(confirmations)
    if not is_done:
        missing = ", ".join(f"{each.account} of {each.session}" for each in confirmations if not each.is_done)
        sys.stderr.write(f"perpflow: {action.name.lower()} is not in force for {missing}\n")
        raise typer.Exit(EXIT_CHECK_FAILED)


def _ask(action: ControlAction, targets: Sequence[ControlTarget]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from services.console.accounts import describe_positions

    if not sys.stdin.isatty():
        raise BadInput(f"{action.name.lower()} asks first, and there is nobody to ask; give --yes")
    table = Table("session", "account", "trading", "reason", "position")
    for target in targets:
        for row in target.accounts:
            table.add_row(
                target.session.name,
                row.account,
                row.trading_state,
                escape(row.reason),
                describe_positions(row.positions),
            )
    Console(stderr=True).print(table)
    if not typer.confirm(f"{action.name.capitalize()} these accounts?", err=True):
        raise typer.Exit(EXIT_CHECK_FAILED)


def _print(confirmations: Sequence[Confirmation]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("session", "account", "state", "reason")
    for each in confirmations:
        table.add_row(each.session, each.account, each.state, escape(each.reason))
    Console().print(table)
