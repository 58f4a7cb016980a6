"""The HTTP interface itself, as curl or another driver would use it."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import cramjam
import pytest

from infra.local.clickhouse.statements import parse_statement
from tests.contract.store.local_server import HEADERS, LocalServer

RAW_HEADERS = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items()).encode()


class Reply:
    """A whole answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()


class Caller:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def __call__(
        self,
        method: str = "POST",
        body: bytes | str | list[bytes] | None = None,
        headers: dict[str, str] | None = None,
        path: str = "/",
        **parameters: object,
    ) -> Reply:
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        payload = iter(body) if isinstance(body, list) else body
        everything = {**HEADERS, **(headers or {})}
        self._connection.request(method, target, payload, everything, encode_chunked=isinstance(body, list))
        return Reply(self._connection.getresponse())

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def call(server: LocalServer) -> Iterator[Caller]:
    caller = Caller(server.port)
    yield caller
    caller.close()


def test_ping_and_root_answer_ok(call: Caller) -> None:
    assert (call("GET", path="/ping").status, call("GET", path="/ping").text) == (200, "Ok.\n")
    assert call("GET").text == "Ok.\n"
    assert call("GET", path="/nowhere").status == 404


def test_query_comes_from_url_body_or_both(call: Caller) -> None:
    assert call("GET", query="SELECT 1").text == "1\n"
    assert call(body="SELECT 2").text == "2\n"
    assert call(query="SELECT 3 +", body="4").text == "7\n"


def test_answer_carries_the_servers_headers(call: Caller) -> None:
    reply = call(body="SELECT 1", query_id="mine", wait_end_of_query=1)
    assert reply.headers["X-ClickHouse-Query-Id"] == "mine"
    assert reply.headers["X-ClickHouse-Format"] == "TabSeparated"
    assert reply.headers["X-ClickHouse-Server-Display-Name"]
    assert reply.headers["X-ClickHouse-Timezone"] in ("UTC", "Etc/UTC")
    assert json.loads(reply.headers["X-ClickHouse-Summary"])["result_rows"] == "1"


def test_default_format_comes_from_a_parameter_and_yields_to_the_query(call: Caller) -> None:
    assert call(body="SELECT 1 AS a", default_format="JSONEachRow").text == '{"a":1}\n'
    assert call(body="SELECT 1 AS a", default_format="CSVWithNames").text == '"a"\n1\n'
    assert call(body="SELECT 'x' AS a FORMAT CSV", default_format="JSON").text == '"x"\n'


def test_parameters_and_database_are_url_parameters(call: Caller) -> None:
    assert call(body="SELECT {a:String}", param_a="it's").text == "it\\'s\n"
    assert call(body="SELECT currentDatabase()", database="system").text == "system\n"


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [("SELEC 1", 400, 62), ("SELECT * FROM nowhere", 404, 60), ("SELECT throwIf(1)", 500, 395)],
)
def test_error_has_status_code_header_and_text(call: Caller, text: str, status: int, code: int) -> None:
    reply = call(body=text)
    assert reply.status == status
    assert reply.headers["X-ClickHouse-Exception-Code"] == str(code)
    assert reply.text.startswith(f"Code: {code}. DB::Exception: ")
    assert "(version " in reply.text


def test_unknown_database_and_setting_are_not_found(call: Caller) -> None:
    assert call(body="SELECT 1", database="nowhere").headers["X-ClickHouse-Exception-Code"] == "81"
    assert call(body="SELECT 1", no_such_setting=1).headers["X-ClickHouse-Exception-Code"] == "115"


def test_get_may_not_change_anything(call: Caller) -> None:
    reply = call("GET", query="CREATE TABLE changed (a Int8) ENGINE = Memory")
    assert reply.headers["X-ClickHouse-Exception-Code"] == "164"
    assert call("GET", query="EXISTS TABLE changed").text == "0\n"


