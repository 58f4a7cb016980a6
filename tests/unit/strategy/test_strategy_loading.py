from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.strategy.core import StrategyCore
from services.strategy.core.ema_cross import EmaCross
from services.strategy.loading import StrategyError, build_strategy, build_strategy_core
from services.strategy.settings import StrategyChoice, StrategySettings


def test_shipped_strategy_is_found_by_name_and_given_its_parameters() -> None:
    strategy = build_strategy("ema_cross", {"fast_bars": 5, "slow_bars": 9, "name": "mine"})
    assert isinstance(strategy, EmaCross)
    assert strategy.name == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef broken(:\n", r"fails when it is imported: .*broken_one\.py, line 2: invalid syntax"),
        ("import os\nos.nothing\n", r"fails when it is imported: .*broken_one\.py, line 2: AttributeError"),
        (
            "class Mine:\n    def __init__(self):\n        raise RuntimeError('no file')\n",
            r"cannot be built: .*broken_one\.py, line 3: RuntimeError: no file",
        ),
    ],
)
def test_what_a_users_module_raises_is_named_with_its_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_one.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_one", raising=False)
    with pytest.raises(StrategyError, match=message):
        build_strategy("broken_one:Mine", {})


def test_dotted_path_is_imported() -> None:
    assert build_strategy("services.strategy.core.ema_cross:EmaCross", {}).name == "ema_cross"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("ema_crss", "no strategy 'ema_crss'.*ema_cross, forecast_threshold"),
        ("nowhere.at_all:Mine", "cannot import nowhere.at_all"),
        ("services.strategy.core.ema_cross:Missing", "has no class Missing"),
        ("decimal:Decimal", "lacks name, snapshot"),
    ],
)
def test_strategy_that_cannot_be_loaded_is_refused_by_name(path: str, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        build_strategy(path, {})


@pytest.mark.parametrize("parameters", [{"speed": 3}, {"fast_bars": -1}])
def test_parameters_a_strategy_does_not_take_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(StrategyError, match="strategy ema_cross does not take its parameters"):
        build_strategy("ema_cross", parameters)


def test_settings_from_the_environment_build_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "PERPFLOW_STRATEGY_STRATEGIES", '[{"path": "ema_cross", "parameters": {"notional_usdt": "300"}}]'
    )
    settings = StrategySettings()
    assert settings.strategies == (StrategyChoice(path="ema_cross", parameters={"notional_usdt": "300"}),)
    assert isinstance(build_strategy_core(settings), StrategyCore)


def test_unknown_instrument_in_the_settings_is_refused_by_name() -> None:
    with pytest.raises(StrategyError, match=r"DOGEUSDT\.BINANCE"):
        build_strategy_core(StrategySettings(instruments=("DOGEUSDT.BINANCE",)))
