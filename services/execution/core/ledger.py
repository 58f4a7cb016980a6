"""The account's ledger: wallet, positions, fees and funding of a one-way, cross-margined USDT account. Exact.

Funding is charged by `FundingSettled`. Where a venue sends none, a mark price that passes the announced funding time
charges at the rate that was in force; settlements within half an hour of one another are one settlement. Where no
mark price was ever seen the middle of the best quote serves as the mark, else the last traded price.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple

from libs.domain.accounts import AccountState, Position, VenueAccount
from libs.domain.market import BestQuote, ExchangeBar, FundingSettled, MarkPrice, Side, Trade
from libs.domain.numbers import NANOSECONDS, from_e8, quantize_e8
from libs.margin.funding import settle_funding

ZERO = Decimal(0)
SAME_SETTLEMENT_NS = 1_800 * NANOSECONDS


class OpeningOrder(NamedTuple):
    """What is left of an open order that may open a position; `price` 0 for market orders."""

    instrument: str
    side: Side
    quantity: Decimal
    price: Decimal


@dataclass(eq=False)
class ExecutionLedgerState:
    """What is kept of an account, by instrument: `_announced` is the rate of the next funding and its time."""

    account: str
    wallet_balance: Decimal
    sequence: int = 0
    _positions: dict[str, Position] = field(default_factory=dict)
    _marks: dict[str, int] = field(default_factory=dict)
    _quotes: dict[str, BestQuote] = field(default_factory=dict)
    _prices: dict[str, int] = field(default_factory=dict)
    _announced: dict[str, tuple[int, int]] = field(default_factory=dict)
    _settled_times: dict[str, int] = field(default_factory=dict)


class ExecutionLedger(ExecutionLedgerState):
    """Positions and wallet of one account. `leverage` is what the account has configured for every instrument.

    Without `charges_funding` it is left to a real venue, whose wallet has it.
    """

    def __init__(
        self, account: str, starting_balance: Decimal, leverage: Decimal, *, charges_funding: bool = True
    ) -> None:
        if not starting_balance.is_finite() or starting_balance <= 0:
            raise ValueError(f"the starting balance must be above zero, got {starting_balance}")
        if not leverage.is_finite() or not 1 <= leverage <= 125:
            raise ValueError(f"leverage must lie within 1 to 125, got {leverage}")
        super().__init__(account, starting_balance)
        self.leverage = leverage
        self._charges_funding = charges_funding

    @property
    def has_open_position(self) -> bool:
        """Whether the equity moves with the market."""
        return any(held.quantity for held in self._positions.values())

    def position(self, instrument: str) -> Position:
        """Return the position in an instrument, flat if there is none; its mark is as of the last `make_state`."""
        return self._positions.get(instrument) or Position(instrument)

    def mark_of(self, instrument: str) -> Decimal:
        """Return the mark price or what serves as one; 0 before any."""
        mark = self._marks.get(instrument)
        if mark is not None:
            return from_e8(mark)
        quote = self._quotes.get(instrument)
        if quote is not None:
            return from_e8((quote.bid_price_e8 + quote.ask_price_e8) // 2)
        return from_e8(self._prices.get(instrument, 0))

    def observe_quote(self, event: BestQuote) -> None:
        """Remember a quote in case no mark price comes."""
        if event.instrument not in self._marks and event.bid_price_e8 and event.ask_price_e8:
            self._quotes[event.instrument] = event

    def observe_trade(self, event: Trade) -> None:
        """Remember a traded price in case neither mark price nor quote comes."""
        self._prices[event.instrument] = event.price_e8

    def observe_bar(self, event: ExchangeBar) -> None:
        """Remember a bar's close in case nothing better comes."""
        self._prices[event.instrument] = event.close_e8

    def pass_bars(self, instrument: str, close_e8: int, states: int) -> None:
        """Go to the end of bars that moved nothing but the price, with an account state made at `states` of them."""
        self._prices[instrument] = close_e8
        self.sequence += states

    def pass_orders(self, held: Position, wallet_balance: Decimal, states: int) -> None:
        """Take over a position and the wallet after fills that were booked elsewhere, `states` account states on."""
        self._positions[held.instrument] = held
        self.wallet_balance = wallet_balance
        self.sequence += states

    def observe_mark(self, event: MarkPrice) -> bool:
        """Take over a mark price; True where it passed a funding time that charged a position."""
        name = event.instrument
        self._marks[name] = event.mark_price_e8
        self._quotes.pop(name, None)
        announced = self._announced.get(name)
        has_charged = False
        if announced is not None and 0 < announced[1] <= event.event_time:
            has_charged = self._settle(name, announced[1], announced[0], event.mark_price_e8)
        self._announced[name] = (event.funding_rate_e8, event.next_funding_time)
        return has_charged

    def observe_funding(self, event: FundingSettled) -> bool:
        """Charge a settlement; True where a position paid or received."""
        return self._settle(event.instrument, event.event_time, event.funding_rate_e8, event.mark_price_e8)

    def _settle(self, instrument: str, funding_time: int, rate_e8: int, mark_e8: int) -> bool:
        last = self._settled_times.get(instrument)
        if last is not None and abs(funding_time - last) < SAME_SETTLEMENT_NS:
            return False
        self._settled_times[instrument] = funding_time
        held = self._positions.get(instrument)
        if not self._charges_funding or held is None or not held.quantity or not rate_e8:
            return False
        mark = from_e8(mark_e8) if mark_e8 else self.mark_of(instrument)
        self._positions[instrument], paid = settle_funding(held, mark, from_e8(rate_e8))
        self.wallet_balance -= paid
        return True

    def apply_fill(self, instrument: str, side: Side, quantity: Decimal, price: Decimal, fee: Decimal) -> Decimal:
        """Book a fill and return the profit it realised, before the fee."""
        held, realised = self.position(instrument).apply_fill(quantity * side.sign, price, fee)
        self._positions[instrument] = held
        self.wallet_balance += realised - fee
        return realised

    def find_difference(self, venue_account: VenueAccount) -> str:
        """Return how the venue's positions differ from those computed here, empty where they do not."""
        theirs = {held.instrument: held.quantity for held in venue_account.positions}
        for name in sorted({*theirs, *self._positions}):
            ours = self.position(name).quantity
            if ours != theirs.get(name, ZERO):
                return f"position in {name} is {theirs.get(name, ZERO)} at the venue and {ours} by reports"
        return ""

    def take_over(self, venue_account: VenueAccount) -> None:
        """Go on from the venue's wallet and positions; what each position has realised and paid stays."""
        self.wallet_balance = venue_account.wallet_balance
        theirs = {held.instrument: held for held in venue_account.positions}
        for name in sorted({*theirs, *self._positions}):
            quantity, entry_price = ZERO, ZERO
            if held := theirs.get(name):
                quantity, entry_price = held.quantity, held.entry_price
            self._positions[name] = replace(
                self.position(name), quantity=quantity, entry_price=entry_price, mark_price=ZERO
            )

    def summary(self) -> tuple[Decimal, tuple[Decimal, ...]]:
        """Return wallet and position quantities, what is published when it changes."""
        return self.wallet_balance, tuple(self._positions[name].quantity for name in sorted(self._positions))

    def equity(self) -> Decimal:
        """Return the wallet plus the unrealised profit at the present marks."""
        self._mark_positions()
        return self.wallet_balance + sum((held.unrealised_pnl for held in self._positions.values()), ZERO)

    def initial_margin(self, opening: Iterable[OpeningOrder]) -> Decimal:
        """Return what positions and orders that may open more tie up, at the present marks.

        Per instrument it is the larger of the notionals that would be held if all buys filled or all sells did, over
        the leverage (one-way mode).
        """
        self._mark_positions()
        bought: dict[str, Decimal] = {}
        sold: dict[str, Decimal] = {}
        marks: dict[str, Decimal] = {}
        for order in opening:
            notionals = bought if order.side is Side.BUY else sold
            price = order.price
            if not price:
                price = marks.get(order.instrument) or marks.setdefault(
                    order.instrument, self.mark_of(order.instrument)
                )
            notionals[order.instrument] = notionals.get(order.instrument, ZERO) + order.quantity * price
        total = ZERO
        for name in sorted({*self._positions, *bought, *sold}):
            held = self.position(name)
            notional = held.quantity * (held.mark_price or held.entry_price)
            total += max(abs(notional + bought.get(name, ZERO)), abs(notional - sold.get(name, ZERO)))
        return quantize_e8(total / self.leverage)

    def _mark_positions(self) -> None:
        for name, held in self._positions.items():
            mark = self.mark_of(name)
            if mark != held.mark_price:
                self._positions[name] = replace(held, mark_price=mark)

    def make_state(
        self, event_time: int, cause_id: str, open_order_count: int, opening: Iterable[OpeningOrder]
    ) -> AccountState:
        """Return the next account state. `opening` are the open orders that may open a position."""
        self.sequence += 1
        equity = self.equity()
        initial_margin = self.initial_margin(opening)
        return AccountState(
            event_id=f"account/{self.account}/{self.sequence}",
            event_time=event_time,
            account=self.account,
            sequence=self.sequence,
            wallet_balance=self.wallet_balance,
            equity=equity,
            initial_margin=initial_margin,
            available_balance=max(ZERO, equity - initial_margin),
            positions=tuple(self._positions[name] for name in sorted(self._positions)),
            open_order_count=open_order_count,
            cause_id=cause_id,
        )
