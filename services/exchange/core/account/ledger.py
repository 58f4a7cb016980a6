"""Wallet, position and margin of the one account: cross margin, one-way, one symbol. Money is exact to 1e-8."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from libs.domain.accounts import ZERO, Position
from libs.domain.market import Side
from libs.domain.numbers import from_e8, quantize_e8, to_e8
from libs.margin.brackets import BracketTable
from libs.margin.default_brackets import DEFAULT_BRACKETS
from libs.margin.funding import settle_funding
from libs.margin.liquidation import (
    Leg,
    LiquidationResult,
    MarginMode,
    PositionMode,
    PositionSide,
    liquidate_account,
)
from libs.margin.requirements import initial_margin, notional_of, open_loss
from services.exchange.core.account.records import IncomeRecord, OrderRecord
from services.exchange.core.frames import INSTRUMENT, SYMBOL

BRACKETS: BracketTable = DEFAULT_BRACKETS[SYMBOL]


@dataclass(frozen=True, slots=True)
class MarginState:
    """The account's margin at a mark price, in USDT."""

    wallet: Decimal
    unrealised: Decimal
    maintenance: Decimal
    position_margin: Decimal
    order_margin: Decimal
    bid_notional: Decimal
    ask_notional: Decimal
    notional: Decimal

    @property
    def balance(self) -> Decimal:
        """Wallet and unrealised profit."""
        return self.wallet + self.unrealised

    @property
    def initial(self) -> Decimal:
        """What position and open orders tie up."""
        return self.position_margin + self.order_margin

    @property
    def available(self) -> Decimal:
        """What a new order may use."""
        return max(ZERO, self.balance - self.initial)

    @property
    def withdrawable(self) -> Decimal:
        """What could be withdrawn: unrealised profit cannot."""
        return max(ZERO, min(self.available, self.wallet - self.initial))


@dataclass(eq=False)
class AccountLedgerState:
    """What a snapshot keeps. `incomes` are in the order in which they happened."""

    wallet: Decimal
    leverage: int
    position: Position = field(default_factory=lambda: Position(INSTRUMENT))
    updated_ms: int = 0
    incomes: list[IncomeRecord] = field(default_factory=list)
    _open_fees: Decimal = ZERO


