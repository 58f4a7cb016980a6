"""The strategy core: lets strategies of one account hear what happens, nets their targets, asks for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState
from libs.domain.bars import TIMEFRAMES, Bar
from libs.domain.events import Event, Unhandleable
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.instruments import Instrument
from libs.domain.market import Side
from libs.domain.numbers import from_e8, round_down_to_step
from libs.domain.orders import (
    IntentAction,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderType,
    TimeInForce,
)
from libs.domain.state import StateFormat, Words
from services.strategy.core.ledger import Ledger, LedgerState
from services.strategy.core.strategy import AccountView, Strategy, Target

_ZERO = Decimal(0)


@dataclass(slots=True)
class _Wish:
    """A strategy's standing target: `quantity` (signed, unrounded) is None until a price is known."""

    notional: Decimal
    quantity: Decimal | None


@dataclass(frozen=True, slots=True)
class _Change:
    """The last target that was set in an instrument: who asked, why, and what led to it."""

    strategy: str
    reason: str
    confidence: float | None
    cause_id: str


@dataclass(frozen=True, slots=True)
class StrategyState:
    """What the core keeps between events, by instrument where it is not by strategy."""

    ledger: LedgerState
    wishes: dict[str, dict[str, _Wish]]
    changes: dict[str, _Change]
    prices_e8: dict[str, int]
    last_bars: dict[str, int]
    close_first: Words
    strategies: dict[str, dict[str, Any]]


_STATE = StateFormat("strategy", 1, StrategyState)