@pytest.mark.parametrize(
    ("coding", "decompress"),
    [
        ("gzip", gzip.decompress),
        ("zstd", cramjam.zstd.decompress),
        ("lz4", cramjam.lz4.decompress),
        ("br", cramjam.brotli.decompress),
        ("deflate", cramjam.zlib.decompress),
    ],
)
@pytest.mark.parametrize("waits", [0, 1])
def test_answer_is_coded_as_accepted(call: Caller, coding: str, decompress: object, waits: int) -> None:
    reply = call(body="SELECT number FROM numbers(20000)", headers={"Accept-Encoding": coding}, wait_end_of_query=waits)
    assert reply.headers["Content-Encoding"] == coding
    assert bytes(decompress(reply.body)).decode().split() == [str(n) for n in range(20000)]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("zstd", cramjam.zstd.compress),
        ("lz4", cramjam.lz4.compress),
        ("br", cramjam.brotli.compress),
    ],
)
def test_request_is_decoded_by_its_content_encoding(call: Caller, coding: str, compress: object) -> None:
    body = bytes(compress(b"SELECT 'coded'"))  # type: ignore[operator]
    assert call(body=body, headers={"Content-Encoding": coding}).text == "coded\n"


def test_bad_codings_are_refused_by_name(call: Caller) -> None:
    unknown = call(body=b"x", headers={"Content-Encoding": "snappy"})
    assert unknown.headers["X-ClickHouse-Exception-Code"] == "89"
    broken = call(body=b"not zstd", headers={"Content-Encoding": "zstd"})
    assert broken.headers["X-ClickHouse-Exception-Code"] == "271"
    native = call(body=b"SELECT 1", compress=1)
    assert (native.status, native.headers["X-ClickHouse-Exception-Code"]) == (501, "48")


def test_compression_is_off_where_the_request_says_so(call: Caller) -> None:
    reply = call(body="SELECT 1", headers={"Accept-Encoding": "gzip"}, enable_http_compression=0)
    assert "Content-Encoding" not in reply.headers
    assert reply.text == "1\n"


def test_chunked_request_is_put_together(call: Caller) -> None:
    assert call(body=[b"SEL", b"ECT ", b"1 + 1"]).text == "2\n"


def test_connection_serves_many_requests_errors_among_them(call: Caller) -> None:
    for number in range(20):
        assert call(body=f"SELECT {number}").text == f"{number}\n"
        assert call(body="SELEC 1").status == 400


def test_session_is_kept_checked_and_locked(call: Caller, server: LocalServer) -> None:
    assert call(body="SELECT 1", session_id="unborn", session_check=1).headers["X-ClickHouse-Exception-Code"] == "372"
    call(body="CREATE TEMPORARY TABLE kept (a Int8)", session_id="s")
    call(body="INSERT INTO kept VALUES (4)", session_id="s")
    assert call(body="SELECT a FROM kept", session_id="s", session_check=1).text == "4\n"
    assert (
        call(body="SELECT 1", session_id="s", session_timeout="99999").headers["X-ClickHouse-Exception-Code"] == "374"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as held:
        query = b"SELECT sleepEachRow(0.5) FROM numbers(1000) SETTINGS max_block_size = 1 FORMAT Null"
        held.sendall(
            b"POST /?session_id=s HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b"
            % (RAW_HEADERS, len(query), query)
        )
        while call(body="SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.5)%'").text != "2\n":
            continue
        assert call(body="SELECT 1", session_id="s").headers["X-ClickHouse-Exception-Code"] == "373"
        call(body="KILL QUERY WHERE query LIKE 'SELECT sleepEachRow(0.5)%' SYNC")
        assert held.recv(4096).startswith(b"HTTP/1.1 ")
    assert call(body="SELECT a FROM kept", session_id="s").text == "4\n"


def test_progress_headers_keep_a_long_query_alive(server: LocalServer) -> None:
    query = b"SELECT sleepEachRow(0.2) FROM numbers(3) SETTINGS max_block_size = 1"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"POST /?wait_end_of_query=1&send_progress_in_http_headers=1&http_headers_progress_interval_ms=50 "
            b"HTTP/1.1\r\nHost: localhost\r\n%bConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (RAW_HEADERS, len(query), query)
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert head.count(b"X-ClickHouse-Progress: {") >= 3
    assert body == b"0\n0\n0\n"


def test_late_error_after_progress_headers_is_told_in_a_header(server: LocalServer) -> None:
    query = b"SELECT sleepEachRow(0.3), throwIf(number = 2) FROM numbers(3) SETTINGS max_block_size = 1"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"POST /?wait_end_of_query=1&send_progress_in_http_headers=1&http_headers_progress_interval_ms=50 "
            b"HTTP/1.1\r\nHost: localhost\r\n%bConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (RAW_HEADERS, len(query), query)
        )
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"X-ClickHouse-Exception-Code: 395" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: many\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    ],
)
def test_malformed_http_is_a_bad_request(server: LocalServer, head: bytes) -> None:
    assert answer_to(server, RAW_HEADERS + head).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "head", [b"Content-Length: 268435457\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n10000001\r\n"]
)
def test_a_body_that_is_too_long_is_refused_before_it_is_read(server: LocalServer, head: bytes) -> None:
    assert answer_to(server, RAW_HEADERS + head).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("head", [b"Content-Length: 1000000000\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"])
