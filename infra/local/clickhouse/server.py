"""The HTTP side: a thread per connection, keep-alive, chunked bodies, ClickHouse's headers and ways of failing.

A failure before the first byte is an HTTP status with `X-ClickHouse-Exception-Code`; one behind it ends the body with
a tagged ``__exception__`` block, as servers since 25.11 do.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import string
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from time import monotonic_ns
from typing import Any
from urllib.parse import urlsplit

import orjson

from infra.local.clickhouse.admission import Credential, find_foreign_origin
from infra.local.clickhouse.compression import choose_coding, compress, stream_compressor
from infra.local.clickhouse.engine import Engine, StatementResult
from infra.local.clickhouse.errors import ENGINE_CRASHED, EngineError
from infra.local.clickhouse.requests import Request, read_request
from infra.local.clickhouse.runner import Answer, Runner

HOST = "127.0.0.1"
EXIT_CRASHED = 70
_MAX_QUERIES = 16
_MAX_LINE = 65536
# A body is held in memory whole; the recorder's are a few megabytes.
MAX_BODY_BYTES = 256 << 20
# Of a body that is not read: enough for what a client sends before it looks for the answer.
_DISCARD_BYTES = 1 << 20
_DISCARD_S = 1.0
_LOG = logging.getLogger(__name__)


class BadRequest(Exception):
    """The request is not well-formed HTTP, or too long."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


