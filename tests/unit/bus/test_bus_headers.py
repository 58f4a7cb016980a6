"""Headers packed and unpacked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.bus.headers import decode_headers, encode_headers


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=50), max_size=8))
def test_headers_come_back_in_their_order(headers: dict[str, bytes]) -> None:
    assert list(decode_headers(encode_headers(headers)).items()) == list(headers.items())


def test_no_headers_take_no_room() -> None:
    assert encode_headers({}) == b""


@pytest.mark.parametrize("cut", range(1, 15))
def test_headers_cut_short_are_refused(cut: int) -> None:
    blob = encode_headers({"name": b"value"})
    with pytest.raises(ValueError, match="end in the middle"):
        decode_headers(blob[:-cut])


def test_a_name_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 65535"):
        encode_headers({"n" * 70_000: b""})
