"""The heartbeat of features on Kafka is that of its event loop, whatever Faust waits for."""

from __future__ import annotations

import asyncio
import time

from services.features.faust_app import beat_while_it_turns
from tests.kit.waiting import eventually


def test_the_loop_beats_from_its_first_turn_on_and_not_while_it_is_blocked() -> None:
    beats: list[float] = []

    async def wait_for_a_broker() -> None:
        while len(beats) < 3:
            await asyncio.sleep(0.01)
        count = len(beats)
        blocked_until = time.monotonic() + 0.7
        eventually(lambda: time.monotonic() > blocked_until)
        assert len(beats) == count

    with asyncio.Runner() as runner:
        beat_while_it_turns(runner.get_loop(), lambda: beats.append(time.monotonic()))
        runner.run(wait_for_a_broker())
