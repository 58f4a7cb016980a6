"""Replicas of every service are added, stopped and killed, and nothing shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.scaled import Size, run_and_check


# Sixteen processes, each of which imports and recovers.
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_tasks_move_between_replicas_and_change_no_bar_vector_forecast_or_order(tmp_path: Path) -> None:
    outcome = run_and_check("sqlite", Size(instruments=3, accounts=2, partitions=2, minutes=4), tmp_path, is_short=True)
    assert outcome.problems == []
    assert outcome.kills == 3
