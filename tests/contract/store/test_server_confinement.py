"""What the local server refuses: strangers, web pages, and every way out of its own tables."""

from __future__ import annotations

import http.client
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store.local_server import HEADERS, PASSWORD, LocalServer

MARK = "content-that-no-query-may-read"
# Engines and functions whose data is in the tables of this server; every other one must be refused.
OWN_ENGINES = {
    *("MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "CollapsingMergeTree"),
    *("VersionedCollapsingMergeTree", "CoalescingMergeTree", "GraphiteMergeTree"),
    *("Memory", "Log", "TinyLog", "StripeLog", "Null", "Set", "Join", "Merge", "View", "MaterializedView"),
}
OWN_TABLE_FUNCTIONS = {"numbers", "numbers_mt", "zeros", "zeros_mt", "generateSeries", "generate_series", "view"} | {
    "merge"
}


class Client:
    """Sends statements and returns status, error code and text."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(
        self, text: str, *, method: str = "POST", path: str = "/", headers: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        self._connection.request(method, path, text.encode(), HEADERS if headers is None else headers)
        reply = self._connection.getresponse()
        return reply.status, reply.headers.get("X-ClickHouse-Exception-Code", ""), reply.read().decode()

    def rows(self, text: str) -> list[str]:
        status, _, answer = self(text)
        assert status == 200, answer
        return answer.splitlines()


@pytest.fixture
def ask(server: LocalServer) -> Iterator[Client]:
    client = Client(server.port)
    yield client
    client._connection.close()


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret.csv"
    path.write_text(MARK + "\n")
    return path


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-ClickHouse-User": "default"},
        {"X-ClickHouse-User": "perpflow", "X-ClickHouse-Key": "wrong"},
        {"X-ClickHouse-User": "other", "X-ClickHouse-Key": PASSWORD},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer " + PASSWORD},
    ],
)
def test_nobody_is_served_without_the_password(ask: Client, headers: dict[str, str]) -> None:
    status, code, _ = ask("SELECT 1", headers=headers)
    assert (status, code) == (403, "516")


def test_password_in_the_address_is_no_credential(ask: Client) -> None:
    status, _, _ = ask("SELECT 1", path=f"/?user=perpflow&password={PASSWORD}", headers={})
    assert status == 403


@pytest.mark.parametrize(
    "header",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8123"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"origin": "http://127.0.0.1:8420"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/", "/ping"])
def test_web_pages_and_other_host_names_are_refused(ask: Client, header: dict[str, str], path: str) -> None:
    assert ask("SELECT 1", path=path, headers={**HEADERS, **header})[0] == 403


def test_preflight_of_a_browser_is_refused(ask: Client) -> None:
    assert ask("", method="OPTIONS", headers={"Origin": "http://evil.example"})[0] == 501


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_password_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    from tests.contract.store.local_server import spawn

    (tmp_path / "password").write_text("x" * 32)
    (tmp_path / "password").chmod(mode)
    process = spawn(tmp_path / "data", 0, tmp_path / "port", tmp_path / "log")
    assert process.wait(60) == 2
    assert "others may read it; chmod 600" in (tmp_path / "log").read_text()


def test_files_of_the_server_are_its_users_alone(server: LocalServer) -> None:
    for path in server.path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


READING = [
    "SELECT file('{path}')",
    "SELECT FILE('{path}')",
    "SELECT `f\\x69le`('{path}')",
    "SELECT \"file\"('{path}')",
    "SELECT arrayMap(file, ['{path}'])",
    "WITH file AS f SELECT arrayMap(f, ['{path}'])",
    "SELECT arrayMap(x -> file(x), ['{path}'])",
    "SELECT * APPLY file FROM (SELECT '{path}')",
    "SELECT * APPLY(x -> file(x)) FROM (SELECT '{path}')",
    "SELECT (SELECT (SELECT file('{path}')))",
    "SELECT 1 WHERE 'x' IN (SELECT file('{path}'))",
    "SELECT 'x' IN file('{path}', 'LineAsString')",
    "SELECT 1 /* comment */ FROM -- another\n file('{path}', LineAsString)",
    "SELECT * FROM file('{path}', 'LineAsString')",
    "SELECT * FROM '{path}'",
    "SELECT * FROM `{path}`",
    "SELECT * FROM default.`{path}`",
    "SELECT * FROM url('file://{path}', LineAsString)",
    "SELECT * FROM executable('cat {path}', LineAsString, 'a String')",
    "SELECT * FROM format(JSONEachRow, concat('a String DEFAULT fi', 'le(\\'{path}\\')'), '{{}}')",
    "SELECT * FROM values(concat('a String DEFAULT fi', 'le(\\'{path}\\')'), NULL)",
    "DESCRIBE file('{path}', LineAsString)",
    "DESCRIBE TABLE file('{path}', CSV)",
    "DESCRIBE (SELECT toInt64(file('{path}')))",
    "EXPLAIN SELECT toInt64(file('{path}'))",
    "SELECT 1 FORMAT Template SETTINGS format_template_row = '{path}'",
    "SELECT 1 SETTINGS format_template_row = '{path}' FORMAT Template",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS format_schema = '{path}:X'",
    "SELECT 1 SETTINGS additional_result_filter = 'length(file(\\'{path}\\')) = 0'",
    "SELECT 1; SELECT file('{path}')",
    "SELECT 1 PARALLEL WITH SELECT file('{path}')",
    "EXECUTE AS default SELECT file('{path}')",
    "INSERT INTO own VALUES (file('{path}'))",
    "INSERT INTO own SELECT file('{path}')",
    "INSERT INTO own FROM INFILE '{path}' FORMAT LineAsString",
    "INSERT INTO own FROM/**/INFILE '{path}' FORMAT LineAsString",
    "CREATE TABLE made (a String DEFAULT file('{path}')) ENGINE = Memory",
    "CREATE TABLE made AS file('{path}', LineAsString)",
    "CREATE TABLE made (a String) ENGINE = File(LineAsString, '{path}')",
    "CREATE TEMPORARY TABLE made (a String) ENGINE = File(LineAsString, '{path}')",
    "CREATE VIEW made AS SELECT file('{path}')",
    "CREATE DATABASE made ENGINE = Filesystem('/')",
    "CREATE FUNCTION made AS () -> file('{path}')",
    "CREATE DICTIONARY made (a UInt64) PRIMARY KEY a SOURCE(FILE(path '{path}' format 'CSV')) LAYOUT(FLAT()) "
    "LIFETIME(0)",
    "ALTER TABLE own ADD COLUMN b String DEFAULT file('{path}')",
    "ALTER TABLE own UPDATE a = file('{path}') WHERE 1",
    "ATTACH TABLE made FROM '/etc' (a String) ENGINE = MergeTree ORDER BY a",
    "RESTORE TABLE own FROM File('{path}')",
    "SET dialect = 'prql'",
    "SELECT * FROM Python(os)",
    "SELECT * FROM Python(environ)",
]


@pytest.mark.parametrize("attack", READING)
def test_no_statement_reads_a_file(ask: Client, secret_file: Path, attack: str) -> None:
    ask("CREATE TABLE IF NOT EXISTS own (a String) ENGINE = MergeTree ORDER BY a")
    status, _, text = ask(attack.format(path=secret_file))
    assert status >= 400, text
    assert MARK not in text
    assert ask.rows("SELECT count() FROM own") == ["0"]


WRITING = [
    "SELECT 1 INTO OUTFILE '{path}'",
    "SELECT 1 INTO\n--x\nOUTFILE '{path}' TRUNCATE",
    "SELECT 1 INTO/*x*/OUTFILE '{path}' APPEND FORMAT CSV",
    "EXPLAIN SELECT 1 INTO OUTFILE '{path}'",
    "SHOW TABLES INTO OUTFILE '{path}'",
    "INSERT INTO FUNCTION file('{path}', CSV, 'a Int8') VALUES (1)",
    "INSERT INTO FUNCTION url('http://127.0.0.1:1', CSV, 'a Int8') VALUES (1)",
    "SELECT 1 AS a FORMAT Protobuf SETTINGS output_format_schema = '{path}'",
    "BACKUP TABLE own TO File('{path}')",
    "CREATE TABLE made (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = 'object_storage', "
    "object_storage_type = 'local', metadata_type = 'local', path = '{path}/')",
    "CREATE TABLE made (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS storage_policy = 'x'",
    "ALTER TABLE own MODIFY SETTING disk = 'x'",
    "ALTER TABLE own FREEZE",
    "SYSTEM RELOAD CONFIG",
    "SYSTEM SHUTDOWN",
    "CREATE USER made",
    "GRANT ALL ON *.* TO default",
    "CREATE NAMED COLLECTION made AS url = 'http://127.0.0.1:1'",
]


@pytest.mark.parametrize("attack", WRITING)
def test_no_statement_writes_outside_or_administers(ask: Client, tmp_path: Path, attack: str) -> None:
    ask("CREATE TABLE IF NOT EXISTS own (a String) ENGINE = MergeTree ORDER BY a")
    status, code, text = ask(attack.format(path=tmp_path / "written"))
    assert (status, code) in ((500, "497"), (403, "497"), (400, "62")), text
    assert list(tmp_path.iterdir()) == []


def test_every_engine_but_the_servers_own_is_refused(ask: Client) -> None:
    for name in ask.rows("SELECT name FROM system.table_engines"):
        if name in OWN_ENGINES:
            continue
        _, code, text = ask(f"CREATE TABLE made (a Int8) ENGINE = {name}('x', 'y', 'z')")
        assert code == "497", (name, text)
    for name in ask.rows("SELECT name FROM system.database_engines"):
        if name and name not in ("Atomic", "Memory"):
            _, code, text = ask(f"CREATE DATABASE made ENGINE = {name}('/tmp', 'y')")
            assert code == "497", (name, text)
    assert "made" not in ask.rows("SHOW TABLES") + ask.rows("SHOW DATABASES")


def test_every_table_function_but_the_servers_own_is_refused(ask: Client) -> None:
    names = ask.rows("SELECT name FROM system.table_functions")
    assert set(names) >= OWN_TABLE_FUNCTIONS - {"view"}
    for name in names:
        if name not in OWN_TABLE_FUNCTIONS:
            for statement in (f"SELECT * FROM {name}('x', 'y', 'z')", f"INSERT INTO FUNCTION {name}('x') SELECT 1"):
                _, code, text = ask(statement)
                assert code in ("497", "62"), (name, text)


def test_settings_that_hold_text_are_refused_unless_known_to_be_harmless(ask: Client) -> None:
    for name in ("format_schema", "format_schema_source", "url_base", "s3_base", "dialect", "http_response_headers"):
        for statement in (f"SET {name} = 'x'", f"SELECT 1 SETTINGS {name} = 'x'"):
            assert ask(statement)[1] == "497", statement
        assert ask("SELECT 1", path=f"/?{name}=x")[1] == "497"
    assert ask("SELECT 1", path="/?log_comment=x&max_threads=1")[0] == 200


def test_structure_of_an_external_table_is_checked_like_a_statement(ask: Client, secret_file: Path) -> None:
    from urllib.parse import quote

    structure = quote(f"a String DEFAULT file('{secret_file}')")
    body = (
        b'--x\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n\r\n1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT * FROM t\r\n--x--\r\n'
    )
    headers = {**HEADERS, "Content-Type": "multipart/form-data; boundary=x"}
    status, code, text = ask(body.decode(), path=f"/?t_structure={structure}&t_format=TSV", headers=headers)
    assert (status >= 400, code) == (True, "497"), text


def test_reading_by_get_changes_nothing_however_it_is_written(ask: Client) -> None:
    from urllib.parse import quote

    ask("CREATE TABLE IF NOT EXISTS own (a String) ENGINE = MergeTree ORDER BY a")
    for statement in ("SELECT 1; DROP TABLE own", "DROP TABLE own", "EXPLAIN INSERT INTO own SELECT 'x'", "SET a = 1"):
        assert ask("", method="GET", path=f"/?query={quote(statement)}")[0] >= 400
    assert ask("", method="GET", path=f"/?query={quote('EXISTS TABLE own')}")[2] == "1\n"


def test_what_the_clients_use_is_served(ask: Client) -> None:
    ask("CREATE DATABASE IF NOT EXISTS served")
    for statement in (
        "CREATE TABLE IF NOT EXISTS served.t (a Int64, b String) ENGINE = ReplacingMergeTree ORDER BY a "
        "SETTINGS index_granularity = 1024",
        "INSERT INTO served.t VALUES (1, 'x'), (-2, 'it\\'s')",
        'INSERT INTO served.t FORMAT JSONEachRow {"a": 3, "b": "y"}',
        "INSERT INTO served.t SELECT number + 10, toString(number) FROM numbers(3)",
        "ALTER TABLE served.t ADD COLUMN IF NOT EXISTS c UInt8 DEFAULT 1",
        "OPTIMIZE TABLE served.t FINAL",
        "DESCRIBE TABLE served.t",
        "SHOW CREATE TABLE served.t",
        "EXISTS TABLE served.t",
        "WITH 1 AS x SELECT a, x, arrayMap(y -> y + 1, [a]) FROM served.t FINAL WHERE b != 'FORMAT' LIMIT 2 BY a",
        "CREATE OR REPLACE VIEW served.v AS SELECT a FROM served.t",
    ):
        status, _, text = ask(statement)
        assert status == 200, (statement, text)
    answer = json.loads(ask("SELECT sum(a) AS total FROM served.v FORMAT JSON")[2])
    assert answer["data"] == [{"total": 35}]
    ask("DROP DATABASE served")


def test_the_library_may_read_what_the_kernel_told_the_process(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from infra.local.clickhouse.sandbox import confine\n"
        "confine([Path(sys.argv[1])]); assert Path('/proc/self/auxv').read_bytes()"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
