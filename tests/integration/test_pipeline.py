"""The main job, end to end, as a person runs it: every service a process, from a market event to a fill."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from tests.kit.kafka import NoKafka, find_kafka
from tests.kit.platform import SHARED, Platform, SessionOutcome
from tests.kit.soak import TIMES, at_length, seeded

CAPTURE = SHARED / "data/market/capture/binance_um_BTCUSDT_20240808.ns-jsonl.gz"
HISTORY = SHARED / "data/market/ohlcv/binance_spot_BTCUSDT_1m_20240726_20240825.parquet"
COUNTS = ("market_events", "bars", "vectors", "forecasts", "intents", "verdicts", "orders", "fills")
SPREAD = ("--layout", "spread")
SIMULATED = ("--market", "simulated", "--seed", "5", "--span", "6m", *SPREAD)
KILLED = ("ingestion", "bars", "features", "inference", "strategy", "risk", "execution", "recorder", "exchange")

pytestmark = pytest.mark.timeout(900)


# At many times real speed, intents and quotes age by minutes while a busy machine gets to them.
PATIENT = {"PERPFLOW_RISK_MAX_INTENT_AGE_MS": "3600000", "PERPFLOW_RISK_MAX_MARKET_DATA_AGE_MS": "3600000"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipeline")


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> tuple[Platform, SessionOutcome]:
    platform = Platform(folder, **PATIENT)
    return platform, platform.up(*SIMULATED, "--speed", "60")


def assert_is_whole(outcome: SessionOutcome) -> None:
    assert outcome.exit_code == 0, outcome.stderr[-3000:]
    summary = outcome.summary
    assert {name: summary[name] for name in COUNTS if summary[name] <= 0} == {}
    assert summary["dead_letters"] == 0
    assert summary["topics"] == summary["tables"]
    assert set(summary["invariants"].values()) == {0}
    assert summary["is_drained"]


def test_a_simulated_market_is_traded_from_event_to_fill(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    _, outcome = undisturbed
    assert_is_whole(outcome)
    assert outcome.summary["restarts"] == 0
    assert outcome.summary["bars"] >= 1500
    assert outcome.summary["latency_ms"]["end_to_end"]["p99"] > 0


def test_the_session_replays_byte_for_byte(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = undisturbed
    done = platform.call("replay", "--verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    replay = json.loads(done.stdout)
    assert replay["is_identical"]
    assert {entry["service"] for entry in replay["services"]} == {
        "bars", "features", "inference", "strategy", "risk", "execution"
    }  # fmt: skip
    assert all(entry["outputs"] > 0 for entry in replay["services"])


def test_a_changed_limit_changes_decisions_in_replay(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = undisturbed
    done = platform.call("replay", "--what-if", "risk.max_order_notional_usdt=200", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["changed"] > 0
    changed = {(each["recorded"].partition(" ")[0], each["replayed"]) for each in answer["examples"]}
    assert ("approved", "refused: order_notional_usdt") in changed
    same = json.loads(platform.call("replay", "--what-if", "risk.max_order_notional_usdt=5000", "--json").stdout)
    assert (same["changed"], same["missing"], same["added"]) == (0, 0, 0)


def test_a_fill_leads_back_to_the_ticks(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = undisturbed
    unknown = platform.call("trace", "no-such-order")
    assert unknown.returncode == 2
    chains: list[set[str]] = []
    for client_order_id in unknown.stderr.strip().rpartition("are ")[2].split(", "):
        done = platform.call("trace", client_order_id, "--json")
        assert done.returncode == 0, done.stderr
        chains.append({link["step"] for link in json.loads(done.stdout)})
    # The market may have ended before the venue said anything of the last one.
    assert {"order", "report", "command", "verdict", "intent", "bar", "trade"} <= set.union(*chains)


def test_an_order_and_a_moment_are_explained(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform, outcome = undisturbed
    name = outcome.summary["session"]
    client_order_id = platform.call("why", "no-such-order").stderr.strip().rpartition(" ")[2]
    (order,) = json.loads(platform.call("why", client_order_id, "--json").stdout)
    assert order["verdict"] in ("approved", "refused")
    assert order["checks"] and order["reasons"] and order["chain"]
    moment = json.loads(platform.call("why", "2026-01-01T00:05:30", "--json").stdout)
    assert all(one["reasons"] for one in moment)
    state = json.loads(platform.call("at", name, "2026-01-01T00:05:30", "execution").stdout)
    assert state["inputs"] > 0 and state["state"]


def test_this_build_decides_as_it_did(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = undisturbed
    done = platform.call("rehearse", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["is_same"]


def test_the_drift_from_the_backtest_is_split_into_terms_that_sum_to_it(
    undisturbed: tuple[Platform, SessionOutcome],
) -> None:
    platform, outcome = undisturbed
    done = platform.call("drift", outcome.summary["session"], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(map(Decimal, found["terms_usdt"].values())) == Decimal(found["difference_usdt"])
    assert found["matched_orders"] + len(found["only_in_session"]) + len(found["only_in_backtest"]) > 0


def test_a_changed_limit_is_followed_through_the_venue(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform, _ = undisturbed
    done = platform.call("replay", "--what-if", "risk.max_order_notional_usdt=100", "--follow", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["after"]["refused"] > answer["before"]["refused"]
    assert (answer["before"]["fills"] > 0, answer["after"]["fills"]) == (True, 0)


def test_a_backtest_over_the_session_has_its_digests(undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform, outcome = undisturbed
    done = platform.call("backtest", "--session", outcome.summary["session"], "--digests", "--json")
    assert done.returncode == 0, done.stderr
    digests = json.loads(done.stdout)["digests"]
    assert {topic: digests[topic] for topic in outcome.summary["digests"]} == outcome.summary["digests"]


def test_killing_every_service_changes_nothing(folder: Path, undisturbed: tuple[Platform, SessionOutcome]) -> None:
    platform = Platform(folder / "killed", **PATIENT)
    platform.folder.mkdir()
    outcome = platform.up(*SIMULATED, "--speed", "15", kill=KILLED)
    assert_is_whole(outcome)
    # On a slow machine the market ends before everybody's turn has come.
    assert outcome.summary["restarts"] >= 3
    assert outcome.summary["digests"] == undisturbed[1].summary["digests"]
    done = platform.call("replay", "--verify")
    assert done.returncode == 0, done.stdout + done.stderr


@at_length
@pytest.mark.skipif(not CAPTURE.exists(), reason=f"no recorded market data at {CAPTURE}")
def test_a_recorded_market_is_traded_at_length(folder: Path) -> None:
    platform = Platform(folder / "recorded", **PATIENT, PERPFLOW_INFERENCE_CHAMPION="starter")
    platform.folder.mkdir()
    outcome = platform.up(
        "--market", f"recorded:{CAPTURE}", "--history", str(HISTORY), "--speed", "20", "--span", "3m", *SPREAD
    )
    assert_is_whole(outcome)
    assert outcome.summary["restarts"] == 0
    done = platform.call("replay", "--verify")
    assert done.returncode == 0, done.stdout + done.stderr


def test_on_kafka_killing_services_changes_nothing(folder: Path, undisturbed: tuple[Platform, SessionOutcome]) -> None:
    outcome = assert_kills_on_kafka_change_nothing(
        folder / "kafka", undisturbed, "20", ("bars", "execution", "recorder")
    )
    assert outcome.summary["restarts"] >= 1


@at_length
def test_on_kafka_killing_every_service_at_length(folder: Path, undisturbed: tuple[Platform, SessionOutcome]) -> None:
    chance = seeded()
    for turn in range(TIMES):
        killed = chance.sample(KILLED, len(KILLED))
        outcome = assert_kills_on_kafka_change_nothing(folder / f"kafka-{turn}", undisturbed, "10", killed)
        # On a slow machine the market ends before everybody's turn has come.
        assert outcome.summary["restarts"] >= 3


def assert_kills_on_kafka_change_nothing(
    folder: Path, undisturbed: tuple[Platform, SessionOutcome], speed: str, killed: Sequence[str]
) -> SessionOutcome:
    try:
        kafka = find_kafka()
    except NoKafka as error:
        pytest.skip(str(error))
    platform = Platform(folder, PERPFLOW_BUS=f"kafka:{kafka.address}", **PATIENT)
    platform.folder.mkdir()
    outcome = platform.up(*SIMULATED, "--speed", speed, kill=killed)
    assert_is_whole(outcome)
    assert outcome.summary["digests"] == undisturbed[1].summary["digests"]
    done = platform.call("replay", "--verify", timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    address, name = f"kafka:{kafka.address}", outcome.summary["session"]
    done = platform.call("backtest", "--from-bus", address, "--session", name, "--digests", "--json")
    assert done.returncode == 0, done.stderr
    digests = json.loads(done.stdout)["digests"]
    assert {topic: digests[topic] for topic in outcome.summary["digests"]} == outcome.summary["digests"]
    return outcome
