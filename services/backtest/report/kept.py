"""The page of kept backtests: one table of all, their equity curves over one another, and in what they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_COLOURS = ("#1769aa", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0f766e", "#a16207", "#be185d")
_DRAWN = 8
_POINTS = 400
_WIDTH, _HEIGHT = 1000, 300
_COLUMNS = (
    ("net profit, USDT", "pnl_usdt"),
    ("return", "return"),
    ("Sharpe", "sharpe"),
    ("Sortino", "sortino"),
    ("drawdown", "max_drawdown"),
    ("trips", "trades"),
    ("win rate", "win_rate"),
    ("profit factor", "profit_factor"),
    ("fees, USDT", "fees_usdt"),
    ("exposure", "exposure_share"),
)
_SHARES = frozenset({"return", "max_drawdown", "win_rate", "exposure_share"})
_SORT = """
for (const head of document.querySelectorAll("table.sorted th")) head.onclick = () => {
  const place = head.cellIndex, body = head.closest("table").tBodies[0];
  const value = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent;
  const up = head.dataset.up = head.dataset.up === "1" ? "" : "1";
  const order = (a, b) => isNaN(a) || isNaN(b) ? String(a).localeCompare(b) : a - b;
  [...body.rows].sort((a, b) => order(value(a), value(b)) * (up ? 1 : -1)).forEach((row) => body.append(row));
};
"""


def render_kept(reports: Mapping[str, Mapping[str, Any]], differing: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page of reports by name; `differing` holds by name what they were not made alike from."""
    style = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
    heads = "".join(f"<th>{escape(label)}</th>" for label in ("name", "from", "to", *(label for label, _ in _COLUMNS)))
    rows = "".join(_row(name, report) for name, report in reports.items())
    compared = "".join(
        f"<tr><td>{escape(key)}</td>{''.join(f'<td>{escape(str(values[name]))}</td>' for name in reports)}</tr>"
        for key, values in differing.items()
    )
    names = "".join(f"<th>{escape(name)}</th>" for name in reports)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'><title>Backtests</title>"
        f"<style>{style} th {{ cursor: pointer }} svg {{ width: 100%; height: auto }}</style></head><body>"
        f"<h1>Backtests</h1><p>{len(reports)} kept; a click on a heading sorts.</p>"
        f"<div class='scroll'><table class='sorted'><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<h2>Equity over its start, each from its own beginning to its end</h2>{_draw(list(reports.items())[:_DRAWN])}"
        "<h2>In what they differ</h2>"
        + (
            f"<div class='scroll'><table><tr><th></th>{names}</tr>{compared}</table></div>"
            if compared
            else "<p>In nothing.</p>"
        )
        + f"<script>{_SORT}</script></body></html>\n"
    )


def _row(name: str, report: Mapping[str, Any]) -> str:
    period = report["period"]
    cells = [
        f"<td><a href='{escape(name, quote=True)}/report.html'>{escape(name)}</a></td>",
        f"<td>{escape(period['from'][:10])}</td>",
        f"<td>{escape(period['to'][:10])}</td>",
    ]
    for _, key in _COLUMNS:
        value = report[key]
        number = None if value is None else float(value)
        shown = "-" if number is None else f"{100 * number:.2f} %" if key in _SHARES else f"{number:,.2f}"
        kind = " class=bad" if number is not None and number < 0 else ""
        cells.append(f"<td{kind} data-value='{'' if number is None else repr(number)}'>{shown}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _draw(reports: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Draw equity over its start as lines, thinned; each run's time is the width."""
    lines = []
    for name, report in reports:
        equity = report["equity_curve"]["equity_usdt"]
        if equity and equity[0] > 0:
            lines.append((name, [level / equity[0] for level in equity[:: max(1, len(equity) // _POINTS)]]))
    if not lines:
        return "<p>None has an equity curve.</p>"
    low, high = min(min(levels) for _, levels in lines), max(max(levels) for _, levels in lines)
    span = (high - low) or 1.0
    drawn, legend = [], []
    for colour, (name, levels) in zip(_COLOURS, lines, strict=False):
        step = _WIDTH / max(1, len(levels) - 1)
        points = " ".join(
            f"{place * step:.1f},{_HEIGHT - (level - low) / span * _HEIGHT:.1f}" for place, level in enumerate(levels)
        )
        drawn.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/>")
        legend.append(f"<span style='color:{colour}'>{escape(name)}</span>")
    return (
        f"<p>{' &nbsp; '.join(legend)}; from {100 * (low - 1):.2f} % to {100 * (high - 1):.2f} %</p>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='equity curves'>{''.join(drawn)}</svg>"
    )
