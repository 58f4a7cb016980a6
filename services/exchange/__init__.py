"""The simulated exchange: a seeded BTC perpetual behind Binance's REST paths and websockets."""
