"""First starts on Kafka, one after the other, each on a broker and with a session of its own: all must be clean.

``python -m tests.integration.kafka_starts [ROUNDS]`` (`make kafka-starts`: twenty). A start is clean when every process
becomes ready without a restart, the session does its work, and ends with exit code 0. Not part of the suite: it takes
about a minute a round.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.kit.kafka import NoKafka, a_kafka
from tests.kit.platform import Platform

_SESSION = ("--market", "simulated", "--speed", "50", "--span", "5m", "--layout", "spread")


def main() -> int:
    """Start as often as asked; print each round, return 1 where one was not clean, 3 where there is no Kafka."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.kafka_starts", description=__doc__)
    parser.add_argument("rounds", type=int, nargs="?", default=20)
    rounds = parser.parse_args().rounds
    clean = 0
    for number in range(1, rounds + 1):
        began = time.monotonic()
        try:
            problem = _start_once(number)
        except NoKafka as error:
            print(f"kafka-starts: {error}", file=sys.stderr)
            return 3
        clean += not problem
        print(f"start {number}/{rounds}: {problem or 'clean'} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{clean} of {rounds} starts were clean", flush=True)
    return 0 if clean == rounds else 1


def _start_once(number: int) -> str:
    """Run one session; return what was not clean about it."""
    with (
        a_kafka() as broker,
        tempfile.TemporaryDirectory(prefix="perpflow-start-") as folder,
    ):
        platform = Platform(Path(folder), PERPFLOW_BUS=f"kafka:{broker.address}", XDG_STATE_HOME=folder)
        try:
            outcome = platform.up(*_SESSION, "--seed", str(number), timeout_s=400)
        except AssertionError as error:
            return str(error)
        restarts = outcome.summary.get("restarts")
        if outcome.exit_code == 0 and restarts == 0:
            return ""
        return f"exit code {outcome.exit_code}, {restarts} restarts\n{outcome.stderr[-4000:]}"


if __name__ == "__main__":
    raise SystemExit(main())
