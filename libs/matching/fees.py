"""Trading fees: a rate of notional for makers and takers."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from libs.domain.instruments import Instrument
from libs.domain.numbers import quantize_e8
from libs.domain.orders import Liquidity


@dataclass(frozen=True, slots=True)
class FeeModel:
    """Rates of notional (0.0005 = 5 bps); None takes the instrument's own. A negative maker rate is a rebate."""

    maker_rate: Decimal | None = None
    taker_rate: Decimal | None = None

    def fee_of(self, instrument: Instrument, price: Decimal, quantity: Decimal, liquidity: Liquidity) -> Decimal:
        """Return the fee of a fill in the quote asset, positive when paid, rounded half-even to 1e-8."""
        if liquidity is Liquidity.MAKER:
            rate = instrument.maker_fee_rate if self.maker_rate is None else self.maker_rate
        else:
            rate = instrument.taker_fee_rate if self.taker_rate is None else self.taker_rate
        return quantize_e8(price * quantity * rate)
