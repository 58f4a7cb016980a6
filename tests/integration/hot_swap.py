"""Swaps the champion again and again while a session trades: no vector may be missed, and none scored twice.

``python -m tests.integration.hot_swap [--layout fused|spread] [--minutes 120] [--speed 60] [--swaps 10] [--kill]``
(`make hot-swap`). A shadow is promoted and rolled back by the command line, as a person would; with `--kill` the
process that scores is killed -9 between. Then the topics are counted, and the session is replayed. Not part of the
suite: it takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
from collections import Counter
from itertools import pairwise
from pathlib import Path

from libs.bus.api import TopicPartition
from libs.bus.open import open_bus
from libs.clock import SYSTEM_CLOCK, Deadline
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
from libs.runtime.records import read_range
from libs.wire import decode
from libs.wire.topics import FEATURE_VECTORS, FORECASTS
from tests.kit.models import add_model
from tests.kit.platform import Platform, SessionOutcome, trading_platform

_PAUSE_S = 3.0


def main() -> int:
    """Run one session with its swaps, print what was counted, return 1 where anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.hot_swap", description=__doc__)
    parser.add_argument("--layout", default="fused", choices=("fused", "spread"))
    parser.add_argument("--minutes", type=int, default=120, help="of market time")
    parser.add_argument("--speed", type=int, default=60)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--kill", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perpflow-swap-") as folder:
        platform = trading_platform(Path(folder))
        other = add_model(Path(folder) / "models", "other").reference
        platform.environment |= {
            "PERPFLOW_INFERENCE_MODELS_DIR": str(Path(folder) / "models"),
            "PERPFLOW_INFERENCE_SHADOWS": json.dumps([other]),
        }
        outcomes: list[SessionOutcome] = []
        length = ("--speed", str(asked.speed), "--span", f"{asked.minutes}m")
        session = ("--market", "simulated", "--seed", "7", *length)
        running = threading.Thread(
            target=lambda: outcomes.append(platform.up(*session, "--layout", asked.layout, timeout_s=3_000))
        )
        running.start()
        sent = _swap(platform, running, other, asked.swaps, "chain" if asked.layout == "fused" else "inference", asked)
        running.join()
        if not outcomes or outcomes[0].exit_code:
            print(f"the session ended with {outcomes[0].exit_code if outcomes else 'no outcome'}")
            print(outcomes[0].stderr[-3000:] if outcomes else "")
            return 1
        problems = [*_count(platform, outcomes[0], sent), *_replay(platform)]
        for problem in problems:
            print(f"wrong: {problem}")
        return 1 if problems else 0


def _swap(
    platform: Platform,
    running: threading.Thread,
    other: str,
    swaps: int,
    process: str,
    asked: argparse.Namespace,
) -> int:
    """Promote and roll back while the market runs, and not as the session ends; return how many commands were taken."""
    for _ in Deadline(600.0).attempts(0.5):
        states = platform.status()
        if not running.is_alive() or (states and all(each["state"] == "running" for each in states.values())):
            break
    sent = 0
    ends_at = SYSTEM_CLOCK.monotonic_s() + 0.6 * asked.minutes * 60 / asked.speed
    while sent < swaps and running.is_alive() and SYSTEM_CLOCK.monotonic_s() < ends_at:
        arguments = ("promote", other, "--accept-no-edge") if sent % 2 == 0 else ("rollback",)
        registry = ("--models", platform.environment["PERPFLOW_INFERENCE_MODELS_DIR"]) if sent % 2 == 0 else ()
        done = platform.call("models", *arguments, *registry)
        if done.returncode:
            print(f"swap {sent + 1} was refused: {done.stderr.strip()}")
            break
        sent += 1
        pid = platform.status().get(process, {}).get("pid")
        if asked.kill and sent % 4 == 0 and pid is not None:
            os.kill(pid, signal.SIGKILL)
        running.join(_PAUSE_S)
    return sent


def _count(platform: Platform, outcome: SessionOutcome, sent: int) -> list[str]:
    path = platform.folder / "var" / "sessions" / outcome.summary["session"] / "bus.db"
    vectors: list[str] = []
    forecasts: list[Forecast] = []
    with open_bus(f"sqlite:{path}") as bus:
        for topic in (FEATURE_VECTORS, FORECASTS):
            places = [TopicPartition(topic, number) for number in range(bus.topics()[topic])]
            for at, end in bus.end_offsets(places).items():
                for record in read_range(bus, topic, at.partition, 0, end):
                    event = decode(topic, record.value)
                    if isinstance(event, FeatureVector) and not event.is_history:
                        vectors.append(event.event_id)
                    elif isinstance(event, Forecast):
                        forecasts.append(event)
    by_model = Counter((one.vector_id, one.model_name) for one in forecasts)
    by_role = Counter((one.vector_id, one.role) for one in forecasts)
    models = sorted({one.model_name for one in forecasts})
    champions = [one.model_name for one in forecasts if one.role is ModelRole.CHAMPION]
    changes = sum(before != after for before, after in pairwise(champions))
    print(f"{len(vectors)} live vectors, {len(forecasts)} forecasts of {', '.join(models)}")
    print(f"{sent} commands, the champion changed {changes} times")
    print(f"{outcome.summary['restarts']} restarts, {outcome.summary['orders']} orders")
    missed = [vector for vector in vectors if any(by_model[vector, model] == 0 for model in models)]
    doubled = [key for key, count in by_model.items() if count > 1]
    strange = [vector for vector in vectors if by_role[vector, ModelRole.CHAMPION] != 1]
    problems = []
    if not vectors or len(models) != 2:
        problems.append("nothing was forecast by two models")
    if missed:
        problems.append(f"{len(missed)} vectors without a forecast of a model, the first {missed[0]}")
    if doubled:
        problems.append(f"{len(doubled)} forecasts twice, the first {doubled[0]}")
    if strange:
        problems.append(f"{len(strange)} vectors without exactly one champion, the first {strange[0]}")
    if not 0 < changes <= sent:
        problems.append(f"{sent} commands changed the champion {changes} times")
    return problems


def _replay(platform: Platform) -> list[str]:
    done = platform.call("replay", "--verify", "--json", timeout_s=1_200)
    return [] if done.returncode == 0 else [f"the replay differs: {done.stdout[-500:]} {done.stderr[-500:]}"]


if __name__ == "__main__":
    raise SystemExit(main())
