"""Finds its way in SQL text as far as HTTP needs: where an INSERT's data begins and which FORMAT was asked for.

Everything else about a statement is left to the engine's own parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    rb"""
    (?P<space>\s+|--[^\n]*(?:\n|$)|\#[ !][^\n]*(?:\n|$)|/\*.*?\*/)
    |(?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_RESULT_KEYWORDS = frozenset(
    {"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "VALUES", "FROM", "KILL"}
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as sent over HTTP.

    `keyword` is its first word in upper case; `output_format` the FORMAT it names, if it ends in one. An INSERT that
    carries data in a format has `head` (the text before FORMAT), `input_format` and `data`; `without_format` is the
    text without its output FORMAT clause.
    """

    text: bytes
    keyword: str
    output_format: str | None = None
    head: bytes = b""
    input_format: str | None = None
    data: bytes = b""
    without_format: bytes = b""

    @property
    def head_with_format(self) -> bytes:
        """The text of an INSERT without its data."""
        return self.head + f" FORMAT {self.input_format}".encode()

    @property
    def has_result(self) -> bool:
        """Whether the statement answers with rows, be they none."""
        return self.keyword in _RESULT_KEYWORDS

    @property
    def is_select(self) -> bool:
        """Whether the engine can stream the result."""
        return self.keyword in ("SELECT", "WITH", "FROM")


def parse_statement(text: bytes) -> Statement:
    """Split a request's text. Never fails: what makes no sense here goes to the engine, which says so."""
    keyword = next((word.upper() for word, _, _ in _words(text)), "")
    if keyword == "INSERT":
        return _parse_insert(text)
    output_format, start, end = _trailing_format(text)
    return Statement(
        text, keyword, output_format=output_format, without_format=(text[:start] + text[end:]).rstrip(b"; \t\r\n")
    )


def _parse_insert(text: bytes) -> Statement:
    previous_start = -1
    previous = ""
    for word, start, end in _words(text):
        upper = word.upper()
        if upper == "VALUES" and previous != "FORMAT":
            return Statement(text, "INSERT", head=text[:start].rstrip(), input_format="Values", data=text[end:])
        if previous == "FORMAT":
            return Statement(
                text, "INSERT", head=text[:previous_start].rstrip(), input_format=word, data=_data_behind(text, end)
            )
        if upper == "INFILE":
            break
        previous, previous_start = upper, start
    return Statement(text, "INSERT")


def _data_behind(text: bytes, position: int) -> bytes:
    """Return what follows FORMAT name: blanks and one line end belong to the statement, all else is data."""
    while text[position : position + 1] in (b" ", b"\t", b"\f", b"\r"):
        position += 1
    if text[position : position + 1] == b"\n":
        position += 1
    return text[position:]


def _trailing_format(text: bytes) -> tuple[str | None, int, int]:
    """Return the FORMAT at the end and where its clause lies; an empty place at the end where there is none."""
    found: tuple[str | None, int, int] = (None, len(text), len(text))
    previous, previous_start = "", 0
    for word, start, end in _words(text):
        if previous == "FORMAT":
            rest = text[end:].lstrip()
            if not rest.strip(b";\n\t \r") or rest[:8].upper() == b"SETTINGS" or rest[:2] in (b"--", b"/*"):
                found = (word, previous_start, end)
        previous, previous_start = word.upper(), start
    return found


def _words(text: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (word, start, end) of bare words outside brackets; a word in brackets counts only when all text is so."""
    depth = 0
    is_first = True
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "other":
            character = token.group()
            depth += (character in b"([{") - (character in b")]}")
        elif token.lastgroup == "word" and (depth == 0 or is_first):
            is_first = False
            yield token.group().decode(), token.start(), token.end()
        elif token.lastgroup == "quoted" and depth == 0:
            yield "", token.start(), token.end()
