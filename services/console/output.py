"""What commands print for programs to read."""

from __future__ import annotations

import sys


def print_json(value: object) -> None:
    """Write a value (dataclasses too) as indented JSON on stdout."""
    # Imported here, so that a command without --json does not pay for it.
    import orjson

    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())
