"""No sequence of events gets an order past a limit: a state machine with a venue of its own and topics that lag.

The venue here knows the truth. What it tells arrives on two topics that are delivered independently, so the gate sees
fills before or after the account states that include them. Whenever the gate approves an order that may add risk, the
limits are recomputed from the truth, every working order filled that could.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from libs.domain.accounts import AccountState, Position
from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlState, TradingState
from libs.domain.events import Event
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import BestQuote, ClockTick, MarkPrice, Side
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.domain.orders import (
    IntentAction,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    OrderType,
    Origin,
    TimeInForce,
    client_order_id_of,
)
from services.risk.core import RiskCore, RiskLimits
from services.risk.core.checks import CHECKS
from tests.kit.builders import BTC, START, a_control
from tests.unit.risk.builders import ETH, D, limits

STEPS_PER_EXAMPLE = 100
EXAMPLES = 220
MIN_STEPS = 10_000
TIGHT = limits(
    max_order_notional_usdt=3000,
    max_position_notional_usdt=5000,
    max_instrument_exposure_usdt=7000,
    max_total_exposure_usdt=9000,
    max_leverage="1",
    max_open_orders=9,
    max_orders_per_second=3,
    max_orders_per_minute=12,
    max_daily_loss_fraction="0.01",
    soft_drawdown_fraction="0.015",
    hard_drawdown_fraction="0.02",
    max_price_deviation="0.01",
    max_slippage_bps=50,
    duplicate_window_ms=0,
    stop_loss_fraction="0.05",
)


class GateMachine(RuleBasedStateMachine):
    """A venue, an account, two lagging topics, people with commands, and the gate between them."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.core = RiskCore(TIGHT, INSTRUMENTS, "paper")
        self.limits: RiskLimits = TIGHT
        self.state = TradingState.ACTIVE
        self.now = START
        self.number = 0
        self.marks = {BTC: D(60000), ETH: D(2000)}
        self.mark_times = {BTC: START, ETH: START}
        self.wallet = D(10000)
        self.sequence = 0
        self.positions: dict[str, Position] = {}
        self.working: dict[str, OrderIntent] = {}
        self.remaining: dict[str, Decimal] = {}
        self.sent_times: list[int] = []
        self.order_topic: deque[OrderEvent] = deque()
        self.account_topic: deque[AccountState] = deque()
        self.seen_account: AccountState | None = None
        self.answered: dict[str, int] = {}

    # --- truth -----------------------------------------------------------------------------------------------------

    def held(self, instrument: str) -> Decimal:
        return self.positions.get(instrument, Position(instrument)).quantity

    def tell_account(self, cause: str) -> None:
        self.sequence += 1
        held = tuple(replace(self.positions[name], mark_price=self.marks[name]) for name in sorted(self.positions))
        equity = self.wallet + sum((position.unrealised_pnl for position in held), D(0))
        self.account_topic.append(
            AccountState(
                event_id=f"account/paper/{self.sequence}",
                event_time=self.now,
                account="paper",
                sequence=self.sequence,
                wallet_balance=self.wallet,
                equity=equity,
                initial_margin=D(0),
                available_balance=equity,
                positions=held,
                open_order_count=len(self.working),
                cause_id=cause,
            )
        )

    def tell_order(self, client_order_id: str, status: OrderStatus, filled: Decimal | None, pnl: Decimal | None) -> str:
        intent = self.working[client_order_id]
        self.number += 1
        event = OrderEvent(
            event_id=f"order/{client_order_id}/{self.number}",
            event_time=self.now,
            account="paper",
            instrument=intent.instrument,
            client_order_id=client_order_id,
            venue_order_id="1",
            intent_id=intent.event_id,
            status=status,
            side=intent.side,
            order_type=intent.order_type,
            quantity=intent.quantity,
            filled_quantity=intent.quantity - self.remaining[client_order_id],
            average_price=None,
            limit_price=intent.limit_price,
            reduce_only=intent.reduce_only,
            last_quantity=filled,
            last_price=None if filled is None else self.marks[intent.instrument],
            realised_pnl=pnl,
            report_id=f"report/{client_order_id}/{self.number}",
        )
        self.order_topic.append(event)
        if not status.is_open:
            del self.working[client_order_id], self.remaining[client_order_id]
        return event.report_id

    def could_become(self, instrument: str) -> tuple[Decimal, Decimal]:
        """Return the signed quantities that the working orders can lead to, furthest up and furthest down."""
        adding = {Side.BUY: D(0), Side.SELL: D(0)}
        closing = {Side.BUY: D(0), Side.SELL: D(0)}
        for client_order_id, intent in self.working.items():
            if intent.instrument == instrument:
                (closing if intent.reduce_only else adding)[intent.side] += self.remaining[client_order_id]
        held = self.held(instrument)
        highest = min(D(0), held + closing[Side.BUY]) if held < 0 else held
        lowest = max(D(0), held - closing[Side.SELL]) if held > 0 else held
        return highest + adding[Side.BUY], lowest - adding[Side.SELL]

    # --- what comes out ----------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> list[Event]:
        outputs = list(self.core.handle(event))
        for output in outputs:
            if isinstance(output, ControlState):
                self.state = output.state
                self.limits = RiskLimits().with_changes(output.limits)
            elif isinstance(output, OrderApproved):
                self.carry_out(output)
        return outputs

    def carry_out(self, verdict: OrderApproved) -> None:
        intent = verdict.intent
        if verdict.origin is Origin.RISK:
            assert intent.reduce_only
        if intent.action is IntentAction.CANCEL:
            if intent.target_client_order_id in self.working:
                self.tell_order(intent.target_client_order_id, OrderStatus.CANCELLED, None, None)
            return
        client_order_id = client_order_id_of(intent.event_id)
        assert client_order_id not in self.working
        self.working[client_order_id] = intent
        self.remaining[client_order_id] = intent.quantity
        if verdict.origin is Origin.STRATEGY:
            self.sent_times.append(self.now)
            if not intent.reduce_only:
                self.check_truth(intent)

    def check_truth(self, intent: OrderIntent) -> None:
        bound, mark = self.limits, self.marks[intent.instrument]
        assert self.state is TradingState.ACTIVE
        price = max(mark, intent.limit_price or D(0))
        assert intent.quantity * price <= bound.max_order_notional_usdt
        longest, shortest = self.could_become(intent.instrument)
        ahead = longest if intent.side is Side.BUY else -shortest
        assert ahead * mark <= bound.max_position_notional_usdt
        gross = worst = D(0)
        for name in (BTC, ETH):
            high, low = self.could_become(name)
            adding = sum(
                (
                    self.remaining[key]
                    for key, each in self.working.items()
                    if each.instrument == name and not each.reduce_only
                ),
                D(0),
            )
            gross_here = (abs(self.held(name)) + adding) * self.marks[name]
            assert name != intent.instrument or gross_here <= bound.max_instrument_exposure_usdt
            gross += gross_here
            worst += max(abs(high), abs(low)) * self.marks[name]
        assert gross <= bound.max_total_exposure_usdt
        assert self.seen_account is not None
        equity = self.seen_account.wallet_balance + sum(
            ((self.marks[p.instrument] - p.entry_price) * p.quantity for p in self.seen_account.positions), D(0)
        )
        assert worst <= bound.max_leverage * equity
        assert len(self.working) <= bound.max_open_orders
        assert sum(time > self.now - NANOSECONDS for time in self.sent_times) <= bound.max_orders_per_second
        assert sum(time > self.now - 60 * NANOSECONDS for time in self.sent_times) <= bound.max_orders_per_minute
        if intent.limit_price is not None:
            assert abs(intent.limit_price - mark) <= bound.max_price_deviation * mark
        assert self.now - self.mark_times[intent.instrument] <= bound.max_market_data_age_ms * 1_000_000
        rules = INSTRUMENTS[intent.instrument]
        assert intent.quantity % rules.step_size == 0 and intent.quantity * price >= rules.min_notional

    # --- what happens ------------------------------------------------------------------------------------------------

    @initialize()
    def start(self) -> None:
        for instrument in (BTC, ETH):
            self.show_market(instrument, D(0))
        self.tell_account("start")
        self.give_accounts(1)

    def show_market(self, instrument: str, change_bps: Decimal) -> None:
        self.number += 1
        moved = self.marks[instrument] * (1 + change_bps / 10000)
        tick = INSTRUMENTS[instrument].tick_size
        self.marks[instrument] = (moved / tick).to_integral_value() * tick
        self.mark_times[instrument] = self.now
        scaled = int(self.marks[instrument] * SCALE)
        name = f"{instrument}/{self.number}"
        quote = BestQuote(instrument, f"{name}/q", self.now, self.now, 1, scaled - 10**6, SCALE, scaled, SCALE)
        self.feed(quote)
        self.feed(MarkPrice(instrument, f"{name}/m", self.now, self.now, scaled, scaled, 1000, self.now))

    @rule(instrument=st.sampled_from([BTC, ETH]), bps=st.integers(-120, 120), milliseconds=st.integers(0, 1500))
    def move(self, instrument: str, bps: int, milliseconds: int) -> None:
        self.now += milliseconds * 1_000_000
        self.show_market(instrument, D(bps))

    @rule(seconds=st.sampled_from([1, 2, 15, 70]), is_seen=st.booleans())
    def pass_time(self, seconds: int, is_seen: bool) -> None:
        self.now += seconds * NANOSECONDS
        self.number += 1
        self.feed(ClockTick(BTC, f"tick/{self.number}", self.now, self.now))
        if is_seen:
            for instrument in (BTC, ETH):
                self.show_market(instrument, D(0))

    @rule(
        instrument=st.sampled_from([BTC, ETH]),
        side=st.sampled_from(list(Side)),
        notional=st.sampled_from([50, 200, 400, 600, 900, 1500, 2900, 3000, 3100]),
        offset_bps=st.sampled_from([None, None, None, None, 0, -90, 90, -150, 150]),
        reduce_only=st.sampled_from([False, False, False, True]),
        extra=st.sampled_from([D(0)] * 8 + [D("0.0001")]),
    )
    def submit(
        self, instrument: str, side: Side, notional: int, offset_bps: int | None, reduce_only: bool, extra: Decimal
    ) -> None:
        self.hand_in(instrument, side, notional, offset_bps, reduce_only=reduce_only, extra=extra)

    def hand_in(
        self, instrument: str, side: Side, notional: int, offset_bps: int | None, *, reduce_only: bool, extra: Decimal
    ) -> None:
        self.number += 1
        mark, rules = self.marks[instrument], INSTRUMENTS[instrument]
        quantity = (notional / mark / rules.step_size).to_integral_value() * rules.step_size + extra
        limit = None
        if offset_bps is not None:
            limit = (mark * (1 + D(offset_bps) / 10000) / rules.tick_size).to_integral_value() * rules.tick_size
        intent = OrderIntent(
            event_id=f"intent/paper/{self.number}",
            event_time=self.now,
            account="paper",
            instrument=instrument,
            strategy="test",
            action=IntentAction.PLACE,
            side=side,
            order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
            quantity=quantity,
            time_in_force=TimeInForce.GTC,
            reduce_only=reduce_only,
            limit_price=limit,
            reference_price=mark,
        )
        outputs = self.feed(intent)
        self.answered[intent.event_id] = len(outputs)
        for verdict in outputs:
            assert isinstance(verdict, OrderApproved | OrderRefused)
            assert [entry.name for entry in verdict.checks] == [each.name for each in CHECKS]
            assert verdict.intent.quantity == quantity
            assert all(entry.has_passed for entry in verdict.checks) == isinstance(verdict, OrderApproved)
        assert self.core.handle(intent) == []

    @rule(
        instrument=st.sampled_from([BTC, ETH]),
        side=st.sampled_from([Side.BUY, Side.BUY, Side.SELL]),
        notionals=st.lists(st.sampled_from([200, 600, 1500, 2900]), min_size=2, max_size=5),
        milliseconds=st.sampled_from([1, 400, 20_000]),
        is_filled=st.booleans(),
        data=st.data(),
    )
    def trade_on(
        self,
        instrument: str,
        side: Side,
        notionals: list[int],
        milliseconds: int,
        is_filled: bool,
        data: st.DataObject,
    ) -> None:
        """A run of orders one way, filled or not, while the topics lag: the way to lean on the limits of exposure."""
        for notional in notionals:
            self.now += milliseconds * 1_000_000
            for name in (BTC, ETH):
                self.show_market(name, D(0))
            self.hand_in(instrument, side, notional, None, reduce_only=False, extra=D(0))
            if is_filled and self.working:
                self.fill_one(data.draw(st.sampled_from(sorted(self.working))), D(1))
            if data.draw(st.booleans()):
                self.give_orders(1)
            if data.draw(st.booleans()):
                self.give_accounts(1)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), share=st.sampled_from([D("0.3"), D(1)]))
    def fill(self, data: st.DataObject, share: Decimal) -> None:
        self.fill_one(data.draw(st.sampled_from(sorted(self.working))), share)

    def fill_one(self, client_order_id: str, share: Decimal) -> None:
        intent = self.working[client_order_id]
        rules = INSTRUMENTS[intent.instrument]
        held = self.held(intent.instrument)
        quantity = max(
            rules.step_size,
            (self.remaining[client_order_id] * share / rules.step_size).to_integral_value() * rules.step_size,
        )
        quantity = min(quantity, self.remaining[client_order_id])
        if intent.reduce_only:
            room = abs(held) if held * intent.side.sign < 0 else D(0)
            quantity = min(quantity, room)
            if not quantity:
                self.tell_order(client_order_id, OrderStatus.EXPIRED, None, None)
                return
        position = self.positions.get(intent.instrument, Position(intent.instrument))
        position, pnl = position.apply_fill(quantity * intent.side.sign, self.marks[intent.instrument], D(0))
        self.positions[intent.instrument] = position
        self.wallet += pnl
        self.remaining[client_order_id] -= quantity
        status = OrderStatus.PARTIALLY_FILLED if self.remaining[client_order_id] else OrderStatus.FILLED
        self.tell_account(self.tell_order(client_order_id, status, quantity, pnl))

    @precondition(lambda self: self.working)
    @rule(data=st.data(), status=st.sampled_from([OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.ACCEPTED]))
    def end(self, data: st.DataObject, status: OrderStatus) -> None:
        client_order_id = data.draw(st.sampled_from(sorted(self.working)))
        self.tell_order(client_order_id, status, None, None)

    @rule(count=st.integers(1, 4))
    def deliver_orders(self, count: int) -> None:
        self.give_orders(count)

    def give_orders(self, count: int) -> None:
        for _ in range(min(count, len(self.order_topic))):
            self.feed(self.order_topic.popleft())

    @rule(count=st.integers(1, 4))
    def deliver_accounts(self, count: int) -> None:
        self.give_accounts(count)

    def give_accounts(self, count: int) -> None:
        for _ in range(min(count, len(self.account_topic))):
            self.seen_account = self.account_topic.popleft()
            self.feed(self.seen_account)

    @rule()
    def mark_the_account(self) -> None:
        self.number += 1
        self.tell_account(f"mark/{self.number}")

    @rule(
        action=st.sampled_from(
            [None] * 12 + [ControlAction.HALT, ControlAction.REDUCE, ControlAction.FLATTEN] + [ControlAction.RESUME] * 6
        ),
        scope=st.sampled_from(["paper", ALL_ACCOUNTS]),
        reset=st.booleans(),
    )
    def command(self, action: ControlAction | None, scope: str, reset: bool) -> None:
        if action is None:
            return
        self.number += 1
        before = self.state
        arguments = {"reset_drawdown": "true"} if reset else {}
        self.feed(a_control(action, self.number, account=scope, event_time=self.now, arguments=arguments))
        if action is not ControlAction.RESUME:
            assert self.state >= before
        if action in (ControlAction.HALT, ControlAction.FLATTEN):
            assert self.state is TradingState.HALTED
            assert all(intent.reduce_only for intent in self.working.values())

    @rule(
        name=st.sampled_from(["max_order_notional_usdt", "max_position_notional_usdt", "nonsense"]),
        value=st.sampled_from([None] * 8 + [2000, 3000, 5000]),
    )
    def set_limits(self, name: str, value: int | None) -> None:
        if value is None:
            return
        self.number += 1
        self.feed(a_control(ControlAction.SET_LIMITS, self.number, event_time=self.now, arguments={name: str(value)}))

    @rule()
    def restart(self) -> None:
        other = RiskCore(RiskLimits(), INSTRUMENTS, "paper")
        other.restore(self.core.snapshot())
        self.core = other

    @invariant()
    def every_intent_has_one_verdict_and_the_states_agree(self) -> None:
        GateMachine.steps += 1
        assert set(self.answered.values()) <= {1}
        assert self.core.trading_state is self.state
        assert self.core.limits == self.limits


SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS_PER_EXAMPLE,
    deadline=None,
    # Shrinking a story of a hundred steps takes minutes; the story itself is printed, which is enough to replay it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.mark.slow
# Its ten thousand steps take as long as the machine lets them.
@pytest.mark.timeout(1800)
def test_no_sequence_of_events_gets_an_order_past_a_limit() -> None:
    GateMachine.steps = 0
    run_state_machine_as_test(GateMachine, settings=SETTINGS)
    assert GateMachine.steps >= MIN_STEPS
