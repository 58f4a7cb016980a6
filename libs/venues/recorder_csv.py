"""Reads the CSV files of a recorder of Binance's trades and depth: rows become the frames that they were made of.

A trade is a row; a change of the book is as many rows, one below the other, as it has levels. What is no row is passed
on as it is, for the reader of lines to refuse.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import orjson

_COMMON = {"E": "EventTime", "T": "TransactionTime"}
_CHAIN = {"U": "FirstUpdateId", "u": "FinalUpdateId", "pu": "FinalUpdateIdInLastStream"}
Row = Mapping[str, str]


def is_recorders(file: Iterable[bytes]) -> bool:
    """Tell by the first row, behind comments, whether a CSV file is of that recorder."""
    for line in file:
        if line.strip() and not line.startswith(b"#"):
            return line.startswith(b"TimestampOfReceive,Stream,EventType,")
    return False


def read_csv_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield lines of the form ``<ns> <json>``, each with the number of the last line that it was made of."""
    header: list[str] = []
    rows: list[Row] = []
    number = 0
    for number, line in enumerate(file, start=1):
        cells = next(csv.reader([line.decode("utf-8", "replace").strip()]), [])
        if not cells or cells[0].startswith("#"):
            continue
        if not header:
            header = cells
            continue
        row = dict(zip(header, cells, strict=False))
        if rows and _key_of(row) != _key_of(rows[0]):
            yield number - 1, _frame_of(rows)
            rows = []
        if len(cells) != len(header):
            yield number, line
        elif row.get("EventType") == "depthUpdate":
            rows.append(row)
        else:
            yield number, _frame_of([row])
    if rows:
        yield number, _frame_of(rows)


def _key_of(row: Row) -> tuple[str | None, ...]:
    return tuple(row.get(name) for name in ("TimestampOfReceive", "Symbol", "EventType", *_CHAIN.values()))


def _frame_of(rows: list[Row]) -> bytes:
    first = rows[0]
    try:
        data: dict[str, Any] = {"e": first["EventType"], "s": first["Symbol"]}
        data |= {key: int(first[name]) for key, name in _COMMON.items()}
        if first["EventType"] == "depthUpdate":
            data |= {key: int(first[name]) for key, name in _CHAIN.items()}
            for side, is_ask in (("b", "0"), ("a", "1")):
                data[side] = [[row["Price"], row["Quantity"]] for row in rows if row["IsAsk"] == is_ask]
        else:
            data |= {"t": int(first["TradeId"]), "p": first["Price"], "q": first["Quantity"]}
            data |= {"m": first["IsBuyerMarketMaker"] == "1", "X": first["XUnknownParameter"]}
        received_ns = int(first["TimestampOfReceive"]) * 1_000_000
    except (KeyError, ValueError):
        return ",".join(first.values()).encode()
    return b"%d %s" % (received_ns, orjson.dumps({"stream": first["Stream"], "data": data}))
