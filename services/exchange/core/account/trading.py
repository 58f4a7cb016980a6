"""The account that trades on the simulated market: market events and requests in, answers and user-stream events out.

Pure: time comes with every event and request. What happens between requests (fills, triggers, funding, liquidation,
the countdown, the end of a listen key) depends on the market's events and their times alone, not on how often anyone
looks. One account, one symbol, one-way, cross margin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, MarketEvent, MarkPrice, Trade
from libs.domain.numbers import from_e8
from libs.domain.state import StateFormat, adopt
from libs.matching.matcher import MatcherState
from libs.matching.orders import VenueOrder
from services.exchange.core.account.conditional import ConditionalOrders
from services.exchange.core.account.ledger import BRACKETS, AccountLedger, AccountLedgerState
from services.exchange.core.account.liquidation import liquidate_if_due
from services.exchange.core.account.listen_key import ListenKey, ListenKeyState
from services.exchange.core.account.order_manager import MS, OrderManager
from services.exchange.core.account.order_store import OrderStore, OrderStoreState
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.refusals import Refused
from services.exchange.core.account.requests import read_algo, read_order
from services.exchange.core.frames import SYMBOL

Action = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """How the account begins, in USDT. `seed` makes the ids that the exchange itself gives."""

    starting_balance: Decimal = Decimal(10_000)
    leverage: int = 20
    seed: int = 7


@dataclass(frozen=True, slots=True)
class AccountKept:
    """What is kept between events and requests."""

    ledger: AccountLedgerState
    books: OrderStoreState
    matcher: MatcherState
    waiting: dict[int, VenueOrder]
    listen_key: ListenKeyState
    countdown_ends_ms: int
    funding_ms: int
    funding_rate: int


_STATE = StateFormat("exchange-account", 1, AccountKept)


class TradingCore:
    """The exchange's side of one account. `prepare` reads a request, what it returns carries it out at a market time.

    `take_events` gives the user stream's events since the last call, as JSON values in order.
    """

    def __init__(self, terms: AccountTerms) -> None:
        self.ledger = AccountLedger(terms.starting_balance, terms.leverage)
        self.order_store = OrderStore(terms.seed)
        self.order_manager = OrderManager(self.ledger, self.order_store)
        self.conditional = ConditionalOrders(self.order_manager)
        self.listen_key = ListenKey(terms.seed)
        self.countdown_ends_ms = 0
        self._funding_ms = 0
        self._funding_rate = 0
        self._readers: dict[str, Callable[[Parameters], Action]] = {
            "POST /fapi/v1/order": lambda sent: partial(self.order_manager.place, read_order(sent)),
            "DELETE /fapi/v1/order": self._read_cancel,
            "DELETE /fapi/v1/allOpenOrders": lambda sent: _of_symbol(sent, self.order_manager.cancel_all),
            "POST /fapi/v1/algoOrder": lambda sent: partial(self.conditional.place, read_algo(sent)),
            "DELETE /fapi/v1/algoOrder": self._read_cancel_algo,
            "DELETE /fapi/v1/algoOpenOrders": lambda sent: _of_symbol(sent, self.conditional.cancel_all),
            "POST /fapi/v1/countdownCancelAll": self._read_countdown,
            "POST /fapi/v1/leverage": self._read_leverage,
            "POST /fapi/v1/listenKey": lambda _sent: self.listen_key.open,
            "PUT /fapi/v1/listenKey": lambda sent: partial(self.listen_key.extend, sent.sent.get("listenKey")),
            "DELETE /fapi/v1/listenKey": lambda sent: partial(self.listen_key.close, sent.sent.get("listenKey")),
        }

    @property
    def changing_requests(self) -> tuple[str, ...]:
        """The requests that `prepare` knows, as METHOD PATH."""
        return tuple(self._readers)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open, so that the market means nothing to the account."""
        matcher = self.order_manager.matcher
        return not (matcher.position or matcher.open_order_count or self.order_store.open_algos)

    def prepare(self, request: str, sent: Mapping[str, str]) -> Action:
        """Read a request; call what is returned with the market time in ms. Raises `Refused` for malformed ones."""
        return self._readers[request](Parameters(sent))

    def take_events(self) -> list[dict[str, Any]]:
        """Return the user stream's events since the last call."""
        events = self.order_store.events
        self.order_store.events = []
        return events

    # The market and time.

    def reopen_market(self, snapshot: DepthSnapshot | None) -> None:
        """Forget the market and begin anew with a book; only while the account is idle."""
        self.order_manager.reopen_matcher()
        self._funding_ms = 0
        if snapshot is not None:
            self.order_manager.matcher.apply_snapshot(snapshot)

    def handle(self, event: MarketEvent) -> None:
        """Advance by a market event."""
        time_ms = event.event_time // MS
        self.pass_time(time_ms)
        matcher = self.order_manager.matcher
        if isinstance(event, Trade):
            matcher.apply_trade(event)
            self.order_manager.drain()
            self.conditional.observe("CONTRACT_PRICE", event.price_e8, time_ms)
        elif isinstance(event, MarkPrice):
            matcher.apply_mark(event)
            self.order_manager.drain()
            self._take_over_mark(event, time_ms)
        else:
            if isinstance(event, BestQuote):
                matcher.apply_quote(event)
            elif isinstance(event, DepthDelta):
                matcher.apply_delta(event)
            elif isinstance(event, DepthSnapshot):
                matcher.apply_snapshot(event)
            self.order_manager.drain()

    def _take_over_mark(self, event: MarkPrice, time_ms: int) -> None:
        # At its time funding is settled at the mark of that moment and the rate published before it.
        if self._funding_ms and self._funding_ms <= time_ms:
            self._settle_funding()
        self._funding_ms = event.next_funding_time // MS
        self._funding_rate = event.funding_rate_e8
        self.conditional.observe("MARK_PRICE", event.mark_price_e8, time_ms)
        liquidate_if_due(self.order_manager, self.conditional, time_ms)

    def pass_time(self, now_ms: int) -> None:
        """Let what was due by now happen, each at its own time."""
        while True:
            deadlines: tuple[tuple[int, Callable[[], None]], ...] = (
                (self.countdown_ends_ms, self._end_countdown),
                (self.listen_key.ends_ms, self._expire_key),
                # Funding waits for the mark of its own moment, so it is overdue only after it.
                (self._funding_ms + 1 if self._funding_ms else 0, self._settle_funding),
            )
            due = [deadline for deadline in deadlines if 0 < deadline[0] <= now_ms]
            if not due:
                return
            min(due, key=lambda deadline: deadline[0])[1]()

    def _settle_funding(self) -> None:
        time_ms, self._funding_ms = self._funding_ms, 0
        if self.ledger.position.quantity:
            amount = self.ledger.apply_funding(self.order_manager.mark, from_e8(self._funding_rate), time_ms)
            self.order_manager.publish_account("FUNDING_FEE", time_ms, change=amount)

    def _expire_key(self) -> None:
        self.order_store.events.append(self.listen_key.expire())

    def _end_countdown(self) -> None:
        # Conditional orders stay: an assumption, since Binance has kept them apart from orders since 2025-12.
        time_ms, self.countdown_ends_ms = self.countdown_ends_ms, 0
        self.order_manager.cancel_all(time_ms)

    # Requests.

    def test_order(self, sent: Mapping[str, str], now_ms: int) -> None:
        """Check an order as placing would, without taking it. Raises `Refused`."""
        self.order_manager.check_order(read_order(Parameters(sent)), now_ms)

    def _read_cancel(self, sent: Parameters) -> Action:
        sent.check_symbol()
        self.order_store.find_order(sent)
        return partial(self.order_manager.cancel, sent)

    def _read_cancel_algo(self, sent: Parameters) -> Action:
        self.order_store.find_algo(sent)
        return partial(self.conditional.cancel, sent)

    def _read_countdown(self, sent: Parameters) -> Action:
        sent.check_symbol()
        return partial(self._set_countdown, sent.integer("countdownTime", high=10**12))

    def _set_countdown(self, countdown_ms: int, now_ms: int) -> dict[str, Any]:
        self.countdown_ends_ms = now_ms + countdown_ms if countdown_ms else 0
        return {"symbol": SYMBOL, "countdownTime": str(countdown_ms)}

    def _read_leverage(self, sent: Parameters) -> Action:
        sent.check_symbol()
        leverage = sent.integer("leverage")
        if not 1 <= leverage <= BRACKETS.brackets[0].max_leverage:
            raise Refused(-4028, f"Leverage {leverage} is not valid.")
        return partial(self._set_leverage, leverage)

    def _set_leverage(self, leverage: int, now_ms: int) -> dict[str, Any]:
        before, orders, mark = (
            self.ledger.leverage,
            list(self.order_store.open_orders.values()),
            self.order_manager.mark,
        )
        limit = self.ledger.notional_limit(leverage)
        if abs(self.ledger.margin(mark, orders).notional) > limit:
            raise Refused(-2027, "Exceeded the maximum allowable position at current leverage.")
        self.ledger.leverage = leverage
        margin = self.ledger.margin(mark, orders)
        if margin.initial > margin.balance:
            self.ledger.leverage = before
            raise Refused(-2028, "Leverage is smaller than permitted: insufficient margin balance.")
        if leverage != before:
            self.order_store.events.append(
                {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ac": {"s": SYMBOL, "l": leverage}}
            )
        return {"leverage": leverage, "maxNotionalValue": str(limit), "symbol": SYMBOL}

    def snapshot(self) -> bytes:
        """Return the state as bytes; the events must have been taken."""
        return _STATE.encode(
            AccountKept(
                self.ledger,
                self.order_store,
                self.order_manager.matcher,
                self.conditional.waiting,
                self.listen_key,
                self.countdown_ends_ms,
                self._funding_ms,
                self._funding_rate,
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state made by `snapshot`, into a core without orders. Raises `StateMismatch`."""
        kept = _STATE.decode(state)
        adopt(self.ledger, kept.ledger)
        self.order_store.restore(kept.books)
        adopt(self.order_manager.matcher, kept.matcher)
        self.conditional.waiting = kept.waiting
        adopt(self.listen_key, kept.listen_key)
        self.countdown_ends_ms = kept.countdown_ends_ms
        self._funding_ms, self._funding_rate = kept.funding_ms, kept.funding_rate


def _of_symbol(sent: Parameters, action: Action) -> Action:
    sent.check_symbol()
    return action
