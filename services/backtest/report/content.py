"""What a report says: measures, curves, trades, what risk did, what the run was made of, what to mind when reading it.

The same run gives the same values, whenever the report is made.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from libs.domain.control import TradingState
from libs.domain.numbers import NANOSECONDS, format_decimal, quantize_e8
from libs.wire import topics
from services.backtest.report.curves import build_curves
from services.backtest.returns import choose_grid, sample, simple_returns
from services.backtest.round_trips import RoundTrip, excursions, find_round_trips
from services.backtest.run import BacktestResult
from services.backtest.selection import MonteCarlo, reality_check, resample_paths, resample_trades
from services.backtest.summary import money, summarise

_COUNTED = {
    "market_events": topics.MARKET_EVENTS,
    "bars": topics.BARS_CLOSED,
    "vectors": topics.FEATURE_VECTORS,
    "forecasts": topics.FORECASTS,
    "intents": topics.INTENTS,
    "verdicts": topics.VERDICTS,
    "commands": topics.COMMANDS,
    "order_events": topics.ORDERS,
    "control_states": topics.CONTROL_STATES,
    "alerts": topics.ALERTS,
}
_SHOWN = 20
_FEW_TRADES = 30
# Draws of a Monte Carlo: fewer where each is long, so that what is drawn at once stays small.
_DRAWS, _LEAST_DRAWS, _DRAWN = 1_000, 100, 500_000
_SEED = 0
_SOURCES = Path(__file__).resolve().parents[3]


def build_report(result: BacktestResult) -> dict[str, Any]:
    """Return everything that the JSON report holds. `halted` is None where trading was possible to the end."""
    record = result.record
    measured = summarise(record, result.start, result.end)
    trips, _ = find_round_trips(record.fills, record.funding)
    return {
        "halted": describe_halt(result),
        "period": {
            "from": format_time(result.start),
            "to": format_time(result.end),
            "days": (result.end - result.start) / NANOSECONDS / 86_400,
        },
        **measured,
        "counts": {
            **{name: record.counts[topic] for name, topic in _COUNTED.items()},
            "orders": record.counts["orders_submitted"],
            "refused": record.counts["refused"],
            "dead_inputs": record.counts["dead_inputs"],
            "dead_events": len(result.dead),
        },
        "trading_states": [
            {
                "time": format_time(change.event_time),
                "state": change.state.name,
                "reason": change.reason,
                "equity_usdt": money(change.equity),
            }
            for change in record.state_changes
        ],
        "failed_checks": dict(sorted(record.failed_checks.items())),
        "refusals": [
            {
                "time": format_time(refusal.event_time),
                "intent_id": refusal.intent_id,
                "strategy": refusal.strategy,
                "reasons": list(refusal.reasons),
            }
            for refusal in record.refusals
        ],
        "alerts": [{"time": format_time(alert.event_time), "message": alert.message} for alert in record.alerts],
        "attribution": _attribute(trips),
        "chance": measure_chance(result, trips),
        "caveats": _caveats(result, measured),
        "input": result.description,
        "parameters": result.parameters,
        "versions": {"perpflow": version("perpflow"), "code_sha256": _hash_code()},
        "digests": result.digests,
        "notes": result.notes,
        "input_errors": result.input_errors,
        "dead_events": [
            {"service": dead.service, "event_id": dead.event_id, "reason": dead.reason} for dead in result.dead[:_SHOWN]
        ],
        "round_trips": [
            _describe_trip(trip, against, in_favour)
            for trip, (against, in_favour) in zip(
                trips, excursions(trips, record.prices, record.other_prices), strict=True
            )
        ],
        **build_curves(result),
    }


def measure_chance(result: BacktestResult, trips: Sequence[RoundTrip]) -> dict[str, Any]:
    """Return what chance could have made of the run: its trips in other draws, its path in other orders of blocks, and
    the probability that returns without an edge have a mean as good (White's reality check of one variant).
    """
    times, equity, _ = result.record.equity.within(result.start, result.end)
    levels = sample(times, equity, choose_grid(result.start, result.end).times)
    gained, first = simple_returns(levels), float(levels[0]) if len(levels) else 0.0
    profits = [float(trip.pnl) for trip in trips]
    draws = max(_LEAST_DRAWS, min(_DRAWS, _DRAWN // max(1, len(profits), len(gained))))
    by_trades = resample_trades(profits, first, seed=_SEED, draws=draws) if first > 0.0 else None
    by_paths = resample_paths(gained, first, seed=_SEED, draws=draws) if first > 0.0 else None
    return {
        "draws": draws,
        "reality_check_p_value": reality_check(gained.reshape(-1, 1), seed=_SEED, draws=draws),
        "trades": _describe_draws(by_trades),
        "paths": _describe_draws(by_paths),
    }


def _describe_draws(drawn: MonteCarlo | None) -> dict[str, Any] | None:
    if drawn is None:
        return None
    return {
        "profit": list(drawn.profit),
        "drawdown": list(drawn.drawdown),
        "loss_probability": drawn.loss_probability,
    }


def describe_halt(result: BacktestResult) -> dict[str, Any] | None:
    """Return when, why and at which equity trading was last halted, and which share of the period was left then."""
    changes = result.record.state_changes
    if not changes or changes[-1].state is TradingState.ACTIVE:
        return None
    stopped = changes[-1]
    for change in reversed(changes):
        if change.state is TradingState.ACTIVE:
            break
        stopped = change
    left = (result.end - stopped.event_time) / (result.end - result.start)
    return {
        "time": format_time(stopped.event_time),
        "state": changes[-1].state.name,
        "reason": stopped.reason,
        "equity_usdt": money(stopped.equity),
        "share_of_period_left": left,
    }


def _attribute(trips: Sequence[RoundTrip]) -> dict[str, list[dict[str, Any]]]:
    by_instrument = _group(trips, lambda trip: trip.instrument)
    return {
        **({"instrument": by_instrument} if len(by_instrument) > 1 else {}),
        "side": _group(trips, _side_of),
        "strategy": _group(trips, lambda trip: trip.strategy),
        "month_closed": _group(trips, lambda trip: format_time(trip.closed_at)[:7]),
    }


def _group(trips: Iterable[RoundTrip], key: Callable[[RoundTrip], str]) -> list[dict[str, Any]]:
    groups: dict[str, list[RoundTrip]] = defaultdict(list)
    for trip in trips:
        groups[key(trip)].append(trip)
    return [
        {
            "name": name,
            "trades": len(members),
            "win_rate": sum(trip.pnl > 0 for trip in members) / len(members),
            "fees_usdt": money(_sum(trip.fees for trip in members)),
            "funding_usdt": money(_sum(trip.funding for trip in members)),
            "pnl_usdt": money(_sum(trip.pnl for trip in members)),
        }
        for name, members in sorted(groups.items())
    ]


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def _side_of(trip: RoundTrip) -> str:
    return "long" if trip.side.sign > 0 else "short"


def _describe_trip(trip: RoundTrip, against: Decimal, in_favour: Decimal) -> dict[str, str]:
    def exact(value: Decimal) -> str:
        return format_decimal(quantize_e8(value))

    return {
        "opened_at": format_time(trip.opened_at),
        "closed_at": format_time(trip.closed_at),
        "instrument": trip.instrument,
        "strategy": trip.strategy,
        "side": _side_of(trip),
        "quantity": format_decimal(trip.quantity),
        "entry_price": exact(trip.entry_price),
        "exit_price": exact(trip.exit_price),
        "fees_usdt": exact(trip.fees),
        "funding_usdt": exact(trip.funding),
        "pnl_usdt": exact(trip.pnl),
        "mae_usdt": exact(against),
        "mfe_usdt": exact(in_favour),
    }


def _caveats(result: BacktestResult, measured: dict[str, Any]) -> list[str]:
    said = ["Past and simulated results say little about the future. Fills are modelled, not real."]
    execution = result.parameters.get("execution", {})
    if result.description.get("sample_data"):
        said.insert(0, "The market is sample data, made up from a seed: none of this happened at an exchange.")
    if result.description.get("timeframe"):
        said.append(
            f"The market is bars alone: market orders fill at '{execution.get('bar_fill')}' with "
            f"{execution.get('slippage_bps')} bps of slippage, and the path inside a bar is assumed."
        )
    if result.record.other_prices:
        said.append(
            f"Price, position and buy and hold are of {result.description.get('instrument')}, the first of "
            f"{1 + len(result.record.other_prices)} instruments; everything else is of all."
        )
    if not result.record.funding and measured["exposure_share"]:
        said.append("No funding was paid or received: the input carries no funding rates, or no position met one.")
    if measured["trades"] < _FEW_TRADES:
        said.append(f"{measured['trades']} round trips are few: ratios over them are mostly chance.")
    if measured["grid"] != "1d":
        said.append(f"The period is short: ratios are annualised from {measured['grid']} returns.")
    if result.record.counts["dead_inputs"] or result.dead:
        said.append("Some input could not be used; see the lists below.")
    return said


@cache
def _hash_code() -> str:
    digest = hashlib.sha256()
    for folder in ("libs", "services"):
        for path in sorted((_SOURCES / folder).rglob("*.py")):
            digest.update(path.relative_to(_SOURCES).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def format_time(time_ns: int) -> str:
    """Write a market time (ns) as UTC with milliseconds."""
    at = datetime.fromtimestamp(time_ns // NANOSECONDS, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time_ns % NANOSECONDS // 1_000_000:03d}Z"
