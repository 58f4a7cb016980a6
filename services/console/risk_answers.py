"""How `perpflow risk` reads its files, refuses them in one line, and writes what it computed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from libs.margin.brackets import BracketTable

_BAD_INPUT = 2
_PLACES = Decimal("1E-12")


def fail(message: str) -> NoReturn:
    """End the command with one line and exit code 2."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(_BAD_INPUT)


@contextmanager
def refusals() -> Iterator[None]:
    """Turn a refusal of margin or sizing into one line and exit code 2."""
    from libs.margin.brackets import MarginError
    from libs.sizing.errors import SizingError

    try:
        yield
    except (MarginError, SizingError) as error:
        fail(str(error))


def plain(value: Decimal | None) -> str | None:
    """Write a decimal plainly, to twelve places, None as None."""
    from libs.domain.numbers import format_decimal
    from libs.margin.brackets import EXACT

    if value is None:
        return None
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -12:
        value = value.quantize(_PLACES, context=EXACT)
    return format_decimal(value)


def short(value: object, places: int = 2) -> str:
    """Shorten a decimal string for a person; tables show cents, JSON shows everything."""
    return "none" if value is None else f"{Decimal(str(value)):,.{places}f}"


def plain_float(value: float) -> str:
    """Write a float plainly, to twelve digits."""
    from libs.domain.numbers import format_decimal

    return format_decimal(Decimal(f"{value:.12g}"))


def read_json(path: str, what: str) -> object:
    """Read JSON from a file (gzip where it ends in .gz) or from standard input for `-`; NaN and infinities are
    refused.
    """
    import gzip
    import json

    def refuse(text: str) -> NoReturn:
        fail(f"{what} {path}: {text} is not a number; give a finite decimal string")

    try:
        if path == "-":
            text = sys.stdin.read()
        else:
            data = Path(path).read_bytes()
            text = (gzip.decompress(data) if path.endswith(".gz") else data).decode("utf-8")
        answer: object = json.loads(text, parse_float=Decimal, parse_constant=refuse)
    except OSError as error:
        fail(f"{what} {path} cannot be read: {error.strerror or error}; check the path")
    except (UnicodeDecodeError, EOFError) as error:
        fail(f"{what} {path} is not text: {error}; give JSON in UTF-8")
    except json.JSONDecodeError as error:
        fail(f"{what} {path} is not JSON: {error.msg} at line {error.lineno} column {error.colno}; correct it there")
    return answer


def read_brackets(path: str | None) -> tuple[Mapping[str, BracketTable], str]:
    """Read bracket tables from a file, else those that ship, and say where they are from."""
    if path is None:
        from libs.margin.default_brackets import DEFAULT_BRACKETS

        return DEFAULT_BRACKETS, "shipped with perpflow"
    from libs.margin.brackets import parse_leverage_brackets

    return parse_leverage_brackets(read_json(path, "--brackets")), path


def write_json(answer: object) -> None:
    """Print one JSON object."""
    import json

    typer.echo(json.dumps(answer, indent=2))


def write_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table for a person."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    typer.echo(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
