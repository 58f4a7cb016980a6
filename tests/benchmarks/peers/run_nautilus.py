"""nautilus_trader, event-driven, a Python strategy over its own engine; its log is off."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
from common import CASH, FAST, FEE, SLOW, WARM_UP, read_bars, run
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.indicators import ExponentialMovingAverage
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.trading.strategy import Strategy

VENUE = Venue("BINANCE")
INSTRUMENT = InstrumentId(Symbol("BTCUSDT-PERP"), VENUE)
BARS = BarType.from_str("BTCUSDT-PERP.BINANCE-5-MINUTE-LAST-EXTERNAL")


class Cross(Strategy):
    """Stop and reverse."""

    def on_start(self) -> None:
        """Compute the averages from the bars."""
        self.fast, self.slow = ExponentialMovingAverage(FAST), ExponentialMovingAverage(SLOW)
        self.seen = self.side = self.orders = 0
        self.register_indicator_for_bars(BARS, self.fast)
        self.register_indicator_for_bars(BARS, self.slow)
        self.instrument = self.cache.instrument(INSTRUMENT)
        self.subscribe_bars(BARS)

    def on_bar(self, bar: Bar) -> None:
        """Turn where the averages crossed."""
        self.seen += 1
        self.last = float(bar.close)
        side = (self.fast.value > self.slow.value) - (self.fast.value < self.slow.value)
        if self.seen < WARM_UP or side in (0, self.side):
            return
        quantity = self.instrument.make_qty(abs(side - self.side))
        self.submit_order(
            self.order_factory.market(INSTRUMENT, OrderSide.BUY if side > 0 else OrderSide.SELL, quantity)
        )
        self.side = side
        self.orders += 1


def make_rules() -> CryptoPerpetual:
    """Return the instrument."""
    return CryptoPerpetual(
        instrument_id=INSTRUMENT,
        raw_symbol=Symbol("BTCUSDT"),
        base_currency=BTC,
        quote_currency=USDT,
        settlement_currency=USDT,
        is_inverse=False,
        price_precision=1,
        size_precision=3,
        price_increment=Price.from_str("0.1"),
        size_increment=Quantity.from_str("0.001"),
        ts_event=0,
        ts_init=0,
        margin_init=Decimal("0.05"),
        margin_maint=Decimal("0.025"),
        maker_fee=Decimal(str(FEE)),
        taker_fee=Decimal(str(FEE)),
    )


def main() -> None:
    """Run once."""
    bars = read_bars()
    rules = make_rules()
    frame = bars.set_index(bars["open_time"] + pd.Timedelta(minutes=5))[["open", "high", "low", "close", "volume"]]
    data = BarDataWrangler(BARS, rules).process(frame)
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    engine.add_venue(
        VENUE, OmsType.NETTING, AccountType.MARGIN, starting_balances=[Money(CASH, USDT)], base_currency=None
    )
    engine.add_instrument(rules)
    engine.add_data(data)
    strategy = Cross()
    engine.add_strategy(strategy)

    def trade() -> tuple[int, float]:
        engine.run()
        account = engine.portfolio.account(VENUE)
        open_profit = engine.portfolio.unrealized_pnl(INSTRUMENT, Price(strategy.last, 1))
        return strategy.orders, float(account.balance_total(USDT).as_double() + open_profit.as_double())

    run(trade)


if __name__ == "__main__":
    main()
