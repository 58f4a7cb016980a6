"""`perpflow check`: whether a session's topics, tables and orders agree, while it runs or afterwards."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated

import typer

from libs.clock import Deadline
from libs.runtime.configuration import read_configuration
from libs.runtime.errors import EXIT_CHECK_FAILED, BadInput, DependencyUnavailable
from libs.store.errors import StoreError, StoreUnavailable
from services.console.output import print_json

_WRITTEN_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.5
# While a session runs, a topic that is read later may be ahead of one read before: what holds in one reading holds.
_READINGS = 3


def check(
    session: Annotated[
        str | None, typer.Option("--session", help="A session's name; the latest one by default.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Compare what a session's topics hold with its tables in ClickHouse, and check what must hold of every order.

    The topics are read first; the tables must have all of that within half a minute. Where the topics' first records
    are past retention, both are compared from the oldest on that the topics hold. Exit code 1 where anything is missing
    or an order broke a rule.

    Example: perpflow check --json
    """
    from services.console.bus_session import find_session
    from services.console.session import demand_bus
    from services.console.session_bus import open_session_bus
    from services.console.store_access import open_store, read_password
    from services.console.summary import summarise_topics

    found = find_session(session)
    demand_bus(found)
    with open_session_bus(found) as bus:
        for _ in range(_READINGS):
            summary = summarise_topics(bus)
            broken = {name: count for name, count in summary["invariants"].items() if count}
            if not broken:
                break
    tables: dict[str, int] = {}
    missing: dict[str, int] = {}
    try:
        with closing(open_store(found, read_password(found, read_configuration()))) as store:
            for _ in Deadline(_WRITTEN_WITHIN_S).attempts(_LOOK_EVERY_S):
                tables = store.count_rows(summary["first_offsets"])
                rows = summary["topics"].items()
                missing = {topic: count - tables.get(topic, 0) for topic, count in rows if tables.get(topic, 0) < count}
                if not missing:
                    break
    except StoreUnavailable as error:
        raise DependencyUnavailable(f"topics and tables cannot be compared: {error}") from error
    except StoreError as error:
        raise BadInput(f"topics and tables cannot be compared: {error}") from error
    if json:
        tables = {topic: tables.get(topic, 0) for topic in summary["topics"]}
        print_json({**summary, "tables": tables, "missing_in_tables": missing, "is_good": not (broken or missing)})
    else:
        print(
            f"{found.name}: {sum(summary['topics'].values()):,} records in {len(summary['topics'])} topics, "
            f"{summary['orders']:,} orders, {summary['fills']:,} fills, {summary['dead_letters']:,} dead letters"
        )
    for topic, count in missing.items():
        sys.stderr.write(f"perpflow: {count} records of {topic} are not in ClickHouse; is the recorder running?\n")
    for name, count in broken.items():
        sys.stderr.write(f"perpflow: {name.replace('_', ' ')}: {count}\n")
    if broken or missing:
        raise typer.Exit(EXIT_CHECK_FAILED)