class ClickHouseServer(ThreadingHTTPServer):
    """Serves an engine on `host`; `beat` is called every time around. Raises `OSError` where the port is taken."""

    daemon_threads = True
    # Connections are dropped at shutdown once no query is running; idle ones are not waited for.
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        engine: Engine,
        port: int,
        credential: Credential,
        beat: Callable[[], None] = lambda: None,
        host: str = HOST,
    ) -> None:
        self.engine = engine
        self.credential = credential
        self._beat = beat
        self.runner = Runner(engine)
        self.queries = ThreadPoolExecutor(_MAX_QUERIES, thread_name_prefix="query")
        self._active = 0
        self._changed = threading.Condition()
        self.is_local = ip_address(host).is_loopback
        super().__init__((host, port), _Handler)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    def service_actions(self) -> None:
        """Say that the loop turns, after each request taken in and at each of its looks for one."""
        self._beat()

    def begin_request(self) -> None:
        """Count a request in."""
        with self._changed:
            self._active += 1

    def end_request(self) -> None:
        """Count a request out."""
        with self._changed:
            self._active -= 1
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Wait until no request is being answered; whether that was so in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._active == 0, timeout_s)

    def close(self) -> None:
        """Free the port, the sessions and the threads; call after `shutdown` and `drain`."""
        self.server_close()
        self.queries.shutdown(wait=True, cancel_futures=True)
        self.runner.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - named by socketserver
        """Log what a handler did not expect; a client that went away is no error."""
        _LOG.exception("request from %s failed", client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ClickHouseServer
    headers: Message
    protocol_version = "HTTP/1.1"
    server_version = "perpflow-chdb"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by http.server
        _LOG.debug(format, *args)

    def _serve(self) -> None:
        self.server.begin_request()
        try:
            self._tag = "".join(random.choices(string.ascii_lowercase, k=16))
            self._query_id = ""
            self._has_begun = False
            self._answer_request()
            self.wfile.flush()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            self.server.end_request()

    def _answer_request(self) -> None:
        """Answer from the headers where they are enough: no body is read of somebody who does not know the password."""
        foreign = find_foreign_origin(self.headers, is_local=self.server.is_local)
        if foreign:
            self._refuse_unread(lambda: self._send_text(HTTPStatus.FORBIDDEN, f"{foreign}\n"))
            return
        url = urlsplit(self.path)
        if url.path == "/ping" or (url.path == "/" and not url.query and not self._has_body):
            self._refuse_unread(lambda: self._send_text(HTTPStatus.OK, "Ok.\n"))
            return
        if url.path != "/":
            text = "Send queries to / and health checks to /ping\n"
            self._refuse_unread(lambda: self._send_text(HTTPStatus.NOT_FOUND, text))
            return
        started = monotonic_ns()
        try:
            self.server.credential.check(self.headers)
        except EngineError as error:
            refused = error
            self._refuse_unread(lambda: self._send_error(refused))
            return
        try:
            body = self._read_body()
        except BadRequest as error:
            self.close_connection = True
            self._send_text(error.status, f"{error}\n")
            return
        try:
            request = read_request(self.command, url.query, dict(self.headers.items()), body)
            self._query_id = request.query_id or str(uuid.uuid4())
            answer = self._run(request)
        except EngineError as error:
            self._send_error(error)
            return
        coding = choose_coding(self.headers.get("Accept-Encoding", "")) if request.may_compress else None
        if answer.blocks is None:
            self._send_whole(answer, coding, monotonic_ns() - started)
        else:
            self._send_blocks(answer, coding)

    @property
    def _has_body(self) -> bool:
        return "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0"

    def handle_expect_100(self) -> bool:
        """Say nothing yet: the body is asked for once it is known who sends it."""
        return True

    def _refuse_unread(self, answer: Callable[[], None]) -> None:
        """Answer without the body. The connection cannot be used again; a little of what comes is thrown away, so that
        a client that sends before it reads gets the answer."""
        if not self._has_body:
            answer()
            return
        self.close_connection = True
        answer()
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(_DISCARD_S)
        left = _DISCARD_BYTES
        while left > 0 and (thrown := self.rfile.read1(min(left, _MAX_LINE))):
            left -= len(thrown)

    def _run(self, request: Request) -> Answer:
        """Run the query; while it runs, send progress headers so that the client knows it is alive."""
        runner = self.server.runner
        if request.query.wants_stream or not request.sends_progress:
            return runner.run(request.query)
        progress: dict[str, str] = {"read_rows": "0", "read_bytes": "0", "total_rows_to_read": "0"}
        future: Future[Answer] = self.server.queries.submit(
            runner.run, request.query, lambda report: progress.update(_progress_of(report))
        )
        while True:
            try:
                return future.result(timeout=request.progress_interval_s)
            except NotYet:
                if future.done():
                    raise
                if not self._has_begun:
                    self._begin(HTTPStatus.OK)
                self.send_header("X-ClickHouse-Progress", orjson.dumps(progress).decode())
                self.flush_headers()
                self.wfile.flush()

    def _send_whole(self, answer: Answer, coding: str | None, elapsed_ns: int) -> None:
        body = compress(answer.outcome.body, coding) if answer.outcome.body else b""
        if not self._has_begun:
            self._begin(HTTPStatus.OK)
        self._send_answer_headers(answer.output_format, _summary(answer.outcome, elapsed_ns))
        if body and coding is not None:
            self.send_header("Content-Encoding", coding)
        self._end_with(body)

    def _send_blocks(self, answer: Answer, coding: str | None) -> None:
        blocks = answer.blocks
        assert blocks is not None
        self._begin(HTTPStatus.OK)
        self._send_answer_headers(answer.output_format, _summary(StatementResult(b""), 0))
        if coding is not None:
            self.send_header("Content-Encoding", coding)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        compressor = stream_compressor(coding)
        try:
            for block in blocks:
                self._send_chunk(compressor.add(block) if block else b"")
                self.wfile.flush()
        except EngineError as error:
            message = self._describe(error).encode()
            tag = self._tag.encode()
            trailer = b"\r\n__exception__\r\n%b\r\n%b\n%d %b\r\n__exception__\r\n" % (
                tag,
                message,
                len(message) + 1,
                tag,
            )
            self._send_chunk(compressor.add(trailer))
        finally:
            # A client that went away cancels the query here.
            blocks.close()
        self._send_chunk(compressor.finish())
        self.wfile.write(b"0\r\n\r\n")

    def _send_error(self, error: EngineError) -> None:
        if not self._has_begun:
            self._begin(error.status)
        self.send_header("X-ClickHouse-Exception-Code", str(error.code))
        self._send_answer_headers(None, None)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self._end_with(f"{self._describe(error)}\n".encode())
        if error.code == ENGINE_CRASHED:
            # Nothing works from here on; a fresh process does. What was acknowledged is on disk.
            _LOG.critical("the engine has crashed, leaving: %s", error.text)
            self.wfile.flush()
            os._exit(EXIT_CRASHED)

    def _describe(self, error: EngineError) -> str:
        return f"{error.text} (version {self.server.engine.version} (perpflow local build))"

    def _begin(self, status: HTTPStatus) -> None:
        self._has_begun = True
        self.send_response(status)

    def _send_answer_headers(self, output_format: str | None, summary: str | None) -> None:
        engine = self.server.engine
        self.send_header("X-ClickHouse-Server-Display-Name", "perpflow-local")
        self.send_header("X-ClickHouse-Query-Id", self._query_id)
        self.send_header("X-ClickHouse-Timezone", engine.timezone)
        self.send_header("X-ClickHouse-Exception-Tag", self._tag)
        if output_format is not None:
            self.send_header("X-ClickHouse-Format", output_format)
            self.send_header("Content-Type", _content_type(output_format))
        if summary is not None:
            self.send_header("X-ClickHouse-Summary", summary)

    def _send_text(self, status: HTTPStatus, text: str) -> None:
        self._begin(status)
        self.send_header("X-ClickHouse-Server-Display-Name", "perpflow-local")
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self._end_with(text.encode())

    def _end_with(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_chunk(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n" % len(data))
            self.wfile.write(data)
            self.wfile.write(b"\r\n")

    def _read_body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
            self.wfile.flush()
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(self._read_chunks())
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            raise BadRequest(f"Content-Length {length!r} is not a number")
        _check_length(int(length))
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise BadRequest(f"the body ended after {len(body)} of {length} bytes")
        return body

    def _read_chunks(self) -> list[bytes]:
        chunks: list[bytes] = []
        total = 0
        while True:
            line = self.rfile.readline(_MAX_LINE)
            digits = line.partition(b";")[0].strip()
            if not digits or digits.strip(b"0123456789abcdefABCDEF"):
                raise BadRequest(f"{line[:40]!r} is not the size of a chunk")
            size = int(digits, 16)
            total += size
            _check_length(total)
            chunk = self.rfile.read(size)
            if len(chunk) < size:
                raise BadRequest(f"a chunk ended after {len(chunk)} of {size} bytes")
            if size == 0:
                while self.rfile.readline(_MAX_LINE).strip():
                    continue
                return chunks
            chunks.append(chunk)
            if self.rfile.readline(_MAX_LINE).strip():
                raise BadRequest("a chunk is longer than its size says")


def _check_length(length: int) -> None:
    if length > MAX_BODY_BYTES:
        raise BadRequest(
            f"the body is longer than {MAX_BODY_BYTES} bytes; send it in several requests",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )


def _progress_of(report: Any) -> dict[str, str]:
    return {
        name: str(report[key])
        for name, key in (
            ("read_rows", "read_rows"),
            ("read_bytes", "read_bytes"),
            ("total_rows_to_read", "total_rows"),
        )
        if key in report
    }


def _summary(outcome: StatementResult, elapsed_ns: int) -> str:
    counts = {
        "read_rows": outcome.read_rows,
        "read_bytes": outcome.read_bytes,
        "written_rows": outcome.written_rows,
        "written_bytes": outcome.written_bytes,
        "total_rows_to_read": outcome.read_rows,
        "result_rows": outcome.result_rows or outcome.written_rows,
        "result_bytes": len(outcome.body) or outcome.written_bytes,
        "elapsed_ns": elapsed_ns,
    }
    return orjson.dumps({name: str(count) for name, count in counts.items()}).decode()


def _content_type(output_format: str) -> str:
    if output_format.startswith("JSON"):
        return "application/json; charset=UTF-8"
    if output_format.startswith(("TabSeparated", "TSV")):
        return "text/tab-separated-values; charset=UTF-8"
    if output_format.startswith("CSV"):
        return "text/csv; charset=UTF-8; header=absent"
    if output_format in ("Native", "RowBinary", "Arrow", "ArrowStream", "Parquet"):
        return "application/octet-stream"
    return "text/plain; charset=UTF-8"
