"""Packed records: they come back byte for byte, the dictionary stays as it is, files of the format before are read."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.bus import packing
from libs.bus.api import BusUnavailable, NewRecord, TopicPartition, TopicSpec
from libs.bus.headers import encode_headers
from libs.bus.packing import RecordPacker
from libs.bus.sqlite import SqliteBus
from libs.runtime.records import stamped_record
from libs.wire import encode
from tests.kit.builders import a_trade

PACKER = RecordPacker()
FIRST = TopicPartition("a", 0)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=40), st.binary(max_size=200), st.binary(max_size=2_000))
def test_records_come_back_byte_for_byte(key: bytes, headers: bytes, value: bytes) -> None:
    assert PACKER.unpack(PACKER.pack(key, headers, value)) == (key, headers, value)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=100)
def test_what_was_not_packed_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        PACKER.unpack(blob)


def test_a_trade_takes_less_than_half_of_its_bytes() -> None:
    record = stamped_record(encode(a_trade(7)), "ingestion", 1_800_000_000_123_456_789)
    headers = encode_headers(record.headers)
    plain = len(record.key) + len(headers) + len(record.value)
    assert len(PACKER.pack(record.key, headers, record.value)) < 0.45 * plain


def test_a_dictionary_that_files_were_written_with_is_never_changed() -> None:
    found = Path(packing.__file__).with_name("dictionary_1.zdict").read_bytes()
    assert hashlib.sha256(found).hexdigest() == "642f0f996245ee8cb861afff334bac9ea3a7f261a863ba78d4ef41a312069f29"


def written(path: Path) -> list[tuple[int, bytes, bytes, dict[str, bytes]]]:
    with SqliteBus(path) as bus:
        consumer = bus.consumer(["a"])
        consumer.assign({FIRST: 0})
        records = consumer.poll(100, 0)
        return [(each.offset, each.key, each.value, dict(each.headers)) for each in records]


def append(path: Path, *values: bytes) -> None:
    with SqliteBus(path) as bus:
        bus.create_topics([TopicSpec("a")])
        producer = bus.producer("p")
        producer.begin()
        producer.send(NewRecord("a", b"key", value, {"h": value}) for value in values)
        producer.commit()


def test_a_file_of_the_format_before_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    append(path, b"1", b"2")
    with sqlite3.connect(path) as database:
        rows = [(0, 5, b"key", encode_headers({"h": b"1"}), b"1"), (1, 5, b"", b"", b"2")]
        database.execute("DELETE FROM log_1")
        database.executemany("INSERT INTO log_1 VALUES (?, ?, ?, ?, ?)", rows)
        database.execute("PRAGMA user_version=1")
    database.close()
    append(path, b"3")
    assert written(path) == [(0, b"key", b"1", {"h": b"1"}), (1, b"", b"2", {}), (2, b"key", b"3", {"h": b"3"})]
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
    database.close()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    append(path, b"1", b"2")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE log_1 SET value = ? WHERE offset = 1", (b"\x00\x01",))
    database.close()
    with pytest.raises(BusUnavailable, match=r"record 1 of a/0 .* is damaged"):
        written(path)
