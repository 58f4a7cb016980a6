"""A trading core with a scripted market: requests at market times, events in, answers and stream events out."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from libs.domain.market import MarketEvent
from services.exchange.core import START_MS
from services.exchange.core.account import AccountTerms, Refused, TradingCore
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.queries import Queries
from tests.kit.builders import a_mark
from tests.unit.matching.builders import a_depth

BIDS = (("59999.9", "1"), ("59999", "5"), ("59000", "50"))
ASKS = (("60000", "1"), ("60001", "5"), ("61000", "50"))


class Trader:
    """A core with a book around 60000 and a mark of 60000, asked a second after `START_MS`."""

    def __init__(self, balance: str = "10000", leverage: int = 20) -> None:
        self.core = TradingCore(AccountTerms(Decimal(balance), leverage))
        self.now_ms = START_MS
        self.events: list[dict[str, Any]] = []
        self.market(a_depth(BIDS, ASKS), a_mark())
        self.now_ms += 1000

    def market(self, *events: MarketEvent) -> None:
        """Let the market move on."""
        for event in events:
            self.core.handle(event)
            self.now_ms = max(self.now_ms, event.event_time // 1_000_000)
        self._take()

    def wait(self, seconds: float) -> None:
        """Let time pass without the market."""
        self.now_ms += round(seconds * 1000)
        self.core.pass_time(self.now_ms)
        self._take()

    def send(self, request: str, **sent: Any) -> Any:
        """Send a request that changes something, of this symbol unless another is named."""
        parameters = {"symbol": "BTCUSDT", **sent}
        answer = self.core.prepare(request, {name: str(value) for name, value in parameters.items()})(self.now_ms)
        self._take()
        return answer

    def place(self, side: str = "BUY", quantity: str = "1", price: str | None = None, **sent: Any) -> Any:
        """Place a market order, or with a price a limit order; the answer has the result."""
        fields = {"side": side, "quantity": quantity, "type": "MARKET", "newOrderRespType": "RESULT"}
        if price is not None:
            fields |= {"type": "LIMIT", "price": price, "timeInForce": "GTC"}
        return self.send("POST /fapi/v1/order", **{**fields, **sent})

    def place_algo(self, order_type: str = "STOP_MARKET", side: str = "SELL", quantity: str = "1", **sent: Any) -> Any:
        """Place a conditional order on the mark."""
        fields = {"algoType": "CONDITIONAL", "type": order_type, "side": side, "quantity": quantity}
        return self.send("POST /fapi/v1/algoOrder", **{**fields, "workingType": "MARK_PRICE", **sent})

    def ask(self, request: str, **sent: Any) -> Any:
        """Send a request that only asks."""
        parameters = Parameters({name: str(value) for name, value in {"symbol": "BTCUSDT", **sent}.items()})
        return Queries(self.core, self.core.order_manager.mark, self.now_ms).answer(request, parameters)

    def refused(self, request: str, **sent: Any) -> int:
        """Return the code with which a request is refused."""
        with pytest.raises(Refused) as caught:
            self.send(request, **sent)
        assert caught.value.message
        return caught.value.code

    def refused_order(self, **sent: Any) -> int:
        """Return the code with which an order is refused."""
        with pytest.raises(Refused) as caught:
            self.place(**sent)
        assert caught.value.message
        return caught.value.code

    def refused_algo(self, **sent: Any) -> int:
        """Return the code with which a conditional order is refused."""
        with pytest.raises(Refused) as caught:
            self.place_algo(**sent)
        assert caught.value.message
        return caught.value.code

    @property
    def position(self) -> str:
        """The signed position."""
        amount: str = self.ask("GET /fapi/v2/positionRisk")[0]["positionAmt"]
        return amount

    @property
    def wallet(self) -> Decimal:
        """The wallet balance."""
        return Decimal(self.ask("GET /fapi/v3/balance")[0]["balance"])

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        """Return the stream's events of a kind so far."""
        return [event for event in self.events if event["e"] == kind]

    def steps(self) -> list[tuple[str, str]]:
        """Return execution and status of every order update so far."""
        return [(event["o"]["x"], event["o"]["X"]) for event in self.events_of("ORDER_TRADE_UPDATE")]

    def _take(self) -> None:
        self.events += self.core.take_events()


def total(entries: Iterable[dict[str, Any]], name: str) -> Decimal:
    """Add up a field."""
    return sum((Decimal(entry[name]) for entry in entries), Decimal(0))
