"""`perpflow collect-data`, `import` and `data quality`: a venue's past, and files of others, as checked Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from libs.clock import SYSTEM_CLOCK
from libs.runtime.errors import EXIT_CHECK_FAILED, BadInput, DependencyUnavailable
from services.console.backtest_commands import parse_time
from services.console.durations import parse_duration_s
from services.console.output import print_json

if TYPE_CHECKING:
    from libs.history.files import SeriesFiles
    from libs.history.series import Series
    from libs.venues.archives import VenueArchive
    from libs.venues.history import MarketHistory

_DAY_MS = 86_400_000
_USUAL_DAYS = 7

data_app = typer.Typer(name="data", help="Look at files of market data.", no_args_is_help=True)


def collect_data(
    output: Annotated[
        Path,
        typer.Option(help="A .parquet file for one series, a folder for any; continued if it is there."),
    ],
    days: Annotated[
        float | None,
        typer.Option(min=0.01, max=3650, help="How far back; by default to where the files begin, or 7 days."),
    ] = None,
    from_: Annotated[str, typer.Option("--from", help="First day or time, UTC: 2024-01-01 or 2024-01-01T12:00.")] = "",
    to: Annotated[str, typer.Option("--to", help="Day or time before which to end; now by default.")] = "",
    venue: Annotated[str, typer.Option(help="binance or bybit.")] = "binance",
    symbol: Annotated[str, typer.Option(help="One or several, with commas.")] = "BTCUSDT",
    instrument: Annotated[str, typer.Option(help="SYMBOL.VENUE, instead of --venue and --symbol.")] = "",
    kind: Annotated[str, typer.Option(help="klines, mark, funding, open-interest, trades; or several.")] = "klines",
    timeframe: Annotated[str, typer.Option(help="1m, 5m, 15m, 1h, 4h, 1d; or several.")] = "1m",
    fresh_for: Annotated[
        str, typer.Option(help="Ask for no series that was asked for less than so long ago: 90s, 30m, 2h.")
    ] = "",
    sample_seed: Annotated[
        int | None,
        typer.Option(help="Where the venue does not answer, make up klines from this seed, marked so."),
    ] = None,
    url: Annotated[str, typer.Option(help="REST address of the exchange; the venue's own by default.")] = "",
    from_archive: Annotated[
        bool,
        typer.Option(
            "--from-archive", help="Take whole days from the files that the venue publishes; REST for the rest."
        ),
    ] = False,
    archive_url: Annotated[str, typer.Option(help="Address of those files; the venue's own by default.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Fetch a venue's past into Parquet, page by page; another call goes on where this one ended, forward and backward.

    What REST does not give (open interest beyond 30 days, Bybit's past trades) comes from the venue's archive of files.
    Files say what they are of, and one of another symbol, kind or timeframe is refused. Prices are doubles, times UTC.

    Examples:

      perpflow collect-data --days 30 --output btc_1m.parquet

      perpflow collect-data --venue bybit --symbol BTCUSDT,ETHUSDT --kind klines,funding,open-interest
      --timeframe 1m,5m,1h --from 2024-01-01 --to 2024-07-01 --output history

      perpflow collect-data --output btc_1m.parquet --url http://127.0.0.1:8090
    """
    from libs.history.errors import HistoryError
    from libs.venues.errors import VenueRefused, VenueUnavailable
    from libs.venues.frames import FrameError
    from libs.venues.history import HistoryRefused
    from libs.venues.registry import UnknownVenue, find_venue
    from libs.venues.rest import RequestBudget, RestClient

    started_s = SYSTEM_CLOCK.monotonic_s()
    begin = parse_time("--from", from_) // 1_000_000 if from_ else None
    end = parse_time("--to", to) // 1_000_000 if to else None
    ttl_ms = int(parse_duration_s("--fresh-for", fresh_for) * 1000) if fresh_for else 0
    if instrument:
        symbol, _, venue = instrument.partition(".")
    try:
        declared = find_venue(venue.upper())
        address = url or declared.market_addresses[0]
        series = _series_of(venue, symbol, kind, timeframe)
        all_files = _open_files(output, series, address)
        rest = RestClient(address, budget=RequestBudget(declared.weight_per_minute))
        history = declared.open_history(rest)
        try:
            now_ms = history.now_ms()
        except VenueUnavailable:
            if sample_seed is None:
                raise
            all_files = _write_sample(output, series, sample_seed, days or _USUAL_DAYS)
            new_rows, now_ms, absent = _count_rows(all_files), 0, []
        else:
            if begin is None and days is not None:
                begin = now_ms - int(days * _DAY_MS)
            end = now_ms if end is None else end
            if begin is not None and begin >= end:
                raise BadInput(f"--from {from_ or 'now less --days'} is not before --to {to or 'now'}")
            stale = [files for files in all_files if not ttl_ms or files.fetched_ms < now_ms - ttl_ms]
            archive = _Archive(declared.archive, archive_url, is_wanted=from_archive)
            new_rows = _collect(history, archive, stale, begin, end, now_ms, is_quiet=json)
            absent = archive.absent
        finally:
            history.close()
    except VenueUnavailable as error:
        raise DependencyUnavailable(f"{error}; what has come is kept: run it again to go on") from error
    except (VenueRefused, FrameError, HistoryRefused, HistoryError, UnknownVenue) as error:
        raise BadInput(str(error)) from error
    described = [_describe(files) for files in all_files]
    if not sum(each["rows"] for each in described):
        raise BadInput(f"{address} has nothing of {', '.join(map(str, series))} in that time")
    answer: dict[str, Any] = {
        "output": str(output),
        "new_rows": new_rows,
        "is_sample": now_ms == 0,
        "days_not_in_archive": absent,
        "series": described,
        "seconds": round(SYSTEM_CLOCK.monotonic_s() - started_s, 3),
    }
    if len(described) == 1:
        answer |= {name: described[0][name] for name in ("rows", "gaps", "first_time_ms", "last_time_ms")}
    if json:
        print_json(answer)
        return
    for each in described:
        print(f"{each['series']}: {each['rows']:,} rows up to {_show(each['last_time_ms'])}, {each['gaps']} gaps")
    if absent:
        print(f"the archive has no files of {len(absent)} days: {', '.join(absent[:5])}{', ...' * (len(absent) > 5)}")
    print(f"{output}: {new_rows:,} rows are new")


