"""Makes the dictionary by which the embedded bus compresses records: `python -m tests.kit.record_dictionary NUMBER`.

Trained on records as a session writes them: minutes of the simulated market of two instruments, and every golden
message. It never replaces a dictionary that is there.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import zstandard

from libs.bus import packing
from libs.bus.headers import encode_headers
from libs.runtime.records import stamped_record
from libs.wire import encode
from services.exchange.core import generate_events
from tests.kit.golden import examples

SIZE, SAMPLES, REPEATS = 16_384, 12_000, 40


def sample_records() -> list[Any]:
    """Return records as they are packed, of a market mostly and of everything else there is."""
    market: list[Any] = [*islice(generate_events(7, minutes=4), SAMPLES)]
    second = [
        replace(event, instrument="ETHUSDT.BINANCE", event_id=event.event_id.replace("BTCUSDT", "ETHUSDT"))
        for event in market[:: SAMPLES // 2_000]
    ]
    rare = [event for event in examples().values() for _ in range(REPEATS)]
    samples: list[Any] = []
    for number, event in enumerate([*market, *second, *rare]):
        made_at = 1_800_000_000_000_000_000 + number * 7_919_317
        record = stamped_record(encode(event), "ingestion" if number % 5 else "bars", made_at)
        samples.append(packing.lay_out(record.key, encode_headers(record.headers), record.value))
    return samples


def main() -> int:
    """Write it; the answer is 2 where there is one of that number."""
    path = Path(packing.__file__).with_name(f"dictionary_{sys.argv[1]}.zdict")
    if path.exists():
        sys.stderr.write(f"{path} is there; files were written with it: take the next number\n")
        return 2
    path.write_bytes(zstandard.train_dictionary(SIZE, sample_records()).as_bytes())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
