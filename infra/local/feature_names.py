"""Writes what the values of feature vectors are called where the store finds it: python -m infra.local.feature_names.

The store knows no indicators; a test holds the file against the feature sets that ship.
"""

from __future__ import annotations

from pathlib import Path

import orjson

from libs.indicators.feature_sets import FEATURE_SETS, load_feature_set

FILE = Path(__file__).resolve().parents[2] / "libs" / "store" / "feature_sets.json"


def render() -> bytes:
    """Return the file's text."""
    sets = [load_feature_set(name) for name in FEATURE_SETS]
    rows = [{"name": each.name, "schema_hash": each.schema_hash, "names": each.names} for each in sets]
    return orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    FILE.write_bytes(render())
