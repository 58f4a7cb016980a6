"""What a core cannot go on from ends the process with one clear line."""

from __future__ import annotations

import pytest

from libs.runtime.errors import BadInput
from libs.runtime.handler import CoreHandler, Input
from services.bars.core import BarsCore


def test_a_snapshot_of_an_older_build_is_refused_by_name() -> None:
    handler = CoreHandler("bars", BarsCore(), [Input("market.events.v1")])
    with pytest.raises(BadInput, match="the kept state of bars is of a build before states had versions"):
        handler.restore(b'{"format":"perpflow-bars-1","timeframes":["1m"],"grace":0,"instruments":[]}\n', {})
