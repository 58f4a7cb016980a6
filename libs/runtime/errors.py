"""How a process ends: the exit codes of every perpflow command, and the two errors that carry one.

::

    0  success
    1  a check failed, or an unexpected error
    2  bad usage, configuration or input      BadInput
    3  a dependency is unavailable            DependencyUnavailable (and libs.bus.api.BusUnavailable)
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_CHECK_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_UNAVAILABLE = 3


class BadInput(Exception):
    """A setting, an argument or a file is wrong; the text names the error and the fix."""


class DependencyUnavailable(Exception):
    """Something that this process needs does not answer; the text names it and the fix."""
