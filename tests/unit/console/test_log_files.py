"""Logs are bounded in size and age."""

from __future__ import annotations

import os
from pathlib import Path

from services.console.log_files import LogFile, LogLimits


def test_a_full_log_is_rotated_and_only_so_many_full_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "bars.log"
    with LogFile(path, LogLimits(max_bytes=100, files=3)) as log:
        for number in range(200):
            log.write(b"line %04d\n" % number)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bars.log", *(f"bars.log.{n}" for n in (1, 2, 3))]
    kept = b"".join((tmp_path / name).read_bytes() for name in ("bars.log.3", "bars.log.2", "bars.log.1", "bars.log"))
    assert all(each.stat().st_size <= 100 for each in tmp_path.iterdir())
    assert kept == b"".join(b"line %04d\n" % number for number in range(200 - len(kept) // 10, 200))


def test_a_log_that_is_opened_again_goes_on_and_counts_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "bars.log"
    for number in range(4):
        with LogFile(path, LogLimits(max_bytes=20)) as log:
            log.write(b"line %04d\n" % number)
    assert path.read_bytes() == b"line 0002\nline 0003\n"
    assert (tmp_path / "bars.log.1").read_bytes() == b"line 0000\nline 0001\n"


def test_rotated_logs_past_their_age_or_number_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    for name in ("bars.log.1", "bars.log.2", "bars.log.9", "bars.log.txt", "risk.log.1"):
        (tmp_path / name).write_text("old")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / "bars.log.1")
    os.utime(tmp_path / "bars.log.9")
    with LogFile(tmp_path / "bars.log", LogLimits(files=5, max_age_s=3600)) as log:
        log.write(b"new\n")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bars.log", "bars.log.1", "bars.log.txt", "risk.log.1"]


def test_a_line_longer_than_the_limit_is_written_whole(tmp_path: Path) -> None:
    with LogFile(tmp_path / "bars.log", LogLimits(max_bytes=10, files=1)) as log:
        log.write(b"x" * 50 + b"\n")
        log.write(b"y\n")
    assert (tmp_path / "bars.log").read_bytes() == b"y\n"
    assert (tmp_path / "bars.log.1").read_bytes() == b"x" * 50 + b"\n"
