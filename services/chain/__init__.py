"""Bars: market events in, closed and enriched bars of every timeframe out."""
