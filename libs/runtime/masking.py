"""Keeps secrets out of whatever a process writes: by their value where it is known, by their name everywhere else."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Mapping
from typing import TextIO
from urllib.parse import quote, quote_plus

MASK = "***"
# A shorter value stands in ordinary text by chance, so that masking it would hide what is no secret.
MIN_SECRET_LENGTH = 4

_NAME = (
    r"(?:[\w.-]*(?:secret|token|passw(?:or)?d|passphrase|api[_-]?key|signature|listen[_-]?key|authorization|cookie|"
    r"credentials?|private[_-]?key|webhook(?:[_-]?url)?|mbx-apikey|clickhouse-key|glassnode[_-]?key))"
)
_SECRET_NAME = re.compile(rf"{_NAME}\Z|{_NAME}(?=[._-]\w+\Z)", re.IGNORECASE)
_QUOTED = r"\\*[\"']"
_RULES = (
    # Whole blocks, then addresses, then name and value in whatever notation.
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"(://[^/\s:@\"']*:)[^\s\"']*(@)"), rf"\1{MASK}\2"),
    (re.compile(r"(https://hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/)[^\s\"'<>\\]+"), rf"\1{MASK}"),
    (re.compile(r"(https://(?:\w+\.)?discord(?:app)?\.com/api/(?:v\d+/)?webhooks/)[^\s\"'<>\\]+"), rf"\1{MASK}"),
    (re.compile(r"(https://api\.telegram\.org/bot)[^/\s\"'<>\\]+"), rf"\1{MASK}"),
    (re.compile(r"(https://[\w.-]+\.webhook\.office\.com/)[^\s\"'<>\\]+"), rf"\1{MASK}"),
    (re.compile(r"\b(Bearer\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1{MASK}"),
    (
        re.compile(rf"({_NAME}{_QUOTED}?\s*[:=,]\s*b?)({_QUOTED})(?:(?!\2).)*(\2)", re.IGNORECASE | re.DOTALL),
        rf"\1\2{MASK}\3",
    ),
    (
        re.compile(
            rf"({_NAME}{_QUOTED}?\s*[:=]\s*)(?!{_QUOTED})(?:(?:Bearer|Basic|Digest|Token)\s+)?[^\s&,;\"'{{}}\[\]()<>]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
)


class SecretValues:
    """The secrets that this process was given. Safe to use from many threads."""

    def __init__(self) -> None:
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._lock = threading.Lock()

    def add(self, value: str) -> None:
        """Mask a value from now on, in each form that it takes on its way: quoted, escaped, encoded."""
        if len(value) < MIN_SECRET_LENGTH:
            return
        with self._lock:
            self._forms = self._forms | _forms_of(value)
            longest_first = sorted(self._forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def mask(self, text: str) -> str:
        """Replace every secret in a text."""
        pattern = self._pattern
        return text if pattern is None else pattern.sub(MASK, text)


SECRETS = SecretValues()


def mask_text(text: str) -> str:
    """Mask known secrets, and what a name, a header or an address marks as one."""
    text = SECRETS.mask(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def mask_value(value: object, name: str = "") -> object:
    """Mask inside a value of any shape; all of it where its name says that it is secret."""
    if name and _SECRET_NAME.search(name):
        return MASK if value not in (None, "", False) else value
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {
            mask_text(key) if isinstance(key, str) else key: mask_value(item, str(key)) for key, item in value.items()
        }
    if isinstance(value, tuple | list | set | frozenset):
        items = list(value)
        if len(items) == 2 and isinstance(items[0], str | bytes) and _SECRET_NAME.search(_as_text(items[0])):
            return [items[0], MASK]
        return [mask_value(item) for item in items]
    if value is None or isinstance(value, bool | int | float):
        return value
    # Bytes, exceptions, dataclasses: what is written of them is their text.
    masked = mask_text(text := _as_text(value))
    return value if masked == text and not isinstance(value, bytes) else masked


class MaskingStream(io.TextIOBase):
    """A text stream that masks known secrets in whole lines, whatever writes them; what is unfinished waits."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pending = ""
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Pass on the lines that are complete."""
        with self._lock:
            lines, newline, self._pending = (self._pending + text).rpartition("\n")
            if newline:
                self._stream.write(SECRETS.mask(lines + newline))
        return len(text)

    def flush(self) -> None:
        """Pass on everything."""
        with self._lock:
            if self._pending:
                self._stream.write(SECRETS.mask(self._pending))
                self._pending = ""
            self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor of the stream underneath, which faulthandler writes frames to."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """It is for writing."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream underneath."""
        return self._stream.encoding


def _forms_of(value: str) -> frozenset[str]:
    raw = value.encode()
    forms = {
        value,
        quote(value, safe=""),
        quote(value),
        quote_plus(value),
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        raw.hex(),
    }
    return frozenset(form for form in forms if len(form) >= MIN_SECRET_LENGTH)


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
