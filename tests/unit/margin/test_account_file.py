"""The account a person asks about: every error is named by its path."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from libs.margin.account_file import read_account
from libs.margin.brackets import MarginError
from libs.margin.default_brackets import DEFAULT_BRACKETS
from libs.margin.liquidation import MarginMode, PositionMode, PositionSide


def an_account(position: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The account of the command's help, with changes."""
    held = {
        "symbol": "BTCUSDT",
        "side": "long",
        "quantity": "1",
        "entry_price": "20000",
        "mark_price": "19900",
        "leverage": "10",
        "isolated_margin": None,
        "maintenance_margin_rate": None,
        "maintenance_amount": None,
    } | (position or {})
    return {"margin_mode": "cross", "position_mode": "one_way", "wallet_balance": "1000", "positions": [held]} | changes


def test_a_good_account_is_read() -> None:
    question = read_account(an_account(), DEFAULT_BRACKETS)
    assert (question.margin_mode, question.position_mode) == (MarginMode.CROSS, PositionMode.ONE_WAY)
    assert question.wallet_balance == 1000
    (leg,) = question.legs
    assert (leg.symbol, leg.side, leg.quantity) == ("BTCUSDT", PositionSide.LONG, 1)
    assert (leg.entry_price, leg.mark_price, leg.leverage) == (20000, 19900, 10)
    assert leg.brackets is DEFAULT_BRACKETS["BTCUSDT"]
    assert leg.isolated_wallet == 2000
    assert question.notes == ((),)


def test_rate_and_amount_replace_the_brackets_even_for_unknown_symbols() -> None:
    position = {"symbol": "FOOUSDT", "maintenance_margin_rate": "0.1", "maintenance_amount": "5", "isolated_margin": 7}
    (leg,) = read_account(an_account(position), {}).legs
    assert leg.brackets.maintenance_margin(Decimal(100)) == 5
    assert leg.isolated_wallet == 7


def test_rate_without_amount_deducts_nothing() -> None:
    (leg,) = read_account(an_account({"maintenance_margin_rate": "0.1"}), {}).legs
    assert leg.brackets.maintenance_margin(Decimal(100)) == 10


def test_optional_fields_may_be_left_out() -> None:
    account = an_account()
    for name in ("isolated_margin", "maintenance_margin_rate", "maintenance_amount"):
        del account["positions"][0][name]
    assert read_account(account, DEFAULT_BRACKETS).legs == read_account(an_account(), DEFAULT_BRACKETS).legs


def test_what_the_venue_would_not_allow_is_noted() -> None:
    question = read_account(an_account({"leverage": "126"}), DEFAULT_BRACKETS)
    assert question.notes[0][0].startswith("leverage 126 exceeds 125")
    assert read_account(an_account({"leverage": "125"}), DEFAULT_BRACKETS).notes == ((),)
    question = read_account(an_account({"quantity": "90001", "leverage": "1"}), DEFAULT_BRACKETS)
    assert question.notes[0][0].startswith("notional exceeds 1800000000")
    assert read_account(an_account({"quantity": "90000", "leverage": "1"}), DEFAULT_BRACKETS).notes == ((),)


def test_flat_rates_allow_a_leverage_of_a_million() -> None:
    def notes(leverage: str) -> tuple[str, ...]:
        position = {"maintenance_margin_rate": "0", "leverage": leverage}
        return read_account(an_account(position), {}).notes[0]

    assert notes("1000000") == ()
    assert notes("1000001")[0].startswith("leverage 1000001 exceeds 1000000")


@pytest.mark.parametrize(
    ("position", "message"),
    [
        ({"quantity": "-1"}, r"positions\[0\]\.quantity: -1 must be above zero"),
        ({"quantity": "NaN"}, r"positions\[0\]\.quantity: NaN is not a finite number"),
        ({"quantity": "lots"}, r"positions\[0\]\.quantity: 'lots' is not a number"),
        ({"entry_price": "0"}, r"positions\[0\]\.entry_price: 0"),
        ({"leverage": "0"}, r"positions\[0\]\.leverage: 0"),
        ({"side": "up"}, r"positions\[0\]\.side: 'up' must be one of long, short"),
        ({"symbol": "FOOUSDT"}, r"positions\[0\]\.symbol: unknown symbol 'FOOUSDT'"),
        ({"symbol": ""}, r"positions\[0\]\.symbol: '' is not a symbol"),
        ({"symbol": 3}, r"positions\[0\]\.symbol: 3 is not a symbol"),
        ({"isolated_margin": "-1"}, r"positions\[0\]\.isolated_margin: -1"),
        ({"maintenance_margin_rate": "1.5"}, r"positions\[0\]\.maintenance_margin_rate: 1.5 lies outside"),
        ({"maintenance_margin_rate": "x"}, r"^positions\[0\]\.maintenance_margin_rate: 'x' is not"),
        ({"maintenance_margin_rate": "0.1", "maintenance_amount": "-1"}, r"positions\[0\]\.maintenance_amount: -1"),
        ({"maintenance_amount": "1"}, r"maintenance_amount is given without"),
        ({"marksprice": "1"}, r"positions\[0\]\.marksprice is no field of it"),
    ],
)
def test_errors_of_a_position_are_named_by_path(position: dict[str, Any], message: str) -> None:
    with pytest.raises(MarginError, match=message):
        read_account(an_account(position), DEFAULT_BRACKETS)


@pytest.mark.parametrize(
    ("account", "message"),
    [
        ([], "account: expected an object"),
        (an_account(margin_mode="both"), "margin_mode: 'both' must be one of cross, isolated"),
        (an_account(position_mode=1), "position_mode: 1 must be one of one_way, hedge"),
        (an_account(wallet_balance="-1"), "wallet_balance: -1 must be zero or above"),
        (an_account(wallet_balance=None), "wallet_balance: None is not a number"),
        (an_account(positions={}), "account.positions: expected a list"),
        (an_account(positions=[3]), r"positions\[0\] is not an object"),
        (an_account(positions=[{}]), r"positions\[0\]\.symbol is missing"),
        (an_account(walet=1), "account.walet is no field of it"),
        ({"margin_mode": "cross"}, "account.position_mode is missing"),
    ],
)
def test_errors_of_the_account_are_named(account: object, message: str) -> None:
    with pytest.raises(MarginError, match=message):
        read_account(account, DEFAULT_BRACKETS)


def test_many_known_symbols_are_abbreviated() -> None:
    tables = {f"A{number}": DEFAULT_BRACKETS["BTCUSDT"] for number in range(9)}
    with pytest.raises(MarginError, match=r"A7, \.\.\.\)"):
        read_account(an_account(), tables)
    del tables["A8"]
    with pytest.raises(MarginError, match=r"A6, A7\)"):
        read_account(an_account(), tables)


def test_an_account_may_hold_nothing_and_owe_nothing() -> None:
    assert read_account(an_account(positions=[], wallet_balance=0), {}).legs == ()
