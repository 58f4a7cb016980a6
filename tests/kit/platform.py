"""Runs `perpflow up` as a person would, and kills its services as a person hopes nobody does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.clock import Deadline

ROOT = Path(__file__).resolve().parent.parent.parent
SHARED = Path(os.environ.get("PERPFLOW_SHARED", ROOT.parent / "shared"))


# Wants the other side at every bar: each order adds risk, unless risk lets only the closing half of it through.
STRATEGY = """
from decimal import Decimal


class Flipper:
    name = "flipper"

    def __init__(self):
        self._side = 1

    def on_bar(self, bar, view):
        from services.strategy import TargetPosition

        if bar.timeframe != "1m" or bar.is_history:
            return []
        self._side = -self._side
        return [TargetPosition(bar.instrument, Decimal(400) * self._side, "every bar")]

    def on_forecast(self, forecast, view):
        return []

    def on_account(self, account, view):
        return []

    def snapshot(self):
        return {"side": self._side}

    def restore(self, state):
        self._side = state["side"]
"""


@dataclass(frozen=True)
class SessionOutcome:
    """How a run ended."""

    exit_code: int
    summary: dict[str, Any]
    stderr: str


class Platform:
    """`perpflow` in a folder of its own."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")},
            "PERPFLOW_VAR": str(folder / "var"),
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
            **environment,
        }

    def call(self, *arguments: str, timeout_s: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "services.console", *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def up(self, *arguments: str, timeout_s: float = 600, kill: Sequence[str] = ()) -> SessionOutcome:
        """Run a session to its end; meanwhile kill -9 each service of `kill`, one after the other."""
        summary = self.folder / f"summary-{time.monotonic_ns()}.json"
        process = subprocess.Popen(
            [sys.executable, "-m", "services.console", "up", "--summary", str(summary), "--port", "0", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        killer = threading.Thread(target=self._kill_each, args=(process, kill))
        killer.start()
        try:
            _, stderr = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=60)
            raise AssertionError(f"not done within {timeout_s:g} s:\n{stderr[-3000:]}") from None
        finally:
            killer.join()
        facts = json.loads(summary.read_text()) if summary.exists() else {}
        return SessionOutcome(process.returncode, facts, stderr)

    def status(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the processes of the latest session by name, empty before there is one."""
        for path in sorted((self.folder / "var" / "sessions").glob("*/run/supervisor.json"), key=os.path.getmtime)[-1:]:
            try:
                services: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text())["services"]
            except (json.JSONDecodeError, FileNotFoundError):
                return {}
            return services
        return {}

    def _kill_each(self, process: subprocess.Popen[str], names: Sequence[str]) -> None:
        pause = threading.Event()
        for name in names:
            for _ in Deadline(90.0).attempts(0.05):
                states = self.status()
                are_up = states and all(entry["state"] in ("running", "finished") for entry in states.values())
                if are_up or process.poll() is not None:
                    break
            pid = self.status().get(name, {}).get("pid")
            if pid is not None and process.poll() is None:
                pause.wait(0.3)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                pause.wait(0.3)


@contextmanager
def a_platform(folder: Path, **environment: str) -> Iterator[Platform]:
    """Yield a platform in an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    yield Platform(folder, **environment)


def trading_platform(folder: Path, **environment: str) -> Platform:
    """Return a platform that trades at every bar, whatever its forecasts and losses."""
    (folder / "flipping.py").write_text(STRATEGY)
    return Platform(
        folder,
        PYTHONPATH=f"{ROOT}{os.pathsep}{folder}",
        PERPFLOW_STRATEGY_STRATEGIES='[{"path": "flipping:Flipper"}]',
        # A market at many times real speed ages by minutes while processes are restarted on two busy cores.
        PERPFLOW_RISK_MAX_MARKET_DATA_AGE_MS="3600000",
        PERPFLOW_RISK_MAX_INTENT_AGE_MS="3600000",
        PERPFLOW_RISK_MAX_CONSECUTIVE_LOSSES="1000000",
        PERPFLOW_RISK_MAX_VOLATILITY_RATIO="1000",
        PERPFLOW_RISK_MAX_SLIPPAGE_BPS="1000",
        **environment,
    )
