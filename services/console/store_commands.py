"""`perpflow store open` and `perpflow sql`: a session's tables, also once it has finished, for people and programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from libs.clock import Deadline
from libs.runtime.child import child_command
from libs.runtime.configuration import read_configuration
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.runtime.listening import ReservedPort
from libs.runtime.stop import SUPERVISOR_VARIABLE
from libs.store.errors import StoreError, StoreUnavailable
from services.console.output import print_json
from services.console.plan import answers, base_environment
from services.console.running import is_running
from services.console.session import SessionDescription, load_session, locked_session, make_private_folder
from services.console.store_access import EMBEDDED_USER, make_password, open_store, read_password

if TYPE_CHECKING:
    from libs.store.store import Store

store_app = typer.Typer(name="store", help="Serve the tables of a session.", no_args_is_help=True)

_STARTS_WITHIN_S = 60.0
_LOG = "clickhouse-opened.log"
_FORMATS = {".parquet": "Parquet", ".csv": "CSVWithNames", ".jsonl": "JSONEachRow", ".arrow": "Arrow"}


@store_app.command("open")
def open_command(
    session: Annotated[str | None, typer.Argument(help="A session's name; the latest one by default.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Serve the tables of a finished session to clickhouse-connect, curl and Grafana until Ctrl-C.

    Example: perpflow store open 20260102-101500-simulated-7 --port 8123
    """
    found = load_session(session)
    if is_running(found.folder):
        raise BadInput(f"session {found.name} runs; its ClickHouse is {found.clickhouse} already")
    with _stopped_by_signals(), _served(found, port) as (address, process):
        facts = {
            "session": found.name,
            "url": address,
            "user": EMBEDDED_USER,
            "password_file": str(found.password_file),
            "database": found.clickhouse_database,
        }
        if json:
            print_json(facts)
        else:
            print(f"{found.name} at {address}, user {EMBEDDED_USER}, database {found.clickhouse_database}")
            print(f"password in {found.password_file}, good until this ends; Ctrl-C ends it")
            print(f'curl -u "{EMBEDDED_USER}:$(cat {found.password_file})" {address} -d "SHOW TABLES"')
        sys.stdout.flush()
        process.wait()
        raise DependencyUnavailable(f"ClickHouse ended by itself; {found.log_dir / _LOG} says why")


def sql(
    text: Annotated[str, typer.Argument(help="One statement that reads.")],
    session: Annotated[
        str | None, typer.Option("--session", help="A session's name; the latest one by default.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the answer to a .parquet, .csv, .jsonl or .arrow file instead.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Ask the tables of a session, of a running or a finished one.

    Examples:

      perpflow sql "SELECT * FROM daily_statistics"

      perpflow sql "SELECT * FROM trades WHERE instrument = 'BTCUSDT.BINANCE'" --output trades.parquet
    """
    chosen = "JSONEachRow" if json else "PrettyCompactMonoBlock"
    if output is not None:
        if output.suffix not in _FORMATS:
            raise BadInput(f"--output {output}: the answer can be a file ending in {', '.join(_FORMATS)}")
        if not output.absolute().parent.is_dir():
            raise BadInput(f"--output {output}: there is no folder {output.parent}; make it first")
        chosen = _FORMATS[output.suffix]
    found = load_session(session)
    try:
        with _opened(found) as store:
            if output is None:
                for piece in store.export(text, chosen):
                    sys.stdout.write(piece.decode(errors="replace"))
                return
            written = _write(store, text, chosen, output)
    except StoreUnavailable as error:
        raise DependencyUnavailable(str(error)) from error
    except StoreError as error:
        raise BadInput(str(error)) from error
    print(f"{output}: {written:,} bytes")


def _write(store: Store, text: str, output_format: str, output: Path) -> int:
    """Write an answer at once or not at all."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TimeElapsedColumn

    draft, written = output.with_name(f".{output.name}.{os.getpid()}"), 0
    columns = (SpinnerColumn(), DownloadColumn(), TimeElapsedColumn())
    try:
        with draft.open("wb") as out, Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("exporting", total=None)
            for piece in store.export(text, output_format):
                written += out.write(piece)
                progress.update(task, completed=written)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    return written


@contextmanager
def _opened(session: SessionDescription) -> Iterator[Store]:
    """Open a session's tables, starting its ClickHouse for as long as it takes where it has finished."""
    configuration = read_configuration()
    if session.clickhouse_user != EMBEDDED_USER or is_running(session.folder):
        with closing(open_store(session, read_password(session, configuration))) as store:
            yield store
        return
    with (
        _served(session) as (address, _),
        closing(open_store(session, read_password(session, configuration), address)) as store,
    ):
        yield store


@contextmanager
def _served(session: SessionDescription, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a finished session's ClickHouse; yield its address and process."""
    folder = session.folder / "clickhouse"
    if session.clickhouse_user != EMBEDDED_USER:
        raise BadInput(f"session {session.name} wrote to the ClickHouse at {session.clickhouse}; ask that one")
    if not folder.is_dir():
        raise BadInput(f"session {session.name} has no tables: {folder} is missing; restore it")
    log = session.log_dir / _LOG
    make_private_folder(session.log_dir)
    with locked_session(session), ReservedPort(port) as reserved, log.open("wb") as said:
        address = f"http://127.0.0.1:{reserved.number}"
        make_password(session)
        served = ("--path", str(folder), "--port", str(reserved.number), "--password-file", str(session.password_file))
        process = subprocess.Popen(
            child_command("infra.local.clickhouse", *served),
            # It ends with this process, however that ends.
            env={**base_environment(), SUPERVISOR_VARIABLE: str(os.getpid())},
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            is_up = False
            for _ in Deadline(_STARTS_WITHIN_S).attempts(0.05):
                is_up = answers(f"{address}/ping")
                if is_up or process.poll() is not None:
                    break
            if not is_up:
                raise DependencyUnavailable(f"the ClickHouse of session {session.name} did not start; {log} says why")
            yield address, process
        finally:
            process.terminate()
            process.wait()
            session.password_file.unlink(missing_ok=True)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, and neither of them with a traceback."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("perpflow: stopped\n")
    finally:
        signal.signal(signal.SIGTERM, previous)
