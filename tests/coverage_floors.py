"""Compares what `make coverage` found run in each room with the room's floor in pyproject.toml; says what to do.

Run as `python -m tests.coverage_floors REPORT.json`; exit code 1 where a room is below its floor or has none.
"""

from __future__ import annotations

import sys
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent


def read_shares(report: bytes) -> dict[str, float]:
    """Return the per cent of lines run by room, `libs/domain` for one, from coverage's JSON report."""
    run: defaultdict[str, int] = defaultdict(int)
    lines: defaultdict[str, int] = defaultdict(int)
    for path, facts in orjson.loads(report)["files"].items():
        room = "/".join(Path(path).parts[:2])
        run[room] += facts["summary"]["covered_lines"]
        lines[room] += facts["summary"]["num_statements"]
    return {room: 100 * run[room] / lines[room] for room in sorted(lines) if lines[room]}


def find_problems(shares: Mapping[str, float], floors: Mapping[str, float]) -> list[str]:
    """Return a line for each room below its floor, without one, or gone."""
    problems = []
    for room in sorted({*shares, *floors}):
        if room not in floors:
            problems.append(f"{room} has no floor: add it to [tool.perpflow.coverage] in pyproject.toml")
        elif room not in shares:
            problems.append(f"{room} has a floor and no code: take it out of [tool.perpflow.coverage]")
        elif shares[room] < floors[room]:
            problems.append(
                f"{room}: {shares[room]:.1f} % of its lines are run, its floor is {floors[room]:g} %: add tests"
            )
    return problems


def main() -> int:
    """Print each room's share and what is wrong."""
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["perpflow"]["coverage"]
    shares = read_shares(Path(sys.argv[1]).read_bytes())
    for room, share in shares.items():
        print(f"{room:<24} {share:5.1f} %   floor {floors.get(room, 0):g} %")
    problems = find_problems(shares, floors)
    print("\n".join(problems) or "every room is at its floor or above")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
