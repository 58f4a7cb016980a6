"""`perpflow users`: who may sign in to the page."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from libs.runtime.errors import BadInput
from services.console.output import print_json
from services.console.session import sessions_root

users_app = typer.Typer(
    name="users",
    help="Who may sign in to the page: viewers read, operators command too, admins end other people's sessions too.",
    no_args_is_help=True,
)

FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="The users file; PERPFLOW_MONITORING_USERS_FILE, else users.json under var/."),
]


def users_file(given: Path | None = None, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the users file: as given, as the environment says, or ``users.json`` beside the sessions."""
    if given is not None:
        return given
    named = environment.get("PERPFLOW_MONITORING_USERS_FILE")
    return Path(named) if named else sessions_root().parent / "users.json"


def count_users(path: Path) -> int:
    """Return how many users a file has. Raises `BadInput` where it is damaged or open to others."""
    from libs.access.users import load_users

    with _bad_input():
        return len(load_users(path))


@contextmanager
def _bad_input() -> Iterator[None]:
    from libs.access.users import UsersFileError

    try:
        yield
    except UsersFileError as error:
        raise BadInput(str(error)) from error


@users_app.command()
def add(
    name: Annotated[str, typer.Argument(help="Letters, digits, dot, dash and underscore.")],
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")],
    token: Annotated[bool, typer.Option("--token", help="Make a token for a program instead of a password.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Change the role and credential of a user.")] = False,
    file: FileOption = None,
) -> None:
    """Add a user. The password is asked for, or read from standard input where that is no terminal.

    Examples:

      perpflow users add ada --role operator

      perpflow users add grafana --role viewer --token
    """
    from libs.access.users import add_password_user, add_token_user, read_role

    path = users_file(file)
    with _bad_input():
        chosen = read_role(role)
        if token:
            # The token alone on stdout, so that a program can take it from there.
            print(add_token_user(path, name, chosen, is_replacing=replace))
            sys.stderr.write("send it as `Authorization: Bearer TOKEN`; it cannot be shown again\n")
        else:
            add_password_user(path, name, chosen, _read_password(), is_replacing=replace)
    sys.stderr.write(f"{name} is {chosen.label} in {path}\n")


def _read_password() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\n")


@users_app.command("list")
def list_users(
    file: FileOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """List users and roles.

    Example: perpflow users list
    """
    from libs.access.users import load_users

    path = users_file(file)
    with _bad_input():
        users = load_users(path)
    rows = [
        {"name": user.name, "role": user.role, "credential": "password" if user.password_hash else "token"}
        for _, user in sorted(users.items())
    ]
    if json:
        print_json({"file": str(path), "users": rows})
        return
    for row in rows:
        print(f"{row['name']:<24} {row['role']:<10} {row['credential']}")
    if not rows:
        sys.stderr.write(f"{path} has no users; add one with `perpflow users add NAME --role operator`\n")


@users_app.command()
def remove(name: Annotated[str, typer.Argument(help="The user.")], file: FileOption = None) -> None:
    """Remove a user; the page ends that user's sessions at once.

    Example: perpflow users remove ada
    """
    from libs.access.users import remove_user

    path = users_file(file)
    with _bad_input():
        remove_user(path, name)
    sys.stderr.write(f"{name} is removed from {path}\n")
