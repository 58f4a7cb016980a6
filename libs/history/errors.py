"""What is wrong with files of history."""

from __future__ import annotations


class HistoryError(Exception):
    """A file or a question is wrong; the text names it and the fix."""
