from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("skl2onnx", reason="skl2onnx is not installed; pip install -e '.[training]'")

from services.training.table import SPANS, main, write_table


def a_scored(auc: float, net: float) -> dict[str, Any]:
    return {
        "auc": {"value": auc, "low": auc - 0.01, "high": auc + 0.01},
        "net_bps_per_day": net,
        "net_bps_per_day_low": net - 1.0,
        "net_bps_per_day_high": net + 1.0,
        "sharpe_net": 1.0,
        "trades": 7,
    }


def write_cell(folder: Path, name: str, auc: float, net: float, seed: int) -> None:
    daily = np.random.default_rng(seed).normal(net, 1.0, 200).tolist()
    rule = np.random.default_rng(99).normal(0.0, 1.0, 200).tolist()
    scored = {name: a_scored(auc, net), "reversal": a_scored(0.54, -3.0)}
    path = folder / f"{SPANS[0].file.removesuffix('.parquet')}-{name}.json"
    path.write_text(
        json.dumps(
            {
                "tested_bars": 1000,
                "scored": scored,
                "daily": {name: daily, "reversal": rule},
                "suspects": [],
                "importance": {"rsi_14": 0.1},
                "contributions": {},
                "cpu_seconds": 3.0,
            }
        )
    )


def test_cells_that_are_not_made_are_marked_and_verdicts_count_every_trial(tmp_path: Path) -> None:
    write_cell(tmp_path, "logistic", 0.56, 0.0, 1)
    write_cell(tmp_path, "lightgbm", 0.57, 2.0, 2)
    page = write_table(tmp_path, ["logistic", "lightgbm", "tft"])
    measured, regressed, explained = (part for part in page.split("\n\n") if part.startswith("|"))
    rows = {line.split("|")[1].strip(): line for line in measured.splitlines()}
    assert "left out" in rows["tft"]
    assert "no edge after costs" in rows["logistic"]
    assert rows["lightgbm"].endswith("| edge |")
    assert rows["reversal"].endswith("|  |")
    assert "0.570 (0.560 to 0.580)" in rows["lightgbm"]
    assert "| lightgbm | left out |" in regressed
    assert "| lightgbm | rsi_14 |  |" in explained
    # The other spans have no cell at all.
    assert page.count("Left out: the time did not suffice.") == 2


def test_folder_without_the_recorded_bars_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "models.md")]) == 2
    assert f"{SPANS[0].file} is not there" in capsys.readouterr().err
