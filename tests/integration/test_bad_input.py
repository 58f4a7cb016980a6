"""Bad input to the whole platform: a clear error that names the error and the fix, the exit code of the design, and
nothing lost."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from libs.bus.open import open_bus
from libs.runtime.records import read_topic
from libs.wire.records import decode_dead_letter
from libs.wire.topics import MARKET_EVENTS, dead_topic
from tests.kit.captures import simulated_capture
from tests.kit.platform import Platform

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


def test_a_corrupt_line_is_named_and_everything_else_is_handled(platform: Platform) -> None:
    lines = simulated_capture(seed=3, minutes=1)
    lines[500] = lines[500][:40]
    capture = platform.folder / "corrupt.ns-jsonl.gz"
    capture.write_bytes(gzip.compress("\n".join(lines).encode()))
    outcome = platform.up("--market", f"recorded:{capture}", "--speed", "0")
    assert outcome.exit_code == 2
    assert "1 lines of the recording could not be read" in outcome.stderr
    assert "line=501" in outcome.stderr
    assert outcome.summary["dead_letters"] == 1
    assert outcome.summary["topics"] == outcome.summary["tables"]
    session = json.loads(next((platform.folder / "var" / "sessions").glob("*/session.json")).read_text())
    with open_bus(session["bus"]) as bus:
        (dead,) = [decode_dead_letter(record.value) for record in read_topic(bus, dead_topic(MARKET_EVENTS))]
    assert dead.source_offset == 501
    assert dead.payload.decode() == lines[500]
    # All other lines became events; the market's clock adds ticks of its own.
    assert outcome.summary["market_events"] >= len(lines) - 1
    done = platform.call("replay", "--verify")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_symbol_names_those_in_the_recording(platform: Platform) -> None:
    capture = platform.folder / "other.ns-jsonl"
    capture.write_text(
        "\n".join(
            line.replace("BTCUSDT", "DOGEUSDT").replace("btcusdt", "dogeusdt") for line in simulated_capture(3, 1)
        )
    )
    outcome = platform.up("--market", f"recorded:{capture}", "--speed", "0")
    assert outcome.exit_code == 2
    assert "unknown symbol BTCUSDT" in outcome.stderr
    assert "DOGEUSDT" in outcome.stderr


def test_a_bad_setting_is_named_with_its_value(tmp_path: Path) -> None:
    outcome = Platform(tmp_path, PERPFLOW_RISK_MAX_LEVERAGE="lots").up("--market", "simulated", "--for", "60s")
    assert outcome.exit_code == 2
    assert "PERPFLOW_RISK_MAX_LEVERAGE='lots'" in outcome.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_stops_everything_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        platform = Platform(tmp_path, PERPFLOW_BUS=f"sqlite:{disk / 'bus.db'}")
        outcome = platform.up("--market", "simulated", "--seed", "3", "--speed", "0", "--span", "30m")
        assert outcome.exit_code == 3
        assert f"the bus at {disk / 'bus.db'} has no room left" in outcome.stderr
        assert "free space on that device" in outcome.stderr
        with open_bus(f"sqlite:{disk / 'bus.db'}") as bus:
            offsets = [record.offset for record in read_topic(bus, MARKET_EVENTS)]
        assert offsets == list(range(len(offsets)))
        assert offsets
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
