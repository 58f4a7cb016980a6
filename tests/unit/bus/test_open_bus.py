"""Addresses of buses."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from libs.bus.api import BusError, BusUnavailable, TopicSpec
from libs.bus.kafka import KafkaBus
from libs.bus.open import open_bus


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "names no bus"),
        ("sqlite", "names no bus"),
        ("sqlite:", "names no bus"),
        ("redis:localhost:6379", "unknown kind 'redis'"),
        ("kafka:localhost", "not HOST:PORT"),
        ("kafka:localhost:http", "not HOST:PORT"),
        ("kafka:localhost:0", "not HOST:PORT"),
        ("kafka:localhost:99999", "not HOST:PORT"),
        ("kafka:one:9092,two", "'two' is not HOST:PORT"),
    ],
)
def test_a_bad_address_is_refused_with_the_forms_that_work(url: str, message: str) -> None:
    with pytest.raises(BusError, match=message) as refused:
        open_bus(url)
    assert "sqlite:PATH, kafka:HOST:PORT or memory:NAME" in str(refused.value)


def test_one_name_is_one_memory_bus_while_it_is_open() -> None:
    with open_bus("memory:shared") as first, open_bus("memory:shared") as second, open_bus("memory:other") as other:
        first.create_topics([TopicSpec("a")])
        assert dict(second.topics()) == {"a": 1}
        assert dict(other.topics()) == {}


def test_a_sqlite_bus_makes_its_folder(tmp_path: Path) -> None:
    with open_bus(f"sqlite:{tmp_path}/var/session/bus.db") as bus:
        bus.create_topics([TopicSpec("a")])
    assert (tmp_path / "var/session/bus.db").is_file()


def test_a_kafka_that_does_not_answer_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(BusUnavailable, match=f"{address} does not answer.*check that the broker runs"):
            KafkaBus(address, connect_timeout_s=1.0)
