"""Trades in columns: the same as one after the other, without an object each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from libs.domain.events import Unhandleable
from libs.domain.market import Trade
from services.bars.core.book import Ints
from services.bars.core.steps import Flags

MAX_NOTIONAL = 2 * 10**26
"""price x quantity in 1e-16: beyond 2e10 units of money a trade is not real, and sums would leave 64 bits."""


@dataclass(frozen=True, slots=True)
class TradeArrays:
    """Trades of one instrument in their order, columns of one length: times in ns, prices and quantities in 1e-8."""

    event_times: Ints
    prices_e8: Ints
    quantities_e8: Ints
    are_buyer_maker: Flags
    trade_ids: Ints

    def trade(self, instrument: str, at: int) -> Trade:
        """Return one of them."""
        number, event_time = int(self.trade_ids[at]), int(self.event_times[at])
        return Trade(
            instrument,
            f"{instrument}/trade/{number}",
            event_time,
            event_time,
            int(self.prices_e8[at]),
            int(self.quantities_e8[at]),
            bool(self.are_buyer_maker[at]),
            number,
        )

    def check(self) -> None:
        """Raise `Unhandleable` for a trade without a price or quantity, and for one that is not real."""
        notional = self.prices_e8.astype(np.float64) * self.quantities_e8
        is_wrong = (self.prices_e8 <= 0) | (self.quantities_e8 <= 0) | ~(notional <= MAX_NOTIONAL)
        if is_wrong.any():
            at = int(np.flatnonzero(is_wrong)[0])
            raise Unhandleable(
                f"trade {self.trade_ids[at]} has price {self.prices_e8[at]} and quantity {self.quantities_e8[at]} "
                "(1e-8), which is none, or more than 2e10 in money"
            )
