"""A strategy that reads the market decides the same fused, in a service of its own and in a backtest."""

from __future__ import annotations

import json

import pytest

from libs.bus.api import Bus
from libs.domain.events import Event
from libs.runtime.errors import BadInput
from libs.runtime.lag import read_lags
from libs.runtime.placement import ONE_PARTITION
from libs.wire import encode, topics
from libs.wire.topics import MARKET_EVENTS
from services.backtest.inputs import MarketInput
from services.backtest.options import BacktestOptions, parse_strategies
from services.backtest.run import run_backtest
from services.chain.building import SERVICES
from tests.kit.chain import (
    BUSY,
    PUBLISHED,
    a_bus,
    a_chain,
    backtest,
    differences,
    market,
    publish,
    published,
    run_dry,
    run_spread,
)
from tests.kit.market_strategy import PATH

BTC = "BTCUSDT.BINANCE"
READS_MARKET = json.dumps([{"path": PATH}])


@pytest.fixture(autouse=True)
def market_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**BUSY, "PERPFLOW_STRATEGY_STRATEGIES": READS_MARKET}.items():
        monkeypatch.setenv(name, value)


def strategy_group_stands(bus: Bus) -> bool:
    (task,) = ONE_PARTITION.tasks("strategy")
    places = task.places(bus.topics(), [MARKET_EVENTS])
    return any(offset is not None for offset in bus.committed(task.group, places).values())


def test_a_chain_publishes_what_the_backtest_makes_through_kills_byte_for_byte() -> None:
    expected = backtest.__wrapped__()
    assert len(expected[topics.INTENTS]) > 3
    with a_bus() as bus:
        third = len(market()) // 3
        for first in range(0, len(market()), third):
            publish(bus, market()[first : first + third])
            shell = a_chain(bus, snapshot_every_records=300)
            run_dry(shell)
            shell.release()
        assert published(bus) == {topic: expected[topic] for topic in PUBLISHED}
        assert differences(bus) == []


def test_the_backtest_command_s_run_decides_what_the_chain_decides() -> None:
    made: list[bytes] = []

    def listen(event: Event) -> None:
        encoded = encode(event)
        if encoded.topic == topics.INTENTS:
            made.append(encoded.payload)

    heard = MarketInput({"source": "simulated"}, "", iter(market()))
    run_backtest(heard, BacktestOptions(BTC, strategies=parse_strategies([PATH])), listen=listen)
    assert made == backtest.__wrapped__()[topics.INTENTS]


# Six shells that each poll until nothing comes, over and over.
@pytest.mark.slow
def test_its_service_reads_the_market_and_replays_alike() -> None:
    with a_bus() as bus:
        quarter = len(market()) // 4
        for first in (0, quarter):
            # Strategy handles what there is before it hears of the account.
            publish(bus, market()[first : first + quarter])
            run_spread(bus)
        assert strategy_group_stands(bus)
        assert published(bus)[topics.INTENTS]
        assert differences(bus) == []
        assert not any(read_lags(bus, tuple(SERVICES)).values())


def test_a_service_whose_strategies_read_no_market_takes_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_STRATEGY_STRATEGIES", BUSY["PERPFLOW_STRATEGY_STRATEGIES"])
    with a_bus() as bus:
        publish(bus, market()[: len(market()) // 3])
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        assert not strategy_group_stands(bus)
        assert not any(read_lags(bus, tuple(SERVICES)).values())


@pytest.mark.parametrize(
    ("before", "after", "said"), [("reads", "rests", "do not any more"), ("rests", "reads", "do now")]
)
def test_a_session_is_refused_strategies_that_read_other_topics(
    before: str, after: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies = {"reads": READS_MARKET, "rests": BUSY["PERPFLOW_STRATEGY_STRATEGIES"]}
    with a_bus() as bus:
        publish(bus, market()[: len(market()) // 3])
        monkeypatch.setenv("PERPFLOW_STRATEGY_STRATEGIES", strategies[before])
        shell = a_chain(bus)
        run_dry(shell)
        shell.close()
        monkeypatch.setenv("PERPFLOW_STRATEGY_STRATEGIES", strategies[after])
        with pytest.raises(BadInput, match=f"{said}: start a new session"):
            a_chain(bus)
