"""vectorbt with its Rust engine on a thousand EMA crosses at once; the first run, which compiles, is not counted."""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
import pandas as pd
import vectorbt as vbt
from common import CASH, FEE, WARM_UP, read_bars, run

FAST, SLOW = range(5, 45), range(50, 75)


def main() -> None:
    """Run twice, count the second."""
    close = read_bars().set_index("open_time")["close"].iloc[: int(sys.argv[2])]
    choices = list(product(FAST, SLOW))

    def trade() -> tuple[int, float]:
        averages = {bars: close.ewm(span=bars, adjust=False).mean().to_numpy() for bars in (*FAST, *SLOW)}
        side = np.sign(np.stack([averages[fast] - averages[slow] for fast, slow in choices], axis=1))
        side[: WARM_UP - 1] = 0.0
        sizes = pd.DataFrame(side, index=close.index, columns=pd.MultiIndex.from_tuples(choices))
        held = vbt.Portfolio.from_orders(
            close, size=sizes, size_type="targetamount", fees=FEE, init_cash=CASH, engine="rust"
        )
        return int(held.orders.count().sum()), float(held.final_value().max())

    trade()
    run(trade, count=len(choices))


if __name__ == "__main__":
    main()
