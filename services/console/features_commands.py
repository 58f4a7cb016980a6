"""`perpflow features` and `perpflow engineer-features`: what features there are, and a file of them made from bars.

The features come from the stream's own compiled step; nothing is computed here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from libs.clock import SYSTEM_CLOCK
from services.console.output import print_json

if TYPE_CHECKING:
    from libs.indicators.feature_set import FeatureSet
    from libs.indicators.program import Program
    from libs.store.store import Store
    from services.console.features_files import BarsFile

features_app = typer.Typer(
    name="features", help="Look at the features and feature sets that ship.", no_args_is_help=True
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
SetOption = Annotated[str, typer.Option("--feature-set", metavar="NAME", help="A feature set that ships.")]


@features_app.callback()
def _features() -> None:
    """Look at the features and feature sets that ship."""


@features_app.command("list")
def list_features(
    feature_set: SetOption = "core_v1",
    group: Annotated[str | None, typer.Option(help="One group only, such as technical.")] = None,
    json: JsonOption = False,
) -> None:
    """List every feature of a set: name, group, unit, range, warm-up, inputs, source of the formula.

    Examples:

      perpflow features list --group volatility

      perpflow features list --json
    """
    from libs.indicators.kinds import GROUPS
    from libs.runtime.errors import BadInput

    if group is not None and group not in GROUPS:
        raise BadInput(f"--group {group!r}: no such group; there are {', '.join(GROUPS)}")
    rows = [
        feature.describe() for feature in _load(feature_set).features if group is None or feature.kind.group == group
    ]
    if json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=feature_set)
    table.add_column("name", no_wrap=True)
    for heading in ("group", "unit", "range", "warm-up", "inputs", "source"):
        table.add_column(heading)
    for row in rows:
        low, high = row["range"]
        table.add_row(
            row["name"],
            row["group"],
            row["unit"],
            f"{'' if low is None else f'{low:g}'}..{'' if high is None else f'{high:g}'}",
            str(row["warm_up"]),
            ", ".join(row["inputs"]),
            row["formula_source"],
        )
    Console().print(table)


def engineer_features(
    input_: Annotated[
        str,
        typer.Option("--input", metavar="BARS", help="Parquet file of bars, or clickhouse:INSTRUMENT/TIMEFRAME."),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="OUT.parquet", help="Where the features go.")],
    funding: Annotated[Path | None, typer.Option(metavar="F.parquet", help="Settlements: time, rate.")] = None,
    open_interest: Annotated[
        Path | None, typer.Option("--open-interest", metavar="F.parquet", help="Columns time, open_interest.")
    ] = None,
    mark: Annotated[Path | None, typer.Option(metavar="F.parquet", help="Mark bars: open_time, close.")] = None,
    alternative: Annotated[
        Path | None, typer.Option(metavar="F.parquet", help="Readings of collect-alternative, as further columns.")
    ] = None,
    feature_set: SetOption = "core_v1",
    clickhouse: Annotated[
        str | None,
        typer.Option(metavar="URL", help="ClickHouse to read; PERPFLOW_CLICKHOUSE, or the session's, by default."),
    ] = None,
    session: Annotated[str | None, typer.Option(help="Whose recorded bars; the latest session by default.")] = None,
    json: JsonOption = False,
) -> None:
    """Turn a file of bars into a file of features, point in time: only what was published by each bar's close.

    The timeframe is the step between bars; higher ones are built from it. Missing inputs leave exactly the features
    that need them empty (NaN).

    Examples:

      perpflow engineer-features --input bars.parquet --output features.parquet

      perpflow engineer-features --input bars.parquet --funding funding.parquet --output features.parquet --json

      perpflow engineer-features --input clickhouse:BTCUSDT.BINANCE/1m --output features.parquet
    """
    from libs.indicators.batch import name_timeframe
    from libs.indicators.program import compile_feature_set
    from libs.runtime.errors import BadInput
    from services.console.features_files import BarsFile
    from services.console.features_store import BarsInStore

    began = SYSTEM_CLOCK.monotonic_s()
    source: Any
    if input_.startswith("clickhouse:"):
        source = BarsInStore.open(input_, _find_store(clickhouse, session))
    else:
        source = BarsFile.open(Path(input_))
        if output.exists() and output.resolve() == Path(input_).resolve():
            raise BadInput(f"--output {output} is the input; choose another file")
    chosen = _load(feature_set, name_timeframe(source.step_s))
    program = compile_feature_set(chosen, source.step_s)
    summary = _write_features(source, program, output, funding, open_interest, mark, alternative, is_quiet=json)
    summary["seconds"] = round(SYSTEM_CLOCK.monotonic_s() - began, 3)
    if json:
        print_json(summary)
    else:
        _print_summary(summary)


def _find_store(clickhouse: str | None, session: str | None) -> Store:
    """Open the store with the bars: the address given or set, else that of a session."""
    from libs.runtime.configuration import read_configuration
    from services.console.session import load_session
    from services.console.store_access import open_configured, open_store, read_password

    configuration = read_configuration()
    if (clickhouse or "PERPFLOW_CLICKHOUSE" in configuration.variables) and session is None:
        return open_configured(configuration, clickhouse)
    recorded = load_session(session)
    return open_store(recorded, read_password(recorded, configuration), clickhouse)


def _write_features(
    source: BarsFile,
    program: Program,
    output: Path,
    funding: Path | None,
    open_interest: Path | None,
    mark: Path | None,
    alternative: Path | None,
    *,
    is_quiet: bool,
) -> dict[str, Any]:
    import numpy as np

    from libs.indicators import columns as col
    from libs.indicators.batch import BatchRun, warm_up_bars
    from services.console.features_files import PIECE_ROWS, FeatureFile
    from services.training.published import PublishedFiles, PublishedSeries

    chosen = program.feature_set
    published = PublishedSeries(PublishedFiles(funding, open_interest, mark, readings=alternative))
    others = published.others
    engine = BatchRun(program)
    unknown = np.zeros(len(chosen), dtype=np.int64)
    buffer = np.empty((PIECE_ROWS, len(chosen)))
    absent = np.ones(col.ROW_WIDTH, dtype=np.bool_)
    metadata = {
        "feature_set": chosen.name,
        "feature_set_version": str(chosen.version),
        "schema_hash": chosen.schema_hash,
        "base_timeframe": chosen.base_timeframe,
    }
    with (
        FeatureFile(output, (*chosen.names, *others), metadata) as file,
        _progress(source.total_rows, is_quiet) as advance,
    ):
        for piece in source.pieces():
            closes = piece.open_times + source.step_s
            published.join(piece.rows, closes, source.step_s)
            values = engine.take(piece.open_times, piece.rows, buffer[: len(piece.rows)])
            absent &= np.isnan(piece.rows).all(axis=0)
            unknown += np.isnan(values).sum(axis=0)
            joined = [series.as_of(closes * 1000)[0] for series in others.values()]
            file.write(piece.open_times, source.step_s, np.column_stack((values, *joined)) if joined else values)
            advance(len(values))
    notes = source.notes
    missing = {col.ROW_COLUMNS[j] for j in np.flatnonzero(absent)}
    rows = max(notes.rows, 1)
    warnings = _warnings(chosen, program, source, missing, published.mark_step_s)
    return {
        "rows": notes.rows,
        "features": len(chosen),
        "feature_set": chosen.name,
        "schema_hash": chosen.schema_hash,
        "base_timeframe": chosen.base_timeframe,
        "output": str(output),
        "alternative": list(others),
        "warm_up_bars": warm_up_bars(chosen, source.step_s),
        "warm_up": {feature.name: feature.warm_up for feature in chosen.features},
        "nan_share": {name: int(count) / rows for name, count in zip(chosen.names, unknown, strict=True)},
        "coverage": 1.0 - float(unknown.sum()) / (rows * len(chosen)),
        "missing_inputs": {name: lost for name in sorted(missing) if (lost := _lost_without(name, chosen))},
        "unavailable": list(program.unavailable),
        "gaps": {"count": notes.gaps, "missing_bars": notes.missing_bars, "first_row": notes.first_gap_row},
        "duplicates": {"dropped": notes.duplicates, "first_row": notes.first_duplicate_row},
        "zero_volume": {"bars": notes.zero_volume_bars, "first_row": notes.first_zero_volume_row},
        "notes": warnings,
    }


def _lost_without(column: str, chosen: FeatureSet) -> list[str]:
    """Name the features that are empty without a column; a flag then says that it is not known."""
    return [one.name for one in chosen.features if column in one.kind.inputs and one.kind.step != "known"]


def _warnings(
    chosen: FeatureSet, program: Program, source: BarsFile, missing: set[str], mark_step_s: int | None
) -> list[str]:
    """Say once what is missing or odd, and what follows from it."""
    notes = source.notes
    said = []
    for name in sorted(missing):
        lost = _lost_without(name, chosen)
        if lost:
            said.append(f"no {name} in the input: {len(lost)} features are empty ({', '.join(lost[:3])}, ...)")
    if program.unavailable:
        said.append(
            f"{len(program.unavailable)} features are of timeframes that {chosen.base_timeframe} bars cannot build and"
            f" are empty ({program.unavailable[0]}, ...)"
        )
    if notes.gaps:
        said.append(
            f"{notes.gaps} gaps, {notes.missing_bars} bars missing, the first before row {notes.first_gap_row}: windows"
            " count bars, so they reach across"
        )
    if notes.duplicates:
        said.append(f"{notes.duplicates} repeated rows left out, the first is row {notes.first_duplicate_row}")
    if notes.zero_volume_bars:
        said.append(
            f"{notes.zero_volume_bars} bars without volume, the first is row {notes.first_zero_volume_row}: ratios to"
            " their volume count as 0"
        )
    if mark_step_s is not None and mark_step_s > source.step_s:
        said.append(
            f"marks are published every {mark_step_s} s, bars every {source.step_s} s: the basis compares the close"
            " with the mark last published, which may be that old"
        )
    return said


@contextlib.contextmanager
def _progress(total: int, is_quiet: bool) -> Iterator[Callable[[int], None]]:
    if is_quiet:
        yield lambda _rows: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("features", total=total)
        yield lambda rows: progress.advance(task, rows)


def _load(name: str, base_timeframe: str = "1m") -> FeatureSet:
    """Load a set as training and serving do; over a timeframe that has no name of theirs, its list as it is."""
    from libs.indicators.feature_set import TIMEFRAME_SECONDS, FeatureSetError
    from libs.indicators.feature_sets import load_feature_set
    from libs.runtime.errors import BadInput

    try:
        if base_timeframe in TIMEFRAME_SECONDS:
            return load_feature_set(name, base_timeframe)
        return load_feature_set(name).on(base_timeframe)
    except FeatureSetError as error:
        raise BadInput(f"--feature-set: {error}") from error


def _print_summary(summary: dict[str, Any]) -> None:
    print(
        f"{summary['rows']:,} bars of {summary['base_timeframe']}, {summary['features']} features of"
        f" {summary['feature_set']} ({summary['schema_hash'][:12]}) in {summary['seconds']:.2f} s"
        f" -> {summary['output']}"
    )
    print(f"known: {summary['coverage']:.1%}; everything is warm after {summary['warm_up_bars']:,} bars")
    for note in summary["notes"]:
        print(f"note: {note}")
    shares = sorted(summary["nan_share"].items(), key=lambda item: -item[1])
    print("share of NaN: " + ", ".join(f"{name} {share:.1%}" for name, share in shares[:8]) + ", ... (--json for all)")
