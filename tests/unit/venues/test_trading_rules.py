"""A venue whose trading rules are not those that the instrument declares is refused, each rule by name."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from libs.venues.binance_rules import read_rules
from libs.venues.errors import VenueRefused, VenueUnavailable
from libs.venues.rules import check_market, check_rules
from tests.kit.builders import BTC

# The form of Binance's answer, with its filters of production for BTCUSDT.
ANSWER: dict[str, Any] = {
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "contractType": "PERPETUAL",
            "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "261.10", "maxPrice": "809484", "tickSize": "0.10"},
                {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
                {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
                {"filterType": "MIN_NOTIONAL", "notional": "100"},
            ],
        },
        {"symbol": "ODDUSDT", "contractType": "", "filters": []},
    ]
}
FIXTURES = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "market" / "fixtures" / "rest"


def stated(**changes: Any) -> Any:
    answer = deepcopy(ANSWER)
    row = answer["symbols"][0]
    for name, value in changes.items():
        found = [each for each in row["filters"] if name in each and each["filterType"] != "MARKET_LOT_SIZE"]
        (found[0] if found else row)[name] = value
    return read_rules(answer, {"BTCUSDT"})


def test_rules_that_agree_are_taken() -> None:
    check_rules([BTC], stated())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tickSize": "0.01"}, "tick size is 0.01 at the venue, declared is 0.1"),
        ({"stepSize": "0.0001"}, "step size is 0.0001 at the venue, declared is 0.001"),
        ({"minQty": "0.002"}, "minimum quantity is 0.002 at the venue, declared is 0.001"),
        ({"notional": "5"}, "minimum notional is 5 at the venue, declared is 100"),
        ({"contractType": "CURRENT_QUARTER"}, "it is a CURRENT_QUARTER, not a perpetual"),
        ({"quoteAsset": "USDC"}, "it is quoted in USDC, declared is USDT"),
    ],
)
def test_rule_that_differs_is_refused_by_name(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(VenueRefused, match=f"{BTC}: {sentence}"):
        check_rules([BTC], stated(**changes))


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"stepSize": "0.0001", "notional": "50"}, False),
        ({"tickSize": "0.2"}, True),
        ({"stepSize": "0.002"}, True),
        ({"notional": "200"}, True),
        ({"contractType": "CURRENT_QUARTER"}, True),
    ],
)
def test_testnet_may_be_looser_and_never_stricter(changes: dict[str, str], is_refused: bool) -> None:
    if not is_refused:
        check_rules([BTC], stated(**changes), may_be_looser=True)
        return
    with pytest.raises(VenueRefused):
        check_rules([BTC], stated(**changes), may_be_looser=True)


def test_symbol_that_is_not_listed_is_refused() -> None:
    with pytest.raises(VenueRefused, match="the venue does not list ETHUSDT"):
        check_rules(["ETHUSDT.BINANCE"], stated())


@pytest.mark.parametrize("answer", [{}, [], None, {"symbols": [{"symbol": "BTCUSDT"}]}])
def test_answer_of_another_form_is_no_answer(answer: Any) -> None:
    with pytest.raises(VenueUnavailable, match="exchangeInfo is not what Binance documents"):
        read_rules(answer, {"BTCUSDT"})


@pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"needs the recorded answers in {FIXTURES}")
def test_recorded_answers_are_read() -> None:
    demo = json.loads((FIXTURES / "fapi_v1_exchangeInfo_BTC_ETH_202609_demo.json").read_text())
    check_rules([BTC], read_rules(demo, {"BTCUSDT"}), may_be_looser=True)
    with pytest.raises(VenueRefused, match=r"step size is 0\.0001 at the venue, declared is 0\.001"):
        check_rules([BTC], read_rules(demo, {"BTCUSDT"}))
    old = json.loads((FIXTURES / "fapi_v1_exchangeInfo_20210722.json").read_text())
    assert len(read_rules(old, {row["symbol"] for row in old["symbols"]})) == 122


def test_a_symbol_that_is_not_declared_is_followed_where_the_venue_lists_a_perpetual_of_it() -> None:
    answer = deepcopy(ANSWER)
    answer["symbols"] += [
        {**answer["symbols"][0], "symbol": "NKNUSDT"},
        {**answer["symbols"][0], "symbol": "NKNUSDT_270326", "contractType": "CURRENT_QUARTER"},
    ]
    rules = read_rules(answer, {"BTCUSDT", "NKNUSDT", "NKNUSDT_270326"})
    check_market("NKNUSDT.BINANCE", rules)
    with pytest.raises(VenueRefused, match="does not list NKMUSDT; check the symbol"):
        check_market("NKMUSDT.BINANCE", rules)
    with pytest.raises(VenueRefused, match="NKNUSDT_270326 is a CURRENT_QUARTER, not a perpetual"):
        check_market("NKNUSDT_270326.BINANCE", rules)
    with pytest.raises(VenueRefused, match=r"tick size is 0\.01 at the venue"):
        check_market(BTC, stated(tickSize="0.01"))
