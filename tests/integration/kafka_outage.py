"""A whole session on Kafka goes through an outage of the broker: ``python -m tests.integration.kafka_outage [SECONDS]``
(`make kafka-outage`: 98).

The broker is killed in the middle of trading and started again after the time. The session must go on by itself, end
with exit code 0, every invariant 0 and tables equal to topics, and be replayed byte for byte. Not part of the suite: it
takes minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from pathlib import Path

from libs.bus.api import BusError, TopicPartition
from libs.bus.kafka import KafkaBus
from libs.wire.topics import FORECASTS
from tests.kit.kafka import KafkaBroker, NoKafka, a_kafka
from tests.kit.platform import Platform, SessionOutcome
from tests.kit.waiting import eventually

_SESSION = ("--session", "outage", "--market", "simulated", "--seed", "3", "--speed", "20", "--span", "60m")
_LAYOUT = ("--layout", "spread")
_WHERE = TopicPartition(FORECASTS, 0)


def main() -> int:
    """Run the session; return 1 where something was lost or is wrong, 3 where there is no Kafka."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.kafka_outage", description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=98.0)
    seconds = parser.parse_args().seconds
    try:
        with a_kafka() as broker, tempfile.TemporaryDirectory(prefix="perpflow-outage-") as folder:
            problem = _go_through(broker, Path(folder), seconds)
    except NoKafka as error:
        print(f"kafka-outage: {error}", file=sys.stderr)
        return 3
    print(problem or f"an outage of {seconds:g} s: everything went on, nothing is lost, the replay is identical")
    return 1 if problem else 0


def _go_through(broker: KafkaBroker, folder: Path, seconds: float) -> str:
    platform = Platform(folder, PERPFLOW_BUS=f"kafka:{broker.address}")
    outcomes: list[SessionOutcome] = []
    session = threading.Thread(
        target=lambda: outcomes.append(platform.up(*_SESSION, *_LAYOUT, timeout_s=seconds + 1200))
    )
    session.start()
    try:
        eventually(lambda: not session.is_alive() or forecasts_on(broker) > 5, within_s=600)
        print(f"{forecasts_on(broker)} forecasts; the broker is killed for {seconds:g} s", flush=True)
        broker.kill()
        session.join(seconds)
        before = sum(facts["restarts"] for facts in platform.status().values())
        broker.start()
        print(f"the broker is back; {before} restarts so far", flush=True)
    finally:
        session.join()
    if not outcomes:
        return "the session did not end"
    (outcome,) = outcomes
    facts = {name: outcome.summary.get(name) for name in ("restarts", "fills", "forecasts", "invariants", "is_drained")}
    print(f"exit code {outcome.exit_code}, {facts}", flush=True)
    if outcome.exit_code != 0:
        return outcome.stderr[-4000:]
    replay = platform.call("replay", "--verify", timeout_s=900)
    print(replay.stdout, flush=True)
    return replay.stderr if replay.returncode else ""


def forecasts_on(broker: KafkaBroker) -> int:
    """Return how many forecasts there are, 0 before their topic is there."""
    try:
        with KafkaBus(broker.address, prefix="outage.") as bus:
            return bus.end_offsets([_WHERE])[_WHERE]
    except BusError:
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
