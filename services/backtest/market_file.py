"""A market of ticks as a file of columns, written once from any market and run over again without decoding.

An Arrow file whose record batches are `MarketColumns`; kinds without columns are kept as on the wire. It refuses what
it did not write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from libs.domain.market_columns import CHUNK, OTHER, WIDTH, Ints, LevelColumns, MarketColumns, columns_of
from libs.runtime.errors import BadInput
from libs.wire import decode, encode
from libs.wire.topics import MARKET_EVENTS

SUFFIX = ".market"
_VERSION = 1
_FACTS = b"perpflow.market"
_LEVELS = ("bid_prices_e8", "bid_quantities_e8", "ask_prices_e8", "ask_quantities_e8")
_SCHEMA = pa.schema(
    [
        ("kind", pa.int8()),
        ("event_time", pa.int64()),
        ("received_time", pa.int64()),
        ("event_id", pa.string()),
        ("values", pa.list_(pa.int64(), WIDTH)),
        *((name, pa.list_(pa.int64())) for name in _LEVELS),
        ("payload", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class MarketFile:
    """A file of columns: of which instrument, and what it was made from."""

    path: Path
    instrument: str
    description: Mapping[str, str | int]

    def chunks(self) -> Iterator[MarketColumns]:
        """Yield the events in stretches, in order."""
        with pa.memory_map(str(self.path)) as source, pa.ipc.open_file(source) as reader:
            for number in range(reader.num_record_batches):
                yield _read_batch(self.instrument, reader.get_batch(number))

    def events(self) -> Iterator[MarketEvent]:
        """Yield the events one by one."""
        for columns in self.chunks():
            yield from (columns.event(place) for place in range(len(columns)))


def write_market(
    path: Path,
    instrument: str,
    events: Iterator[MarketEvent | DeadInput],
    description: Mapping[str, str | int],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[int, list[DeadInput]]:
    """Write a market of ticks of one instrument; return how many events it has and what could not be read, which is
    left out. `progress` gets the number of events so far.
    """
    dead: list[DeadInput] = []
    live = _without_dead(events, dead)
    facts = orjson.dumps({"version": _VERSION, "instrument": instrument, "description": dict(description)})
    draft = path.with_name(f".{path.name}.draft")
    count = 0
    with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA.with_metadata({_FACTS: facts})) as writer:
        while some := list(islice(live, CHUNK)):
            writer.write_batch(_write_batch(columns_of(instrument, some)))
            count += len(some)
            progress(count)
    draft.replace(path)
    return count, dead


def read_market_file(path: Path) -> MarketFile | None:
    """Return a file of columns, None where it is another file. Raises `BadInput` where it is damaged or too new."""
    if not path.is_file() or path.suffix != SUFFIX:
        return None
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            facts = orjson.loads(reader.schema.metadata[_FACTS])
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no file of perpflow prepare-market ({error}); write it again") from None
    if facts["version"] != _VERSION:
        raise BadInput(f"{path} was written by another version of perpflow prepare-market; write it again")
    return MarketFile(path, facts["instrument"], facts["description"])


def _without_dead(events: Iterator[MarketEvent | DeadInput], dead: list[DeadInput]) -> Iterator[MarketEvent]:
    for event in events:
        if isinstance(event, DeadInput):
            dead.append(event)
        else:
            yield event


def _write_batch(columns: MarketColumns) -> pa.RecordBatch:
    payloads = [
        encode(columns.others[place]).payload if kind == OTHER else None
        for place, kind in enumerate(columns.kinds.tolist())
    ]
    levels = [
        pa.ListArray.from_arrays(pa.array(side.first.astype(np.int32)), pa.array(numbers))
        for side in (columns.bids, columns.asks)
        for numbers in (side.prices_e8, side.quantities_e8)
    ]
    return pa.record_batch(
        [
            pa.array(columns.kinds),
            pa.array(columns.times),
            pa.array(columns.received),
            pa.array([str(event_id) for event_id in columns.event_ids], pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(columns.values.reshape(-1)), WIDTH),
            *levels,
            pa.array(payloads, pa.binary()),
        ],
        schema=_SCHEMA,
    )


def _read_batch(instrument: str, batch: pa.RecordBatch) -> MarketColumns:
    kinds = cast(npt.NDArray[np.int8], _numbers(batch, "kind"))
    payloads = batch.column("payload")
    others = {
        place: cast(MarketEvent, decode(MARKET_EVENTS, payloads[place].as_py()))
        for place in np.flatnonzero(kinds == OTHER).tolist()
    }
    levels = [batch.column(name) for name in _LEVELS]
    bids, asks = (
        LevelColumns(
            prices.offsets.to_numpy().astype(np.int64),
            np.array(prices.values.to_numpy()),
            np.array(quantities.values.to_numpy()),
        )
        for prices, quantities in (levels[:2], levels[2:])
    )
    return MarketColumns(
        instrument,
        kinds,
        _numbers(batch, "event_time"),
        _numbers(batch, "received_time"),
        np.array(batch.column("values").values.to_numpy()).reshape(-1, WIDTH),
        bids,
        asks,
        batch.column("event_id"),
        others,
    )


def _numbers(batch: pa.RecordBatch, name: str) -> Ints:
    # A copy: to compiled loops arrays that cannot be written are another type, which they would be compiled for anew.
    return np.array(batch.column(name).to_numpy())
