"""Instruments, accounts and replicas from the command line become a placement that the session keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from libs.runtime.configuration import Configuration
from libs.runtime.errors import BadInput
from libs.runtime.placement import AccountPlacement, Placement
from services.console.accounts import configured_accounts
from services.console.models_registry import STARTER_DIR
from services.console.placing import (
    make_placement,
    parse_instruments,
    parse_scale,
    place_models,
    placement_of,
    placement_variables,
    traded_of,
)
from services.console.plan import plan_processes
from services.console.session import load_session
from services.console.up import UpOptions, prepare_session
from services.inference.core import decode_manifest
from services.risk.main import SERVICE as RISK
from services.strategy.main import SERVICE as STRATEGY
from tests.kit.models import add_model

BTC, ETH = "BTCUSDT.BINANCE", "ETHUSDT.BINANCE"
OPTIONS = UpOptions("simulated", "paper", BTC, 7, 20.0, None, None, None, None, None, None, False)


def test_names_alone_give_each_account_every_instrument_and_a_partition_of_its_own() -> None:
    placement = make_placement((BTC, ETH), "alpha, beta", 2)
    assert placement == Placement(
        2, {BTC: 0, ETH: 1}, {"alpha": AccountPlacement(0, (BTC, ETH)), "beta": AccountPlacement(1, (BTC, ETH))}
    )


def test_a_file_gives_each_account_instruments_and_settings_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(
        f'[alpha]\ninstruments = ["{ETH}"]\n[alpha.risk]\nmax_leverage = 2\n'
        '[[alpha.strategy.strategies]]\npath = "ema_cross"\n[beta]\n'
    )
    placement = make_placement((BTC, ETH), str(file), 3)
    alpha = placement.accounts["alpha"]
    assert alpha.instruments == (ETH,)
    assert alpha.settings == {
        "PERPFLOW_RISK_MAX_LEVERAGE": "2",
        "PERPFLOW_STRATEGY_STRATEGIES": '[{"path": "ema_cross"}]',
    }
    monkeypatch.setenv("PERPFLOW_RISK_MAX_OPEN_ORDERS", "7")
    settings = [RISK.load_settings(placement, task) for task in placement.tasks("risk")]
    assert [(each.account, each.instruments, each.max_leverage, each.max_open_orders) for each in settings] == [
        ("alpha", (ETH,), 2, 7),
        ("beta", (BTC, ETH), 3, 7),
    ]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('alpha = "all"', "alpha is no table"),
        ("[alpha]\nrisks = 1", "has risks"),
        ('[alpha]\ninstruments = ["XRPUSDT.BINANCE"]', "trades XRPUSDT.BINANCE; the session has BTCUSDT.BINANCE"),
        ("[alpha]\nrisk = 3", "risk that is no table"),
        ("[alpha]\ninstruments = 3", "instruments that are no list"),
        ('[alpha]\ninstruments = "BTCUSDT.BINANCE"', "instruments that are no list"),
        ("[alpha", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_what_is_wrong(tmp_path: Path, written: str, said: str) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(written)
    with pytest.raises(BadInput, match=said):
        make_placement((BTC,), str(file), 2)


def test_more_accounts_than_partitions_are_refused() -> None:
    with pytest.raises(BadInput, match="3 accounts need as many partitions"):
        make_placement((BTC,), "a,b,c", 2)


def test_a_recording_may_be_of_what_is_read_and_not_traded() -> None:
    spot, unlisted = "BTCUSDT.BINANCE_SPOT", "APEUSDT.BINANCE"
    names = parse_instruments(f"{BTC},{spot},{unlisted}", "recorded:x.jsonl")
    assert (names, traded_of(names)) == ((BTC, spot, unlisted), (BTC,))
    placement = make_placement(names, "a", 2)
    assert placement.accounts["a"].instruments == (BTC,)
    assert set(placement.instruments) == {BTC, spot, unlisted}
    with pytest.raises(BadInput, match="nothing to trade"):
        make_placement((spot,), "a", 2)
    with pytest.raises(BadInput, match="unknown venue"):
        parse_instruments("BTCUSDT.NOWHERE", "recorded:x.jsonl")


def test_instruments_and_replicas_are_read_or_refused() -> None:
    assert parse_instruments(f"{BTC}, {ETH}") == (BTC, ETH)
    assert parse_scale(["bars=2", "risk=3"]) == {"bars": 2, "risk": 3}
    for text in (f"{BTC},{BTC}", ",", "NOSUCH.VENUE"):
        with pytest.raises(BadInput):
            parse_instruments(text)
    with pytest.raises(BadInput, match=r"trading on BTCUSDT.BINANCE_SPOT is refused: spot is read from recordings"):
        parse_instruments("BTCUSDT.BINANCE_SPOT", "live")
    for text in ("bars", "bars=0", "monitoring=2", "bars=x"):
        with pytest.raises(BadInput, match="SERVICE=N"):
            parse_scale([text])
    with pytest.raises(BadInput, match="ingestion is one process"):
        parse_scale(["ingestion=2"])


def test_a_session_keeps_its_placement_and_one_of_one_partition_says_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    placement = make_placement((BTC, ETH), "alpha,beta", 2)
    options = replace(OPTIONS, instruments=(BTC, ETH), placement=placement, scale={"bars": 2})
    session = prepare_session(options, Configuration({}))
    assert placement_of(session) == placement
    assert json.loads(session.environment["PERPFLOW_INGESTION_INSTRUMENTS"]) == [BTC, ETH]
    assert session.environment["PERPFLOW_MONITORING_DEFAULT_ACCOUNT"] == "alpha"
    assert configured_accounts(session) == {"alpha", "beta"}
    plain = prepare_session(OPTIONS, Configuration({}))
    assert configured_accounts(plain) == {"paper"}
    assert placement_variables(Placement()) == {}
    assert placement_of(plain) == Placement()
    assert not {"PERPFLOW_PARTITIONS", "PERPFLOW_ACCOUNTS"} & plain.environment.keys()


def test_replicas_are_processes_of_their_own_with_a_number_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    placement = make_placement((BTC, ETH), "alpha,beta", 2)
    options = replace(OPTIONS, instruments=(BTC, ETH), placement=placement)
    session = prepare_session(options, Configuration({}))
    specs = plan_processes(
        session,
        {},
        has_exchange=True,
        is_bounded=True,
        scale={"bars": 2},
        exchanges=[{"PERPFLOW_EXCHANGE_PORT": "1234"}],
    )
    numbers = {spec.name: spec.environment.get("PERPFLOW_REPLICA") for spec in specs}
    assert {name: number for name, number in numbers.items() if number is not None} == {
        **dict.fromkeys(("execution", "risk", "strategy", "inference", "features", "bars"), "0"),
        "bars-1": "1",
        "exchange-1": "1",
    }
    plain = plan_processes(prepare_session(OPTIONS, Configuration({})), {}, has_exchange=True, is_bounded=True)
    assert not any("PERPFLOW_REPLICA" in spec.environment for spec in plain)


def test_each_model_has_an_account_that_trades_its_forecasts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = place_models(Placement(), ["mine/12ab", "other/34cd"], "paper", (BTC, ETH))
    assert (placement.partitions, placement.instruments) == (3, {BTC: 0, ETH: 0})
    assert {name: each.partition for name, each in placement.accounts.items()} == {
        "paper": 0, "model-12ab": 1, "model-34cd": 2,
    }  # fmt: skip
    for service in (STRATEGY, RISK):
        settings = [service.load_settings(placement, task) for task in placement.tasks(service.name)]
        assert [each.model for each in settings] == ["", "mine/12ab", "other/34cd"]


def test_accounts_of_models_come_behind_those_that_were_asked_for() -> None:
    placement = place_models(make_placement((BTC, ETH), "a,b", 3), ["mine/12ab"], "paper", (BTC, ETH))
    assert placement.instruments == {BTC: 0, ETH: 1}
    assert {name: each.partition for name, each in placement.accounts.items()} == {"a": 0, "b": 1, "model-12ab": 2}


def test_a_session_that_goes_on_keeps_its_partitions_and_a_model_its_own() -> None:
    before = place_models(Placement(4), ["mine/12ab", "old/34cd"], "paper", (BTC,))
    after = place_models(Placement(4), ["new/56ef", "mine/12ab"], "paper", (BTC,), before)
    assert {name: each.partition for name, each in after.accounts.items()} == {
        "paper": 0, "model-56ef": 3, "model-12ab": 1,
    }  # fmt: skip
    with pytest.raises(BadInput, match=r"the session has 4 partitions.*needs 5; go on under another name"):
        place_models(Placement(), ["new/56ef", "newer/78aa"], "paper", (BTC,), before)


def test_a_session_on_paper_has_an_account_for_its_champion_and_each_shadow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    mine = add_model(tmp_path / "models", "mine")
    given = {
        "PERPFLOW_INFERENCE_MODELS_DIR": str(tmp_path / "models"),
        "PERPFLOW_INFERENCE_SHADOWS": json.dumps([mine.reference]),
    }
    session = prepare_session(OPTIONS, Configuration(given))
    accounts = placement_of(session).accounts
    starter = decode_manifest((STARTER_DIR / "manifest.json").read_bytes()).version
    assert list(accounts) == ["paper", f"model-{starter}", f"model-{mine.version}"]
    assert session.environment["PERPFLOW_MONITORING_DEFAULT_ACCOUNT"] == "paper"
    alone = prepare_session(OPTIONS, Configuration({}))
    assert placement_of(alone) == Placement()


@pytest.mark.parametrize("mode", ["testnet", "live"])
def test_a_real_venue_has_one_account_and_one_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    keys = {"PERPFLOW_EXECUTION_API_KEY": "k" * 20, "PERPFLOW_EXECUTION_API_SECRET": "s" * 20}
    options = replace(OPTIONS, market="live", mode=mode, placement=make_placement((BTC,), "a,b", 2))
    with pytest.raises(BadInput, match="one account and one instrument in one partition"):
        prepare_session(options, Configuration(keys))


def test_a_fused_session_has_one_chain_in_place_of_six_services_and_remembers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    session = prepare_session(replace(OPTIONS, layout="fused"), Configuration({"PERPFLOW_RISK_MAX_LEVERAGE": "2"}))
    session.save()
    assert load_session(session.name).layout == "fused"
    specs = {each.name: each for each in plan_processes(session, {}, has_exchange=False, is_bounded=True)}
    assert list(specs) == ["recorder", "monitoring", "chain", "ingestion"]
    assert specs["chain"].environment["PERPFLOW_RISK_MAX_LEVERAGE"] == "2"


def test_chains_share_the_accounts_out_and_what_a_layout_lacks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    apart = Placement(2, {BTC: 0, ETH: 1}, {"a": AccountPlacement(0, (BTC,)), "b": AccountPlacement(1, (ETH,))})
    options = replace(OPTIONS, instruments=(BTC, ETH), placement=apart, layout="fused", scale={"chain": 2})
    session = prepare_session(options, Configuration({}))
    specs = plan_processes(session, {}, has_exchange=False, is_bounded=True, scale=options.scale)
    chains = [each for each in specs if each.name.startswith("chain")]
    assert [(each.name, each.environment["PERPFLOW_CHAIN_ACCOUNTS"]) for each in chains] == [
        ("chain", '["a"]'),
        ("chain-1", '["b"]'),
    ]
    twice = plan_processes(session, {}, has_exchange=False, is_bounded=True, scale={"recorder": 2})
    assert [each.name for each in twice if each.name.startswith("recorder")] == ["recorder", "recorder-1"]
    with pytest.raises(BadInput, match="--layout fused has no bars to scale; it has chain, recorder"):
        prepare_session(replace(options, scale={"bars": 2}), Configuration({}))
    with pytest.raises(BadInput, match="--layout spread has no chain to scale"):
        prepare_session(replace(options, layout="spread"), Configuration({}))
    together = make_placement((BTC, ETH), "a,b", 2)
    with pytest.raises(BadInput, match="no instrument may be in two chains"):
        prepare_session(replace(options, placement=together), Configuration({}))
