"""Messages written by earlier versions decode to what they said then, and are written the same today."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from libs.wire import decode, encode, topics
from tests.kit.golden import FILE, examples

GOLDEN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_a_golden_message_decodes_for_ever(name: str) -> None:
    golden = GOLDEN[name]
    event = decode(golden["topic"], bytes.fromhex(golden["payload"]))
    text = repr(event)
    for field in fields(event):
        if f"{field.name}=" not in golden["reads"]:
            # Added since; what was written before has none.
            assert getattr(event, field.name) == field.default
            text = text.replace(f", {field.name}={field.default!r}", "")
    assert text == golden["reads"]
    assert encode(event).payload.hex() == golden["payload"]


def test_every_kind_of_every_data_topic_has_a_golden_message() -> None:
    kinds = {f"{name}/{kind}" for name in topics.DATA_TOPICS for kind in topics.TOPICS[name].kinds}
    assert kinds == set(GOLDEN)
    assert {f"{encode(event).topic}/{encode(event).kind}" for event in examples().values()} == kinds
