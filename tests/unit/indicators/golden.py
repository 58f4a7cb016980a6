"""Golden values of `core_v1` on a made-up market, so that no formula changes under an unchanged hash.

Run as `python -m tests.unit.indicators.golden` after a change on purpose, with the formula's version raised.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from libs.indicators.feature_sets import load_feature_set
from tests.unit.indicators.recorded import compute, made_rows

GOLDEN = Path(__file__).parent / "golden_core_v1.json"
BARS = ("300", "1999", "51000")


def golden_values() -> dict[str, list[float | None]]:
    """Vectors at some bars, None for what is not known."""
    times, rows = made_rows(51_001)
    out = compute(load_feature_set(), times, rows)
    return {bar: [None if np.isnan(value) else float(value) for value in out[int(bar)]] for bar in BARS}


if __name__ == "__main__":
    content = {"schema_hash": load_feature_set().schema_hash, "values": golden_values()}
    GOLDEN.write_text(json.dumps(content, indent=1) + "\n")
