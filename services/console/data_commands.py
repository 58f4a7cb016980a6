"""`perpflow collect-data` and `perpflow models`: klines of the exchange into a file, and the models there are."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from libs.clock import SYSTEM_CLOCK
from libs.domain.numbers import SCALE
from libs.runtime.errors import BadInput, DependencyUnavailable
from services.console.output import print_json

if TYPE_CHECKING:
    from libs.domain.market import ExchangeBar
    from libs.venues.api import MarketData

SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "inference" / "starter"


def collect_data(
    output: Annotated[Path, typer.Option(help="Parquet file to write; continued if it is there already.")],
    days: Annotated[float, typer.Option(min=0.01, max=3650, help="How far back, in days.")] = 7.0,
    instrument: Annotated[str, typer.Option(help="SYMBOL.VENUE.")] = "BTCUSDT.BINANCE",
    url: Annotated[str, typer.Option(help="REST address of the exchange; the venue's own by default.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """Fetch 1m klines with taker volume into Parquet; a second call goes on where the file ends.

    Examples:

      perpflow collect-data --days 30 --output btc_1m.parquet

      perpflow collect-data --output btc_1m.parquet --url http://127.0.0.1:8090
    """
    from libs.domain.instruments import UnknownInstrument
    from libs.venues.errors import VenueRefused, VenueUnavailable
    from libs.venues.frames import FrameError
    from libs.venues.registry import UnknownVenue, find_venue_of
    from libs.venues.rest import RestClient

    started = SYSTEM_CLOCK.monotonic_s()
    rows = _read_rows(output)
    try:
        venue = find_venue_of(instrument)
        rest_url, stream_url = venue.market_addresses
        url = url or rest_url
        with RestClient(url) as rest:
            market = venue.open_market(rest, instrument, stream_url)
            now_ms = market.now_ms()
            next_ms = rows[-1]["open_time"] + 60_000 if rows else now_ms - int(days * 86_400_000)
            fresh = _fetch(market, next_ms, now_ms, is_quiet=json)
    except VenueUnavailable as error:
        raise DependencyUnavailable(str(error)) from error
    except (VenueRefused, FrameError, UnknownInstrument, UnknownVenue) as error:
        raise BadInput(str(error)) from error
    rows += [_row(bar) for bar in fresh]
    if not rows:
        raise BadInput(f"{url} has no klines of {instrument} in the last {days:g} days")
    _write_rows(output, rows)
    gaps = sum(1 for one, two in itertools.pairwise(rows) if two["open_time"] - one["open_time"] != 60_000)
    answer = {
        "output": str(output),
        "rows": len(rows),
        "new_rows": len(fresh),
        "gaps": gaps,
        "first_open_time_ms": rows[0]["open_time"],
        "last_open_time_ms": rows[-1]["open_time"],
        "seconds": round(SYSTEM_CLOCK.monotonic_s() - started, 3),
    }
    if json:
        print_json(answer)
    else:
        print(f"{output}: {len(rows):,} bars, {len(fresh):,} of them new, {gaps} gaps")


def _fetch(market: MarketData, next_ms: int, now_ms: int, *, is_quiet: bool) -> list[ExchangeBar]:
    from rich.console import Console
    from rich.progress import Progress

    fresh: list[ExchangeBar] = []
    with Progress(console=Console(stderr=True), disable=is_quiet, transient=True) as progress:
        task = progress.add_task("fetching klines", total=max(1, (now_ms - next_ms) // 60_000))
        while next_ms < now_ms:
            bars = market.klines(start_ms=next_ms, limit=1500)
            if not bars:
                break
            fresh += bars
            next_ms = bars[-1].open_time // 1_000_000 + 60_000
            progress.update(task, advance=len(bars))
    return fresh


def _row(bar: ExchangeBar) -> dict[str, Any]:
    # Divided, not multiplied: the quotient is the double nearest to the decimal that the exchange wrote.
    return {
        "open_time": bar.open_time // 1_000_000,
        "open": bar.open_e8 / SCALE,
        "high": bar.high_e8 / SCALE,
        "low": bar.low_e8 / SCALE,
        "close": bar.close_e8 / SCALE,
        "volume": bar.volume_e8 / SCALE,
        "quote_volume": None if bar.quote_volume_e8 is None else bar.quote_volume_e8 / SCALE,
        "trades": bar.trade_count,
        "taker_buy_volume": None if bar.taker_buy_volume_e8 is None else bar.taker_buy_volume_e8 / SCALE,
    }


def _read_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return []
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} is no Parquet file that can be continued ({error}); name another --output") from error
    if "open_time" not in table.column_names or not pa.types.is_timestamp(table.schema.field("open_time").type):
        raise BadInput(f"{path} was not written by collect-data (it has no open_time in UTC); name another --output")
    times = table.column("open_time").cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64())
    rows: list[dict[str, Any]] = table.set_column(table.column_names.index("open_time"), "open_time", times).to_pylist()
    return rows


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    table = pa.Table.from_pylist(rows)
    times = table.column("open_time").cast(pa.timestamp("ms", tz="UTC"))
    pq.write_table(table.set_column(0, "open_time", times), draft, compression="zstd")
    draft.replace(path)


def models(
    folder: Annotated[Path, typer.Option("--models", help="The registry that train-models writes to.")] = Path(
        "var/models"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """List the models there are: the one that ships, and those that train-models has made.

    Example: perpflow models --json
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--models {folder} is not a folder; name the registry that train-models writes to")
    found = [_describe(path) for path in [SHIPPED_MODELS / "manifest.json", *sorted(folder.glob("*/*/manifest.json"))]]
    if json:
        print_json(found)
        return
    for model in found:
        print(
            f"{model['name']:<12} {model['version']:<14} {model['feature_set']} {model['schema_hash'][:12]}  "
            f"window {model['window']}, {len(model['inputs'])} inputs, "
            f"sha256 {model['onnx_sha256'][:12]}  {model['folder']}"
        )


def _describe(path: Path) -> dict[str, Any]:
    try:
        manifest = orjson.loads(path.read_bytes())
        wanted = ("name", "version", "feature_set", "schema_hash", "window", "horizon_ns", "onnx_sha256", "metrics")
        facts = {key: manifest[key] for key in wanted}
        return {**facts, "inputs": [each["name"] for each in manifest["inputs"]], "folder": str(path.parent)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no model manifest ({error!r}); remove it or train the model again") from error