class AccountLedger(AccountLedgerState):
    """The account's wallet, position and incomes."""

    def __init__(self, starting_balance: Decimal, leverage: int) -> None:
        super().__init__(quantize_e8(starting_balance), leverage)

    @property
    def break_even(self) -> Decimal:
        """The price at which closing would leave nothing but the fee of closing; 0 without a position."""
        quantity = self.position.quantity
        return quantize_e8(self.position.entry_price + self._open_fees / quantity) if quantity else ZERO

    def apply_fill(self, side: Side, quantity: int, price: int, fee: Decimal, time_ms: int, trade_id: int) -> Decimal:
        """Book a fill; return the profit that it realised, before the fee."""
        before = self.position.quantity
        self.position, realised = self.position.apply_fill(from_e8(quantity * side.sign), from_e8(price), fee)
        # A position that turned round has paid the fees of what it is now by this fill.
        has_turned = before * self.position.quantity <= 0
        self._open_fees = (fee if self.position.quantity else ZERO) if has_turned else self._open_fees + fee
        if realised:
            self.pay("REALIZED_PNL", realised, time_ms, trade_id)
        if fee:
            self.pay("COMMISSION", -fee, time_ms, trade_id)
        self.updated_ms = time_ms
        return realised

    def apply_funding(self, mark: Decimal, rate: Decimal, time_ms: int) -> Decimal:
        """Settle funding of the open position; return what was received (below zero: paid)."""
        self.position, paid = settle_funding(self.position, mark, rate)
        self.pay("FUNDING_FEE", -paid, time_ms)
        return -paid

    def pay(self, kind: str, amount: Decimal, time_ms: int, trade_id: int = 0) -> None:
        """Add to the wallet (below zero: take from it)."""
        self.wallet += amount
        self.incomes.append(IncomeRecord(kind, to_e8(amount), time_ms, 9_000_000_001 + len(self.incomes), trade_id))

    def leg(self, mark: Decimal) -> Leg:
        """Return the open position as `libs.margin` expects it."""
        position = self.position
        return Leg(
            symbol=SYMBOL,
            side=PositionSide.LONG if position.quantity > 0 else PositionSide.SHORT,
            quantity=abs(position.quantity),
            entry_price=position.entry_price,
            mark_price=mark,
            leverage=Decimal(self.leverage),
            brackets=BRACKETS,
        )

    def marked_position(self, mark: Decimal) -> Position:
        """Return the position with its mark price."""
        return replace(self.position, mark_price=mark)

    def unrealised(self, mark: Decimal) -> Decimal:
        """Return the open position's profit at a mark price."""
        return quantize_e8((mark - self.position.entry_price) * self.position.quantity)

    def maintenance(self, mark: Decimal) -> Decimal:
        """Return the maintenance margin at a mark price."""
        return quantize_e8(self.leg(mark).maintenance_margin) if self.position.quantity else ZERO

    def liquidation(self, mark: Decimal) -> LiquidationResult | None:
        """Return where the position is liquidated; None where there is none."""
        if not self.position.quantity:
            return None
        wallet = max(self.wallet, ZERO)
        return liquidate_account([self.leg(mark)], wallet, MarginMode.CROSS, PositionMode.ONE_WAY)[0]

    def margin(self, mark: Decimal, orders: Iterable[OrderRecord]) -> MarginState:
        """Return the margin with the open `orders` at their prices.

        What can be open at worst counts: max(|position|, |position + buys|, |position - sells|) / leverage. Reduce-only
        orders tie up nothing.
        """
        bids = asks = ZERO
        for order in orders:
            if not order.is_reduce_only:
                notional = from_e8(order.price) * from_e8(order.remaining)
                if order.side == "BUY":
                    bids += notional
                else:
                    asks += notional
        notional = self.position.quantity * mark
        held = self._initial(abs(notional))
        worst = self._initial(max(abs(notional), abs(notional + bids), abs(notional - asks)))
        return MarginState(
            wallet=self.wallet,
            unrealised=self.unrealised(mark),
            maintenance=self.maintenance(mark),
            position_margin=held,
            order_margin=worst - held,
            bid_notional=bids,
            ask_notional=asks,
            notional=notional,
        )

    def cost_of(self, order: OrderRecord, price: Decimal, mark: Decimal, orders: list[OrderRecord]) -> Decimal:
        """Return what an order needs of the available balance: the margin it adds, and its open loss.

        For a flat account without orders it is the venue's initial margin + open loss. What only closes costs nothing.
        """
        side = Side[order.side]
        before = self.margin(mark, orders)
        sign = Decimal(side.sign)
        size = self.position.quantity * mark
        new = notional_of(from_e8(order.remaining), price)
        bids = before.bid_notional + (new if side is Side.BUY else ZERO)
        asks = before.ask_notional + (new if side is Side.SELL else ZERO)
        after = self._initial(max(abs(size), abs(size + bids), abs(size - asks)))
        added = after - before.initial
        if added <= 0:
            return ZERO
        closing = min(from_e8(order.remaining), max(ZERO, -self.position.quantity * sign))
        opening = from_e8(order.remaining) - closing
        return added + quantize_e8(open_loss(opening * sign, price, mark))

    def notional_limit(self, leverage: int | None = None) -> Decimal:
        """Return the largest position that a leverage (else the present one) allows."""
        wanted = self.leverage if leverage is None else leverage
        return max(bracket.notional_cap for bracket in BRACKETS.brackets if bracket.max_leverage >= wanted)

    def _initial(self, notional: Decimal) -> Decimal:
        return quantize_e8(initial_margin(notional, Decimal(self.leverage)))
