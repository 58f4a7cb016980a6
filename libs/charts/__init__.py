"""TradingView's lightweight-charts as shipped by its makers, for the monitoring page and the backtest's report."""

from __future__ import annotations

from pathlib import Path

LIGHTWEIGHT_CHARTS = Path(__file__).parent / "lightweight-charts.js"
"""The library's standalone build; it defines the global `LightweightCharts`."""
