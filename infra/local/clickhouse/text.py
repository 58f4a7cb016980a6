"""Writes values and names into SQL text."""

from __future__ import annotations


def quote(value: str) -> str:
    """Write a string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """Write an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
