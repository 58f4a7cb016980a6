"""Reads frames as a recording or a stream does, and finds the recorded fixtures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from libs.domain.market import MarketEvent
from libs.venues.api import FrameDecoder

RECEIVED = 1_767_225_600_500_000_000


def decode_all(decoder: FrameDecoder, payloads: Iterable[bytes], symbol: str = "BTCUSDT") -> list[MarketEvent]:
    """Return the events of frames in their order."""
    events: list[MarketEvent] = []
    for payload in payloads:
        frame = decoder.open(payload)
        if frame is not None:
            events += decoder.decode(frame, received_time=RECEIVED, fallback_time=RECEIVED, symbol=symbol)
    return events


def find_fixtures(folder: str) -> list[Path]:
    """Return the recorded frames and answers of a venue, none where there is no recorded data."""
    root = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[4] / "shared"))
    return sorted((root / "data" / "market" / "fixtures" / folder).rglob("*.json"))
