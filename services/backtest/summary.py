"""The measures of a run over the whole period asked for. Money as decimal strings, ratios as numbers or None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from libs.domain.numbers import SCALE, from_e8
from services.backtest import returns as measures
from services.backtest.recorder import RunRecord
from services.backtest.returns import choose_grid, find_drawdown, sample, simple_returns
from services.backtest.round_trips import RoundTrip, excursions, find_round_trips, held_ns

_ZERO = Decimal(0)
_DAY_NS = 86_400 * 10**9


def summarise(record: RunRecord, start: int, end: int) -> dict[str, Any]:
    """Return every measure from `start` to `end` (ns), the time without trading included."""
    times, equity, _ = record.equity.within(start, end)
    first, last = (from_e8(int(equity[0])), from_e8(int(equity[-1]))) if len(equity) else (_ZERO, _ZERO)
    pnl = last - first
    fees = sum((fill.fee for fill in record.fills), _ZERO)
    turnover = sum((fill.quantity * fill.price for fill in record.fills), _ZERO)
    slippage = sum((fill.slippage for fill in record.fills), _ZERO)
    deepest = find_drawdown(times, equity / SCALE)
    trips, has_open_trip = find_round_trips(record.fills, record.funding)
    return {
        "starting_equity_usdt": money(first),
        "final_equity_usdt": money(last),
        "pnl_usdt": money(pnl),
        "gross_pnl_usdt": money(pnl + fees + record.funding_paid),
        "fees_usdt": money(fees),
        "funding_usdt": money(record.funding_paid),
        "slippage_usdt": money(slippage),
        "return": float(pnl / first) if first else 0.0,
        "max_drawdown": deepest.share,
        "max_drawdown_usdt": money(Decimal(repr(deepest.amount))),
        "max_drawdown_days": deepest.longest_ns / _DAY_NS,
        "fills": len(record.fills),
        "turnover_usdt": money(turnover),
        "turnover": float(turnover / first) if first else 0.0,
        "exposure_share": held_ns(record.fills, start, end) / (end - start) if end > start else 0.0,
        **_ratios(record, start, end),
        **summarise_trips(trips),
        "has_open_trade": has_open_trip,
        **_mean_excursions(trips, record),
    }


def _ratios(record: RunRecord, start: int, end: int) -> dict[str, Any]:
    grid = choose_grid(start, end)
    times, equity, _ = record.equity.within(start, end)
    levels = sample(times, equity, grid.times)
    gained = simple_returns(levels)
    prices = record.prices.columns()
    market = simple_returns(sample(prices["times"], prices["close"], grid.times))
    on_grid = find_drawdown(grid.times, levels)
    annual = measures.annual_return(gained, grid.per_year)
    has_market = bool(len(prices["times"]))
    return {
        "grid": grid.name,
        "grid_returns": len(gained),
        "annual_return": annual,
        "annual_volatility": measures.annual_volatility(gained, grid.per_year),
        "sharpe": measures.sharpe_ratio(gained, grid.per_year),
        "sortino": measures.sortino_ratio(gained, grid.per_year),
        "calmar": annual / on_grid.share if annual is not None and on_grid.share else None,
        "omega": measures.omega_ratio(gained),
        "value_at_risk": measures.value_at_risk(gained),
        "conditional_value_at_risk": measures.conditional_value_at_risk(gained),
        "tail_ratio": measures.tail_ratio(gained),
        "skew": measures.skewness(gained),
        "kurtosis": measures.kurtosis(gained),
        "buy_and_hold_return": float((1.0 + market).prod() - 1.0) if has_market else None,
        "beta": measures.beta(gained, market) if has_market else None,
        "alpha": measures.alpha(gained, market, grid.per_year) if has_market else None,
    }


def summarise_trips(trips: Sequence[RoundTrip]) -> dict[str, Any]:
    """Return the measures of closed round trips, net of fees and funding."""
    won = [trip.pnl for trip in trips if trip.pnl > 0]
    gained = sum(won, _ZERO)
    lost = -sum((trip.pnl for trip in trips if trip.pnl <= 0), _ZERO)
    return {
        "trades": len(trips),
        "win_rate": len(won) / len(trips) if trips else None,
        "profit_factor": float(gained / lost) if lost else None,
        "expectancy_usdt": money((gained - lost) / len(trips)) if trips else None,
        "best_trade_usdt": money(max(trip.pnl for trip in trips)) if trips else None,
        "worst_trade_usdt": money(min(trip.pnl for trip in trips)) if trips else None,
        "consecutive_wins": _longest_run(trips, lambda trip: trip.pnl > 0),
        "consecutive_losses": _longest_run(trips, lambda trip: trip.pnl <= 0),
        "average_holding_s": (
            sum(trip.closed_at - trip.opened_at for trip in trips) / len(trips) / 1e9 if trips else None
        ),
    }


def _mean_excursions(trips: Sequence[RoundTrip], record: RunRecord) -> dict[str, str | None]:
    found = excursions(trips, record.prices, record.other_prices)
    if not found:
        return {"average_mae_usdt": None, "average_mfe_usdt": None}
    return {
        "average_mae_usdt": money(sum((against for against, _ in found), _ZERO) / len(found)),
        "average_mfe_usdt": money(sum((in_favour for _, in_favour in found), _ZERO) / len(found)),
    }


def _longest_run(trips: Sequence[RoundTrip], applies: Callable[[RoundTrip], bool]) -> int:
    longest = run = 0
    for trip in trips:
        run = run + 1 if applies(trip) else 0
        longest = max(longest, run)
    return longest


def money(amount: Decimal) -> str:
    """Write an amount with the eight decimals of the wire."""
    return f"{amount:.8f}"
