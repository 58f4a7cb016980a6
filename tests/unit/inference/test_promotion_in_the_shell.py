"""A promotion under load and under crashes: every vector has one forecast of each model, one of them the champion's."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from libs.bus.api import Bus, NewRecord, TopicPartition
from libs.bus.memory import MemoryBus
from libs.clock import SystemClock
from libs.domain.forecasts import Forecast, ModelRole
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import ONE_PARTITION
from libs.runtime.records import commit_records, read_range
from libs.runtime.shell import CoreShell
from libs.runtime.verify import verify_service
from libs.wire import decode, encode
from libs.wire.topics import FORECASTS
from services.inference.core import InferenceCore
from services.inference.inputs import INPUTS
from tests.unit.inference.builders import a_manifest, a_model, a_promotion, a_vector

OTHER = a_manifest("other", window=5)
VECTORS = 60


def a_core() -> InferenceCore:
    return InferenceCore([a_model(), a_model(OTHER, role=ModelRole.SHADOW)])


def a_shell(bus: Bus) -> CoreShell:
    shell = CoreShell(
        "inference",
        a_core(),
        INPUTS,
        bus,
        ServiceMetrics("inference"),
        configure_logging("inference", level="error"),
        clock=SystemClock(),
        batch_max_records=4,
        snapshot_every_records=11,
    )
    shell.open()
    return shell


def publish(bus: Bus, *events: object) -> None:
    encoded = [encode(event) for event in events]  # type: ignore[arg-type]
    commit_records(bus.producer("test"), [NewRecord(one.topic, one.key, one.payload) for one in encoded])


def forecasts(bus: Bus) -> list[Forecast]:
    end = bus.end_offsets([TopicPartition(FORECASTS, 0)])[TopicPartition(FORECASTS, 0)]
    found: list[Any] = [decode(FORECASTS, record.value) for record in read_range(bus, FORECASTS, 0, 0, end)]
    assert all(isinstance(one, Forecast) for one in found)
    return found


@pytest.mark.parametrize("steps_to_a_crash", [1, 3, 1_000])
def test_no_vector_is_missed_or_doubled_by_promotions_and_crashes(steps_to_a_crash: int) -> None:
    with MemoryBus() as bus:
        bus.create_topics(ONE_PARTITION.topics())
        shell = a_shell(bus)
        for number in range(VECTORS):
            publish(bus, a_vector(number + 1))
            if number == 20:
                publish(bus, a_promotion(1, OTHER.reference))
            if number == 40:
                publish(bus, a_promotion(2, "previous"))
            shell.step(0)
            if number % steps_to_a_crash == steps_to_a_crash - 1:
                # Nothing is written as it ends, as by kill -9; the next one recovers.
                shell.release()
                shell = a_shell(bus)
        while shell.step(0):
            continue
        shell.close()
        made = forecasts(bus)
        roles = Counter((one.vector_id, one.role) for one in made)
        vectors = {a_vector(number + 1).event_id for number in range(VECTORS)}
        assert roles == Counter({(one, role): 1 for one in vectors for role in ModelRole})
        champions = [one.model_name for one in made if one.role is ModelRole.CHAMPION]
        assert [champions[0], champions[30], champions[-1]] == ["toy", "other", "toy"]
        assert sum(one != other for one, other in pairwise(champions)) == 2
        verified = verify_service("inference", a_core(), INPUTS, bus)
        assert (verified.difference, verified.counts[FORECASTS]) == (None, 2 * VECTORS)
