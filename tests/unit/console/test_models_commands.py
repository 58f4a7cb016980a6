"""`perpflow models`: what there is, what may be promoted, and what a session begins with."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.bus.api import NewRecord, TopicPartition
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.events import Event
from libs.domain.forecasts import ModelRole
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput
from libs.runtime.placement import ONE_PARTITION
from libs.runtime.records import commit_records, read_range
from libs.wire import decode_any, encode
from libs.wire.topics import CONTROL_COMMANDS
from services.console import models_commands
from services.console.main import app
from services.console.models_registry import find_entry, list_entries, read_default, write_default
from services.console.placing import place_models, placement_variables
from services.console.session import SessionDescription
from services.console.session_bus import open_session_bus
from services.console.up import model_variables
from services.inference.core import encode_manifest
from tests.kit.builders import START, a_forecast, an_account
from tests.kit.models import STARTER, add_model


def perpflow(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_model_that_ships_is_listed(tmp_path: Path) -> None:
    (model,) = json.loads(perpflow("models", "--models", str(tmp_path), "--json"))
    assert (model["name"], model["reference"]) == ("starter", "starter")
    assert len(model["onnx_sha256"]) == 64
    assert "rsi_14" in model["inputs"]


def test_models_of_the_registry_are_listed_by_what_pins_them(tmp_path: Path) -> None:
    mine = add_model(tmp_path, "mine")
    assert mine.reference in perpflow("models", "list", "--models", str(tmp_path))


def test_a_registry_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(BadInput, match=r"--models .*models is not a folder"):
        perpflow("models", "--models", str(tmp_path / "models"))


@pytest.mark.parametrize("content", [b"{}", b"{", b"\xff\xfe"])
def test_a_damaged_manifest_is_named(content: bytes, tmp_path: Path) -> None:
    broken = tmp_path / "mine" / "1" / "manifest.json"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content)
    with pytest.raises(BadInput, match=r"manifest\.json is no model manifest"):
        perpflow("models", "--models", str(tmp_path))


def test_an_edited_manifest_is_named(tmp_path: Path) -> None:
    mine = add_model(tmp_path, "mine")
    path = tmp_path / "mine" / mine.version / "manifest.json"
    path.write_bytes(encode_manifest(replace(mine, verdict="edge")))
    with pytest.raises(BadInput, match="it was edited"):
        perpflow("models", "--models", str(tmp_path))


def test_models_are_compared_side_by_side(tmp_path: Path) -> None:
    mine = add_model(tmp_path, "mine")
    rows = json.loads(perpflow("models", "compare", "starter", mine.reference, "--models", str(tmp_path), "--json"))
    assert [row["reference"] for row in rows] == ["starter", mine.reference]
    assert all(row["auc"]["low"] < row["auc"]["value"] < row["auc"]["high"] for row in rows)


def test_only_old_versions_that_no_session_names_are_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [add_model(tmp_path, "mine", training={**STARTER.training, "last_open_time": number}) for number in range(4)]
    monkeypatch.setattr(models_commands, "_models_of_sessions", lambda: {made[0].reference})
    told = json.loads(perpflow("models", "prune", "--keep", "2", "--models", str(tmp_path), "--json"))
    assert told == {"removed": False, "models": [made[1].reference]}
    perpflow("models", "prune", "--keep", "2", "--models", str(tmp_path), "--yes")
    left = {entry.reference for entry in list_entries(tmp_path)} - {"starter"}
    assert left == {made[0].reference, made[2].reference, made[3].reference}


def test_model_without_an_edge_is_promoted_only_where_that_is_accepted(tmp_path: Path) -> None:
    mine = add_model(tmp_path, "mine")
    arguments = ["models", "promote", mine.reference, "--at-start", "--models", str(tmp_path)]
    refused = CliRunner().invoke(app, arguments)
    assert (refused.exit_code, read_default(tmp_path)) == (1, "")
    assert "no edge after costs" in refused.stderr
    perpflow(*arguments, "--accept-no-edge")
    assert read_default(tmp_path) == f"mine/{mine.bundle_sha256}"
    edge = add_model(tmp_path, "edge", verdict="edge")
    perpflow("models", "promote", edge.reference, "--at-start", "--models", str(tmp_path))
    assert read_default(tmp_path) == f"edge/{edge.bundle_sha256}"


def test_a_session_begins_with_the_starter_on_the_simulated_market_alone(tmp_path: Path) -> None:
    given = {"PERPFLOW_INFERENCE_MODELS_DIR": str(tmp_path)}
    assert model_variables(given, is_simulated=False) == {}
    assert model_variables(given, is_simulated=True)["PERPFLOW_INFERENCE_CHAMPION"] == "starter"
    mine = add_model(tmp_path, "mine")
    write_default(tmp_path, find_entry(tmp_path, mine.reference))
    assert model_variables(given, is_simulated=False)["PERPFLOW_INFERENCE_CHAMPION"] == f"mine/{mine.bundle_sha256}"


def test_features_compute_what_the_models_of_a_session_read(tmp_path: Path) -> None:
    hourly = add_model(tmp_path, "hourly", timeframe="1h")
    given = {
        "PERPFLOW_INFERENCE_MODELS_DIR": str(tmp_path),
        "PERPFLOW_INFERENCE_SHADOWS": json.dumps([hourly.reference]),
    }
    sets = model_variables(given, is_simulated=True)["PERPFLOW_FEATURES_FEATURE_SETS"]
    assert json.loads(sets) == ["core_v1/1m", "core_v1/1h"]


def test_models_that_do_not_exist_and_shadows_that_are_no_list_are_refused(tmp_path: Path) -> None:
    given = {"PERPFLOW_INFERENCE_MODELS_DIR": str(tmp_path)}
    with pytest.raises(BadInput, match="no model 'absent'"):
        model_variables({**given, "PERPFLOW_INFERENCE_CHAMPION": "absent"}, is_simulated=False)
    with pytest.raises(BadInput, match="PERPFLOW_INFERENCE_SHADOWS is no JSON list"):
        model_variables({**given, "PERPFLOW_INFERENCE_SHADOWS": "mine"}, is_simulated=True)


@pytest.fixture
def a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionDescription:
    """Make a session that runs the starter with one shadow, and have it be the only one that runs."""
    shadow = add_model(tmp_path / "models", "mine", verdict="edge")
    session = SessionDescription(
        name="paper-live",
        folder=tmp_path,
        market="live",
        mode="paper",
        seed=None,
        speed=1.0,
        instrument="BTCUSDT.BINANCE",
        bus=f"sqlite:{tmp_path / 'bus.db'}",
        topic_prefix="",
        clickhouse="",
        clickhouse_database="perpflow",
        environment={
            "PERPFLOW_INFERENCE_CHAMPION": "starter",
            "PERPFLOW_INFERENCE_SHADOWS": json.dumps([shadow.reference]),
        },
    )
    with open_session_bus(session, is_new=True) as bus:
        bus.create_topics(ONE_PARTITION.topics())
    monkeypatch.setattr(models_commands, "_find_session", lambda _name: session)
    return session


def commanded(session: SessionDescription) -> list[ControlCommand]:
    with open_session_bus(session) as bus:
        where = TopicPartition(CONTROL_COMMANDS, 0)
        end = bus.end_offsets([where])[where]
        return [decode_any(CONTROL_COMMANDS, one.value) for one in read_range(bus, CONTROL_COMMANDS, 0, 0, end)]


def test_promotion_is_a_command_to_all_that_names_the_pinned_model(a_session: SessionDescription) -> None:
    registry = a_session.folder / "models"
    (reference,) = json.loads(a_session.environment["PERPFLOW_INFERENCE_SHADOWS"])
    perpflow("models", "promote", reference, "--models", str(registry), "--reason", "better")
    (command,) = commanded(a_session)
    assert (command.action, command.account) == (ControlAction.PROMOTE_MODEL, "*")
    assert (command.arguments, command.reason) == ({"model": reference}, "better")


def test_model_that_the_session_does_not_run_is_not_promoted(a_session: SessionDescription) -> None:
    registry = a_session.folder / "models"
    other = add_model(registry, "other", verdict="edge")
    with pytest.raises(BadInput, match=r"does not run other/.*A new model starts as a shadow"):
        perpflow("models", "promote", other.reference, "--models", str(registry))
    assert commanded(a_session) == []


def test_model_that_a_session_names_by_its_whole_hash_is_the_same_model(a_session: SessionDescription) -> None:
    registry = a_session.folder / "models"
    (reference,) = json.loads(a_session.environment["PERPFLOW_INFERENCE_SHADOWS"])
    whole = f"mine/{find_entry(registry, reference).bundle_sha256}"
    a_session.environment["PERPFLOW_INFERENCE_SHADOWS"] = json.dumps([whole])
    perpflow("models", "promote", whole, "--models", str(registry))
    assert [one.arguments["model"] for one in commanded(a_session)] == [reference]


def test_first_champion_of_a_session_that_had_none_is_not_rolled_back(a_session: SessionDescription) -> None:
    a_session.environment["PERPFLOW_INFERENCE_CHAMPION"] = ""
    (reference,) = json.loads(a_session.environment["PERPFLOW_INFERENCE_SHADOWS"])
    perpflow("models", "promote", reference, "--models", str(a_session.folder / "models"))
    with pytest.raises(BadInput, match="nothing to roll back to"):
        perpflow("models", "rollback")


def test_rollback_goes_as_far_back_as_promotions_went(a_session: SessionDescription) -> None:
    with pytest.raises(BadInput, match="nothing to roll back to"):
        perpflow("models", "rollback")
    (reference,) = json.loads(a_session.environment["PERPFLOW_INFERENCE_SHADOWS"])
    perpflow("models", "promote", reference, "--models", str(a_session.folder / "models"))
    perpflow("models", "rollback")
    with pytest.raises(BadInput, match="nothing to roll back to"):
        perpflow("models", "rollback")
    assert [one.arguments["model"] for one in commanded(a_session)] == [reference, "previous"]


def publish(session: SessionDescription, *events: Event) -> None:
    encoded = [encode(event) for event in events]
    with open_session_bus(session) as bus:
        commit_records(bus.producer("test"), [NewRecord(one.topic, one.key, one.payload) for one in encoded])


@pytest.fixture
def a_scored_session(a_session: SessionDescription, monkeypatch: pytest.MonkeyPatch) -> SessionDescription:
    """A session with an account for the starter and one for its shadow, which gains two bps or so each hour."""
    (shadow,) = json.loads(a_session.environment["PERPFLOW_INFERENCE_SHADOWS"])
    champion = f"starter/{STARTER.version}"
    placement = place_models(ONE_PARTITION, [champion, shadow], "paper", [a_session.instrument])
    scored = replace(
        a_session,
        environment={**a_session.environment, **placement_variables(placement)},
        bus=f"sqlite:{a_session.folder / 'scored.db'}",
    )
    with open_session_bus(scored, is_new=True) as bus:
        bus.create_topics(placement.topics())
    scored.save()
    for number, (reference, role) in enumerate({champion: ModelRole.CHAMPION, shadow: ModelRole.SHADOW}.items()):
        name, _, version = reference.partition("/")
        states = [
            an_account(
                account=f"model-{version}",
                event_id=f"account/model-{version}/{hour}",
                event_time=START + hour * 3600 * NANOSECONDS,
                sequence=hour + 1,
                equity=Decimal(10_000 + number * (2 * hour + hour % 2)),
            )
            for hour in range(42)
        ]
        publish(scored, a_forecast(1, model_name=name, model_version=version, role=role), *states)
    monkeypatch.setattr(models_commands, "_find_session", lambda _name: scored)
    monkeypatch.setattr("services.console.running.running_folders", lambda: [scored.folder])
    monkeypatch.setattr("services.console.session.sessions_root", lambda: scored.folder.parent)
    return scored


def test_models_of_a_running_session_are_listed_with_what_their_accounts_came_to(
    a_scored_session: SessionDescription,
) -> None:
    registry = str(a_scored_session.folder / "models")
    starter, mine = json.loads(perpflow("models", "list", "--models", registry, "--json"))
    assert [one["role"] for one in (*starter["sessions"], *mine["sessions"])] == ["champion", "shadow"]
    (score,) = [one["score"] for one in mine["sessions"]]
    assert (score["periods"], score["samples"]) == (40, 40)
    assert score["net_bps"] == pytest.approx(79.7, abs=0.2)
    assert score["p_value"] < 1e-6
    told = perpflow("models", "list", "--models", registry)
    assert f"session {a_scored_session.name} runs" in told and "bps after costs in 40 periods" in told
    assert json.loads(perpflow("models", "scores", "--session", a_scored_session.folder.name, "--json"))[1] == {
        key: value for key, value in mine["sessions"][0].items() if key != "session"
    }


def test_a_shadow_is_promoted_by_the_rule_where_it_passes_and_not_before(a_scored_session: SessionDescription) -> None:
    assert "no shadow passes the rule" in perpflow("models", "promote", "--by-rule")
    assert commanded(a_scored_session) == []
    perpflow("models", "promote", "--by-rule", "--min-samples", "40")
    (command,) = commanded(a_scored_session)
    (shadow,) = json.loads(a_scored_session.environment["PERPFLOW_INFERENCE_SHADOWS"])
    assert command.arguments == {"model": shadow}
    assert command.reason.startswith("by rule: ")


@pytest.mark.parametrize("arguments", [[], ["mine/0123456789abcdef", "--by-rule"], ["--by-rule", "--at-start"]])
def test_a_promotion_names_a_model_or_the_rule(arguments: list[str]) -> None:
    with pytest.raises(BadInput, match="name a MODEL, or give --by-rule"):
        perpflow("models", "promote", *arguments)
