"""backtesting.py, event-driven, a Python strategy."""

from __future__ import annotations

import pandas as pd
from backtesting import Backtest, Strategy
from common import CASH, FAST, FEE, SLOW, WARM_UP, read_bars, run


def ema(values: pd.Series, bars: int) -> pd.Series:
    """Average seeded with the first close."""
    return pd.Series(values).ewm(span=bars, adjust=False).mean()


class Cross(Strategy):
    """Stop and reverse."""

    def init(self) -> None:
        """Compute the averages."""
        self.fast = self.I(ema, self.data.Close, FAST)
        self.slow = self.I(ema, self.data.Close, SLOW)

    def next(self) -> None:
        """Turn where the averages crossed."""
        if len(self.data) < WARM_UP:
            return
        fast, slow = self.fast[-1], self.slow[-1]
        if fast > slow and self.position.size <= 0:
            self.buy(size=1)
        elif fast < slow and self.position.size >= 0:
            self.sell(size=1)


def main() -> None:
    """Run once."""
    bars = read_bars().rename(columns=str.capitalize).set_index("Open_time")
    test = Backtest(bars, Cross, cash=CASH, commission=FEE, trade_on_close=True, exclusive_orders=True)

    def trade() -> tuple[int, float]:
        stats = test.run()
        # Every trade but the open one was closed by the order that opened the next.
        return int(stats["# Trades"]), float(stats["Equity Final [$]"])

    run(trade)


if __name__ == "__main__":
    main()
