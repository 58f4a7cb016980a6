"""Writes a report: report.json, and report.html that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import orjson

from libs.charts import LIGHTWEIGHT_CHARTS
from services.backtest.report.content import build_report
from services.backtest.run import BacktestResult

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
_LISTED_TRADES = 500
_FOLDER = Path(__file__).parent
_DRAWN = ("equity_curve", "distribution", "rolling", "candles", "fills_shown", "grid")

_SHARE, _RATIO, _MONEY, _PLAIN = "share", "ratio", "money", "plain"
_HEADLINES = (
    ("Net profit after fees and funding, USDT", "pnl_usdt", _MONEY),
    ("Return", "return", _SHARE),
    ("Sharpe, yearly", "sharpe", _RATIO),
    ("Deepest drawdown", "max_drawdown", _SHARE),
    ("Round trips", "trades", _PLAIN),
    ("Time in the market", "exposure_share", _SHARE),
)
_MEASURES: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Profit and costs",
        (
            ("Starting equity, USDT", "starting_equity_usdt", _MONEY),
            ("Final equity, USDT", "final_equity_usdt", _MONEY),
            ("Profit before fees and funding, USDT", "gross_pnl_usdt", _MONEY),
            ("Fees, USDT", "fees_usdt", _MONEY),
            ("Funding paid, USDT", "funding_usdt", _MONEY),
            ("Slippage against decided prices, USDT", "slippage_usdt", _MONEY),
            ("Turnover, USDT", "turnover_usdt", _MONEY),
            ("Turnover, times equity", "turnover", _RATIO),
            ("Fills", "fills", _PLAIN),
        ),
    ),
    (
        "Return and risk",
        (
            ("Annual return", "annual_return", _SHARE),
            ("Annual volatility", "annual_volatility", _SHARE),
            ("Sortino", "sortino", _RATIO),
            ("Calmar", "calmar", _RATIO),
            ("Omega", "omega", _RATIO),
            ("Deepest drawdown, USDT", "max_drawdown_usdt", _MONEY),
            ("Longest time below a peak, days", "max_drawdown_days", _RATIO),
            ("Value at risk, 5 %", "value_at_risk", _SHARE),
            ("Conditional value at risk, 5 %", "conditional_value_at_risk", _SHARE),
            ("Tail ratio", "tail_ratio", _RATIO),
            ("Skew", "skew", _RATIO),
            ("Excess kurtosis", "kurtosis", _RATIO),
            ("Return of buy and hold", "buy_and_hold_return", _SHARE),
            ("Beta to buy and hold", "beta", _RATIO),
            ("Alpha to buy and hold, yearly", "alpha", _SHARE),
        ),
    ),
    (
        "Round trips",
        (
            ("Win rate", "win_rate", _SHARE),
            ("Profit factor", "profit_factor", _RATIO),
            ("Expectancy, USDT", "expectancy_usdt", _MONEY),
            ("Best, USDT", "best_trade_usdt", _MONEY),
            ("Worst, USDT", "worst_trade_usdt", _MONEY),
            ("Wins in a row", "consecutive_wins", _PLAIN),
            ("Losses in a row", "consecutive_losses", _PLAIN),
            ("Average holding time, s", "average_holding_s", _RATIO),
            ("Average adverse excursion, USDT", "average_mae_usdt", _MONEY),
            ("Average favourable excursion, USDT", "average_mfe_usdt", _MONEY),
        ),
    ),
)


def write_report(result: BacktestResult, output: Path) -> dict[str, Any]:
    """Write report.json and report.html into a folder; return what the JSON holds."""
    report = build_report(result)
    output.mkdir(parents=True, exist_ok=True)
    text = orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (output / REPORT_JSON).write_bytes(text)
    (output / REPORT_HTML).write_text(render_page(report), encoding="utf-8")
    return report


def render_page(report: Mapping[str, Any]) -> str:
    """Return the page of a report."""
    described = ", ".join(f"{name} {value}" for name, value in report["input"].items() if not name.endswith("sha256"))
    period = report["period"]
    drawn = orjson.dumps({name: report[name] for name in _DRAWN}).decode().replace("<", "\\u003c")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'><title>Backtest</title>",
        f"<style>{_read('report.css')}</style></head><body><h1>Backtest</h1>",
        f"<p>{escape(described)}<br>{_day(period['from'])} to {_day(period['to'])} UTC, {period['days']:.2f} days</p>",
        _halt_banner(report["halted"]),
        "<div class='cards'>",
        *(_card(label, _show(report[name], kind)) for label, name, kind in _HEADLINES),
        "</div>",
        f"<p>Ratios are of {report['grid_returns']} returns per {report['grid']} over the whole period, "
        "365 days a year, over a rate of zero.</p>",
        _figure("equity", "Equity and buy and hold, USDT"),
        _figure("drawdown", "Drawdown from the peak, %", is_low=True),
        _figure("exposure", "Position, base units", is_low=True),
        _figure("price", "Price and fills (scroll or pinch to zoom)"),
        "<h2>Returns by month</h2>",
        _month_table(report["monthly_returns"]),
        _figure("distribution", f"Distribution of {report['grid']} returns", is_low=True),
        _figure("rolling", f"Sharpe and volatility over {report['rolling']['steps']} returns", is_low=True),
        "<h2>Measures</h2><div class='columns'>",
        *(_measure_table(title, rows, report) for title, rows in _MEASURES),
        "</div><h2>Where it came from</h2>",
        *(_group_table(name, rows) for name, rows in report["attribution"].items()),
        _chance_table(report["chance"]),
        _trips_table(report["round_trips"]),
        "<h2>What risk refused, and why</h2>",
        _pairs_table(report["failed_checks"]) or "<p>Nothing.</p>",
        _lines(f"{row['time']} {row['strategy']}: {'; '.join(row['reasons'])}" for row in report["refusals"]),
        "<h2>Trading states</h2>" if report["trading_states"] else "",
        _lines(
            f"{row['time']} {row['state']} at {row['equity_usdt']} USDT: {row['reason']}"
            for row in report["trading_states"]
        ),
        "<h2>Caveats and notes</h2>",
        _lines([*report["caveats"], *report["notes"]]),
        _titled("Input that could not be read", report["input_errors"]),
        _titled(
            "Events no service could handle", [f"{row['service']}: {row['reason']}" for row in report["dead_events"]]
        ),
        _titled("Alerts", [f"{row['time']} {row['message']}" for row in report["alerts"]]),
        "<h2>Events</h2>",
        _pairs_table(report["counts"]),
        "<h2>Data, code and parameters</h2>",
        _pairs_table({**report["input"], **report["versions"], **report["digests"]}),
        f"<details><summary>Every parameter</summary><pre>{escape(_indent(report['parameters']))}</pre></details>",
        f"<script id='data' type='application/json'>{drawn}</script>",
        f"<script>{LIGHTWEIGHT_CHARTS.read_text()}</script><script>{_read('report.js')}</script>",
        "</body></html>\n",
    ]
    return "".join(parts)


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _halt_banner(halted: Mapping[str, Any] | None) -> str:
    if halted is None:
        return ""
    return (
        f"<div class='banner'><b>Risk stopped new positions on {_day(halted['time'])} UTC ({escape(halted['state'])}) "
        f"at an equity of {_show(halted['equity_usdt'], _MONEY)} USDT.</b> {escape(halted['reason'])}. "
        f"{100 * halted['share_of_period_left']:.1f} % of the period was left; the measures cover it.</div>"
    )


def _day(time: str) -> str:
    return escape(time[:16].replace("T", " "))


def _show(value: Any, kind: str) -> str:
    if value is None:
        return "-"
    if kind == _MONEY:
        return f"{float(value):,.2f}"
    if kind == _SHARE:
        return f"{100 * value:.2f} %"
    return f"{value:,.2f}" if kind == _RATIO else str(value)


def _card(label: str, value: str) -> str:
    kind = " class='bad'" if value.startswith("-") and len(value) > 1 else ""
    return f"<div class='card'><span>{escape(label)}</span><b{kind}>{escape(value)}</b></div>"


def _figure(name: str, title: str, *, is_low: bool = False) -> str:
    return f"<h2>{escape(title)}</h2><div class='chart{' low' if is_low else ''}' id='{name}'></div>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=bad' if _is_negative(cell) else ''}>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<div class='scroll'><table>{f'<tr>{heads}</tr>' if head else ''}{body}</table></div>"


def _is_negative(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == "-" and cell[1].isdigit()


def _measure_table(title: str, rows: Sequence[tuple[str, str, str]], report: Mapping[str, Any]) -> str:
    return f"<div>{_table((title, ''), [(label, _show(report[name], kind)) for label, name, kind in rows])}</div>"


def _month_table(monthly: Mapping[str, float]) -> str:
    years: dict[str, dict[int, float]] = {}
    for month, gained in monthly.items():
        years.setdefault(month[:4], {})[int(month[5:7])] = gained
    head = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Year")
    rows = []
    for year, months in years.items():
        grown = 1.0
        for gained in months.values():
            grown *= 1.0 + gained
        cells = [f"{100 * months[number]:.2f} %" if number in months else "" for number in range(1, 13)]
        rows.append((year, *cells, f"{100 * (grown - 1.0):.2f} %"))
    return _table(head, rows)


def _group_table(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    head = (f"By {name.replace('_', ' ')}", "trips", "win rate", "fees", "funding", "net profit")
    return _table(
        head,
        [
            (
                row["name"],
                str(row["trades"]),
                _show(row["win_rate"], _SHARE),
                _show(row["fees_usdt"], _MONEY),
                _show(row["funding_usdt"], _MONEY),
                _show(row["pnl_usdt"], _MONEY),
            )
            for row in rows
        ],
    )


def _chance_table(chance: Mapping[str, Any]) -> str:
    rows = [
        (
            label,
            *(_show(value, _MONEY) for value in drawn["profit"]),
            *(_show(value, _SHARE) for value in drawn["drawdown"]),
            _show(drawn["loss_probability"], _SHARE),
        )
        for label, drawn in (
            ("its round trips, drawn anew", chance["trades"]),
            ("its path, in blocks", chance["paths"]),
        )
        if drawn is not None
    ]
    if not rows:
        return ""
    head = ("", "profit, 5 %", "50 %", "95 %", "drawdown, 5 %", "50 %", "95 %", "probability of a loss")
    value = chance["reality_check_p_value"]
    said = "" if value is None else f" Returns without an edge have as good a mean with probability {value:.3f}."
    return (
        f"<h2>What chance could have made of it</h2>{_table(head, rows)}"
        f"<p>Percentiles of {chance['draws']} draws.{said}</p>"
    )


def _trips_table(trips: Sequence[Mapping[str, str]]) -> str:
    if not trips:
        return "<h2>Round trips</h2><p>None was closed.</p>"
    shown = trips[:_LISTED_TRADES]
    head = (
        "opened",
        "closed",
        "instrument",
        "side",
        "quantity",
        "entry",
        "exit",
        "fees",
        "funding",
        "net profit",
        "MAE",
        "MFE",
    )
    amounts = ("entry_price", "exit_price", "fees_usdt", "funding_usdt", "pnl_usdt", "mae_usdt", "mfe_usdt")
    rows = [
        (
            _day(trip["opened_at"]),
            _day(trip["closed_at"]),
            trip["instrument"].partition(".")[0],
            trip["side"],
            trip["quantity"],
            *(_show(trip[name], _MONEY) for name in amounts),
        )
        for trip in shown
    ]
    more = "" if len(shown) == len(trips) else f"<p>The first {len(shown)} of {len(trips)}; report.json has all.</p>"
    return f"<h2>Round trips</h2><div class='tall'>{_table(head, rows)}</div>{more}"


def _pairs_table(pairs: Mapping[str, Any]) -> str:
    return _table((), [(name, str(value)) for name, value in pairs.items()]) if pairs else ""


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _titled(title: str, lines: Sequence[str]) -> str:
    return f"<h2>{escape(title)}</h2>{_lines(lines)}" if lines else ""


def _indent(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
