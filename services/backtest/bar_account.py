"""The account of a run over a market of bars as the compiled loop keeps it: taken from the cores, given back to them.

The loop is of `bar_loop.py`. It serves markets of bars longer than a minute with fills at the close, where an order
that clearly passes every check is filled the moment it is asked for. What came of the bars is noted for the recorder in
columns and given to it, and to the cores, by `give_back`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from decimal import Context, Decimal
from typing import NamedTuple

import numpy as np

from libs.domain.accounts import Position
from libs.domain.bars import TIMEFRAMES
from libs.domain.listing import Instrument
from libs.domain.numbers import InexactNumber, from_e8, quantize_e8, to_e8
from libs.domain.orders import client_order_id_of
from libs.venues.frames import kline_event_id
from services.backtest import bar_loop as loop
from services.backtest.columns import BarColumns
from services.backtest.fills import FilledOrders
from services.backtest.recorder import RunRecorder
from services.execution.core import ExecutionCore
from services.execution.settings import ExecutionSettings
from services.risk.core import RiskCore
from services.risk.core.risk_gate import LossRecord
from services.strategy.core import StrategyCore
from services.strategy.core.compiled import HOLD

_E16 = 10**16
_EXACT = Context(prec=50)
_UNTOUCHED = 2
_MINUTE_NS = TIMEFRAMES["1m"]


class ChoiceRun(NamedTuple):
    """What came of a choice: the rows of its bars, the fills of its orders and the times of all bars, as `bar_loop` has
    them, good until the next run."""

    rows: loop.Ints
    fills: loop.Ints
    times: loop.Ints


class BarAccount:
    """Runs the account over columns of bars. `targets` holds the wanted position (1e-8) of each bar, or `HOLD`."""

    def __init__(
        self,
        columns: BarColumns,
        rules: Instrument,
        settings: ExecutionSettings,
        recorder: RunRecorder,
        *,
        execution: ExecutionCore,
        risk: RiskCore,
        strategy: StrategyCore,
    ) -> None:
        self._columns = columns
        self._rules = rules
        self._settings = settings
        self._recorder = recorder
        self._execution = execution
        self._risk = risk
        self._strategy = strategy
        self._brackets = np.array(
            [
                [float(tier.notional_cap), float(tier.maintenance_rate), float(tier.maintenance_amount), float(most)]
                for tier in risk.brackets_of(columns.instrument).brackets
                for most in (tier.max_leverage,)
            ]
        )
        self._whole, self._terms = self._make_terms()
        self._rows = np.empty((loop.ROWS, len(columns)), np.int64)
        self._rows[loop.TIME] = columns.open_time + columns.length_ns
        self._rows[loop.CLOSE] = columns.close_e8
        self._rows[loop.TARGET] = HOLD
        self._fills = np.empty((len(columns), loop.FILL_WIDTH), np.int64)
        self._account = np.zeros(loop.ACCOUNT_WIDTH, np.int64)
        self._losses = risk.losses
        self._held = Position(columns.instrument)
        self._began = -1
        self._askers: list[str] = []
        self.place = 0

    @staticmethod
    def can_serve(columns: BarColumns, settings: ExecutionSettings, strategy: StrategyCore) -> bool:
        """Whether orders fill at the close that they were decided on and nobody asks to hear of it."""
        return (
            settings.mode == "paper"
            and settings.bar_fill == "close"
            and not settings.impact_bps
            and columns.length_ns > _MINUTE_NS
            and not strategy.handles("on_fill")
        )

    def _make_terms(self) -> tuple[loop.Ints, loop.Floats]:
        rules, settings, limits = self._rules, self._settings, self._risk.limits
        rate = rules.taker_fee_rate if settings.taker_fee_rate is None else settings.taker_fee_rate
        whole, terms = np.zeros(loop.WHOLE_TERMS, np.int64), np.zeros(loop.TERMS)
        whole[loop.FEE_RATE] = to_e8(rate)
        whole[loop.SLIPPAGE_RATE] = int(settings.slippage_bps * loop.S / 10_000)
        whole[loop.TICK] = to_e8(rules.tick_size)
        whole[loop.STEP] = to_e8(rules.step_size)
        whole[loop.MIN_QUANTITY] = to_e8(rules.min_quantity)
        whole[loop.MAX_QUANTITY] = to_e8(rules.market_max_quantity)
        whole[loop.MAX_LOSSES] = limits.max_consecutive_losses
        whole[loop.LOSS_PAUSE_NS] = limits.loss_pause_s * 10**9
        terms[loop.MIN_NOTIONAL] = float(rules.min_notional)
        terms[loop.ORDER_NOTIONAL] = float(limits.max_order_notional_usdt)
        terms[loop.POSITION_NOTIONAL] = float(limits.max_position_notional_usdt)
        terms[loop.EXPOSURE] = float(min(limits.max_instrument_exposure_usdt, limits.max_total_exposure_usdt))
        terms[loop.LEVERAGE] = float(limits.max_leverage)
        terms[loop.MARGIN_RATIO] = float(limits.max_margin_ratio)
        terms[loop.LIQUIDATION] = float(limits.min_liquidation_distance)
        terms[loop.DAILY_LOSS] = float(limits.max_daily_loss_fraction)
        terms[loop.ACCOUNT_LEVERAGE] = float(settings.leverage)
        terms[loop.TAKER_RATE] = float(rules.taker_fee_rate)
        terms[loop.FEE_DIGITS] = float(max(1, int("".join(map(str, rate.as_tuple().digits)))))
        return whole, terms

    @property
    def timeframe(self) -> str:
        """The timeframe of the bars."""
        return self._columns.timeframe

    @property
    def is_begun(self) -> bool:
        """Whether the account is here and not in the cores."""
        return self._began >= 0

    def begin(self, place: int) -> bool:
        """Take the account from the cores, before the bar of a place; False where it cannot be kept here."""
        held, losses, account = self._execution.held(self._columns.instrument), self._risk.losses, self._account
        peak, day_start = _split(losses.peak), _split(losses.day_start)
        if not place or losses.day < 0 or peak is None or day_start is None:
            return False
        try:
            amounts = [self._execution.wallet_balance, held.quantity, held.entry_price, held.realised_pnl,
                       held.fees_paid]  # fmt: skip
            account[: len(amounts)] = [to_e8(amount) for amount in amounts]
        except InexactNumber:
            return False
        account[loop.PEAK], account[loop.PEAK_REST], account[loop.PEAK_KIND] = *peak, _UNTOUCHED
        account[loop.DAY] = losses.day
        account[loop.DAY_START], account[loop.DAY_START_REST], account[loop.DAY_START_KIND] = *day_start, _UNTOUCHED
        account[loop.LOSSES], account[loop.LAST_LOSS_TIME] = losses.in_a_row, losses.last_time
        account[loop.STATES :] = 0
        is_open = self._risk.may_open_on_bars(self._columns.instrument)
        self._whole[loop.MAY_ORDER] = self._whole[loop.MAY_OPEN] = is_open
        # Limits of drawdown and of a day's loss bind as long as trading is not held back already.
        self._terms[loop.DRAWDOWN] = self._risk.drawdown_share()
        self._terms[loop.DAILY_LOSS] = float(self._risk.limits.max_daily_loss_fraction) if is_open else 2.0
        self._losses, self._held = losses, held
        self._began = self.place = place
        self._askers = []
        return True

    @property
    def is_held(self) -> bool:
        """Whether a position is held."""
        return bool(self._account[loop.QUANTITY])

    @property
    def positions(self) -> Mapping[str, Decimal]:
        """The position by instrument, empty when flat."""
        quantity = int(self._account[loop.QUANTITY])
        return {self._columns.instrument: from_e8(quantity)} if quantity else {}

    def find_stop(self, end: int) -> int:
        """Return the place of the first bar before `end` that the pipeline must handle even if nobody asks for
        anything, else `end`.
        """
        if not self.is_held:
            return end
        return int(self._advance(self._account.copy(), end))

    def order(self, place: int, target: Decimal, asker: str) -> bool:
        """Ask for a position at a bar, on behalf of a strategy, and go on behind it; False where the pipeline must
        handle that bar.
        """
        self._rows[loop.TARGET, place] = to_e8(target)
        orders = self._account[loop.ORDERS]
        if not self.advance(place + 1):
            self._rows[loop.TARGET, place] = HOLD
            return False
        if self._account[loop.ORDERS] > orders:
            self._askers.append(asker)
        return True

    def round_targets(self, targets: loop.Ints) -> loop.Ints:
        """Return targets rounded toward zero to the step of the instrument."""
        rounded = np.empty(len(targets), np.int64)
        loop.round_to_step(targets, int(self._whole[loop.STEP]), rounded)
        return rounded

    def want_all(self, targets: loop.Ints) -> None:
        """Ask for positions at all bars at once."""
        self._rows[loop.TARGET, : len(targets)] = targets

    def advance(self, end: int) -> bool:
        """Go on to the bar of a place; False where the pipeline must handle an earlier bar, which is `place` then."""
        self.place = int(self._advance(self._account, end))
        return self.place == end

    def _advance(self, account: loop.Ints, end: int) -> int:
        return loop.advance(account, self._whole, self._terms, self._brackets, self._rows, self._fills, self.place, end)

    def fork(self) -> BarAccount:
        """Return another account that stands where this one began, over the same bars, for `run_choice`."""
        other = copy(self)
        other._rows, other._fills, other._account = self._rows.copy(), self._fills.copy(), self._account.copy()
        return other

    def run_choice(self, targets: loop.Ints) -> ChoiceRun | None:
        """Run from where the account began, flat, to the end of the targets and leave it where it was.

        None where a bar must be handled by the pipeline: then the run must be made there.
        """
        account, end = self._account.copy(), len(targets)
        self.want_all(targets)
        if account[loop.QUANTITY] or np.any(targets[: self.place] != HOLD) or self._advance(account, end) < end:
            return None
        orders = int(account[loop.ORDERS])
        return ChoiceRun(self._rows[:, self.place : end], self._fills[:orders], self._rows[loop.TIME])

    def value_at(self, place: int) -> tuple[Decimal, Decimal]:
        """Return equity and available balance as a strategy sees them at the close of a bar."""
        account, price = self._account, int(self._columns.close_e8[place])
        quantity, wallet = int(account[loop.QUANTITY]), int(account[loop.WALLET])
        if not quantity:
            return from_e8(wallet), from_e8(wallet)
        gained, rest = loop.gain_of(quantity, account[loop.ENTRY], price)
        equity = from_e8(wallet + loop.round_half_even(gained, rest, loop.S))
        margin = quantize_e8(abs(from_e8(quantity) * from_e8(price)) / self._settings.leverage)
        return equity, max(Decimal(0), equity - margin)

    def give_back(self) -> None:
        """Give the account to the cores and what happened to the recorder."""
        began, place, account = self._began, self.place, self._account
        self._began = -1
        if began == place:
            return
        columns, last = self._columns.slice(began, place), place - 1
        instrument, closed_at = columns.instrument, int(self._rows[loop.TIME, last])
        states, orders = int(account[loop.STATES]), int(account[loop.ORDERS])
        close_e8, volume_e8 = int(columns.close_e8[-1]), int(columns.volume_e8[-1])
        self._execution.pass_bars(instrument, closed_at, close_e8, volume_e8, 0)
        self._risk.pass_price(instrument, closed_at, close_e8)
        self._strategy.pass_price(instrument, close_e8)
        filled = self._filled(orders)
        if states:
            held = Position(
                instrument,
                from_e8(int(account[loop.QUANTITY])),
                from_e8(int(account[loop.ENTRY])) if account[loop.QUANTITY] else Decimal(0),
                from_e8(close_e8),
                from_e8(int(account[loop.REALISED])),
                from_e8(int(account[loop.FEES])),
                self._held.funding_paid,
            )
            state = self._execution.pass_orders(
                held,
                from_e8(int(account[loop.WALLET])),
                orders,
                states,
                int(account[loop.STATE_TIME]),
                kline_event_id(instrument, columns.timeframe, int(columns.open_time[-1])),
            )
            ordered_at = int(self._rows[loop.TIME, account[loop.ORDER_PLACE]]) if orders else 0
            self._strategy.pass_orders(state, instrument, ordered_at)
            self._risk.pass_account(state)
        self._risk.pass_losses(self._losses_now())
        has_state = self._rows[loop.HAS_STATE, began:place].astype(np.bool_)
        kept = self._rows[:, began:place][:, has_state]
        self._recorder.pass_account(
            columns,
            kept[loop.TIME],
            kept[loop.EQUITY],
            kept[loop.WALLET_AFTER],
            kept[loop.POSITION_AFTER],
            states=states,
            filled=filled,
        )

    def _filled(self, orders: int) -> FilledOrders:
        fills = self._fills[:orders].copy()
        places = fills[:, loop.PLACE]
        return FilledOrders(
            account=self._strategy.account,
            instrument=self._columns.instrument,
            timeframe=self._columns.timeframe,
            askers=tuple(self._askers) or (self._strategy.hosted[0].name,),
            opened=self._columns.open_time[places],
            times=self._rows[loop.TIME, places],
            signed_e8=fills[:, loop.SIGNED],
            price_e8=fills[:, loop.PRICE],
            fee_e8=fills[:, loop.FEE],
            profit_e8=fills[:, loop.PROFIT],
            decided_e8=self._columns.close_e8[places],
        )

    def _losses_now(self) -> LossRecord:
        account, before = self._account, self._losses
        closing = before.last_closing_order
        if account[loop.CLOSING_PLACE]:
            opened = int(self._columns.open_time[account[loop.CLOSING_PLACE]])
            intent = FilledOrders.intent_id(
                self._strategy.account, self._columns.instrument, self._columns.timeframe, opened
            )
            closing = client_order_id_of(intent)
        return LossRecord(
            int(account[loop.DAY]),
            _join(account, loop.DAY_START, before.day_start),
            _join(account, loop.PEAK, before.peak),
            int(account[loop.LOSSES]),
            int(account[loop.LAST_LOSS_TIME]),
            closing,
        )


def _split(amount: Decimal) -> tuple[int, int] | None:
    """Return an amount as whole 1e-8 and the rest in 1e-16; None where it has more decimals."""
    scaled = _EXACT.multiply(amount, Decimal(_E16))
    if scaled != int(scaled):
        return None
    return divmod(int(scaled), loop.S)


def _join(account: loop.Ints, at: int, before: Decimal) -> Decimal:
    whole, rest, kind = (int(account[at + place]) for place in range(3))
    if kind == _UNTOUCHED:
        return before
    if not kind:
        return from_e8(whole)
    return _EXACT.multiply(Decimal(whole * loop.S + rest), Decimal("1E-16"))
