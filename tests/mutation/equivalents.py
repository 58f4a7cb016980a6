"""Mutants that change nothing anyone can see, with the reason; they do not count for or against the tests."""

from __future__ import annotations

# (module, part of what the mutant changes) -> why no test can tell it from the original.
EQUIVALENTS: dict[tuple[str, str], str] = {}


def find_reason(module: str, what: str) -> str:
    """Return why a mutant is equivalent, "" where it is not known to be."""
    for (known_module, part), reason in EQUIVALENTS.items():
        if known_module == module and part in what:
            return reason
    return ""
