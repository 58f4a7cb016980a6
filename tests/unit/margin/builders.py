"""Builders of positions and brackets for the tests of margin."""

from __future__ import annotations

import gzip
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from libs.margin.brackets import BracketTable
from libs.margin.default_brackets import DEFAULT_BRACKETS
from libs.margin.liquidation import Leg, PositionSide

SHARED = Path(os.environ.get("PERPFLOW_SHARED", str(Path(__file__).resolve().parents[4] / "shared")))


def a_leg(
    side: str = "long",
    quantity: str = "1",
    entry: str = "20000",
    mark: str = "20000",
    leverage: str = "10",
    symbol: str = "BTCUSDT",
    brackets: BracketTable | None = None,
    isolated_margin: str | None = None,
) -> Leg:
    """A position of one BTC at 20000, ten times levered, on the shipped brackets."""
    return Leg(
        symbol=symbol,
        side=PositionSide(side),
        quantity=Decimal(quantity),
        entry_price=Decimal(entry),
        mark_price=Decimal(mark),
        leverage=Decimal(leverage),
        brackets=DEFAULT_BRACKETS[symbol] if brackets is None else brackets,
        isolated_margin=None if isolated_margin is None else Decimal(isolated_margin),
    )


def an_entry(
    floor: object = 0, cap: object = 50000, rate: object = "0.004", cum: object = 0, leverage: object = 125
) -> dict[str, Any]:
    """One tier as the venue answers it."""
    return {
        "bracket": 1,
        "initialLeverage": leverage,
        "notionalCap": cap,
        "notionalFloor": floor,
        "maintMarginRatio": rate,
        "cum": cum,
    }


def recorded_brackets(name: str) -> Any:
    """Read a recorded bracket answer, or skip where the recordings are not here."""
    path = SHARED / "data" / "market" / "fixtures" / "rest" / name
    if not path.exists():
        pytest.skip(f"no recorded brackets at {path}; set PERPFLOW_SHARED to the folder of recordings")
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if name.endswith(".gz") else data, parse_float=Decimal)
