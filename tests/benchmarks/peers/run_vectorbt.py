"""vectorbt with its Rust engine, one vectorised run; the first, which compiles, is not counted."""

from __future__ import annotations

import numpy as np
import vectorbt as vbt
from common import CASH, FAST, FEE, SLOW, WARM_UP, read_bars, run


def main() -> None:
    """Run twice, count the second."""
    close = read_bars().set_index("open_time")["close"]

    def trade() -> tuple[int, float]:
        fast = close.ewm(span=FAST, adjust=False).mean()
        slow = close.ewm(span=SLOW, adjust=False).mean()
        side = np.sign(fast - slow).replace(0.0, np.nan).ffill().fillna(0.0)
        side.iloc[: WARM_UP - 1] = 0.0
        held = vbt.Portfolio.from_orders(
            close, size=side, size_type="targetamount", fees=FEE, init_cash=CASH, engine="rust"
        )
        return int(held.orders.count()), float(held.final_value())

    trade()
    run(trade)


if __name__ == "__main__":
    main()
