"""Collect the optional outside series into a Parquet file: one row a reading, point in time by `published_time`.

Run as `python -m services.features.sources.collect --days 30 --output outside.parquet`. What is absent is named on
stderr and harms nothing; exit code 3 where every source is absent.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from libs.runtime.errors import EXIT_BAD_INPUT, EXIT_OK, EXIT_UNAVAILABLE
from libs.runtime.settings import load_settings
from services.features.settings import FeaturesSettings
from services.features.sources.api import NANOSECONDS, Collection, ReadingSource, collect_readings
from services.features.sources.crowd import FundingCrowdSource, LongShortSource
from services.features.sources.fear_greed import FearGreedSource
from services.features.sources.glassnode import GlassnodeSource
from services.features.sources.headlines import HeadlineSource

_TIMEOUT_S = 10.0


def build_sources(settings: FeaturesSettings, client: httpx.Client) -> tuple[ReadingSource, ...]:
    """Make every source that there is; one without its key says so when it is asked."""
    return (
        GlassnodeSource(client, settings.glassnode_key.get_secret_value()),
        FearGreedSource(client),
        LongShortSource(client),
        FundingCrowdSource(client),
        HeadlineSource(client, url=settings.headlines_url),
    )


def write_readings(collection: Collection, path: Path) -> None:
    """Write readings in order of publication: published_time, event_time, source, metric, value."""
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


def collect(sources: Sequence[ReadingSource], begin: int, end: int, output: Path) -> int:
    """Collect [begin, end) ns into a file; the answer is the exit code."""
    if not output.parent.is_dir():
        sys.stderr.write(f"--output {output}: there is no folder {output.parent}; make it first\n")
        return EXIT_BAD_INPUT
    collection = collect_readings(sources, begin, end)
    for absence in collection.absences:
        sys.stderr.write(f"absent: {absence.reason}\n")
    if len(collection.absences) == len(sources):
        return EXIT_UNAVAILABLE
    write_readings(collection, output)
    sys.stdout.write(f"{len(collection.readings)} readings -> {output}\n")
    return EXIT_OK


def main() -> int:
    """Read the command line and collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=float, default=30.0, help="how far back")
    parser.add_argument("--output", type=Path, required=True, help="Parquet file")
    arguments = parser.parse_args()
    end = time.time_ns()
    begin = end - int(arguments.days * 86_400 * NANOSECONDS)
    with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True) as client:
        return collect(build_sources(load_settings(FeaturesSettings), client), begin, end, arguments.output)


if __name__ == "__main__":
    raise SystemExit(main())
