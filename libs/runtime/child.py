"""Runs a module as a process that its supervisor owns: ``python -m libs.runtime.child MODULE [ARGUMENT ...]``.

Before anything slow is imported it has the kernel kill this process when the supervisor dies, and Python leave a trace
of every thread when it crashes. Refuses to run where the supervisor is gone already.
"""

from __future__ import annotations

import faulthandler
import os
import runpy
import sys

from libs.runtime.stop import die_with_supervisor


def child_command(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module this way."""
    return (sys.executable, "-m", "libs.runtime.child", module, *arguments)


def main() -> None:
    """Become the module."""
    die_with_supervisor(os.environ)
    faulthandler.enable()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
