"""Runs a session's market through the cores again, under its own settings: for `drift` and `replay --follow`."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from libs.domain.accounts import AccountState
from libs.domain.events import DeadInput, Event
from libs.domain.market import ExchangeBar, MarketEvent, Trade
from libs.domain.numbers import from_e8
from libs.domain.orders import OrderApproved, OrderEvent, OrderRefused
from libs.portfolio.model_scores import is_model_account
from libs.runtime.errors import BadInput
from libs.wire import topics
from services.backtest.drift import Drift, TradingOutcome, split_drift
from services.backtest.inputs import MarketInput
from services.backtest.options import BacktestOptions
from services.backtest.run import run_backtest
from services.backtest.what_if import Decisions, compare_runs
from services.console.placing import placement_of
from services.console.replay import parse_what_if
from services.console.session import SessionDescription
from services.console.session_bus import open_session_bus
from services.console.session_events import SessionEvents
from services.console.session_market import open_topic_market, paper_settings

_UNCHANGED: Mapping[str, str] = MappingProxyType({})


class MarketPrices:
    """The price of a market by its time, noted while it passes."""

    def __init__(self) -> None:
        self._times = array("q")
        self._prices_e8 = array("q")

    def noting(self, events: Iterator[MarketEvent | DeadInput]) -> Iterator[MarketEvent | DeadInput]:
        """Yield the events and note their prices."""
        for event in events:
            if isinstance(event, Trade):
                self._note(event.event_time, event.price_e8)
            elif isinstance(event, ExchangeBar) and not event.is_history:
                self._note(event.event_time, event.close_e8)
            yield event

    def _note(self, event_time: int, price_e8: int) -> None:
        self._times.append(max(event_time, self._times[-1]) if self._times else event_time)
        self._prices_e8.append(price_e8)

    def at(self, event_time: int) -> Decimal:
        """Return the last price up to a time (ns); the first one before it."""
        if not self._times:
            raise BadInput("the session's market has no trade and no bar, so nothing could be filled")
        return from_e8(self._prices_e8[max(0, bisect_right(self._times, event_time) - 1)])

    def last(self) -> Decimal:
        """Return the last price."""
        return self.at(self._times[-1] if self._times else 0)


def measure_drift(session: SessionDescription) -> Drift:
    """Hold a session against the backtest over its market and split the difference. Raises `BadInput`."""
    account = _only_account(session)
    prices = MarketPrices()
    made, lived = TradingOutcome(), TradingOutcome()
    with open_session_bus(session) as bus:
        events = SessionEvents(bus)
        states = [state for state in events.of(topics.ACCOUNTS, AccountState) if state.account == account]
        if not states:
            raise BadInput(f"session {session.name} has no state of account {account}, so there is nothing to compare")
        _run(session, lambda event: made.see(event, prices.at), prices, balance=states[0].wallet_balance)
        kinds = ((topics.VERDICTS, OrderApproved), (topics.VERDICTS, OrderRefused), (topics.ORDERS, OrderEvent))
        decided: list[Any] = [event for topic, kind in kinds for event in events.of(topic, kind)]
        for event in (*decided, *states):
            if event.account == account:
                lived.see(event, prices.at)
    return split_drift(lived, made, prices.last())


def follow_change(session: SessionDescription, change: str) -> dict[str, Any]:
    """Run a session's market with and without a changed setting, each decision's effects followed through the paper
    venue, and compare what was decided. Raises `BadInput`."""
    service, override = parse_what_if(change)
    before, after = Decisions(), Decisions()
    _run(session, before.see)
    _run(session, after.see, changes=override)
    return {"change": change, "service": service, **compare_runs(before, after)}


def _run(
    session: SessionDescription,
    listen: Callable[[Event], None],
    prices: MarketPrices | None = None,
    *,
    changes: Mapping[str, str] = _UNCHANGED,
    balance: Decimal | None = None,
) -> None:
    _only_account(session)
    options = BacktestOptions(
        session.instrument,
        starting_balance_usdt=balance,
        environment={**paper_settings(session), **changes},
    )
    with ExitStack() as opened:
        market: MarketInput = open_topic_market(opened, None, session.name, session.instrument)
        if prices is not None:
            market = replace(market, events=prices.noting(market.events))
        run_backtest(market, options, listen=listen)


def _only_account(session: SessionDescription) -> str:
    """Return the one account, beside its models', of a session of one instrument. Raises `BadInput` for others."""
    placement = placement_of(session)
    accounts = [name for name in placement.accounts if not is_model_account(name)]
    if len(accounts) > 1 or len(placement.instruments) > 1:
        raise BadInput(f"session {session.name} has several accounts or instruments; this compares one of each so far")
    return session.environment.get("PERPFLOW_EXECUTION_ACCOUNT", session.mode)
