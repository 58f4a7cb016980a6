"""Plants defects in the gate and in margin and counts how many the tests catch: ``python -m tests.mutation.run``.

Each mutant runs in a forked child that imports the mutated source instead of the file; nothing on disk is touched.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import hypothesis
import numpy as np
import orjson
import pydantic_settings
import pytest
import scipy.stats
import structlog

from tests.mutation.equivalents import find_reason
from tests.mutation.mutants import Mutant, make_mutants

ROOT = Path(__file__).resolve().parents[2]
_CHECKS = ("risk/test_checks_orders", "risk/test_checks_market", "risk/test_checks_exposure")
_GATE = ("risk/test_gate_states", "risk/test_gate_exposure", "risk/test_gate_details")
# Module to the tests that look at it, the likeliest to notice first.
_TESTS: dict[str, tuple[str, ...]] = {
    "libs.margin.brackets": ("margin/test_brackets", "margin/test_account_file", "margin/test_liquidation"),
    "libs.margin.requirements": ("margin/test_liquidation",),
    "libs.margin.liquidation": ("margin/test_liquidation", "margin/test_account_file"),
    "libs.margin.funding": ("margin/test_funding",),
    "libs.margin.account_file": ("margin/test_account_file",),
    "libs.margin.probability": ("margin/test_probability",),
    "libs.margin.student_t": ("margin/test_student_t", "margin/test_probability"),
    "services.risk.core.findings": (*_CHECKS, "risk/test_gate_details"),
    "services.risk.core.checks": (*_CHECKS, "risk/test_gate_details"),
    "services.risk.core.checks_orders": (*_CHECKS, *_GATE),
    "services.risk.core.checks_market": (*_CHECKS, *_GATE),
    "services.risk.core.checks_exposure": (*_CHECKS, *_GATE),
    "services.risk.core.context": (*_CHECKS, *_GATE),
    "services.risk.core.state": (*_GATE, *_CHECKS),
    "services.risk.core.risk_gate": (*_GATE, "risk/test_stops", *_CHECKS),
    "services.risk.core.own_orders": (*_GATE, "risk/test_stops"),
    "services.risk.core.stops": ("risk/test_stops", "risk/test_gate_states"),
    "services.risk.core.limits": ("risk/test_limits_and_settings", "risk/test_gate_details", *_CHECKS),
}
TARGETS: dict[str, tuple[str, ...]] = {
    module: tuple(f"tests/unit/{name}.py" for name in names) for module, names in _TESTS.items()
}
REQUIRED_SHARE = 0.95
TIMEOUT_S = 60
CAUGHT, SURVIVED, TIMED_OUT = 0, 1, 2


class _MutantLoader(importlib.abc.Loader):
    def __init__(self, source: str, path: str) -> None:
        self._source = source
        self._path = path

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._path, "exec"), module.__dict__)


class _MutantFinder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        path = str(path_of(fullname))
        return importlib.util.spec_from_loader(fullname, _MutantLoader(self._mutant.source, path), origin=path)


def path_of(module: str) -> Path:
    """Return the file of a module of this repository."""
    return ROOT / (module.replace(".", "/") + ".py")


@contextmanager
def _silence() -> Iterator[None]:
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        yield


def run_child(mutant: Mutant, tests: Sequence[str]) -> int:
    """Run the tests against the mutant and return the outcome; only ever called in a forked child."""
    hypothesis.settings.register_profile(
        "mutation", max_examples=25, derandomize=True, database=None, deadline=None, phases=[hypothesis.Phase.generate]
    )
    hypothesis.settings.load_profile("mutation")
    sys.meta_path.insert(0, _MutantFinder(mutant))
    options = ("-x", "-q", "--timeout=0", "--tb=no", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    with _silence():
        code = pytest.main([*tests, *options])
    return SURVIVED if code == pytest.ExitCode.OK else CAUGHT


def _start(mutant: Mutant, tests: Sequence[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(TIMEOUT_S)
    os.chdir(ROOT)
    code = CAUGHT  # what raises past pytest is caught too
    try:
        code = run_child(mutant, tests)
    finally:
        os._exit(code)


def _outcome(status: int) -> int:
    if os.WIFSIGNALED(status):
        return TIMED_OUT
    return os.WEXITSTATUS(status)


def run_mutants(mutants: Sequence[Mutant], jobs: int) -> dict[int, int]:
    """Run mutants in `jobs` children at a time; returns index to outcome, with progress on stderr."""
    outcomes: dict[int, int] = {}
    running: dict[int, int] = {}
    waiting = list(range(len(mutants)))
    while waiting or running:
        while waiting and len(running) < jobs:
            index = waiting.pop(0)
            running[_start(mutants[index], TARGETS[mutants[index].module])] = index
        pid, status = os.wait()
        index = running.pop(pid)
        outcomes[index] = _outcome(status)
        if outcomes[index] == SURVIVED:
            print(_describe(mutants[index]), flush=True)
        if sys.stderr.isatty() or len(outcomes) % 50 == 0:
            sys.stderr.write(f"\r{len(outcomes)}/{len(mutants)} planted, {_survivors(outcomes)} survived ")
            sys.stderr.flush()
    sys.stderr.write("\n")
    return outcomes


def _describe(mutant: Mutant) -> str:
    return f"survived  {path_of(mutant.module).relative_to(ROOT)}:{mutant.line}  {mutant.what}"


def _survivors(outcomes: dict[int, int]) -> int:
    return sum(outcome == SURVIVED for outcome in outcomes.values())


def check_baseline(modules: Sequence[str]) -> list[str]:
    """Return the modules whose tests fail without any defect; a report on those would mean nothing."""
    broken = []
    for module in modules:
        untouched = Mutant(module, 0, "nothing", path_of(module).read_text(encoding="utf-8"))
        _, status = os.waitpid(_start(untouched, TARGETS[module]), 0)
        if _outcome(status) != SURVIVED:
            broken.append(module)
    return broken


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, count, report; 0 where enough were caught, 1 where not, 2 for bad usage, 3 where the tests fail anyway."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.run", description=__doc__.splitlines()[0])
    parser.add_argument("--module", action="append", choices=sorted(TARGETS), help="only this module; may be repeated")
    parser.add_argument("--sample", type=int, default=0, help="a seeded sample of this many instead of all")
    parser.add_argument("--again", type=Path, help="only those that survived in this earlier report")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="children at a time")
    parser.add_argument("--json", type=Path, help="write the whole report here")
    chosen = parser.parse_args(arguments)
    modules = [module for module in chosen.module or list(TARGETS) if path_of(module).exists()]
    started = time.monotonic()
    broken = check_baseline(modules)
    if broken:
        sys.stderr.write(f"tests fail without any defect for {', '.join(broken)}; fix them first\n")
        return 3
    mutants = [m for module in modules for m in make_mutants(module, path_of(module).read_text(encoding="utf-8"))]
    equivalents = [m for m in mutants if find_reason(m.module, m.what)]
    mutants = [m for m in mutants if not find_reason(m.module, m.what)]
    if chosen.again is not None:
        before = json.loads(chosen.again.read_text(encoding="utf-8"))["survived"]
        wanted = {(entry["module"], entry["what"]) for entry in before}
        mutants = [m for m in mutants if (m.module, m.what) in wanted]
    if chosen.sample and chosen.sample < len(mutants):
        mutants = random.Random(chosen.seed).sample(mutants, chosen.sample)
    outcomes = run_mutants(mutants, chosen.jobs)
    return _report(mutants, outcomes, equivalents, time.monotonic() - started, chosen.json)


def _report(
    mutants: Sequence[Mutant],
    outcomes: dict[int, int],
    equivalents: Sequence[Mutant],
    elapsed_s: float,
    json_path: Path | None,
) -> int:
    planted = Counter(mutant.module for mutant in mutants)
    missed = [mutants[index] for index, outcome in sorted(outcomes.items()) if outcome == SURVIVED]
    survived = Counter(mutant.module for mutant in missed)
    share = 1.0 - len(missed) / len(mutants) if mutants else 1.0
    for module, count in planted.items():
        print(f"{module:34} {count - survived[module]:5} of {count:5} caught")
    timed_out = sum(outcome == TIMED_OUT for outcome in outcomes.values())
    print(
        f"{len(mutants) - len(missed)} of {len(mutants)} caught ({share:.1%}), {timed_out} of them by time; "
        f"{len(equivalents)} equivalent left out; {elapsed_s:.0f} s"
    )
    if json_path is not None:
        report = {
            "planted": len(mutants),
            "caught": len(mutants) - len(missed),
            "share": share,
            "by_module": {
                module: {"planted": count, "survived": survived[module]} for module, count in planted.items()
            },
            "survived": [{"module": m.module, "line": m.line, "what": m.what} for m in missed],
            "equivalent": [
                {"module": m.module, "what": m.what, "reason": find_reason(m.module, m.what)} for m in equivalents
            ],
        }
        json_path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if share >= REQUIRED_SHARE else 1


# Imported before the first fork, so that children need not.
PRELOADED = (np, orjson, pydantic_settings, scipy.stats, structlog)

if __name__ == "__main__":
    raise SystemExit(main())