def _series_of(venue: str, symbols: str, kinds: str, timeframes: str) -> list[Series]:
    from libs.history.series import make_series

    series = [
        make_series(venue, symbol, kind, timeframe)
        for symbol in _words(symbols)
        for kind in _words(kinds)
        for timeframe in _words(timeframes)
    ]
    return list(dict.fromkeys(series))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _open_files(output: Path, series: Sequence[Series], source: str) -> list[SeriesFiles]:
    from libs.history.files import SeriesFiles

    if output.suffix == ".parquet" and len(series) > 1:
        raise BadInput(f"--output {output} is one file for {len(series)} series; name a folder")
    if output.suffix != ".parquet" and output.is_file():
        raise BadInput(f"--output {output} is a file that is no .parquet; name another --output")
    return [SeriesFiles(output, each, source) for each in series]


@dataclass(slots=True)
class _Archive:
    """The venue's archive, and the days of which it had no file. `is_wanted` takes what REST would give from it too."""

    declared: VenueArchive
    url: str
    is_wanted: bool
    absent: list[str] = field(default_factory=list)


def _collect(
    history: MarketHistory,
    archive: _Archive,
    all_files: Sequence[SeriesFiles],
    begin_ms: int | None,
    end_ms: int,
    now_ms: int,
    *,
    is_quiet: bool,
) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from libs.history.archived import collect_days, plan_days
    from libs.history.collection import collect, plan
    from libs.venues.archives import ArchiveClient
    from libs.venues.history import HistoryRefused, TimeSpan

    pieces = []
    days = []
    for files in all_files:
        covered = files.covered
        usual_ms = covered[0].begin if covered else now_ms - _USUAL_DAYS * _DAY_MS
        span = TimeSpan(usual_ms if begin_ms is None else begin_ms, end_ms)
        is_archived = files.series.kind in archive.declared.paths
        if archive.is_wanted and is_archived:
            days += [(files, day) for day in plan_days(files, span, now_ms)]
            span = TimeSpan(max(span.begin, now_ms - now_ms % _DAY_MS), span.end)
        try:
            planned = plan(history, files, span, now_ms)
        except HistoryRefused:
            if not is_archived:
                raise
            # The archive has what REST does not give any more.
            reach_ms, _ = history.reach.get(files.series.kind, (0, ""))
            oldest_ms = -(-(now_ms - reach_ms) // _DAY_MS) * _DAY_MS
            days += [(files, day) for day in plan_days(files, TimeSpan(span.begin, min(span.end, oldest_ms)), now_ms)]
            rest = TimeSpan(oldest_ms, span.end)
            planned = plan(history, files, rest, now_ms) if reach_ms and rest.begin < rest.end else []
        pieces += [(files, piece) for piece in planned]
    before = _count_rows(all_files)
    with Progress(console=Console(stderr=True), disable=is_quiet, transient=True) as progress:
        total_ms = sum(piece.end - piece.begin for _, piece in pieces) + len(days) * _DAY_MS
        task = progress.add_task("collecting", total=total_ms)
        if days:
            with ArchiveClient(archive.declared, archive.url) as client:
                missing = collect_days(
                    client,
                    days,
                    now_ms=now_ms,
                    clock=SYSTEM_CLOCK,
                    advance=lambda covered_ms, _rows: progress.update(task, advance=covered_ms),
                )
            archive.absent += [f"{files.series} {_show(day)[:10]}" for files, day in missing]
        collect(
            history,
            pieces,
            now_ms=now_ms,
            clock=SYSTEM_CLOCK,
            advance=lambda covered_ms, _rows: progress.update(task, advance=covered_ms),
        )
    return _count_rows(all_files) - before


def _count_rows(all_files: Iterable[SeriesFiles]) -> int:
    return sum(len(files.read([files.series.time_column])) for files in all_files)


def _write_sample(output: Path, series: Sequence[Series], seed: int, days: float) -> list[SeriesFiles]:
    """Write klines of the simulated market in place of the venue's, said to be that."""
    from dataclasses import replace

    from libs.history.files import SeriesFiles
    from libs.history.sampling import BAR_COLUMNS, resample
    from libs.venues.history import TimeSpan
    from services.training.market_data import simulate_bars

    wrong = [each for each in series if each.kind != "klines"]
    if wrong:
        raise BadInput(f"--sample-seed makes up klines alone, not {', '.join(map(str, wrong))}")
    bars = simulate_bars(seed, max(1, round(days))).table
    all_files = []
    for each in series:
        files = SeriesFiles(output, replace(each, is_sample=True), f"made up: simulated market, seed {seed}")
        table = resample(
            files.series, bars.open_times // 1_000_000, {name: getattr(bars, name) for name in BAR_COLUMNS}
        )
        times = table.column("open_time").cast("int64")
        if len(table):
            files.add(table, TimeSpan(times[0].as_py(), times[-1].as_py() + files.series.step_ms))
            files.commit()
        all_files.append(files)
    return all_files


def _describe(files: SeriesFiles) -> dict[str, Any]:
    import numpy as np

    series = files.series
    times = files.read([series.time_column]).column(0).cast("int64").to_numpy()
    return {
        "series": str(series),
        "path": str(files.path),
        "rows": len(times),
        "gaps": int((np.diff(times) > series.step_ms).sum()) if series.step_ms else 0,
        "first_time_ms": int(times[0]) if len(times) else None,
        "last_time_ms": int(times[-1]) if len(times) else None,
    }


def _show(time_ms: int | None) -> str:
    return "-" if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def import_files(
    files: Annotated[list[Path], typer.Argument(help="Files of an archive, CSV or Parquet; .zip and .gz as served.")],
    output: Annotated[Path, typer.Option(help="A folder, or for one series a .parquet file; continued.")],
    venue: Annotated[str, typer.Option(help="The exchange that the files are of.")] = "binance",
    symbol: Annotated[str, typer.Option(help="Where the names of the files do not tell it.")] = "",
    kind: Annotated[str, typer.Option(help="Where the columns could be of several: klines or mark.")] = "",
    timeframe: Annotated[str, typer.Option(help="Where the rows do not tell it.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Turn files of others into those that collect-data writes: data.binance.vision, public.bybit.com, CSV, Parquet.

    Examples:

      perpflow import BTCUSDT-1m-2024-10.zip BTCUSDT-aggTrades-2024-10-28.zip --output history

      perpflow import --venue bybit BTCUSDT2024-10-28.csv.gz --output history
    """
    import pyarrow.compute as pc

    from libs.history.errors import HistoryError
    from libs.history.files import SeriesFiles
    from libs.history.imports import read_file
    from libs.venues.history import TimeSpan

    read: dict[Series, SeriesFiles] = {}
    answer = []
    try:
        for path in files:
            found = read_file(path, venue=venue, symbol=symbol, kind=kind, timeframe=timeframe)
            if output.suffix == ".parquet" and found.series not in read and read:
                raise BadInput(f"--output {output} is one file for several series; name a folder")
            target = read.setdefault(found.series, SeriesFiles(output, found.series, found.form))
            times = found.table.column(0).cast("int64")
            if len(times):
                step = max(1, found.series.step_ms)
                extent = pc.min_max(times)
                target.add(found.table, TimeSpan(extent["min"].as_py(), extent["max"].as_py() + step))
                target.commit()
            answer.append({"file": str(path), "series": str(found.series), "form": found.form, "rows": len(times)})
    except HistoryError as error:
        raise BadInput(str(error)) from error
    if json:
        print_json(answer)
        return
    for each in answer:
        print(f"{each['file']}: {each['rows']:,} rows of {each['series']} ({each['form']})")


@data_app.command("quality")
def quality(
    path: Annotated[Path, typer.Argument(help="What collect-data or import wrote, or a recording.")],
    instrument: Annotated[str, typer.Option(help="Examine a recording of SYMBOL.VENUE, event by event.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Report gaps, repeats, outliers, impossible bars and contradictions between kinds; exit code 1 if there are any.

    Of a recording also clocks that differ or drift, and trades that its quotes contradict.

    Example: perpflow data quality history
    """
    from libs.history.errors import HistoryError
    from libs.history.quality import describe, examine, read_folder

    if not path.exists():
        raise BadInput(f"{path} does not exist; name what collect-data or import wrote")
    if instrument:
        _report_recording(path, instrument, json=json)
    try:
        reports = examine(read_folder(path))
    except HistoryError as error:
        raise BadInput(str(error)) from error
    if json:
        print_json(
            [
                {
                    "series": str(report.series),
                    "source": report.source,
                    "is_sample": report.series.is_sample,
                    "rows": report.rows,
                    "first_time_ms": report.first_ms,
                    "last_time_ms": report.last_ms,
                    "findings": report.findings,
                }
                for report in reports
            ]
        )
    else:
        _print_lines(line for report in reports for line in describe(report))
    raise typer.Exit(EXIT_CHECK_FAILED if any(report.findings for report in reports) else 0)


def _report_recording(path: Path, instrument: str, *, json: bool) -> NoReturn:
    from libs.history.recorded_quality import describe_recording, examine_recording
    from services.backtest.inputs import open_recording

    report = examine_recording(open_recording(path, instrument=instrument, history=None, history_bars=0).events)
    if json:
        print_json({"instrument": instrument, **asdict(report)})
    else:
        _print_lines(describe_recording(instrument, report))
    raise typer.Exit(EXIT_CHECK_FAILED if report.findings else 0)


@data_app.command("bars")
def make_bars(
    path: Annotated[Path, typer.Argument(help="A Parquet file of trades, as collect-data and import write it.")],
    output: Annotated[Path, typer.Option(help="A folder, or for one timeframe a .parquet file.")],
    timeframe: Annotated[str, typer.Option(help="1m, 5m, 15m, 1h, 4h, 1d; or several.")] = "1m",
    instrument: Annotated[str, typer.Option(help="SYMBOL.VENUE, where the file does not say it.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Make bars of trades, through the core that makes them live.

    Example: perpflow data bars trades/2024-10-28.parquet --timeframe 1m,5m --output bars
    """
    from libs.history.errors import HistoryError

    started_s = SYSTEM_CLOCK.monotonic_s()
    try:
        made = _make_bars(path, output, timeframe, instrument, is_quiet=json)
    except HistoryError as error:
        raise BadInput(str(error)) from error
    answer = {"series": made, "seconds": round(SYSTEM_CLOCK.monotonic_s() - started_s, 3)}
    if json:
        print_json(answer)
    else:
        _print_lines(f"{each['series']}: {each['rows']:,} bars up to {_show(each['last_time_ms'])}" for each in made)


def _make_bars(path: Path, output: Path, timeframes: str, instrument: str, *, is_quiet: bool) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from rich.console import Console
    from rich.progress import Progress

    from libs.domain.numbers import SCALE
    from libs.history.series import make_series, series_of, to_table
    from libs.venues.history import TimeSpan
    from services.backtest.trade_bars import bars_of_trades

    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {error}") from error
    named = series_of(metadata.metadata)
    if named is None and not instrument:
        raise BadInput(f"{path} does not say what it is of; give --instrument SYMBOL.VENUE")
    symbol, _, venue = instrument.partition(".")
    if named is not None:
        symbol, venue = named[0].symbol, named[0].venue
    is_sample = named is not None and named[0].is_sample
    series = [make_series(venue, symbol, "klines", name, is_sample=is_sample) for name in _words(timeframes)]
    files = _open_files(output, series, f"made of trades: {path.name}")
    rows: dict[str, dict[int, tuple[Any, ...]]] = {each.timeframe: {} for each in series}
    with Progress(console=Console(stderr=True), disable=is_quiet, transient=True) as progress:
        task = progress.add_task("making bars", total=metadata.num_rows)
        made = bars_of_trades(
            path, f"{symbol}.{venue}", list(rows), advance=lambda count: progress.update(task, advance=count)
        )
        for bar in made:
            prices = [value / SCALE for value in (bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8)]
            sums = [
                None if value is None else value / SCALE
                for value in (bar.volume_e8, bar.quote_volume_e8, bar.taker_buy_volume_e8)
            ]
            open_ms = bar.open_time // 1_000_000
            # A revision takes its bar's place.
            rows[bar.timeframe][open_ms] = (open_ms, *prices, *sums[:2], bar.trade_count, sums[2])
    for each in files:
        found = rows[each.series.timeframe]
        if found:
            span = TimeSpan(min(found), max(found) + each.series.step_ms)
            each.add(to_table(each.series, [found[at] for at in sorted(found)]), span)
            each.commit()
    return [_describe(each) for each in files]


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)
