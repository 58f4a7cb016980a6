"""Check a session's topics, tables and orders by the code of one build: ``PYTHONPATH=BUILD python check.py BUS STORE``.

Uses only what both builds have. Exit code 1 and one line where something is missing or doubled.
"""

from __future__ import annotations

import os
import sys

from libs.bus.open import open_bus
from libs.store import Store
from services.console.summary import summarise_topics


def main(bus_address: str, store_address: str) -> str:
    """Return what is wrong; empty where all agree."""
    password = os.environ["PERPFLOW_CLICKHOUSE_PASSWORD"]
    with open_bus(bus_address) as bus, Store(store_address, "perpflow", user="perpflow", password=password) as store:
        summary = summarise_topics(bus)
        rows = store.count_rows(summary["first_offsets"])
    broken = {name: count for name, count in summary["invariants"].items() if count}
    missing = {
        name: count - rows.get(name, 0) for name, count in summary["topics"].items() if rows.get(name, 0) < count
    }
    return "; ".join(f"{what}: {found}" for what, found in (("broken", broken), ("not in tables", missing)) if found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) or 0)
