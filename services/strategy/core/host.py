"""The strategy core: passes events to the strategies of one account, nets their targets, asks for what is missing.

A strategy is called for what it has a method for, in the order in which the strategies were given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from libs.domain.accounts import AccountState
from libs.domain.bars import TIMEFRAMES, Bar
from libs.domain.events import Event, Unhandleable
from libs.domain.forecasts import Forecast
from libs.domain.instruments import INSTRUMENTS, Instrument
from libs.domain.market import BestQuote, ClockTick, DepthDelta, DepthSnapshot, Side, Trade
from libs.domain.numbers import NANOSECONDS, from_e8, round_down_to_step
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
from services.strategy.core.ledger import StrategyLedger, StrategyLedgerState
from services.strategy.core.strategy import (
    HANDLERS,
    MARKET_HANDLERS,
    AccountView,
    HostedStrategy,
    TargetPosition,
    handles,
)

if TYPE_CHECKING:
    # At run time only such a strategy itself brings numba with it.
    from services.strategy.core.compiled import CompiledStrategy

_ZERO = Decimal(0)
NOTHING: tuple[Event, ...] = ()


@dataclass(slots=True)
class _StandingTarget:
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

    ledger: StrategyLedgerState
    standing: dict[str, dict[str, _StandingTarget]]
    changes: dict[str, _Change]
    prices_e8: dict[str, int]
    last_bars: dict[str, int]
    close_first: Words
    timers: dict[str, int]
    strategies: dict[str, dict[str, Any]]


_STATE = StateFormat("strategy", 2, StrategyState)


class StrategyCore:
    """Hosts strategies for one account and turns their netted targets into market order intents.

    A target becomes a quantity at the price of the event it was answered to and stays that quantity. An intent asks
    for the netted target less the position, rounded toward zero to the instrument's step. None is made before the
    account's state is known, while another one in the instrument is on its way, below the minimum notional unless it
    closes the position, and at most one per instrument and bar of `timeframe`. After a refusal, an order that would
    turn the position closes it first. Forecasts are those of `model`, NAME/VERSION, or of the champion where none is
    named.
    """

    def __init__(
        self,
        *,
        account: str,
        strategies: Sequence[HostedStrategy],
        instruments: Mapping[str, Instrument],
        timeframe: str = "1m",
        model: str = "",
    ) -> None:
        """Check that the strategies have different names. Raises ValueError."""
        names = [strategy.name for strategy in strategies]
        if not names:
            raise ValueError("no strategy was given; name at least one, such as ema_cross")
        if len(set(names)) != len(names):
            raise ValueError(f"two strategies have one name among {', '.join(names)}; give each its own")
        if timeframe not in TIMEFRAMES:
            raise ValueError(f"timeframe is {timeframe!r}, expected one of {', '.join(TIMEFRAMES)}")
        self._account = account
        self._model = model
        self._strategies = tuple(strategies)
        self._instruments = dict(instruments)
        self._bar_ns = TIMEFRAMES[timeframe]
        self._ledger = StrategyLedger()
        self._standing: dict[str, dict[str, _StandingTarget]] = {}
        self._changes: dict[str, _Change] = {}
        self._prices_e8: dict[str, int] = {}
        self._last_bars: dict[str, int] = {}
        self._close_first: set[str] = set()
        self._is_learning = False
        self._timers: dict[str, int] = {}
        self._known_view: AccountView | None = None
        # Known until a target, a fill or the account changes it.
        self._settled: dict[str, bool] = {}
        self._answered: tuple[Bar, list[tuple[str, Sequence[TargetPosition]]]] | None = None
        self._answered_trade: tuple[Trade, list[tuple[str, Sequence[TargetPosition]]]] | None = None
        self._callbacks = {name: self._callbacks_of(name) for name in HANDLERS}
        self._bar_handlers = tuple(
            (
                strategy.name,
                getattr(strategy, "on_bar", None),
                getattr(strategy, "timeframes", None),
                getattr(strategy, "indicators", None),
            )
            for strategy in self._strategies
        )
        self._timer_handlers = tuple(
            (strategy.name, strategy.on_timer, int(getattr(strategy, "timer_s", 0)) * NANOSECONDS)  # type: ignore[attr-defined]
            for strategy in self._strategies
            if handles(strategy, "on_timer") and int(getattr(strategy, "timer_s", 0)) > 0
        )
        self._handlers: dict[type, Callable[[Any], Sequence[Event]]] = {
            Bar: self._on_bar,
            Forecast: self._on_forecast,
            AccountState: self._on_account,
            OrderApproved: self._on_approval,
            OrderRefused: self._on_refusal,
            OrderEvent: self._on_order,
            Trade: self._on_trade,
            BestQuote: self._on_quote,
            DepthSnapshot: self._on_depth,
            DepthDelta: self._on_depth,
            ClockTick: self._on_tick,
        }

    def handles(self, handler: str) -> bool:
        """Whether a hosted strategy has the method, such as ``on_forecast``."""
        return bool(self._callbacks[handler])

    @property
    def market_kinds(self) -> frozenset[str]:
        """The kinds of market events that the hosted strategies handle: the core reads no others."""
        return frozenset().union(*(kinds for name, kinds in MARKET_HANDLERS.items() if self.handles(name)))

    def _callbacks_of(self, handler: str) -> tuple[tuple[str, Callable[..., Sequence[TargetPosition] | None]], ...]:
        return tuple(
            (strategy.name, getattr(strategy, handler)) for strategy in self._strategies if handles(strategy, handler)
        )

    def handle(self, event: Event) -> Sequence[Event]:
        """Tell the strategies and answer with at most one intent."""
        handler = self._handlers.get(type(event))
        if handler is None:
            raise Unhandleable(
                f"strategy takes bars, forecasts, verdicts, orders, accounts and the market, not {event!r:.80}"
            )
        return handler(event)

    def learn(self, event: Event) -> None:
        """Tell the strategies of an event from before trading begins: what they answer counts for nothing."""
        self._is_learning = True
        try:
            self.handle(event)
        finally:
            self._is_learning = False

    def _on_bar(self, bar: Bar) -> Sequence[Event]:
        if not self._trades(bar.instrument, bar.event_id):
            return NOTHING
        if not bar.is_history:
            self._price(bar.instrument, bar.close_e8)
        answered = self._answered
        if answered is not None and answered[0].event_id == bar.event_id:
            answers, self._answered = answered[1], None
        else:
            answers = self._answer_bar(bar, self.view())
        if bar.is_history:
            return NOTHING
        for name, targets in answers:
            self._stand(name, targets, bar.event_id)
        return self._ask(bar.instrument, bar.event_id, bar.event_time)

    def _answer_bar(self, bar: Bar, view: AccountView) -> list[tuple[str, Sequence[TargetPosition]]]:
        answers: list[tuple[str, Sequence[TargetPosition]]] = []
        for strategy, handler, timeframes, indicators in self._bar_handlers:
            if indicators is not None:
                indicators.take(bar)
            if handler is not None and (timeframes is None or bar.timeframe in timeframes):
                targets = handler(bar, view)
                if targets:
                    answers.append((strategy, targets))
        return answers

    def answer_ahead(self, bar: Bar, view: AccountView) -> bool:
        """Ask the strategies about a bar before it is handled; the answer is whether handling it may ask for an order.

        Handling this very bar afterwards takes their answers from here. A bar that need not be handled may be left out.
        """
        answers = self._answer_bar(bar, view)
        self._answered = (bar, answers)
        if bar.is_history:
            return False
        return bool(answers) or not self.is_settled(bar.instrument)

    def pass_bars(self, bar: Bar) -> None:
        """Go to a bar, the last of those that were answered ahead and not handled."""
        if not bar.is_history:
            self._prices_e8[bar.instrument] = bar.close_e8

    def stand_ahead(self, bar: Bar, cause_id: str) -> Decimal | None:
        """Let the answers to a bar that was asked about ahead stand; return the position that all strategies together
        want, rounded to the step. None where handling the bar must say what comes of it.
        """
        answered = self._answered
        if answered is None or answered[0] is not bar or bar.instrument in self._close_first:
            return None
        if any(
            target.instrument != bar.instrument or target.confidence is not None
            for _, targets in answered[1]
            for target in targets
        ):
            return None
        self._price(bar.instrument, bar.close_e8)
        for name, targets in answered[1]:
            self._stand(name, targets, cause_id)
        return self._wanted(bar.instrument)

    def take_answer(self, bar: Bar, strategy: str, target: TargetPosition | None) -> None:
        """Know what a strategy answers to a bar that is handled next."""
        self._answered = (bar, [(strategy, (target,))] if target is not None else [])

    def stand(self, strategy: str, target: TargetPosition, close_e8: int, cause_id: str) -> None:
        """Let a target stand that was answered to a bar which was not handled."""
        self._price(target.instrument, close_e8)
        self._stand(strategy, (target,), cause_id)

    def last_asker(self, instrument: str) -> str:
        """Return the strategy that last changed its target in an instrument, which an order is put down to."""
        return self._changes[instrument].strategy

    def pass_price(self, instrument: str, price_e8: int) -> None:
        """Go to the last price of bars that were not handled."""
        self._prices_e8[instrument] = price_e8

    def settle_ahead(self, instrument: str) -> None:
        """Know that the position is the wanted one, by an order that was filled without being handled."""
        self._settled[instrument] = True

    def pass_orders(self, account: AccountState, instrument: str, event_time: int) -> None:
        """Take over the account after orders that were filled without being handled, the last at a time (ns)."""
        self._ledger.see_account(account)
        self._known_view = None
        self._settled.clear()
        if event_time:
            self._last_bars[instrument] = event_time // self._bar_ns

    @property
    def compiled(self) -> CompiledStrategy | None:
        """The strategy where it is the only one and a compiled one, else None."""
        (first, *others) = self._strategies
        is_compiled = not others and callable(getattr(first, "targets_over", None))
        return cast("CompiledStrategy", first) if is_compiled else None

    @property
    def hosted(self) -> tuple[HostedStrategy, ...]:
        """The strategies, in the order in which they are called."""
        return self._strategies

    @property
    def account(self) -> str:
        """The account that the strategies trade."""
        return self._account

    def handles_only_bars_of(self, timeframe: str) -> bool:
        """Whether the strategies handle closed bars of this timeframe and fills, and nothing else."""
        others = [name for name in HANDLERS if name not in ("on_bar", "on_fill")]
        return not any(self._callbacks[name] for name in others) and all(
            timeframes is not None and tuple(timeframes) == (timeframe,) for _, _, timeframes, _ in self._bar_handlers
        )

    @property
    def handles_market_but_trades(self) -> bool:
        """Whether a strategy reads quotes, books or its clock."""
        return any(self._callbacks[name] for name in MARKET_HANDLERS if name != "on_trade")

    def answer_trades_ahead(self, trades: Iterable[Trade]) -> tuple[int, Trade | None]:
        """Ask the strategies about trades before they are handled, up to the first that they answer; return how many
        they did not answer, and that first one.

        Handling that very trade afterwards takes their answers from here. Those before it may be left out.
        """
        callbacks, view = self._callbacks["on_trade"], self.view()
        count = 0
        for trade in trades:
            answers = [(name, targets) for name, call in callbacks if (targets := call(trade, view))]
            if answers:
                self._answered_trade = (trade, answers)
                return count, trade
            count += 1
        return count, None

    def pass_trades(self, instrument: str, price_e8: int) -> None:
        """Go to a trade's price, the last of those that were answered ahead and not handled."""
        self._price(instrument, price_e8)

    def is_settled(self, instrument: str) -> bool:
        """Whether the position is the one that stands as wanted, so that no price makes an order of the difference."""
        if instrument not in self._settled:
            self._settled[instrument] = self._wanted(instrument) == self._ledger.position(instrument)
        return self._settled[instrument]

    def _wanted(self, instrument: str) -> Decimal:
        """Return the netted target of an instrument, rounded toward zero to its step."""
        standing = self._standing.get(instrument, {})
        wanted = sum((target.quantity for target in standing.values() if target.quantity is not None), _ZERO)
        return round_down_to_step(wanted, self._instruments[instrument].step_size)

    def _on_forecast(self, forecast: Forecast) -> Sequence[Event]:
        if not self._trades(forecast.instrument, forecast.event_id) or not forecast.is_of(self._model):
            return NOTHING
        self._price(forecast.instrument, forecast.reference_price_e8)
        self._tell("on_forecast", forecast, forecast.event_id)
        return self._ask(forecast.instrument, forecast.event_id, forecast.event_time)

    def _on_account(self, account: AccountState) -> Sequence[Event]:
        if account.account != self._account:
            return NOTHING
        self._ledger.see_account(account)
        self._known_view = None
        self._settled.clear()
        return self._ask_for(self._tell("on_account", account, account.event_id), account.event_id, account.event_time)

    def _on_approval(self, _approval: OrderApproved) -> Sequence[Event]:
        return NOTHING

    def _on_refusal(self, refusal: OrderRefused) -> Sequence[Event]:
        if refusal.account == self._account and self._ledger.see_refusal(refusal):
            self._close_first.add(refusal.instrument)
        return NOTHING

    def _on_order(self, order: OrderEvent) -> Sequence[Event]:
        if order.account != self._account:
            return NOTHING
        self._ledger.see_order(order)
        self._known_view = None
        self._settled.clear()
        if order.last_quantity is None:
            return NOTHING
        self._close_first.discard(order.instrument)
        return self._ask_for(self._tell("on_fill", order, order.event_id), order.event_id, order.event_time)

    def _on_trade(self, trade: Trade) -> Sequence[Event]:
        if not self._callbacks["on_trade"] or trade.instrument not in self._instruments:
            return NOTHING
        self._price(trade.instrument, trade.price_e8)
        answered, self._answered_trade = self._answered_trade, None
        if answered is None or answered[0] is not trade:
            changed = self._tell("on_trade", trade, trade.event_id)
        else:
            changed = [one for name, targets in answered[1] for one in self._stand(name, targets, trade.event_id)]
        return self._ask_for(changed, trade.event_id, trade.event_time)

    def _on_quote(self, quote: BestQuote) -> Sequence[Event]:
        if not self._callbacks["on_quote"] or quote.instrument not in self._instruments:
            return NOTHING
        if quote.bid_price_e8 and quote.ask_price_e8:
            self._price(quote.instrument, (quote.bid_price_e8 + quote.ask_price_e8) // 2)
        return self._ask_for(self._tell("on_quote", quote, quote.event_id), quote.event_id, quote.event_time)

    def _on_depth(self, depth: DepthSnapshot | DepthDelta) -> Sequence[Event]:
        if not self._callbacks["on_book"] or depth.instrument not in self._instruments:
            return NOTHING
        return self._ask_for(self._tell("on_book", depth, depth.event_id), depth.event_id, depth.event_time)

    def _on_tick(self, tick: ClockTick) -> Sequence[Event]:
        changed: list[str] = []
        for name, call, period_ns in self._timer_handlers:
            turn = tick.event_time // period_ns
            before = self._timers.get(name)
            # Of several instruments the ticks come interleaved, and one may be behind another.
            if before is not None and turn <= before:
                continue
            self._timers[name] = turn
            if before is not None:
                changed += self._stand(name, call(turn * period_ns, self.view()), tick.event_id)
        return self._ask_for(changed, tick.event_id, tick.event_time)

    def _tell(self, handler: str, event: Event, cause_id: str) -> list[str]:
        """Call a method of all strategies that have it; return the instruments whose targets changed."""
        changed: list[str] = []
        for name, call in self._callbacks[handler]:
            changed += self._stand(name, call(event, self.view()), cause_id)
        return changed

    def _ask_for(self, instruments: Sequence[str], cause_id: str, event_time: int) -> Sequence[Event]:
        for instrument in dict.fromkeys(instruments):
            intents = self._ask(instrument, cause_id, event_time)
            if intents:
                return intents
        return NOTHING

    def _trades(self, instrument: str, event_id: str) -> bool:
        """Tell whether the account trades an instrument; nobody trades one without trading rules, whose market is read
        alone. Raises `Unhandleable` for one that could be traded and is not.
        """
        if instrument in self._instruments:
            return True
        if instrument not in INSTRUMENTS:
            return False
        known = ", ".join(sorted(self._instruments))
        raise Unhandleable(f"{event_id} is of instrument {instrument!r}; this account trades {known}")

    def view(self) -> AccountView:
        """Return the account as it is known."""
        view = self._known_view
        if view is None:
            ledger = self._ledger
            view = AccountView(self._account, ledger.equity, ledger.available, ledger.positions())
            self._known_view = view
        return view

    def _price(self, instrument: str, price_e8: int) -> None:
        self._prices_e8[instrument] = price_e8
        for target in self._standing.get(instrument, {}).values():
            if target.quantity is None:
                target.quantity = target.notional / from_e8(price_e8)
                self._settled.pop(instrument, None)

    def _stand(self, strategy: str, targets: Sequence[TargetPosition] | None, cause_id: str) -> list[str]:
        """Let targets stand; return their instruments."""
        if not targets or self._is_learning:
            return []
        for target in targets:
            if target.instrument not in self._instruments:
                known = ", ".join(sorted(self._instruments))
                raise ValueError(f"strategy {strategy} wants {target.instrument!r}; this account trades {known}")
            self._settled.pop(target.instrument, None)
            price_e8 = self._prices_e8.get(target.instrument)
            quantity = target.quantity
            if quantity is None and price_e8 is not None:
                quantity = target.notional_usdt / from_e8(price_e8)
            self._standing.setdefault(target.instrument, {})[strategy] = _StandingTarget(target.notional_usdt, quantity)
            self._changes[target.instrument] = _Change(strategy, target.reason, target.confidence, cause_id)
        return [target.instrument for target in targets]

    def _ask(self, instrument: str, cause_id: str, event_time: int) -> Sequence[Event]:
        standing = self._standing.get(instrument)
        price_e8 = self._prices_e8.get(instrument)
        bar = event_time // self._bar_ns
        if standing is None or price_e8 is None or self._last_bars.get(instrument, -1) >= bar:
            return []
        if not self._ledger.is_known or self._ledger.is_waiting(instrument):
            return []
        rules = self._instruments[instrument]
        price = from_e8(price_e8)
        held = self._ledger.position(instrument)
        missing = self._wanted(instrument) - held
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
                self._standing,
                self._changes,
                self._prices_e8,
                self._last_bars,
                self._close_first,
                self._timers,
                {strategy.name: strategy.snapshot() for strategy in self._strategies},
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state. Strategies no longer hosted lose their targets, new ones start afresh."""
        kept = _STATE.decode(state)
        hosted = {strategy.name for strategy in self._strategies}
        self._ledger.state = kept.ledger
        self._standing = {
            instrument: {name: target for name, target in targets.items() if name in hosted}
            for instrument, targets in kept.standing.items()
        }
        self._changes = kept.changes
        self._prices_e8 = kept.prices_e8
        self._last_bars = kept.last_bars
        self._close_first = kept.close_first
        self._timers = kept.timers
        self._known_view = None
        self._settled.clear()
        for strategy in self._strategies:
            if strategy.name in kept.strategies:
                strategy.restore(kept.strategies[strategy.name])
