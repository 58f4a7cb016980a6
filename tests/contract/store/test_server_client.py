"""What clickhouse-connect may expect of a server, asked of the local one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import IPv4Address
from uuid import UUID

import pandas
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData
from clickhouse_connect.driver.summary import QuerySummary

from tests.contract.store.local_server import LocalServer
from tests.kit.waiting import eventually

VALUES: list[tuple[str, object]] = [
    ("UInt8", 255),
    ("Int64", -(2**63)),
    ("UInt64", 2**64 - 1),
    ("Int128", -(2**100)),
    ("Float64", 0.1),
    ("Decimal64(8)", Decimal("61800.30000001")),
    ("Decimal128(8)", Decimal("-123456789012345678901234.00000001")),
    ("String", "žluťoučký 'kůň' \\ \t \n `"),
    ("FixedString(4)", b"abcd"),
    ("LowCardinality(String)", "BTCUSDT.BINANCE"),
    ("Nullable(Int32)", None),
    ("Bool", True),
    ("Date", date(2026, 11, 21)),
    ("DateTime('UTC')", datetime(2026, 11, 21, 8, 30, tzinfo=UTC)),
    ("DateTime64(6, 'UTC')", datetime(2026, 11, 21, 8, 30, 0, 123456, tzinfo=UTC)),
    ("Array(Array(Int16))", [[1, 2], [], [3]]),
    ("Array(Nullable(String))", ["a", None]),
    ("Map(String, Float64)", {"a": 1.5, "b": -2.0}),
    ("Tuple(Int8, String)", (1, "x")),
    ("Enum8('buy' = 1, 'sell' = 2)", "sell"),
    ("UUID", UUID("12345678-1234-5678-1234-567812345678")),
    ("IPv4", IPv4Address("127.0.0.1")),
]


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=[kind for kind, _ in VALUES])
def test_value_of_every_type_comes_back_as_it_went_in(client: Client, kind: str, value: object) -> None:
    client.command(f"CREATE TABLE t (a Int32, v {kind}) ENGINE = MergeTree ORDER BY a")
    client.insert("t", [[1, value], [2, value]], column_names=["a", "v"])
    expected = value.replace(tzinfo=None) if isinstance(value, datetime) else value
    rows = client.query("SELECT v FROM t ORDER BY a").result_rows
    got = [row[0].replace(tzinfo=None) if isinstance(row[0], datetime) else row[0] for row in rows]
    assert got == [expected, expected]


def test_server_says_its_version_and_utc(client: Client) -> None:
    assert int(client.server_version.split(".")[0]) >= 26
    assert str(client.server_tz) in ("UTC", "Etc/UTC")
    assert client.ping()


def test_parameters_are_bound_by_the_server(client: Client) -> None:
    parameters = {
        "text": "it's \\ a\ttab",
        "number": 5,
        "list": ["a'b", "c"],
        "when": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    row = client.query(
        "SELECT {text:String}, {number:UInt8}, {list:Array(String)}, {when:DateTime}", parameters=parameters
    ).first_row
    assert row == ("it's \\ a\ttab", 5, ["a'b", "c"], datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).replace(tzinfo=None))


def test_parameters_too_long_for_a_url_travel_in_a_form(client: Client) -> None:
    long = "x" * 20_000
    assert client.query("SELECT length({text:String})", parameters={"text": long}).first_row == (20_000,)


def test_identifier_parameter_names_the_table_of_an_insert(client: Client) -> None:
    client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    client.command("INSERT INTO {table:Identifier} VALUES (1), (2)", parameters={"table": "t"})
    client.command("INSERT INTO {table:Identifier} FORMAT CSV", parameters={"table": "t"}, data="3\n4\n")
    assert client.query("SELECT sum(a) FROM t").first_row == (10,)


def test_setting_applies_to_its_query_only(client: Client) -> None:
    assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 1}).first_row == (1,)
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT number FROM numbers(100)", settings={"max_result_rows": 10})
    assert caught.value.code == 396
    assert len(client.query("SELECT number FROM numbers(100)").result_rows) == 100


def test_unknown_setting_is_refused_with_its_code(server: LocalServer) -> None:
    from clickhouse_connect import common

    before = common.get_setting("invalid_setting_action")
    common.set_setting("invalid_setting_action", "send")
    try:
        with server.client() as client, pytest.raises(DatabaseError) as caught:
            client.query("SELECT 1", settings={"no_such_setting": "1"})
    finally:
        common.set_setting("invalid_setting_action", before)
    assert caught.value.code == 115


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT * FROM no_such_table", 60, "UNKNOWN_TABLE"),
        ("SELECT no_such_column FROM system.one", 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT no_such_function(1)", 46, "UNKNOWN_FUNCTION"),
        ("SELECT throwIf(1, 'thrown')", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ],
)
def test_error_carries_the_servers_code_and_name(client: Client, text: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query(text)
    assert (caught.value.code, caught.value.name) == (code, name)
    assert f"Code: {code}. DB::Exception: " in str(caught.value)


def test_query_behind_a_failed_one_gets_its_own_result_only(client: Client) -> None:
    for _ in range(3):
        with pytest.raises(DatabaseError):
            client.query("SELECT throwIf(number = 500000) FROM numbers(1000000)")
        assert client.query("SELECT 7").result_rows == [(7,)]


def test_failure_behind_the_first_block_ends_the_stream_with_its_text(client: Client) -> None:
    seen = 0
    text = "SELECT number, throwIf(number = 2500000, 'too far') FROM numbers(3000000)"
    with pytest.raises(StreamFailureError, match="too far") as caught, client.query_row_block_stream(text) as stream:
        for block in stream:
            seen += len(block)
    assert caught.value.code == 395
    assert 0 < seen < 3_000_000
    assert client.query("SELECT 1").first_row == (1,)


def test_large_result_streams_block_by_block(client: Client) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        blocks = [len(block) for block in stream]
    assert sum(blocks) == 300_000
    assert len(blocks) > 1


def test_abandoned_stream_does_not_disturb_the_next_query(client: Client) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(500000)") as stream:
        next(stream)
    assert client.query("SELECT count() FROM numbers(10)").first_row == (10,)


@pytest.mark.parametrize("text", ["SELECT number AS n, 'x' AS s FROM numbers(10) WHERE number > 20"])
def test_result_without_rows_still_names_its_columns(client: Client, text: str) -> None:
    result = client.query(text)
    assert result.column_names == ("n", "s")
    assert result.result_rows == []
    with client.query_row_block_stream(text) as stream:
        assert [row for block in stream for row in block] == []


def test_limit_zero_probe_describes_the_columns(client: Client) -> None:
    result = client.query("SELECT 1 AS a, toDecimal64(1, 8) AS d LIMIT 0")
    assert result.column_names == ("a", "d")
    assert [kind.name for kind in result.column_types] == ["UInt8", "Decimal(18, 8)"]


def test_command_tells_an_empty_result_from_no_result(client: Client) -> None:
    assert client.command("SELECT 1 WHERE 0") == ""
    assert isinstance(client.command("CREATE TABLE t (a Int8) ENGINE = Memory"), QuerySummary)
    assert client.command("SELECT 5") == 5
    assert client.command("EXISTS TABLE t") == 1


def test_summary_counts_what_was_read_and_written(client: Client) -> None:
    client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    assert client.insert("t", [[1], [2], [3]], column_names=["a"]).written_rows == 3
    summary = client.query("SELECT * FROM t").summary
    assert (summary["read_rows"], summary["result_rows"]) == ("3", "3")
    assert summary["query_id"]


@pytest.mark.parametrize("compression", [False, "lz4", "zstd", "gzip"])
def test_inserts_and_results_are_compressed_both_ways(
    server: LocalServer, database: str, compression: bool | str
) -> None:
    with server.client(database=database, compress=compression) as client:
        client.command("CREATE TABLE t (a Int32, s String) ENGINE = MergeTree ORDER BY a")
        client.insert("t", [[number, "text" * 10] for number in range(5000)], column_names=["a", "s"])
        assert client.query("SELECT count(), sum(a), any(s) FROM t").first_row == (5000, 12_497_500, "text" * 10)
        assert len(client.query("SELECT a, s FROM t").result_rows) == 5000
        with pytest.raises(DatabaseError) as caught:
            client.query("SELECT * FROM no_such_table")
        assert caught.value.code == 60


def test_deflated_results_are_read(server: LocalServer) -> None:
    with server.client(compress="deflate") as client:
        assert len(client.query("SELECT number FROM numbers(5000)").result_rows) == 5000


def test_arrow_tables_go_in_and_come_out(client: Client) -> None:
    client.command(
        "CREATE TABLE t (a UInt32, p Decimal64(8), at DateTime64(9, 'UTC'), l Array(Float64)) "
        "ENGINE = MergeTree ORDER BY a"
    )
    table = pa.table(
        {
            "a": pa.array([1, 2], pa.uint32()),
            "p": pa.array([Decimal("1.5"), Decimal("-0.00000001")], pa.decimal128(18, 8)),
            "at": pa.array([0, 1_723_075_200_123_456_789], pa.timestamp("ns", "UTC")),
            "l": [[1.0, 2.0], []],
        }
    )
    assert client.insert_arrow("t", table).written_rows == 2
    back = client.query_arrow("SELECT * FROM t ORDER BY a")
    assert back.column("p").to_pylist() == table.column("p").to_pylist()
    assert back.column("at").cast(pa.int64()).to_pylist() == [0, 1_723_075_200_123_456_789]
    with client.query_arrow_stream("SELECT * FROM t") as stream:
        assert sum(batch.num_rows for batch in stream) == 2


def test_data_frames_go_in_and_come_out(client: Client) -> None:
    client.command("CREATE TABLE t (a Int64, b Float64) ENGINE = MergeTree ORDER BY a")
    client.insert_df("t", pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}))
    frame = client.query_df("SELECT * FROM t ORDER BY a")
    assert frame["a"].tolist() == [1, 2]
    assert frame["b"].tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    ("fmt", "block"),
    [
        ("CSV", "1,a\n2,b\n"),
        ("TabSeparated", b"1\ta\n2\tb\n"),
        ("JSONEachRow", '{"a": 1, "s": "a"}\n{"a": 2, "s": "b"}\n'),
    ],
)
def test_text_formats_are_inserted_as_they_are(client: Client, fmt: str, block: str | bytes) -> None:
    client.command("CREATE TABLE t (a Int32, s String) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("t", ["a", "s"], block, fmt=fmt)
    assert client.query("SELECT * FROM t ORDER BY a").result_rows == [(1, "a"), (2, "b")]


def test_raw_query_answers_in_the_format_asked_for(client: Client) -> None:
    assert client.raw_query("SELECT 1 AS a, 'x' AS b", fmt="CSVWithNames") == b'"a","b"\n1,"x"\n'
    assert client.raw_query("SELECT 1 AS a FORMAT JSONEachRow") == b'{"a":1}\n'
    with client.raw_stream("SELECT number FROM numbers(3)", fmt="TabSeparated") as stream:
        assert stream.read() == b"0\n1\n2\n"


def test_bad_insert_is_refused_and_writes_nothing(client: Client) -> None:
    client.command("CREATE TABLE t (a Int32) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("t", ["a"], "1\nnot a number\n", fmt="CSV")
    assert caught.value.code == 117
    with pytest.raises(DatabaseError):
        client.raw_insert("t", ["a"], b"\x00\x01garbage", fmt="ArrowStream")
    assert client.query("SELECT count() FROM t").first_row == (0,)


def test_session_keeps_temporary_tables_settings_and_database(client: Client, database: str) -> None:
    client.command("CREATE TEMPORARY TABLE kept (x Int8)")
    client.command("INSERT INTO kept VALUES (1), (2)")
    client.command("SET max_threads = 1")
    with pytest.raises(DatabaseError):
        client.query("SELECT * FROM no_such_table")
    assert client.query("SELECT sum(x), getSetting('max_threads') FROM kept").first_row == (3, 1)
    assert client.query("SELECT currentDatabase()").first_row == (database,)
    assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 2}).first_row == (2,)
    assert client.query("SELECT getSetting('max_threads')").first_row == (1,)


def test_session_does_not_reach_another(server: LocalServer, client: Client, database: str) -> None:
    client.command("CREATE TEMPORARY TABLE mine (x Int8)")
    with server.client(database=database) as other, pytest.raises(DatabaseError) as caught:
        other.query("SELECT * FROM mine")
    assert caught.value.code == 60


def test_use_moves_a_session_to_another_database(server: LocalServer, database: str) -> None:
    with server.client() as client:
        client.database = None
        client.command(f"USE {database}")
        assert client.command("SELECT currentDatabase()") == database


def test_external_tables_join_a_query(client: Client) -> None:
    data = ExternalData(file_name="sent.csv", data=b"1,a\n2,b\r\n", fmt="CSV", structure=["n Int32", "s String"])
    assert client.query("SELECT sum(n), max(s) FROM sent", external_data=data).first_row == (3, "b")
    unnamed = ExternalData(file_name="sent.csv", data=b"1,2.5\n", fmt="CSV", types=["Int32", "Decimal(18, 2)"])
    assert client.query("SELECT _1, _2 FROM sent", external_data=unnamed).first_row == (1, Decimal("2.50"))


def test_many_clients_write_and_read_at_once(server: LocalServer, database: str, client: Client) -> None:
    client.command("CREATE TABLE t (w Int32, n Int32) ENGINE = MergeTree ORDER BY (w, n)")
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            with server.client(database=database) as own:
                for batch in range(5):
                    own.insert("t", [[number, batch * 100 + at] for at in range(100)], column_names=["w", "n"])
                    mine = own.query("SELECT count() FROM t WHERE w = {w:Int32}", parameters={"w": number}).first_row
                    assert mine == ((batch + 1) * 100,)
        except Exception as error:  # noqa: BLE001 - reported below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert client.query("SELECT count(), uniqExact(w, n) FROM t").first_row == (4000, 4000)


def test_slow_query_does_not_hold_up_others(server: LocalServer) -> None:
    with server.client() as slow, server.client() as quick, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(slow.query, "SELECT sleepEachRow(1) FROM numbers(1000) SETTINGS max_block_size = 1")
        for _ in range(5):
            assert quick.query("SELECT 1").first_row == (1,)
        assert not answer.done()
        eventually(
            lambda: quick.query("KILL QUERY WHERE query LIKE 'SELECT sleepEachRow(1)%' SYNC").row_count == 1,
            within_s=60,
        )
        with pytest.raises(DatabaseError, match="QUERY_WAS_CANCELLED"):
            answer.result()


def test_wrong_password_is_refused(server: LocalServer) -> None:
    with pytest.raises(DatabaseError) as caught:
        server.client(username="default", password="wrong")
    assert caught.value.code == 516


def test_named_user_without_password_is_refused(server: LocalServer) -> None:
    with pytest.raises(DatabaseError) as caught:
        server.client(username="somebody")
    assert caught.value.code == 516


def test_client_of_a_dead_port_fails_as_unreachable() -> None:
    import clickhouse_connect

    with pytest.raises(OperationalError):
        clickhouse_connect.get_client(host="127.0.0.1", port=1, connect_timeout=1)
