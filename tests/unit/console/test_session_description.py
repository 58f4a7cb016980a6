"""A session's description is read like anything from outside: whatever is in it, one line says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libs.runtime.errors import BadInput
from services.console.session import SessionDescription, load_session

FACTS: dict[str, Any] = {
    "name": "one",
    "folder": "somewhere/one",
    "market": "simulated",
    "mode": "paper",
    "seed": 7,
    "speed": 60.0,
    "instrument": "BTCUSDT.BINANCE",
    "bus": "sqlite:somewhere/one/bus.db",
    "topic_prefix": "",
    "clickhouse": "http://127.0.0.1:1",
    "clickhouse_database": "perpflow",
    "environment": {"PERPFLOW_RISK_ACCOUNT": "paper"},
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("var")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERPFLOW_VAR", str(root))
        (root / "sessions" / "one").mkdir(parents=True)
        yield root


def described(root: Path, text: str | bytes) -> SessionDescription:
    raw = text.encode("utf-8", errors="surrogatepass") if isinstance(text, str) else text
    (root / "sessions" / "one" / "session.json").write_bytes(raw)
    return load_session("one")


@pytest.mark.slow
@example(name="environment", value={"\r": None})
@given(name=st.sampled_from(sorted(FACTS)), value=ANYTHING)
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_any_field_is_taken_or_refused_in_one_line(root: Path, name: str, value: object) -> None:
    try:
        session = described(root, json.dumps({**FACTS, name: value}))
    except BadInput as error:
        assert "session.json is damaged" in str(error)
        assert len(str(error).splitlines()) == 1
    else:
        assert isinstance(session.bus, str)
        assert all(isinstance(item, str) for item in session.environment.values())


@pytest.mark.parametrize("name", [name for name in FACTS if name != "environment"])
def test_a_missing_field_is_named(root: Path, name: str) -> None:
    with pytest.raises(BadInput, match=f"session.json is damaged \\({name}: "):
        described(root, json.dumps({key: value for key, value in FACTS.items() if key != name}))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"x"', b"\xff\xfe", "{}", '{"name": "one"}'])
def test_what_is_no_description_is_refused(root: Path, text: str | bytes) -> None:
    with pytest.raises(BadInput, match=r"session\.json is damaged"):
        described(root, text)


def test_a_description_that_is_a_folder_is_refused(root: Path) -> None:
    folder = root / "sessions" / "two"
    (folder / "session.json").mkdir(parents=True)
    with pytest.raises(BadInput, match="no session 'two'"):
        load_session("two")


def test_a_log_that_was_moved_with_its_folder_is_found(root: Path) -> None:
    assert described(root, json.dumps(FACTS)).bus == f"sqlite:{root / 'sessions' / 'one'}/bus.db"
