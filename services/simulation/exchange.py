"""The venue of a session: the core of the simulated exchange on the session's market, called without a network.

It speaks Binance's words, so that the outbox calls it through the client that it has in production. Requests and
answers are lost, refused for a moment or late, and the calling process may die before or after one took effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from libs.clock import Clock
from libs.domain.market import MarketEvent
from libs.domain.numbers import NANOSECONDS, from_e8
from libs.venues.binance_trading import BinanceTrading
from libs.venues.errors import VenueRefused, VenueUnavailable
from services.exchange.answers import exchange_info
from services.exchange.core.account import AccountTerms, Refused, TradingCore
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.queries import QUERIES, Queries
from services.exchange.core.frames import INSTRUMENT
from services.execution.core.reconciliation import OutboxTerms
from services.execution.outbox_shell import OutboxAccess
from services.simulation.market import START_NS
from services.simulation.mishaps import Killed, Mishaps

MS = 1_000_000
# How old a request may be when it arrives, as Binance's `recvWindow` says it.
_RECEIVE_WINDOW_NS = 10_000 * MS
# While the market goes on its clock stays behind the next event, which comes a second later at the soonest.
_LONGEST_PAUSE_NS = 900 * MS
RECONCILE_INTERVAL_S = 300
# Times of that clock, which jumps with the market: seldom enough that comparing is not all that happens.
TERMS = OutboxTerms(
    reconcile_interval_ns=RECONCILE_INTERVAL_S * NANOSECONDS,
    max_command_age_ns=86_400 * NANOSECONDS,
    countdown_ns=86_400 * NANOSECONDS,
)
OUTBOX_ACCESS = OutboxAccess((INSTRUMENT,), 3, TERMS.absent_after_ns // 2)
_REQUESTS = {
    "futures_get_position_mode": "GET /fapi/v1/positionSide/dual",
    "futures_get_multi_assets_mode": "GET /fapi/v1/multiAssetsMargin",
    "futures_change_margin_type": "POST /fapi/v1/marginType",
    "futures_change_leverage": "POST /fapi/v1/leverage",
    "futures_create_order": "POST /fapi/v1/order",
    "futures_cancel_order": "DELETE /fapi/v1/order",
    "futures_get_order": "GET /fapi/v1/order",
    "futures_get_open_orders": "GET /fapi/v1/openOrders",
    "futures_get_open_algo_orders": "GET /fapi/v1/openAlgoOrders",
    "futures_account": "GET /fapi/v2/account",
    "futures_countdown_cancel_all": "POST /fapi/v1/countdownCancelAll",
    "futures_account_trades": "GET /fapi/v1/userTrades",
}


class SessionExchange:
    """The exchange's side of a session; it outlives every outbox. `has_ended` is set once no market event comes.

    `sent` counts the orders that any process sent, by client order id; `late` are those that add risk and were sent
    while trading was halted.
    """

    def __init__(self, clock: Clock, mishaps: Mishaps) -> None:
        self.core = TradingCore(AccountTerms())
        self.sent: Counter[str] = Counter()
        self.late: list[str] = []
        self.is_halted = False
        self.has_ended = False
        self.event_count = 0
        self._clock = clock
        self._mishaps = mishaps
        self._market_ns = START_NS
        self._market_at_s = clock.monotonic_s()
        self._mark = Decimal(0)

    def take(self, event: MarketEvent) -> None:
        """Let the market go on; what is not of the one instrument that is listed changes nothing."""
        if event.instrument != INSTRUMENT or event.event_time < self._market_ns:
            return
        self._market_ns, self._market_at_s = event.event_time, self._clock.monotonic_s()
        mark_e8 = getattr(event, "mark_price_e8", 0)
        self._mark = from_e8(mark_e8) if mark_e8 else self._mark
        self.core.handle(event)

    def now_ns(self) -> int:
        """Return the venue's clock, which the market moves, and time itself where none comes."""
        passed_ns = int((self._clock.monotonic_s() - self._market_at_s) * NANOSECONDS)
        return self._market_ns + (passed_ns if self.has_ended else min(passed_ns, _LONGEST_PAUSE_NS))

    def pass_time(self) -> None:
        """Do what is due by now, and count what the account would push."""
        self.core.pass_time(self.now_ns() // MS)
        self.event_count += len(self.core.take_events())

    def note_sending(self, parameters: dict[str, Any]) -> None:
        """Note an order that leaves a process, whatever becomes of it."""
        name = str(parameters.get("newClientOrderId") or parameters.get("clientAlgoId"))
        self.sent[name] += 1
        if self.is_halted and parameters.get("reduceOnly") != "true":
            self.late.append(name)

    def answer(self, call: str, parameters: dict[str, Any]) -> Any:
        """Carry out a call of python-binance's client. Raises `Refused`."""
        self.pass_time()
        now_ms = self.now_ns() // MS
        if call == "futures_exchange_info":
            return exchange_info(now_ms)
        request = _REQUESTS[call]
        if "clientAlgoId" in parameters:
            request = request.replace("/order", "/algoOrder")
            parameters = {"algoType": "CONDITIONAL", **parameters}
        sent = {name: str(value) for name, value in parameters.items()}
        if request in QUERIES:
            return Queries(self.core, self._mark, now_ms).answer(request, Parameters(sent))
        return self.core.prepare(request, sent)(now_ms)


class ExchangeClient:
    """What one process has of the exchange, in place of `BinanceClient`. `hang` lets the rest of the world go on."""

    def __init__(self, exchange: SessionExchange, mishaps: Mishaps, hang: Callable[[], None]) -> None:
        self._exchange = exchange
        self._mishaps = mishaps
        self._hang = hang

    def now_ms(self) -> float:
        """Return the venue's clock."""
        return self._exchange.now_ns() / MS

    def synchronise(self) -> None:
        """Ask for the venue's time."""
        self._may_be_lost()

    def ask(self, call: str, **parameters: Any) -> Any:
        """Make a call. Raises `VenueRefused` and `VenueUnavailable`."""
        exchange, mishaps = self._exchange, self._mishaps
        if mishaps.strikes("kill_before_call"):
            raise Killed("before a call")
        if call == "futures_create_order":
            exchange.note_sending(parameters)
        self._may_be_lost()
        if mishaps.strikes("late_request"):
            sent_at = exchange.now_ns()
            self._hang()
            if exchange.now_ns() - sent_at <= _RECEIVE_WINDOW_NS:
                self._carry_out(call, parameters)
            raise VenueUnavailable("-1007 timeout waiting for the answer")
        answer = self._carry_out(call, parameters)
        if mishaps.strikes("kill_after_call"):
            raise Killed("after a call")
        if mishaps.strikes("lost_answer"):
            raise VenueUnavailable("the connection was closed before an answer came")
        return answer

    def close(self) -> None:
        """Close nothing: there is no connection."""

    def _may_be_lost(self) -> None:
        if self._mishaps.strikes("lost_request"):
            raise VenueUnavailable("the connection was closed")
        if self._mishaps.strikes("venue_down"):
            raise VenueUnavailable("503: service unavailable")

    def _carry_out(self, call: str, parameters: dict[str, Any]) -> Any:
        try:
            return self._exchange.answer(call, parameters)
        except Refused as error:
            raise VenueRefused(f"{error.code} {error.message}", error.code) from error


class _AccountUpdates:
    """What the user data stream would say: that something happened since the last look."""

    def __init__(self, exchange: SessionExchange, mishaps: Mishaps) -> None:
        self._exchange = exchange
        self._mishaps = mishaps
        self._seen = exchange.event_count

    def has_update(self, _ask_key: Callable[[], str]) -> bool:
        """Look; an update may be late."""
        self._exchange.pass_time()
        if self._exchange.event_count == self._seen or self._mishaps.strikes("late_update"):
            return False
        self._seen = self._exchange.event_count
        return True

    def close(self) -> None:
        """Close nothing."""


def open_venue(exchange: SessionExchange, mishaps: Mishaps, hang: Callable[[], None]) -> BinanceTrading:
    """Return the venue for one process."""
    client, updates = ExchangeClient(exchange, mishaps, hang), _AccountUpdates(exchange, mishaps)
    return BinanceTrading(client, updates)  # type: ignore[arg-type]
