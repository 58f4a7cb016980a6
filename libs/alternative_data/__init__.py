"""Optional series from outside the exchange: on-chain metrics, sentiment, the crowd's positions, headlines."""
