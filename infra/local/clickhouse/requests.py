"""Reads HTTP requests the way a ClickHouse server does: URL parameters, bodies, forms with external tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from infra.local.clickhouse.compression import decompress
from infra.local.clickhouse.errors import BAD_ARGUMENTS, NOT_IMPLEMENTED, refuse
from infra.local.clickhouse.runner import ExternalTable, Query

# URL parameters that are HTTP's own; everything else is a setting, which the engine knows or refuses.
_RESERVED = frozenset(
    (
        *("query", "database", "query_id", "default_format"),
        *("session_id", "session_timeout", "session_check", "close_session", "client_protocol_version"),
        *("wait_end_of_query", "buffer_size", "compress", "decompress", "enable_http_compression"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms"),
        "cancel_http_readonly_queries_on_client_close",
    )
)
_DISPOSITION = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form; `is_file` when it came with a file name."""

    content: bytes
    is_file: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A request, read. `query` is what to run; the rest is how to answer."""

    query: Query
    query_id: str
    may_compress: bool
    sends_progress: bool
    progress_interval_s: float


def read_request(method: str, query_string: str, headers: Mapping[str, str], body: bytes) -> Request:
    """Read a request's parameters and body. Raises `EngineError` with a ClickHouse code where a server would."""
    url = dict(parse_qsl(query_string, keep_blank_values=True, encoding="utf-8", errors="surrogateescape"))
    for name in ("compress", "decompress"):
        if _is_true(url.get(name)):
            raise refuse(NOT_IMPLEMENTED, f"{name}=1 (native compressed blocks) is not served here; use HTTP encodings")
    body = decompress(body, headers.get("Content-Encoding", ""))
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    content_type = headers.get("Content-Type", "")
    if content_type.lower().startswith("multipart/form-data"):
        for name, part in read_form(content_type, body).items():
            # Clients send plain fields such as param_x and query without a file name.
            if part.is_file or (name != "query" and not name.startswith("param_")):
                files[name] = part.content
            else:
                fields[name] = part.content.decode(errors="surrogateescape")
        body = b""
    values = {**url, **fields}
    text = _join(url.get("query", "") + fields.get("query", ""), body)
    tables = [_external_table(name, data, url) for name, data in files.items()]
    reserved = _RESERVED | {f"{name}_{suffix}" for name in files for suffix in ("format", "structure", "types")}
    query = Query(
        text=text,
        parameters={name[6:]: value for name, value in values.items() if name.startswith("param_")},
        settings={n: v for n, v in url.items() if n not in reserved and not n.startswith("param_")},
        database=url.get("database", ""),
        default_format=url.get("default_format") or "TabSeparated",
        external_tables=tables,
        is_read_only=method == "GET",
        wants_stream=not _is_true(url.get("wait_end_of_query")),
        session_id=url.get("session_id", ""),
        session_timeout=url.get("session_timeout"),
        must_find_session=_is_true(url.get("session_check")),
    )
    interval_ms = url.get("http_headers_progress_interval_ms", "100")
    return Request(
        query=query,
        query_id=url.get("query_id", ""),
        may_compress=_is_true(url.get("enable_http_compression", "1")),
        sends_progress=_is_true(url.get("send_progress_in_http_headers")),
        progress_interval_s=max(int(interval_ms), 10) / 1000 if interval_ms.isdigit() else 0.1,
    )


def read_form(content_type: str, body: bytes) -> dict[str, Part]:
    """Split a multipart/form-data body into its fields, bytes untouched. Raises `EngineError` where it is malformed."""
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if found is None:
        raise refuse(BAD_ARGUMENTS, "A multipart form needs a boundary in Content-Type")
    delimiter = b"--" + found.group(1).encode()
    parts: dict[str, Part] = {}
    for section in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:]:
        if section.startswith(b"--"):
            return parts
        head, separator, content = section.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        disposition = dict(_DISPOSITION.findall(head.decode(errors="replace")))
        if not separator or "name" not in disposition:
            raise refuse(BAD_ARGUMENTS, "A part of the multipart form has no name")
        parts[disposition["name"]] = Part(content, is_file="filename" in disposition)
    raise refuse(BAD_ARGUMENTS, "The multipart form does not end with its boundary")


def _external_table(name: str, data: bytes, url: Mapping[str, str]) -> ExternalTable:
    structure = url.get(f"{name}_structure", "")
    types = url.get(f"{name}_types", "")
    if types and not structure:
        structure = ", ".join(f"_{at} {kind}" for at, kind in enumerate(_split_types(types), start=1))
    return ExternalTable(name, structure, url.get(f"{name}_format", "TabSeparated"), data)


def _split_types(text: str) -> list[str]:
    """Split at commas outside brackets: ``Decimal(18, 8), String`` are two types."""
    types, depth, start = [], 0, 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            types.append(text[start:at].strip())
            start = at + 1
    return [*types, text[start:].strip()]


def _join(query: str, body: bytes) -> bytes:
    text = query.encode(errors="surrogateescape")
    if text and body:
        return text + b"\n" + body
    return text or body


def _is_true(text: str | None) -> bool:
    return text is not None and text.lower() in ("1", "true", "yes", "on")
