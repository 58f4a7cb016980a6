"""nautilus_trader on trades: an EMA cross on minutes that it makes of them, or a strategy that sees every trade."""

from __future__ import annotations

import sys

import pandas as pd
from common import CASH, read_bars, run
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.indicators import ExponentialMovingAverage
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import Bar, BarType, TradeTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.objects import Money, Price
from nautilus_trader.persistence.wranglers import TradeTickDataWrangler
from nautilus_trader.trading.strategy import Strategy
from run_nautilus import INSTRUMENT, VENUE, make_rules

BARS = BarType.from_str("BTCUSDT-PERP.BINANCE-1-MINUTE-LAST-INTERNAL")
FAST, SLOW, WARM_UP = 3, 8, 8


class Turning(Strategy):
    """Holds one unit on either side."""

    def on_start(self) -> None:
        """Subscribe to what is decided on."""
        self.side = self.orders = 0
        self.last = 0.0
        self.instrument = self.cache.instrument(INSTRUMENT)

    def turn(self, side: int) -> None:
        """Hold one unit of a side."""
        if side == self.side:
            return
        quantity = self.instrument.make_qty(abs(side - self.side))
        self.submit_order(
            self.order_factory.market(INSTRUMENT, OrderSide.BUY if side > 0 else OrderSide.SELL, quantity)
        )
        self.side = side
        self.orders += 1


class Cross(Turning):
    """An EMA cross on minutes."""

    def on_start(self) -> None:
        """Compute the averages from the bars."""
        super().on_start()
        self.fast, self.slow, self.seen = ExponentialMovingAverage(FAST), ExponentialMovingAverage(SLOW), 0
        self.register_indicator_for_bars(BARS, self.fast)
        self.register_indicator_for_bars(BARS, self.slow)
        self.subscribe_bars(BARS)

    def on_bar(self, bar: Bar) -> None:
        """Turn where the averages crossed."""
        self.seen += 1
        self.last = float(bar.close)
        side = (self.fast.value > self.slow.value) - (self.fast.value < self.slow.value)
        if self.seen >= WARM_UP and side:
            self.turn(side)


class Runs(Turning):
    """Twelve rising or falling trades in a row."""

    def on_start(self) -> None:
        """See every trade."""
        super().on_start()
        self.run = 0
        self.subscribe_trade_ticks(INSTRUMENT)

    def on_trade_tick(self, tick: TradeTick) -> None:
        """Count the run; turn where it is long enough."""
        price = float(tick.price)
        rose = (price > self.last) - (price < self.last)
        if rose:
            self.run = self.run + rose if self.run * rose > 0 else rose
            self.last = price
            if self.run in (12, -12):
                self.turn(rose)


def main() -> None:
    """Run once."""
    trades = read_bars()
    frame = pd.DataFrame(
        {
            "price": trades["price"].to_numpy(),
            "quantity": trades["qty"].to_numpy(),
            "buyer_maker": trades["is_buyer_maker"].to_numpy(),
            "trade_id": trades["id"].astype(str).to_numpy(),
        },
        index=pd.DatetimeIndex(trades["time"], name="timestamp"),
    )
    rules = make_rules()
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        VENUE, OmsType.NETTING, AccountType.MARGIN, starting_balances=[Money(CASH, USDT)], base_currency=None
    )
    engine.add_instrument(rules)
    engine.add_data(TradeTickDataWrangler(rules).process(frame))
    strategy = Cross() if sys.argv[2] == "bars" else Runs()
    engine.add_strategy(strategy)

    def trade() -> tuple[int, float]:
        engine.run()
        account = engine.portfolio.account(VENUE)
        open_profit = engine.portfolio.unrealized_pnl(INSTRUMENT, Price(strategy.last, 1))
        held = open_profit.as_double() if open_profit is not None else 0.0
        return strategy.orders, float(account.balance_total(USDT).as_double() + held)

    run(trade)


if __name__ == "__main__":
    main()
