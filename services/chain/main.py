"""Runs bars, features, inference, strategy, risk and execution's core in one process, with one transaction for all."""

from __future__ import annotations

import sys

from libs.runtime.errors import EXIT_BAD_INPUT
from libs.runtime.service import run_process
from libs.runtime.settings import CHAIN
from services.chain.running import check, run


def main() -> int:
    """Run or check, by the process's arguments; return the exit code. A replay asks the services themselves."""
    words = sys.argv[1:] or ["run"]
    body = {"run": run, "check": check}.get(words[0])
    if body is None or len(words) > 1:
        sys.stderr.write(f"{CHAIN}: {' '.join(words)!r} is not known; say run or check\n")
        return EXIT_BAD_INPUT
    return run_process(CHAIN, body)


if __name__ == "__main__":
    raise SystemExit(main())
