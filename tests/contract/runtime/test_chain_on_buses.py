"""A chain on each bus: what the backtest makes, across a restart in the middle and a change of layout."""

from __future__ import annotations

import pytest

from libs.runtime.lag import read_lags
from libs.runtime.placement import ONE_PARTITION
from libs.wire import topics
from services.chain.building import SERVICES
from tests.kit.buses import World
from tests.kit.chain import (
    BUSY,
    PUBLISHED,
    a_chain,
    backtest,
    differences,
    market,
    publish,
    published,
    run_dry,
    run_spread,
)

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def busy_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BUSY.items():
        monkeypatch.setenv(name, value)


def test_a_chain_that_is_let_go_of_and_comes_back_publishes_what_the_backtest_makes(world: World) -> None:
    half = len(market()) // 2
    world.bus.create_topics(ONE_PARTITION.topics())
    publish(world.bus, market()[:half])
    shell = a_chain(world.bus, snapshot_every_records=300)
    while not published(world.bus)[topics.BARS_CLOSED]:
        shell.step(50)
    # As a killed one does, it writes nothing more.
    shell.release()
    shell = a_chain(world.bus, snapshot_every_records=300)
    run_dry(shell)
    publish(world.bus, market()[half:])
    run_dry(shell)
    shell.close()
    expected = backtest()
    assert published(world.bus) == {topic: expected[topic] for topic in PUBLISHED}
    assert differences(world.bus) == []
    assert not any(read_lags(world.bus, tuple(SERVICES)).values())


def test_a_drained_session_goes_on_spread_and_then_fused_again(world: World) -> None:
    third = len(market()) // 3
    world.bus.create_topics(ONE_PARTITION.topics())
    publish(world.bus, market()[:third])
    shell = a_chain(world.bus)
    run_dry(shell)
    shell.close()
    publish(world.bus, market()[third : 2 * third])
    run_spread(world.bus)
    publish(world.bus, market()[2 * third :])
    shell = a_chain(world.bus)
    run_dry(shell)
    shell.close()
    assert differences(world.bus) == []
    assert published(world.bus)[topics.FORECASTS] == backtest()[topics.FORECASTS]
