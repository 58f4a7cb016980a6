"""What a core cannot go on from ends the process with one clear line."""

from __future__ import annotations

import pytest

from libs.bus.api import Record
from libs.runtime.errors import BadInput
from libs.runtime.handler import CoreHandler, Input
from libs.wire import encode
from services.bars.core import BarsCore
from tests.kit.builders import a_tick, a_trade


def test_a_snapshot_of_an_older_build_is_refused_by_name() -> None:
    handler = CoreHandler("bars", BarsCore(), [Input("market.events.v1")])
    with pytest.raises(BadInput, match="the kept state of bars is of a build before states had versions"):
        handler.restore(b'{"format":"perpflow-bars-1","timeframes":["1m"],"grace":0,"instruments":[]}\n', {})


def test_what_was_committed_before_is_handled_again_and_not_handed_on() -> None:
    events = [encode(event) for event in (a_tick(0), a_trade(1), a_tick(61))]
    records = [Record(each.topic, 0, at, each.key, each.payload, {}, 0) for at, each in enumerate(events)]
    handlers = [CoreHandler("bars", BarsCore(), [Input(records[0].topic)]) for _ in range(2)]
    handed_on = [
        [len(each.handle(record, withholds=each is handlers[1]).outputs) for record in records] for each in handlers
    ]
    assert sum(handed_on[0]) > 0
    assert handed_on[1] == [0, 0, 0]
    assert handlers[0].core.snapshot() == handlers[1].core.snapshot()
