"""Collect klines: start the simulated exchange, fetch a day of 1m bars over REST, and go on where the file ends.

Against Binance itself leave out `--url`: perpflow collect-data --days 30 --output btc_1m.parquet
"""
# ruff: noqa: T201

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq


def start_exchange(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the simulated exchange at 120 times real speed; return it and its address."""
    settings = {"PERPFLOW_RUN_DIR": str(folder), "PERPFLOW_EXCHANGE_SPEED": "120", "PERPFLOW_LOG_LEVEL": "error"}
    exchange = subprocess.Popen(
        [sys.executable, "-m", "services.exchange.main", "--port", "0"], env={**os.environ, **settings}
    )
    announced = folder / "exchange.json"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and exchange.poll() is None:
        # Announcements are written whole or not at all, the first one before it listens.
        facts = json.loads(announced.read_text()) if announced.exists() else {}
        if facts.get("state") == "running":
            return exchange, facts["url"]
        time.sleep(0.05)
    exchange.kill()
    raise SystemExit("the simulated exchange did not start within 30 s")


def collect(url: str, output: Path) -> dict[str, int]:
    """Run the command as a person would; its JSON says what it did."""
    command = [sys.executable, "-m", "services.console", "collect-data", "--days", "1", "--url", url]
    done = subprocess.run([*command, "--output", str(output), "--json"], check=True, stdout=subprocess.PIPE)
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def main() -> None:
    """Collect twice and look at the file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exchange, url = start_exchange(folder)
        try:
            first = collect(url, folder / "btc_1m.parquet")
            print(f"first call:  {first['rows']:,} bars, {first['gaps']} gaps")
            # At 120 times real speed a new minute has closed every half second.
            second = collect(url, folder / "btc_1m.parquet")
            print(f"second call: {second['new_rows']} new bars, {second['rows']:,} in all, {second['gaps']} gaps")
        finally:
            exchange.terminate()
            exchange.wait(timeout=15)
        bars = pq.read_table(folder / "btc_1m.parquet")
        print(f"columns:     {', '.join(bars.column_names)}")
        print(f"last bar:    {bars.slice(len(bars) - 1).to_pylist()[0]}")


if __name__ == "__main__":
    main()