def test_no_body_is_read_or_asked_for_without_the_password(server: LocalServer, head: bytes, expects: bytes) -> None:
    assert answer_to(server, head + expects + b"\r\n").startswith(b"HTTP/1.1 403")


def test_a_body_that_waits_to_be_asked_for_is_asked_for(server: LocalServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\n%bConnection: close\r\nExpect: 100-continue\r\n" % RAW_HEADERS
        connection.sendall(head + b"Content-Length: 8\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"SELECT 7")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200") and b"7\n" in answer


def answer_to(server: LocalServer, rest: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + rest)
        return connection.recv(100)


def test_client_that_goes_away_in_mid_stream_leaves_the_server_well(server: LocalServer, call: Caller) -> None:
    query = b"SELECT number, repeat('x', 100) FROM numbers(5000000)"
    for size in (1, 1000, 10_000_000, 20_000_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b"
                % (RAW_HEADERS, len(query), query)
            )
            while size > 0:
                size -= len(connection.recv(size))
        for _ in range(5):
            assert call(body="SELECT 1").text == "1\n"


def test_server_listens_on_the_loopback_only(server: LocalServer) -> None:
    assert server.process is not None
    table = Path(f"/proc/{server.process.pid}/net/tcp").read_text().splitlines()
    listening = [line.split()[1] for line in table if f":{server.port:04X}" in line and line.split()[3] == "0A"]
    assert listening == [f"0100007F:{server.port:04X}"]


@pytest.mark.parametrize(
    ("text", "head", "input_format", "data"),
    [
        (b"INSERT INTO t FORMAT Native\n\x00\x01", b"INSERT INTO t", "Native", b"\x00\x01"),
        (b"INSERT INTO t (a, b) FORMAT CSV 1,2", b"INSERT INTO t (a, b)", "CSV", b"1,2"),
        (b"/* FORMAT x */ insert into `FORMAT` format TSV\r\nx", b"/* FORMAT x */ insert into `FORMAT`", "TSV", b"x"),
        (
            b"INSERT INTO t SETTINGS a = 'FORMAT b' FORMAT Values (1)",
            b"INSERT INTO t SETTINGS a = 'FORMAT b'",
            "Values",
            b"(1)",
        ),
        (b"INSERT INTO t VALUES ('FORMAT CSV')", b"INSERT INTO t", "Values", b" ('FORMAT CSV')"),
        (b"INSERT INTO t FORMAT Native\n\n\n", b"INSERT INTO t", "Native", b"\n\n"),
    ],
)
def test_inserts_data_begins_behind_its_format(text: bytes, head: bytes, input_format: str, data: bytes) -> None:
    statement = parse_statement(text)
    assert (statement.head, statement.input_format, statement.data) == (head, input_format, data)


@pytest.mark.parametrize(
    "text",
    [b"INSERT INTO t SELECT 1", b"INSERT INTO t FROM INFILE 'x' FORMAT CSV"],
)
def test_inserts_without_data_in_a_format_go_to_the_engine_whole(text: bytes) -> None:
    assert parse_statement(text).input_format is None


@pytest.mark.parametrize(
    ("text", "output_format", "without"),
    [
        (b"SELECT 1 FORMAT Native", "Native", b"SELECT 1"),
        (b"SELECT format('{}', 1)", None, b"SELECT format('{}', 1)"),
        (b"SELECT 'x FORMAT CSV'", None, b"SELECT 'x FORMAT CSV'"),
        (b"select 1 -- FORMAT a\nformat JSON ;", "JSON", b"select 1 -- FORMAT a"),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV", b"SELECT 1  SETTINGS max_threads = 1"),
        (b"(SELECT 1) FORMAT TSV", "TSV", b"(SELECT 1)"),
    ],
)
def test_output_format_is_found_at_the_end_only(text: bytes, output_format: str | None, without: bytes) -> None:
    statement = parse_statement(text)
    assert (statement.output_format, statement.without_format) == (output_format, without)
    assert statement.has_result
