"""Coverage by room: shares are summed over a room's files, and each kind of problem is named with its fix."""

from __future__ import annotations

import orjson

from tests.coverage_floors import find_problems, read_shares


def test_shares_are_summed_by_room() -> None:
    files = {
        "libs/bus/api.py": {"summary": {"covered_lines": 30, "num_statements": 40}},
        "libs/bus/kafka.py": {"summary": {"covered_lines": 0, "num_statements": 20}},
        "services/risk/core/checks.py": {"summary": {"covered_lines": 9, "num_statements": 10}},
        "libs/bus/__init__.py": {"summary": {"covered_lines": 0, "num_statements": 0}},
    }
    assert read_shares(orjson.dumps({"files": files})) == {"libs/bus": 50.0, "services/risk": 90.0}


def test_a_room_below_its_floor_without_one_or_gone_is_named() -> None:
    problems = find_problems(
        {"libs/bus": 49.9, "libs/new": 80.0, "libs/wire": 95.0}, {"libs/bus": 50, "libs/old": 1, "libs/wire": 95}
    )
    assert [problem.split()[0].rstrip(":") for problem in problems] == ["libs/bus", "libs/new", "libs/old"]
    assert "49.9 %" in problems[0] and "floor is 50 %" in problems[0]
    assert find_problems({"libs/wire": 95.0}, {"libs/wire": 95}) == []
