"""A backtest whose model is trained again as it goes: with what had happened by then, and nothing that came later."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("skl2onnx", reason="skl2onnx is not installed; pip install -e '.[training]'")

from libs.domain.control import ControlCommand
from libs.domain.events import DeadInput, Event
from libs.domain.forecasts import Forecast, ModelRole
from libs.runtime.errors import BadInput
from services.backtest.inputs import merge_commands, open_recording
from services.backtest.options import BacktestOptions
from services.console.models_registry import find_entry
from services.training.core.retraining import RetrainRule
from services.training.market_data import TrainingBars, read_bars, simulate_bars
from services.training.retraining import cut_bars, run_retrained
from services.training.training import TrainingOptions
from tests.kit.builders import BTC, START, a_control, a_mark

HOUR_NS = 3_600 * 10**9
OPTIONS = TrainingOptions("walk", 1, family="logistic", feature_set="seven_v1", folds=1, compares=False)


def be_quiet(_what: str, _done: int, _total: int, _loss: float) -> None:
    return None


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = simulate_bars(5, 1).table
    path = tmp_path_factory.mktemp("bars") / "bars.parquet"
    columns = {name: getattr(table, name) for name in ("open", "high", "low", "close", "volume")}
    times = pa.array(table.open_times, type=pa.timestamp("ns", tz="UTC"))
    pq.write_table(pa.table({"open_time": times, **columns}), path)
    return path


@pytest.fixture(scope="module")
def bars(recorded: Path) -> TrainingBars:
    return read_bars(recorded)


def test_bars_are_cut_where_they_had_closed(bars: TrainingBars) -> None:
    at = int(bars.table.open_times[100])
    cut = cut_bars(bars, at)
    assert (len(cut.table), cut.description["bars"]) == (100, 100)
    assert len(cut_bars(bars, at - 1).table) == 99


def test_a_command_comes_before_the_first_event_that_is_later() -> None:
    commands = [a_control(number=number, event_time=START + number * 10) for number in (1, 2)]
    events = [a_mark(event_time=START + time) for time in (0, 10, 11, 12)]
    broken = DeadInput("torn", "a", 1, b"")
    merged = list(merge_commands([*events[:2], broken, *events[2:]], commands))
    assert merged == [*events[:2], broken, commands[0], *events[2:]]


@pytest.mark.slow
def test_each_vector_is_scored_by_the_model_trained_last_before_it(
    recorded: Path, bars: TrainingBars, tmp_path: Path
) -> None:
    start = int(bars.table.open_times[0]) + 12 * HOUR_NS
    seen: list[Event] = []
    run = run_retrained(
        open_recording(recorded, instrument=BTC, history=None, history_bars=0),
        bars,
        BacktestOptions(BTC, trade_from=start, until=start + 10 * HOUR_NS),
        OPTIONS,
        RetrainRule(every_ns=5 * HOUR_NS),
        tmp_path,
        be_quiet,
        seen.append,
    )
    assert [time for time, _ in run.models] == [start, start + 5 * HOUR_NS]
    for time, reference in run.models:
        entry = find_entry(tmp_path, reference)
        assert entry.manifest["training"]["last_open_time"] == time - 60 * 10**9
    assert sum(isinstance(event, ControlCommand) for event in seen) == 1
    champions = [event for event in seen if isinstance(event, Forecast) and event.role is ModelRole.CHAMPION]
    assert len(champions) == len({forecast.vector_id for forecast in champions}) > 1_000
    (_, first), (second_time, second) = run.models
    by_model = {name: [one for one in champions if f"walk/{one.model_version}" == name] for name in (first, second)}
    assert len(by_model[first]) + len(by_model[second]) == len(champions)
    assert max(one.event_time for one in by_model[first]) == second_time
    assert len(by_model[second]) == 299
    assert [result.dead for result in run.results.values()] == [[]]


def test_the_first_model_needs_bars_before_the_run(recorded: Path, bars: TrainingBars, tmp_path: Path) -> None:
    market = open_recording(recorded, instrument=BTC, history=None, history_bars=0)
    options = BacktestOptions(BTC, trade_from=int(bars.table.open_times[0]))
    with pytest.raises(BadInput, match="give a --from within the input"):
        run_retrained(market, bars, options, OPTIONS, RetrainRule(HOUR_NS), tmp_path, be_quiet)
