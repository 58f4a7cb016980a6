"""`perpflow collect-alternative`: optional series from outside the exchange into a file, point in time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from libs.clock import SYSTEM_CLOCK
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput, DependencyUnavailable
from services.console.output import print_json

if TYPE_CHECKING:
    import httpx

    from libs.alternative_data.api import Collection, ReadingSource

_TIMEOUT_S = 10.0


def collect_alternative(
    output: Annotated[Path, typer.Option(help="Parquet file to write.")],
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How far back, in days.")] = 30.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Collect on-chain metrics, sentiment, the crowd's positions and headlines: one row a reading.

    A source that is absent is named on stderr and harms nothing. Glassnode needs PERPFLOW_INGESTION_GLASSNODE_KEY.

    Examples:

      perpflow collect-alternative --days 30 --output alternative.parquet

      perpflow engineer-features --input bars.parquet --alternative alternative.parquet --output features.parquet
    """
    import httpx

    end = SYSTEM_CLOCK.now_ns()
    with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True) as client:
        collection = collect(_sources(client), end - int(days * 86_400 * NANOSECONDS), end, output)
    if json:
        absent = {absence.source: absence.reason for absence in collection.absences}
        print_json({"readings": len(collection.readings), "absent": absent, "output": str(output)})
    else:
        print(f"{len(collection.readings)} readings -> {output}")


def _sources(client: httpx.Client) -> Iterable[ReadingSource]:
    from libs.alternative_data.sources import build_sources
    from libs.runtime.settings import load_settings
    from services.console.registry import settings_models

    settings: Any = load_settings(settings_models()["ingestion"])
    return build_sources(client, settings.glassnode_key.get_secret_value(), settings.headlines_url)


def collect(sources: Iterable[ReadingSource], begin: int, end: int, output: Path) -> Collection:
    """Collect [begin, end) ns into a file. Raises `DependencyUnavailable` where every source is absent."""
    from libs.alternative_data.api import collect_readings

    if not output.parent.is_dir():
        raise BadInput(f"--output {output}: there is no folder {output.parent}; make it first")
    asked: Sequence[ReadingSource] = tuple(sources)
    collection = collect_readings(asked, begin, end)
    reasons = [absence.reason for absence in collection.absences]
    if len(reasons) == len(asked):
        raise DependencyUnavailable(f"every source is absent: {'; '.join(reasons)}")
    for reason in reasons:
        print(f"absent: {reason}", file=sys.stderr)
    _write(collection, output)
    return collection


def _write(collection: Collection, path: Path) -> None:
    """Write readings in order of publication: published_time, event_time, source, metric, value."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    time_type = pa.timestamp("ns", "UTC")
    readings = collection.readings
    table = pa.table(
        {
            "published_time": pa.array([reading.published_time for reading in readings], pa.int64()).cast(time_type),
            "event_time": pa.array([reading.event_time for reading in readings], pa.int64()).cast(time_type),
            "source": pa.array([reading.source for reading in readings], pa.string()),
            "metric": pa.array([reading.metric for reading in readings], pa.string()),
            "value": pa.array([reading.value for reading in readings], pa.float64()),
        }
    )
    pq.write_table(table, path)
