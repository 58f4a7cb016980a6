"""When a model is due to be trained again, and what of it a service's metrics say."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.runtime.errors import DependencyUnavailable
from services.console.models_registry import add_shadow, find_entry, read_shadows, write_default
from services.console.retraining import describe_drift, fetch_metrics, newest_model
from services.console.up import model_variables
from services.training.core.retraining import RetrainRule
from tests.kit.models import STARTER, add_model

DAY_NS = 86_400 * 10**9
WEEKLY = RetrainRule(every_ns=7 * DAY_NS)


def test_a_model_is_due_where_there_is_none_or_the_newest_is_old_enough() -> None:
    assert WEEKLY.why_due(None, DAY_NS) == "there is no model yet"
    assert WEEKLY.why_due(DAY_NS, 8 * DAY_NS - 1) == ""
    assert WEEKLY.why_due(DAY_NS, 8 * DAY_NS) == "the newest model's data end 7.0 days before these"


def test_drift_is_a_reason_where_it_was_asked_for_and_there_is_anything_newer() -> None:
    on_drift = RetrainRule(on_drift=True)
    assert on_drift.why_due(DAY_NS, 2 * DAY_NS, "inputs have moved") == "inputs have moved"
    assert on_drift.why_due(DAY_NS, 2 * DAY_NS) == ""
    assert on_drift.why_due(DAY_NS, DAY_NS, "inputs have moved") == ""
    assert WEEKLY.why_due(DAY_NS, 2 * DAY_NS, "inputs have moved") == ""


def test_a_walk_through_time_trains_at_its_start_and_every_so_often() -> None:
    assert WEEKLY.times(DAY_NS, 16 * DAY_NS) == [DAY_NS, 8 * DAY_NS, 15 * DAY_NS]
    with pytest.raises(ValueError, match="needs a schedule"):
        RetrainRule(on_drift=True).times(0, DAY_NS)


METRICS = """# TYPE perpflow_model_drifts counter
perpflow_model_drifts_total{model="btc/12ab",kind="predictions"} 0.0
perpflow_model_drifts_total{model="btc/12ab",kind="calibration"} 2.0
perpflow_model_drifts_total{model="other/12ab",kind="predictions"} 3.0
"""
INPUTS = """# TYPE perpflow_input_psi gauge
perpflow_input_psi{model="btc-12ab",input="a"} 0.3
perpflow_input_psi{model="btc-12ab",input="b"} 0.4
perpflow_input_psi{model="btc-12ab",input="c"} 0.1
"""


def test_drift_is_read_from_what_services_show_of_this_very_model() -> None:
    assert describe_drift([METRICS, INPUTS], "btc", "12ab") == "calibration changed 2 times, 2 of 3 inputs have moved"
    assert describe_drift([INPUTS.replace("0.4", "0.2")], "btc", "12ab") == ""
    assert describe_drift([METRICS, INPUTS], "btc", "34cd") == ""


def test_metrics_that_do_not_answer_are_named() -> None:
    with pytest.raises(DependencyUnavailable, match=r"--metrics http://127\.0\.0\.1:9/metrics does not answer"):
        fetch_metrics(["http://127.0.0.1:9/metrics"])


def test_the_newest_model_is_the_one_whose_data_end_last(tmp_path: Path) -> None:
    made = [add_model(tmp_path, "btc", training={**STARTER.training, "last_open_time": time}) for time in (2, 3, 1)]
    add_model(tmp_path, "eth")
    found = newest_model(tmp_path, "btc")
    assert found is not None and found.reference == made[1].reference
    assert newest_model(tmp_path, "absent") is None


def test_a_new_model_starts_as_a_shadow_in_place_of_the_one_before_it(tmp_path: Path) -> None:
    first, second = (add_model(tmp_path, "btc", verdict=verdict) for verdict in ("edge", "no edge after costs"))
    other = add_model(tmp_path, "eth")
    for manifest in (first, other, second):
        add_shadow(tmp_path, find_entry(tmp_path, manifest.reference))
    assert read_shadows(tmp_path) == [f"eth/{other.bundle_sha256}", f"btc/{second.bundle_sha256}"]
    given = {"PERPFLOW_INFERENCE_MODELS_DIR": str(tmp_path)}
    live = model_variables(given, is_simulated=False)
    assert live["PERPFLOW_INFERENCE_SHADOWS"] == f'["eth/{other.bundle_sha256}", "btc/{second.bundle_sha256}"]'
    assert model_variables(given, is_simulated=True)["PERPFLOW_INFERENCE_SHADOWS"] == "[]"
    write_default(tmp_path, find_entry(tmp_path, other.reference))
    assert read_shadows(tmp_path) == [f"btc/{second.bundle_sha256}"]
