"""Looks for what makes a strategy unfit to trade: look-ahead, forgotten state, a hidden clock or chance, file access.

The strategy runs once over a market through the whole pipeline, and what its host handled and asked is kept. Then fresh
strategies are given the same again: under another wall clock and other chance, and restored from a snapshot at several
places. Every difference is a finding. While they run, opening a file or a socket is one too: the future of a recording
lies in a file. A scan of the source names calls that cannot be repeated, and those that read files: what a module read
when it was imported, and what compiled code reads, is not seen while they run.
"""

from __future__ import annotations

import ast
import inspect
import random
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from libs.domain.bars import Bar
from libs.domain.events import Core, DeadInput, Event, Unhandleable
from libs.runtime.errors import BadInput
from services.backtest.building import build_stages
from services.backtest.inputs import MarketInput
from services.backtest.options import BacktestOptions
from services.backtest.pipeline import Pipeline, Stage
from services.strategy.core import StrategyCore
from services.strategy.loading import build_strategy, find_strategy

LOOK_AHEAD, FORGOTTEN_STATE, HIDDEN_CLOCK, OUTSIDE_ACCESS = (
    "look-ahead",
    "forgotten state",
    "hidden clock or chance",
    "outside access",
)
_CUTS = 8
_SHIFT_S = 37 * 86_400.0
_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
_UNREPEATABLE = {"time", "random", "secrets", "uuid", "socket", "urllib", "requests", "httpx", "os", "subprocess"}
_NOW = {"now", "utcnow", "today"}
_READING = {
    *("open", "read_bytes", "read_text", "urlopen", "loadtxt", "genfromtxt", "fromfile", "memmap"),
    *(
        f"{way}_{kind}"
        for way in ("read", "scan")
        for kind in ("parquet", "csv", "table", "feather", "ipc", "json", "pickle")
    ),
}
_OPENING = ("open", "socket.connect", "subprocess.Popen")


@dataclass(frozen=True, slots=True)
class StrategyFinding:
    """Something that makes a strategy unfit: what kind, and where it showed."""

    kind: str
    detail: str


@dataclass(slots=True)
class _Handled:
    event: Event
    answers: tuple[Event, ...]


class _Listening:
    """Stands for the strategy's core in the pipeline and keeps what it handled and answered."""

    def __init__(self, core: StrategyCore) -> None:
        self._core = core
        self.handled: list[_Handled] = []

    def handle(self, event: Event) -> Sequence[Event]:
        answers = tuple(self._core.handle(event))
        self.handled.append(_Handled(event, answers))
        return answers

    def snapshot(self) -> bytes:
        return self._core.snapshot()

    def restore(self, state: bytes) -> None:
        self._core.restore(state)


def check_strategy(market: MarketInput, options: BacktestOptions) -> list[StrategyFinding]:
    """Check the strategies of the options over a market; no finding means that nothing was found. Raises `BadInput`."""
    findings = _scan_sources(options)
    accessed: list[str] = []
    with _watch_access(accessed):
        with _controlled(0.0, 1):
            handled = _run_once(market, options)
        if not any(isinstance(one.event, Bar) for one in handled):
            raise BadInput("the market closed no bar; give a longer one")
        findings += _compare_again(options, market, handled)
        findings += _compare_under_another_clock(options, market, handled)
        findings += _compare_with_the_future_changed(options, market, handled)
        findings += _compare_restored(options, market, handled)
    findings += [StrategyFinding(OUTSIDE_ACCESS, what) for what in dict.fromkeys(accessed)]
    return list(dict.fromkeys(findings))


def _build(options: BacktestOptions, market: MarketInput) -> tuple[tuple[Stage, ...], StrategyCore]:
    built = build_stages(options, market.timeframe or "1m")
    return built.stages, built.accounts[0].strategy


def _run_once(market: MarketInput, options: BacktestOptions) -> list[_Handled]:
    stages, core = _build(options, market)
    listening = _Listening(core)
    instead: Core = listening
    heard_by = [replace(stage, core=instead) if stage.name == "strategy" else stage for stage in stages]
    pipeline = Pipeline(heard_by, lambda _: None, trade_from=options.trade_from)
    for event in market.events:
        if isinstance(event, DeadInput):
            continue
        if options.until is not None and event.event_time >= options.until:
            break
        pipeline.feed(event)
    return listening.handled


def _answers(core: StrategyCore, event: Event) -> tuple[Event, ...]:
    try:
        return tuple(core.handle(event))
    except Unhandleable:
        return ()


def _first_difference(core: StrategyCore, handled: Sequence[_Handled]) -> str:
    """Return where a core answers differently than was handled; empty where it does not."""
    for one in handled:
        answers = _answers(core, one.event)
        if answers != one.answers:
            return (
                f"at {one.event.event_id}: {_describe(one.answers)} at first, {_describe(answers)} over the same events"
            )
    return ""


def _describe(answers: Sequence[Event]) -> str:
    if not answers:
        return "nothing"
    return ", ".join(f"{getattr(one, 'side', '')!s} {getattr(one, 'quantity', '')}" for one in answers)


def _compare_again(options: BacktestOptions, market: MarketInput, handled: list[_Handled]) -> Iterator[StrategyFinding]:
    core = _build(options, market)[1]
    with _controlled(0.0, 1):
        found = _first_difference(core, handled)
    if found:
        # What one strategy remembers outside itself, the next one knows beforehand.
        yield StrategyFinding(LOOK_AHEAD, f"a second run knew of the first: {found}")


def _compare_under_another_clock(
    options: BacktestOptions, market: MarketInput, handled: list[_Handled]
) -> Iterator[StrategyFinding]:
    core = _build(options, market)[1]
    with _controlled(_SHIFT_S, 2):
        found = _first_difference(core, handled)
    if found:
        yield StrategyFinding(HIDDEN_CLOCK, found)


