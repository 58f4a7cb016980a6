"""Writes a backtest's result: JSON for programs, one HTML page without outside parts for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import orjson

from libs.domain.numbers import NANOSECONDS, format_decimal, quantize_e8
from libs.wire import topics
from services.backtest.backtest import BacktestResult
from services.backtest.measures import EquityPoint, RoundTrip

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
_CURVE_POINTS = 2000
_LISTED_TRADES = 500
_WIDTH, _HEIGHT = 960, 260

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

_STYLE_FILE = Path(__file__).with_name("report.css")


def report_of(result: BacktestResult) -> dict[str, Any]:
    """Return everything the JSON report holds; the same run gives the same values, whenever it is made."""
    return {
        "input": result.description,
        "started_at": _time(result.started_at),
        "ended_at": _time(result.ended_at),
        "span_s": (result.ended_at - result.started_at) / NANOSECONDS,
        **result.summary(),
        "counts": {
            **{name: result.counts[topic] for name, topic in _COUNTED.items()},
            "orders": result.counts["orders_submitted"],
            "refused": result.counts["refused"],
            "dead_inputs": result.counts["dead_inputs"],
            "dead_events": len(result.dead),
        },
        "failed_checks": dict(sorted(result.refusals.items())),
        "digests": result.digests,
        "notes": result.notes,
        "input_faults": result.faults,
        "dead_events": [
            {"service": dead.service, "event_id": dead.event_id, "reason": dead.reason} for dead in result.dead[:20]
        ],
        "round_trips": [_trade(trade) for trade in result.trades],
        "equity_curve": [
            {
                "time": _time(point.event_time),
                "equity_usdt": format_decimal(point.equity),
                "position": format_decimal(point.position),
            }
            for point in _thin(result.points)
        ],
    }


def write_report(result: BacktestResult, output: Path) -> dict[str, Any]:
    """Write report.json and report.html into a folder; return what the JSON holds."""
    report = report_of(result)
    output.mkdir(parents=True, exist_ok=True)
    text = orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (output / REPORT_JSON).write_bytes(text)
    (output / REPORT_HTML).write_text(render_html(result, report), encoding="utf-8")
    return report


def render_html(result: BacktestResult, report: dict[str, Any]) -> str:
    """Return the page: measures, curves, trades, what was refused and what went wrong."""
    described = ", ".join(f"{escape(str(name))} {escape(str(value))}" for name, value in result.description.items())
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'><title>Backtest</title>",
        f"<style>{_STYLE_FILE.read_text(encoding='utf-8')}</style></head><body><h1>Backtest</h1>",
        f"<p>{described}<br>{report['started_at']} to {report['ended_at']}</p>",
        f"<div class='cards'>{''.join(_card(label, value) for label, value in _cards(report))}</div>",
        "<h2>Equity, USDT</h2>",
        _svg([(point.event_time, float(point.equity)) for point in _thin(result.points)], is_step=False),
        "<h2>Position, base units</h2>",
        _svg([(point.event_time, float(point.position)) for point in _thin(result.points)], is_step=True),
        _trades_table(result.trades),
        _pairs_table("Orders refused, by failed check", report["failed_checks"]),
        _pairs_table("Events", report["counts"]),
        _lines("Notes", result.notes),
        _lines("Input that could not be read", result.faults),
        _lines("Events no service could handle", [f"{one.service}: {one.reason}" for one in result.dead[:20]]),
        _pairs_table("Digests (sha256)", {name: f"{value[:16]}..." for name, value in result.digests.items()}),
        "<p>Past and simulated results say little about the future. Fills are modelled, not real.</p></body></html>\n",
    ]
    return "".join(parts)


def _cards(report: dict[str, Any]) -> list[tuple[str, str]]:
    def ratio(name: str, digits: int = 2) -> str:
        value = report[name]
        return "-" if value is None else f"{value:.{digits}f}"

    def share(name: str) -> str:
        value = report[name]
        return "-" if value is None else f"{100 * value:.2f} %"

    def money(name: str) -> str:
        return "-" if report[name] is None else f"{float(report[name]):,.2f}"

    return [
        ("profit, USDT", money("pnl_usdt")),
        ("return", share("return")),
        ("fees, USDT", money("fees_usdt")),
        ("funding, USDT", money("funding_usdt")),
        ("round trips", str(report["trades"])),
        ("fills", str(report["fills"])),
        ("hit rate", share("hit_rate")),
        ("profit factor", ratio("profit_factor")),
        ("Sharpe, yearly", ratio("sharpe")),
        ("deepest drawdown", share("max_drawdown")),
        ("turnover of equity", ratio("turnover")),
        ("time in the market", share("exposure_share")),
    ]


def _card(label: str, value: str) -> str:
    kind = " class='bad'" if value.startswith("-") and len(value) > 1 else ""
    return f"<div class='card'><span>{escape(label)}</span><b{kind}>{escape(value)}</b></div>"


def _svg(points: Sequence[tuple[int, float]], *, is_step: bool) -> str:
    if len(points) < 2:
        return "<p>Too short to draw.</p>"
    first, last = points[0][0], points[-1][0]
    low, high = min(value for _, value in points), max(value for _, value in points)
    spread = (high - low) or max(abs(high), 1.0) * 1e-3
    span = (last - first) or 1

    def place(time: int, value: float) -> tuple[float, float]:
        return (time - first) / span * _WIDTH, _HEIGHT - 14 - (value - low) / spread * (_HEIGHT - 28)

    path: list[str] = []
    for number, (time, value) in enumerate(points):
        x, y = place(time, value)
        if number and is_step:
            path.append(f"H{x:.1f}V{y:.1f}")
        else:
            path.append(f"{'L' if number else 'M'}{x:.1f} {y:.1f}")
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>"
        f"<path d='{''.join(path)}' fill='none' stroke='var(--accent)' stroke-width='1.5'/>"
        f"<text x='2' y='12' font-size='12' fill='var(--soft)'>{high:,.6g}</text>"
        f"<text x='2' y='{_HEIGHT - 2}' font-size='12' fill='var(--soft)'>{low:,.6g}</text></svg>"
    )


def _trades_table(trades: Sequence[RoundTrip]) -> str:
    if not trades:
        return "<h2>Round trips</h2><p>None was closed.</p>"
    shown = trades[:_LISTED_TRADES]
    rows = "".join(
        f"<tr><td>{_time(trade.opened_at)}</td><td>{_time(trade.closed_at)}</td>"
        f"<td>{'long' if trade.side.sign > 0 else 'short'}</td><td>{format_decimal(trade.quantity)}</td>"
        f"<td>{trade.entry_price:,.2f}</td><td>{trade.exit_price:,.2f}</td><td>{trade.fees:,.4f}</td>"
        f"<td{' class=bad' if trade.pnl < 0 else ''}>{trade.pnl:,.4f}</td></tr>"
        for trade in shown
    )
    more = "" if len(shown) == len(trades) else f"<p>The first {len(shown)} of {len(trades)}; report.json has all.</p>"
    return (
        "<h2>Round trips</h2><div class='scroll'><table><tr><th>opened</th><th>closed</th><th>side</th>"
        f"<th>quantity</th><th>entry</th><th>exit</th><th>fees</th><th>profit</th></tr>{rows}</table></div>{more}"
    )


def _pairs_table(title: str, pairs: dict[str, Any]) -> str:
    if not pairs:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(name))}</td><td>{escape(str(value))}</td></tr>" for name, value in pairs.items()
    )
    return f"<h2>{escape(title)}</h2><div class='scroll'><table>{rows}</table></div>"


def _lines(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<h2>{escape(title)}</h2>" + "".join(f"<p><code>{escape(line)}</code></p>" for line in lines)


def _trade(trade: RoundTrip) -> dict[str, str]:
    return {
        "opened_at": _time(trade.opened_at),
        "closed_at": _time(trade.closed_at),
        "side": "long" if trade.side.sign > 0 else "short",
        "quantity": format_decimal(trade.quantity),
        "entry_price": format_decimal(quantize_e8(trade.entry_price)),
        "exit_price": format_decimal(quantize_e8(trade.exit_price)),
        "fees_usdt": format_decimal(quantize_e8(trade.fees)),
        "pnl_usdt": format_decimal(quantize_e8(trade.pnl)),
    }


def _thin(points: Sequence[EquityPoint]) -> list[EquityPoint]:
    every = max(1, -(-len(points) // _CURVE_POINTS))
    thinned = list(points[::every])
    if points and thinned[-1] is not points[-1]:
        thinned.append(points[-1])
    return thinned


def _time(time_ns: int) -> str:
    at = datetime.fromtimestamp(time_ns // NANOSECONDS, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{time_ns % NANOSECONDS // 1_000_000:03d}Z"
