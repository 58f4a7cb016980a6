"""What the strategy service knows of its account: position, and what is on its way there.

Account states and order events reach it on two topics, in either order. A fill counts from the moment either of them
tells of it, and never twice: the account state that a fill caused names the fill's report as its cause.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState
from libs.domain.orders import OrderEvent, OrderIntent, OrderRefused

_ZERO = Decimal(0)
_REMEMBERED_CAUSES = 1024


@dataclass(frozen=True, slots=True)
class _Fill:
    """A fill that the account's state does not hold yet."""

    instrument: str
    signed_quantity: Decimal


class Ledger:
    """Positions of one account (signed, in base units) and the intents whose end is not known."""

    def __init__(self) -> None:
        """Know nothing yet of the account."""
        self._held: dict[str, Decimal] = {}
        self._equity: Decimal | None = None
        self._available: Decimal | None = None
        self._sequence = -1
        self._fills: dict[str, _Fill] = {}
        self._causes: dict[str, None] = {}
        self._outstanding: dict[str, str] = {}

    @property
    def is_known(self) -> bool:
        """Whether an account state was seen."""
        return self._sequence >= 0

    @property
    def equity(self) -> Decimal | None:
        """Equity as last told."""
        return self._equity

    @property
    def available(self) -> Decimal | None:
        """Balance available for new positions as last told."""
        return self._available

    def position(self, instrument: str) -> Decimal:
        """Return the signed position, fills not yet in the account's state included."""
        return self._held.get(instrument, _ZERO) + sum(
            (fill.signed_quantity for fill in self._fills.values() if fill.instrument == instrument), _ZERO
        )

    def positions(self) -> dict[str, Decimal]:
        """Return all positions that are not flat."""
        names = sorted({*self._held, *(fill.instrument for fill in self._fills.values())})
        return {name: quantity for name in names if (quantity := self.position(name))}

    def is_waiting(self, instrument: str) -> bool:
        """Whether an intent in the instrument is on its way: not refused, its order not ended."""
        return instrument in self._outstanding.values()

    def ask(self, intent: OrderIntent) -> None:
        """Note an intent just made."""
        self._outstanding[intent.event_id] = intent.instrument

    def see_account(self, account: AccountState) -> None:
        """Take over an account state, unless it is older than the one known."""
        if account.sequence <= self._sequence:
            return
        self._sequence = account.sequence
        self._equity = account.equity
        self._available = account.available_balance
        self._held = {held.instrument: held.quantity for held in account.positions if held.quantity}
        if account.cause_id in self._fills:
            # Execution books fills in order: a state that holds one holds those before it.
            names = list(self._fills)
            for name in names[: names.index(account.cause_id) + 1]:
                del self._fills[name]
            return
        self._causes[account.cause_id] = None
        while len(self._causes) > _REMEMBERED_CAUSES:
            del self._causes[next(iter(self._causes))]

    def see_refusal(self, refusal: OrderRefused) -> bool:
        """Free what an intent held; the answer is whether it was one of those outstanding."""
        return self._outstanding.pop(refusal.intent_id, None) is not None

    def see_order(self, order: OrderEvent) -> None:
        """Note a step of an order: fills move the position, an end frees what its intent held."""
        if order.last_quantity is not None:
            if order.report_id in self._causes:
                del self._causes[order.report_id]
            else:
                signed = order.side.sign * order.last_quantity
                self._fills[order.report_id] = _Fill(order.instrument, signed)
        if not order.status.is_open:
            self._outstanding.pop(order.intent_id, None)

    def encode(self) -> dict[str, Any]:
        """Return the whole state as JSON values."""
        return {
            "held": {name: str(quantity) for name, quantity in self._held.items()},
            "equity": None if self._equity is None else str(self._equity),
            "available": None if self._available is None else str(self._available),
            "sequence": self._sequence,
            "fills": [[cause, fill.instrument, str(fill.signed_quantity)] for cause, fill in self._fills.items()],
            "causes": list(self._causes),
            "outstanding": self._outstanding,
        }

    def decode(self, state: dict[str, Any]) -> None:
        """Take over a state made by `encode`."""
        self._held = {name: Decimal(quantity) for name, quantity in state["held"].items()}
        self._equity = None if state["equity"] is None else Decimal(state["equity"])
        self._available = None if state["available"] is None else Decimal(state["available"])
        self._sequence = state["sequence"]
        self._fills = {cause: _Fill(instrument, Decimal(quantity)) for cause, instrument, quantity in state["fills"]}
        self._causes = dict.fromkeys(state["causes"])
        self._outstanding = dict(state["outstanding"])