class StrategyCore:
    """Hosts strategies for one account and turns their netted targets into market order intents.

    A target becomes a quantity at the price of the event it was answered to and stays that quantity. An intent asks
    for the netted target less the position, rounded toward zero to the instrument's step. None is made before the
    account's state is known, while another one in the instrument is on its way, below the minimum notional unless it
    closes the position, and at most one per instrument and bar of `timeframe`. After a refusal, an order that would
    turn the position closes it first.
    """

    def __init__(
        self,
        *,
        account: str,
        strategies: Sequence[Strategy],
        instruments: Mapping[str, Instrument],
        timeframe: str = "1m",
    ) -> None:
        """Check that the strategies can be told apart. Raises ValueError."""
        names = [strategy.name for strategy in strategies]
        if not names:
            raise ValueError("no strategy was given; name at least one, such as ema_cross")
        if len(set(names)) != len(names):
            raise ValueError(f"two strategies have one name among {', '.join(names)}; give each its own")
        if timeframe not in TIMEFRAMES:
            raise ValueError(f"timeframe is {timeframe!r}, expected one of {', '.join(TIMEFRAMES)}")
        self._account = account
        self._strategies = tuple(strategies)
        self._instruments = dict(instruments)
        self._bar_ns = TIMEFRAMES[timeframe]
        self._ledger = Ledger()
        self._wishes: dict[str, dict[str, _Wish]] = {}
        self._changes: dict[str, _Change] = {}
        self._prices_e8: dict[str, int] = {}
        self._last_bars: dict[str, int] = {}
        self._close_first: set[str] = set()

    def handle(self, event: Event) -> Sequence[Event]:
        """Tell the strategies and answer with at most one intent."""
        match event:
            case Bar():
                return self._on_bar(event)
            case Forecast():
                return self._on_forecast(event)
            case AccountState():
                return self._on_account(event)
            case OrderRefused():
                if event.account == self._account and self._ledger.see_refusal(event):
                    self._close_first.add(event.instrument)
                return []
            case OrderApproved():
                return []
            case OrderEvent():
                if event.account == self._account:
                    self._ledger.see_order(event)
                    if event.last_quantity is not None:
                        self._close_first.discard(event.instrument)
                return []
            case _:
                raise Unhandleable(f"strategy takes bars, forecasts, verdicts, orders, accounts, not {event!r:.80}")

    def _on_bar(self, bar: Bar) -> Sequence[Event]:
        self._rules(bar.instrument, bar.event_id)
        if bar.is_history:
            view = self._view()
            for strategy in self._strategies:
                strategy.on_bar(bar, view)
            return []
        self._price(bar.instrument, bar.close_e8)
        view = self._view()
        for strategy in self._strategies:
            self._wish(strategy.name, strategy.on_bar(bar, view), bar.event_id)
        return self._ask(bar.instrument, bar.event_id, bar.event_time)

    def _on_forecast(self, forecast: Forecast) -> Sequence[Event]:
        self._rules(forecast.instrument, forecast.event_id)
        if forecast.role is not ModelRole.CHAMPION:
            return []
        self._price(forecast.instrument, forecast.reference_price_e8)
        view = self._view()
        for strategy in self._strategies:
            self._wish(strategy.name, strategy.on_forecast(forecast, view), forecast.event_id)
        return self._ask(forecast.instrument, forecast.event_id, forecast.event_time)

    def _on_account(self, account: AccountState) -> Sequence[Event]:
        if account.account != self._account:
            return []
        self._ledger.see_account(account)
        view = self._view()
        changed: list[str] = []
        for strategy in self._strategies:
            targets = strategy.on_account(account, view)
            self._wish(strategy.name, targets, account.event_id)
            changed.extend(target.instrument for target in targets)
        for instrument in dict.fromkeys(changed):
            intents = self._ask(instrument, account.event_id, account.event_time)
            if intents:
                return intents
        return []

    def _rules(self, instrument: str, event_id: str) -> Instrument:
        rules = self._instruments.get(instrument)
        if rules is None:
            known = ", ".join(sorted(self._instruments))
            raise Unhandleable(f"{event_id} is of unknown instrument {instrument!r}; this account trades {known}")
        return rules

    def _view(self) -> AccountView:
        ledger = self._ledger
        return AccountView(self._account, ledger.equity, ledger.available, ledger.positions())

    def _price(self, instrument: str, price_e8: int) -> None:
        self._prices_e8[instrument] = price_e8
        for wish in self._wishes.get(instrument, {}).values():
            if wish.quantity is None:
                wish.quantity = wish.notional / from_e8(price_e8)

    def _wish(self, strategy: str, targets: Sequence[Target], cause_id: str) -> None:
        for target in targets:
            if target.instrument not in self._instruments:
                known = ", ".join(sorted(self._instruments))
                raise ValueError(f"strategy {strategy} wants {target.instrument!r}; this account trades {known}")
            price_e8 = self._prices_e8.get(target.instrument)
            quantity = None if price_e8 is None else target.notional_usdt / from_e8(price_e8)
            self._wishes.setdefault(target.instrument, {})[strategy] = _Wish(target.notional_usdt, quantity)
            self._changes[target.instrument] = _Change(strategy, target.reason, target.confidence, cause_id)

    def _ask(self, instrument: str, cause_id: str, event_time: int) -> Sequence[Event]:
        wishes = self._wishes.get(instrument)
        price_e8 = self._prices_e8.get(instrument)
        bar = event_time // self._bar_ns
        if wishes is None or price_e8 is None or self._last_bars.get(instrument, -1) >= bar:
            return []
        if not self._ledger.is_known or self._ledger.is_waiting(instrument):
            return []
        rules = self._instruments[instrument]
        price = from_e8(price_e8)
        wanted = sum((wish.quantity for wish in wishes.values() if wish.quantity is not None), _ZERO)
        target = round_down_to_step(wanted, rules.step_size)
        held = self._ledger.position(instrument)
        missing = target - held
        is_opposite = bool(held) and (missing > 0) != (held > 0)
        if is_opposite and abs(missing) > abs(held) and instrument in self._close_first:
            missing = -held
        is_reduction = is_opposite and abs(missing) <= abs(held)
        quantity = round_down_to_step(min(abs(missing), rules.market_max_quantity), rules.step_size)
        closes = is_reduction and quantity == abs(held)
        if quantity < rules.min_quantity or (quantity * price < rules.min_notional and not closes):
            return []
        change = self._changes[instrument]
        intent = OrderIntent(
            event_id=f"intent/{self._account}/{cause_id}",
            event_time=event_time,
            account=self._account,
            instrument=instrument,
            strategy=change.strategy,
            action=IntentAction.PLACE,
            side=Side.BUY if missing > 0 else Side.SELL,
            order_type=OrderType.MARKET,
            quantity=quantity,
            time_in_force=TimeInForce.GTC,
            reduce_only=is_reduction,
            reference_price=price,
            confidence=change.confidence,
            reason=change.reason,
            cause_ids=tuple(dict.fromkeys((cause_id, change.cause_id))),
        )
        self._last_bars[instrument] = bar
        self._ledger.ask(intent)
        return [intent]

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return _STATE.encode(
            StrategyState(
                self._ledger.state,
                self._wishes,
                self._changes,
                self._prices_e8,
                self._last_bars,
                self._close_first,
                {strategy.name: strategy.snapshot() for strategy in self._strategies},
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state. Strategies no longer hosted lose their targets, new ones start afresh."""
        kept = _STATE.decode(state)
        hosted = {strategy.name for strategy in self._strategies}
        self._ledger.state = kept.ledger
        self._wishes = {
            instrument: {name: wish for name, wish in wishes.items() if name in hosted}
            for instrument, wishes in kept.wishes.items()
        }
        self._changes = kept.changes
        self._prices_e8 = kept.prices_e8
        self._last_bars = kept.last_bars
        self._close_first = kept.close_first
        for strategy in self._strategies:
            if strategy.name in kept.strategies:
                strategy.restore(kept.strategies[strategy.name])