def _compare_with_the_future_changed(
    options: BacktestOptions, market: MarketInput, handled: list[_Handled]
) -> Iterator[StrategyFinding]:
    """Give a first strategy a changed future; a second one must answer the past as before."""
    half = len(handled) // 2
    first = _build(options, market)[1]
    with _controlled(0.0, 1):
        for place, one in enumerate(handled):
            event = one.event
            if place >= half and isinstance(event, Bar):
                high = 2 * event.high_e8
                event = replace(event, close_e8=high, high_e8=high)
            _answers(first, event)
    second = _build(options, market)[1]
    with _controlled(0.0, 1):
        found = _first_difference(second, handled[:half])
    if found:
        yield StrategyFinding(LOOK_AHEAD, f"with another future: {found}")


def _compare_restored(
    options: BacktestOptions, market: MarketInput, handled: list[_Handled]
) -> Iterator[StrategyFinding]:
    whole = _build(options, market)[1]
    cuts = {len(handled) * number // (_CUTS + 1) for number in range(1, _CUTS + 1)}
    states: dict[int, bytes] = {}
    for place, one in enumerate(handled):
        if place in cuts:
            states[place] = whole.snapshot()
        _answers(whole, one.event)
    for place, state in states.items():
        core = _build(options, market)[1]
        core.restore(state)
        found = _first_difference(core, handled[place:])
        if found:
            yield StrategyFinding(FORGOTTEN_STATE, f"restored before {handled[place].event.event_id}, {found}")
            return


@contextmanager
def _controlled(shift_s: float, seed: int) -> Iterator[None]:
    """Let the clocks of `time` stand still at a start that is shifted, and chance begin from a seed."""
    kept = {name: getattr(time, name) for name in _CLOCKS}
    chance = random.getstate()
    random.seed(seed)
    try:
        for name in _CLOCKS:
            at = _STARTED_S + shift_s
            setattr(time, name, _stand_still(int(at * 1e9) if name.endswith("_ns") else at))
        yield
    finally:
        random.setstate(chance)
        for name, read in kept.items():
            setattr(time, name, read)


def _stand_still(at: float) -> Callable[[], float]:
    return lambda: at


_STARTED_S = 1_700_000_000.0
_WATCHED: list[list[str]] = []


def _hear_audit(name: str, arguments: tuple[Any, ...]) -> None:
    if not _WATCHED or name not in _OPENING:
        return
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            # The files of a module that is imported late are code, not data.
            return
        owner = frame.f_locals.get("self")
        if owner is not None and frame.f_globals.get("__name__") in _STRATEGY_MODULES:
            _WATCHED[-1].append(f"{name} {arguments[0]!s:.120}, in {frame.f_code.co_qualname}")
            return
        frame = frame.f_back


_STRATEGY_MODULES: set[str] = set()
_IS_HOOKED: list[bool] = []


@contextmanager
def _watch_access(accessed: list[str]) -> Iterator[None]:
    if not _IS_HOOKED:
        # An audit hook stays for the life of the process; it does nothing while nothing is watched.
        sys.addaudithook(_hear_audit)
        _IS_HOOKED.append(True)
    _WATCHED.append(accessed)
    try:
        yield
    finally:
        _WATCHED.pop()


def _scan_sources(options: BacktestOptions) -> list[StrategyFinding]:
    findings: list[StrategyFinding] = []
    for choice in options.strategies:
        build_strategy(choice.path, choice.parameters)
        kind = find_strategy(choice.path)
        _STRATEGY_MODULES.add(kind.__module__)
        try:
            source = textwrap.dedent(inspect.getsource(kind))
            _, first_line = inspect.getsourcelines(kind)
        except (OSError, TypeError):
            continue
        module = sys.modules[kind.__module__]
        for node in ast.walk(ast.parse(source)):
            place = f"{kind.__module__}:{first_line + getattr(node, 'lineno', 1) - 1}"
            name = _unrepeatable_call(node, module)
            if name:
                findings.append(StrategyFinding(HIDDEN_CLOCK, f"{place} calls {name}; time is that of the events"))
            else:
                findings += _find_reading(node, place)
        for node in _outside_classes(module):
            findings += _find_reading(node, f"{kind.__module__}:{getattr(node, 'lineno', 1)}")
    # Strategies of one module have what is outside of its classes in common.
    return list(dict.fromkeys(findings))


def _outside_classes(module: ModuleType) -> Iterator[ast.AST]:
    """Yield what a module has beside its classes, which other strategies may be."""
    for statement in ast.parse(inspect.getsource(module)).body:
        if not isinstance(statement, ast.ClassDef):
            yield from ast.walk(statement)


def _find_reading(node: ast.AST, place: str) -> list[StrategyFinding]:
    if not isinstance(node, ast.Call):
        return []
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called not in _READING:
        return []
    what = f"{place} calls {ast.unparse(node.func)}; what is read there may hold the future"
    return [StrategyFinding(OUTSIDE_ACCESS, what)]


def _unrepeatable_call(node: ast.AST, module: object) -> str:
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Name):
        origin = getattr(getattr(module, node.func.id, None), "__module__", "")
        return node.func.id if origin in _UNREPEATABLE else ""
    if not isinstance(node.func, ast.Attribute):
        return ""
    owner: ast.expr = node.func.value
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    if not isinstance(owner, ast.Name):
        return ""
    is_now = node.func.attr in _NOW and owner.id in ("datetime", "date", "dt")
    return ast.unparse(node.func) if is_now or owner.id in _UNREPEATABLE else ""
