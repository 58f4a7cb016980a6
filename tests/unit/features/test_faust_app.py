"""Features on Kafka: its heartbeat is that of its event loop, and a commit covers all that was handled."""

from __future__ import annotations

import asyncio
import time

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from services.features.faust_app import BarsTransport, beat_while_it_turns
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


def test_one_commit_covers_every_transaction_that_was_handled() -> None:
    bars = TP("bars.closed.v1", 0)

    async def ignore(*_: object) -> None: ...

    async def handle_and_commit() -> int | None:
        app = faust.App("features", broker="kafka://127.0.0.1:9")
        consumer = BarsTransport(app.conf.broker, app).create_consumer(
            callback=ignore, on_partitions_revoked=ignore, on_partitions_assigned=ignore
        )
        consumer._committed_offset[bars] = 1
        # Every transaction holds one bar, and then the log's own marker, which no consumer sees.
        for offset in (2, 4, 6):
            await consumer._add_gap(bars, offset - 1, offset)
            consumer._acked[bars].append(offset)
        consumer._thread.thread_loop.close()
        return consumer._new_offset(bars)

    assert asyncio.run(handle_and_commit()) == 7


def test_the_app_ends_once_its_member_cannot_stay_in_the_group() -> None:
    async def ignore(*_: object) -> None: ...

    async def fail() -> None:
        raise KafkaError("the coordinator answered with nonsense")

    async def lose_the_group() -> BaseException | None:
        app = faust.App("features", broker="kafka://127.0.0.1:9")
        consumer = BarsTransport(app.conf.broker, app).create_consumer(
            callback=ignore, on_partitions_revoked=ignore, on_partitions_assigned=ignore
        )
        routine = asyncio.ensure_future(fail())
        consumer._thread.watch_coordination(routine)
        await asyncio.wait([routine])
        await asyncio.wait_for(app._crashed.wait(), 60)
        consumer._thread.thread_loop.close()
        return app.crash_reason

    assert "nonsense" in str(asyncio.run(lose_the_group()))
