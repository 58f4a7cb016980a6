"""What the strategy service knows of its account: position, and what is on its way there.

Account states and order events reach it on two topics, in either order. A fill counts from the moment either of them
reports it, and never twice: the account state that a fill caused names the fill's report as its cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from libs.domain.accounts import AccountState
from libs.domain.orders import OrderEvent, OrderIntent, OrderRefused

_ZERO = Decimal(0)
_REMEMBERED_CAUSES = 1024


@dataclass(frozen=True, slots=True)
class _Fill:
    """A fill that the account's state does not hold yet."""

    instrument: str
    signed_quantity: Decimal


@dataclass(slots=True)
class StrategyLedgerState:
    """What is kept: positions and balances as last reported, fills beyond them by report id, instruments by intent."""

    held: dict[str, Decimal] = field(default_factory=dict)
    equity: Decimal | None = None
    available: Decimal | None = None
    sequence: int = -1
    fills: dict[str, _Fill] = field(default_factory=dict)
    causes: dict[str, None] = field(default_factory=dict)
    outstanding: dict[str, str] = field(default_factory=dict)


class StrategyLedger:
    """Positions of one account (signed, in base units) and the intents whose end is not known."""

    def __init__(self) -> None:
        """Know nothing yet of the account."""
        self.state = StrategyLedgerState()

    @property
    def is_known(self) -> bool:
        """Whether an account state was seen."""
        return self.state.sequence >= 0

    @property
    def equity(self) -> Decimal | None:
        """Equity as last reported."""
        return self.state.equity

    @property
    def available(self) -> Decimal | None:
        """Balance available for new positions as last reported."""
        return self.state.available

    def position(self, instrument: str) -> Decimal:
        """Return the signed position, fills not yet in the account's state included."""
        return self.state.held.get(instrument, _ZERO) + sum(
            (fill.signed_quantity for fill in self.state.fills.values() if fill.instrument == instrument), _ZERO
        )

    def positions(self) -> dict[str, Decimal]:
        """Return all positions that are not flat."""
        names = sorted({*self.state.held, *(fill.instrument for fill in self.state.fills.values())})
        return {name: quantity for name in names if (quantity := self.position(name))}

    def is_waiting(self, instrument: str) -> bool:
        """Whether an intent in the instrument is on its way: not refused, its order not ended."""
        return instrument in self.state.outstanding.values()

    def ask(self, intent: OrderIntent) -> None:
        """Note an intent just made."""
        self.state.outstanding[intent.event_id] = intent.instrument

    def see_account(self, account: AccountState) -> None:
        """Take over an account state, unless it is older than the one known."""
        if account.sequence <= self.state.sequence:
            return
        self.state.sequence = account.sequence
        self.state.equity = account.equity
        self.state.available = account.available_balance
        self.state.held = {held.instrument: held.quantity for held in account.positions if held.quantity}
        if account.cause_id in self.state.fills:
            # Execution books fills in order: a state that holds one holds those before it.
            names = list(self.state.fills)
            for name in names[: names.index(account.cause_id) + 1]:
                del self.state.fills[name]
            return
        self.state.causes[account.cause_id] = None
        while len(self.state.causes) > _REMEMBERED_CAUSES:
            del self.state.causes[next(iter(self.state.causes))]

    def see_refusal(self, refusal: OrderRefused) -> bool:
        """Free what an intent held; the answer is whether it was one of those outstanding."""
        return self.state.outstanding.pop(refusal.intent_id, None) is not None

    def see_order(self, order: OrderEvent) -> None:
        """Note a step of an order: fills move the position, an end frees what its intent held."""
        if order.last_quantity is not None:
            if order.report_id in self.state.causes:
                del self.state.causes[order.report_id]
            else:
                signed = order.side.sign * order.last_quantity
                self.state.fills[order.report_id] = _Fill(order.instrument, signed)
        if not order.status.is_open:
            self.state.outstanding.pop(order.intent_id, None)
