"""Optional outside series: on-chain metrics, sentiment, the crowd's positions, headlines. None of them is needed."""
