"""Which task handles what: explicit places before hashing, and what each task reads and writes."""

from __future__ import annotations

import pytest

from libs.bus.api import TopicPartition, partition_of
from libs.runtime.errors import BadInput
from libs.runtime.placement import AccountPlacement, Placement, Task, chain_name, place_evenly
from libs.runtime.snapshots import group_topics, output_topics
from libs.wire import topics

BTC, ETH = "BTCUSDT.BINANCE", "ETHUSDT.BINANCE"


def a_placement() -> Placement:
    return Placement(
        4, {BTC: 1, ETH: 3}, {"alpha": AccountPlacement(0, (BTC, ETH)), "beta": AccountPlacement(2, (ETH,))}
    )


def counts() -> dict[str, int]:
    return {spec.name: spec.partitions for spec in a_placement().topics()}


def test_a_placed_instrument_goes_where_it_was_placed_and_another_where_its_key_hashes() -> None:
    placement = a_placement()
    for topic in (topics.MARKET_EVENTS, topics.BARS_CLOSED, topics.dead_topic(topics.FORECASTS)):
        assert placement.choose(topic, BTC.encode(), 4) == 1
        assert placement.choose(topic, b"XRPUSDT.BINANCE", 4) == partition_of(b"XRPUSDT.BINANCE", 4)
    assert placement.choose(topics.INTENTS, b"beta", 4) == 2
    assert placement.choose(topics.INTENTS, BTC.encode(), 4) == partition_of(BTC.encode(), 4)


def test_names_are_placed_so_that_none_meet_while_there_is_room() -> None:
    assert place_evenly([BTC, ETH, "C", "D"], 3) == {BTC: 0, ETH: 1, "C": 2, "D": 0}


def test_control_and_operations_have_one_partition_and_all_else_as_many_as_the_session() -> None:
    whole = {name for name, count in counts().items() if count == 1}
    assert whole == {
        *(topics.CONTROL_COMMANDS, topics.CONTROL_STATES, topics.ALERTS, topics.AUDIT),
        *map(topics.dead_topic, (topics.CONTROL_COMMANDS, topics.CONTROL_STATES, topics.ALERTS, topics.AUDIT)),
        topics.state_topic("ingestion"),
    }


def test_an_instrument_task_reads_and_writes_its_own_partition_alone() -> None:
    task = a_placement().task("bars", 3)
    assert task is not None and task.name == "bars.3" and task.group == "bars"
    assert task.places(counts(), group_topics("bars")) == [TopicPartition(topics.MARKET_EVENTS, 3)]
    assert task.places(counts(), output_topics("bars")) == [
        TopicPartition(topics.BARS_CLOSED, 3),
        TopicPartition(topics.BARS_REVISED, 3),
        TopicPartition(topics.dead_topic(topics.MARKET_EVENTS), 3),
    ]


def test_an_account_task_reads_its_account_control_and_the_instruments_that_it_trades() -> None:
    beta = a_placement().task("risk", 2)
    assert beta is not None and beta.name == beta.group == "risk.2"
    read = set(beta.places(counts(), group_topics("risk")))
    assert TopicPartition(topics.INTENTS, 2) in read
    assert TopicPartition(topics.CONTROL_COMMANDS, 0) in read
    assert {at.partition for at in read if at.topic == topics.MARKET_EVENTS} == {3}
    alpha = a_placement().task("risk", 0)
    assert alpha is not None
    assert {at.partition for at in alpha.places(counts(), [topics.MARKET_EVENTS])} == {1, 3}
    assert beta.takes(topics.MARKET_EVENTS, ETH.encode()) and not beta.takes(topics.MARKET_EVENTS, BTC.encode())
    assert beta.takes(topics.CONTROL_COMMANDS, b"*")


def test_a_partition_without_an_account_has_no_account_task() -> None:
    assert [task.partition for task in a_placement().tasks("execution")] == [0, 2]
    assert [task.partition for task in a_placement().tasks("features")] == [0, 1, 2, 3]


def test_where_no_account_is_placed_the_one_there_is_writes_where_its_task_reads() -> None:
    placement = Placement(4)
    for service in ("strategy", "risk", "execution"):
        (task,) = placement.tasks(service)
        for name in (b"paper", b"testnet", b"live"):
            assert placement.choose(topics.ACCOUNTS, name, 4) == task.partition


def test_one_partition_is_the_service_itself_and_reads_everything() -> None:
    (task,) = Placement().tasks("risk")
    one = {spec.name: spec.partitions for spec in Placement().topics()}
    assert set(one.values()) == {1}
    assert (task.name, task.group) == ("risk", "risk")
    assert task == Task("risk")
    assert {at.topic for at in task.places(one, group_topics("risk"))} == set(group_topics("risk"))


@pytest.mark.parametrize(
    ("instruments", "accounts", "said"),
    [
        ({BTC: 4}, {}, "BTCUSDT.BINANCE is placed in partition 4, but there are 4"),
        ({}, {"a": AccountPlacement(-1, (BTC,))}, "a is placed in partition -1"),
        ({}, {"a": AccountPlacement(1, (BTC,)), "b": AccountPlacement(1, (BTC,))}, "a and b are both placed"),
    ],
)
def test_a_place_that_cannot_be_is_refused(
    instruments: dict[str, int], accounts: dict[str, AccountPlacement], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        Placement(4, instruments, accounts)


def test_a_chain_runs_its_accounts_and_every_partition_that_they_trade_in() -> None:
    placement = Placement(
        4, {BTC: 1, ETH: 3}, {"alpha": AccountPlacement(0, (BTC,)), "beta": AccountPlacement(2, (ETH,))}
    )
    everything = placement.chain_tasks()
    assert {task.name for task in everything if task.service == "bars"} == {"bars", "bars.1", "bars.2", "bars.3"}
    assert {task.name for task in everything if task.service == "risk"} == {"risk", "risk.2"}
    beta = placement.chain_tasks(["beta"])
    assert {task.name for task in beta} == {
        *("bars.3", "features.3", "inference.3", "strategy.2", "risk.2", "execution.2")
    }
    # What nobody trades goes with the first account.
    alpha = placement.chain_tasks(["alpha"])
    assert {task.partition for task in alpha if task.service == "bars"} == {0, 1, 2}
    assert sorted(task.name for task in [*alpha, *beta]) == sorted(task.name for task in everything)
    assert [chain_name(alpha), chain_name(beta), chain_name(Placement().chain_tasks())] == ["chain", "chain.2", "chain"]


def test_two_chains_on_one_partition_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match=rf"beta trades {ETH} and alpha trades {ETH}, both in partition 3"):
        a_placement().chain_tasks(["beta"])
    with pytest.raises(BadInput, match="no account 'gamma'; the session has alpha, beta"):
        a_placement().chain_tasks(["gamma"])


def test_accounts_that_trade_in_one_partition_stay_in_one_chain() -> None:
    placement = Placement(
        4,
        {BTC: 1, ETH: 3},
        {
            "alpha": AccountPlacement(0, (BTC,)),
            "beta": AccountPlacement(1, (ETH,)),
            "gamma": AccountPlacement(2, (BTC,)),
        },
    )
    assert sorted(map(sorted, placement.split_accounts(2))) == [["alpha", "gamma"], ["beta"]]
    with pytest.raises(BadInput, match=r"3 chains need 3 groups .* the session has 2 of them"):
        placement.split_accounts(3)
