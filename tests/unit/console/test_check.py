"""`perpflow check` against a real store: what is missing in the tables is named."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libs.bus.api import TopicSpec
from libs.bus.open import open_bus
from libs.runtime.records import commit_records, stamped_record
from libs.store.store import Store
from libs.wire import encode
from libs.wire.topics import ACCOUNTS, TOPICS
from services.console import check_commands
from services.console import main as console
from tests.kit.builders import an_account

Perpflow = Callable[..., tuple[int, str, str]]


@pytest.fixture
def perpflow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Perpflow:
    url = f"sqlite:{tmp_path / 'bus.db'}"
    with open_bus(url) as bus:
        bus.create_topics(TopicSpec(topic) for topic in TOPICS)
        producer = bus.producer("test")
        commit_records(producer, [stamped_record(encode(an_account()), "test", 1)])
        producer.close()
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("PERPFLOW_BUS", url)
    monkeypatch.setattr(check_commands, "_WRITTEN_WITHIN_S", 0.1)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perpflow", *words])
        with pytest.raises(SystemExit) as ended:
            console.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_records_that_no_table_has_are_named(perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "count_rows", lambda _self, _begins=None: {})
    code, out, err = perpflow("check", "--json")
    assert code == 1
    assert json.loads(out)["missing_in_tables"] == {ACCOUNTS: 1}
    assert f"1 records of {ACCOUNTS} are not in ClickHouse" in err


def test_topics_and_tables_that_agree_pass(perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "count_rows", lambda _self, _begins=None: {ACCOUNTS: 1})
    code, out, _ = perpflow("check")
    assert code == 0
    assert "1 records in" in out


def test_a_store_that_does_not_answer_is_exit_code_3(perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_CLICKHOUSE", "http://127.0.0.1:1")
    code, _, err = perpflow("check")
    assert code == 3
    assert "topics and tables cannot be compared" in err
