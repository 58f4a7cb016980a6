"""Archives as a market: data.binance.vision's and Bybit's files and CSV, turned into Parquet for the time of a run."""

from __future__ import annotations

import gzip
import re
import shutil
import tempfile
import weakref
from pathlib import Path

import pyarrow.parquet as pq

from libs.domain.instruments import split_instrument_id
from libs.history.errors import HistoryError
from libs.history.imports import read_file
from libs.runtime.errors import BadInput
from libs.venues.recorder_csv import is_recorders

_SYMBOL = re.compile(r"[A-Z0-9]{2,}(USDT|USDC|BUSD|USD)")
_SUFFIXES = (".zip", ".csv", ".csv.gz")


class ConvertedFiles:
    """A folder of Parquet files that goes with the last reference to this."""

    def __init__(self, files: list[Path], instrument: str) -> None:
        symbol, venue = split_instrument_id(instrument)
        self.path = Path(tempfile.mkdtemp(prefix="perpflow-"))
        self._cleaner = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        for file in files:
            try:
                # A file whose name tells no symbol is taken to be of what is traded.
                found = read_file(file, venue=venue, symbol="" if _SYMBOL.search(file.name) else symbol)
            except HistoryError as error:
                raise BadInput(str(error)) from error
            if found.series.symbol != symbol:
                raise BadInput(f"{file} is of {found.series.symbol}, not of {symbol}; give its --instrument")
            if found.series.kind not in ("klines", "trades"):
                raise BadInput(f"{file} holds {found.series.kind}; a market is klines or trades")
            pq.write_table(found.table, self.path / f"{file.name}.parquet")

    @property
    def market(self) -> Path:
        """The one file, or the folder of several."""
        files = sorted(self.path.iterdir())
        return files[0] if len(files) == 1 else self.path


def convert(path: Path, instrument: str) -> ConvertedFiles | None:
    """Turn an archive, or a folder of them, into Parquet; None for anything else. Raises `BadInput`."""
    if path.is_file():
        return ConvertedFiles([path], instrument) if _is_archive(path) else None
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and _is_archive(file))
        return ConvertedFiles(files, instrument) if files else None
    return None


def _is_archive(file: Path) -> bool:
    if not file.name.endswith(_SUFFIXES):
        return False
    if file.suffix == ".zip":
        return True
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as opened:
            # Those are recordings, read line by line.
            return not is_recorders(opened)
    except OSError:
        # Whoever reads it says what is wrong with it.
        return True
