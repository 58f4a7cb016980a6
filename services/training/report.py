"""What an evaluation says: a line, JSON, and an HTML page that needs nothing else to be read."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.inference.core import Manifest
from services.training.core.measures import Measured
from services.training.core.outlook import OutlookScore
from services.training.core.verdict import NEEDED_DEFLATED_SHARPE, TOLERATED_OVERFITTING
from services.training.evaluation import Evaluation, Scored

Floats = npt.NDArray[np.float64]

_WIDTH, _HEIGHT = 640, 220
_COLOURS = ("#1a5fb4", "#c64600", "#2a7e43", "#813d9c", "#5e5c64", "#a51d2d", "#986a44", "#000000")
_COLUMNS = (
    ("auc", "AUC"),
    ("auc_direction", "AUC up/down"),
    ("auc_move", "AUC move"),
    ("balanced_accuracy", "balanced acc."),
    ("log_loss", "log loss"),
    ("brier", "Brier"),
    ("calibration_error", "ECE"),
    ("r2", "R2"),
    ("direction_accuracy", "direction"),
    ("crps", "CRPS, bps"),
    ("coverage", "coverage of 0.9"),
    ("interval_bps", "interval, bps"),
)


def describe_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON values, rounded to what the resamples bear out."""
    return {
        "verdict": evaluation.verdict.value,
        "reason": evaluation.reason,
        "folds": evaluation.folds,
        "tested_bars": len(evaluation.scored[0].forecasts),
        "tested_days": len(evaluation.scored[0].traded.days),
        "deflated_sharpe": _rounded(evaluation.evidence.deflated_sharpe),
        "overfitting_probability": None
        if evaluation.evidence.overfitting is None
        else _rounded(evaluation.evidence.overfitting),
        "costs": {
            "fee_bps": evaluation.costs.fee_bps,
            "half_spread_bps": evaluation.costs.half_spread_bps,
            "funding_bps_per_hour": evaluation.costs.funding_bps_per_hour,
        },
        "suspects": list(evaluation.suspects),
        "importance": {name: _rounded(one) for name, one in evaluation.importance.items()},
        "contributions": {name: _rounded(one) for name, one in evaluation.contributions.items()},
        "outlook": _describe_outlook(evaluation.outlook),
        "variable_weights": {name: _rounded(one) for name, one in evaluation.variables.items()},
        "bar_weights": [_rounded(one) for one in evaluation.attention],
        "model": _describe(evaluation.scored[0]),
        "beside": {one.name: _describe(one) for one in evaluation.scored[1:]},
    }


def describe_line(manifest: Manifest, evaluation: Evaluation) -> str:
    """Return the verdict on one line."""
    model = evaluation.scored[0]
    auc = model.measures["auc"]
    return (
        f"{manifest.reference} ({manifest.family}): {evaluation.verdict.value}; AUC {auc.value:.3f} "
        f"({auc.low:.3f} to {auc.high:.3f}), {model.net_bps_per_day:+.2f} bps a day net of costs, "
        f"Sharpe {model.sharpe:.2f}, {model.traded.trades} trades in {len(model.traded.days)} days: {evaluation.reason}"
    )


def write_json(manifest: Manifest, evaluation: Evaluation) -> bytes:
    """Return the report as JSON."""
    content = {"model": manifest.reference, "family": manifest.family, **describe_evaluation(evaluation)}
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_html(manifest: Manifest, evaluation: Evaluation) -> bytes:
    """Return the report as a page."""
    title = f"{manifest.reference} ({manifest.family})"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p><strong>{html.escape(evaluation.verdict.value)}</strong>: {html.escape(evaluation.reason)}.</p>",
        f"<p>{html.escape(describe_line(manifest, evaluation))}</p>",
        "<h2>Evidence</h2>",
        _evidence(evaluation),
        "<h2>Measures</h2>",
        "<p>All out-of-sample bars pooled; in brackets what 95 of 100 resamples of whole days hold.</p>",
        _table(evaluation.scored),
        "<h2>Net return, bps, summed by day</h2>",
        _lines([(one.name, np.cumsum(one.traded.net_bps)) for one in evaluation.scored]),
        "<h2>Calibration of P(up)</h2>",
        _reliability(evaluation.scored[0]),
        "<h2>Permutation importance</h2>",
        "<p>Growth of the log loss when an input is shuffled.</p>",
        _bars(evaluation.importance),
        *_shap(evaluation.contributions),
        *_outlook(evaluation),
        "<h2>Setting</h2>",
        f"<pre>{html.escape(json.dumps({'label': manifest.label, 'training': manifest.training}, indent=1))}</pre>",
    ]
    style = (
        "body{font:15px/1.5 sans-serif;max-width:72em;margin:2em auto;padding:0 1em}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .5em;text-align:right}"
        "td:first-child,th:first-child{text-align:left}pre{background:#f6f6f6;padding:1em;overflow:auto}"
    )
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'.encode()


def _evidence(evaluation: Evaluation) -> str:
    """Return what the verdict stands on, each beside what the rules ask of it."""
    evidence, costs = evaluation.evidence, evaluation.costs
    overfitting = "too few days to tell" if evidence.overfitting is None else f"{evidence.overfitting:.2f}"
    rows = (
        ("AUC, least of its interval", f"{evidence.auc_low:.3f}", "above 0.5"),
        ("net bps a day", f"{evidence.mean_net_bps:.2f}", "above 0"),
        ("net bps a day, least of its interval", f"{evidence.mean_net_low_bps:.2f}", "above 0"),
        (
            "deflated Sharpe ratio over all trials",
            f"{evidence.deflated_sharpe:.2f}",
            f"{NEEDED_DEFLATED_SHARPE} or more",
        ),
        ("probability of backtest overfitting", overfitting, f"below {TOLERATED_OVERFITTING}"),
        ("inputs that know the future", ", ".join(evaluation.suspects) or "none", "none"),
        ("fee and half the spread, bps a side", f"{costs.fee_bps:g} + {costs.half_spread_bps:g}", ""),
        ("funding, bps an hour held long", f"{costs.funding_bps_per_hour:g}", ""),
        ("tests", f"{evaluation.folds} folds, {len(evaluation.scored[0].forecasts):,} bars", ""),
    )
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><tr><th></th><th>measured</th><th>asked for</th></tr>{cells}</table>"


def _describe(scored: Scored) -> dict[str, Any]:
    return {
        **{
            name: {"value": _rounded(one.value), "low": _rounded(one.low), "high": _rounded(one.high)}
            for name, one in sorted(scored.measures.items())
            if math.isfinite(one.value)
        },
        "net_bps_per_day": _rounded(scored.net_bps_per_day),
        "net_bps_per_day_low": _rounded(scored.net_interval[0]),
        "net_bps_per_day_high": _rounded(scored.net_interval[1]),
        "sharpe_net": _rounded(scored.sharpe),
        "sharpe_gross": _rounded(scored.gross_sharpe),
        "trades": scored.traded.trades,
    }


def _rounded(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None


def _table(scored: Sequence[Scored]) -> str:
    heads = "".join(f"<th>{label}</th>" for _, label in _COLUMNS) + "<th>net bps/day</th><th>Sharpe</th><th>trades</th>"
    rows = []
    for one in scored:
        cells = "".join(f"<td>{_cell(one.measures.get(name))}</td>" for name, _ in _COLUMNS)
        net = f"{one.net_bps_per_day:.2f} [{one.net_interval[0]:.2f}, {one.net_interval[1]:.2f}]"
        rows.append(
            f"<tr><td>{html.escape(one.name)}</td>{cells}<td>{net}</td><td>{one.sharpe:.2f}</td>"
            f"<td>{one.traded.trades}</td></tr>"
        )
    return f"<table><tr><th></th>{heads}</tr>{''.join(rows)}</table>"


def _cell(measured: Measured | None) -> str:
    if measured is None or not math.isfinite(measured.value):
        return "&ndash;"
    return f"{measured.value:.3f} [{measured.low:.3f}, {measured.high:.3f}]"


def _lines(series: Sequence[tuple[str, Floats]]) -> str:
    low = min(0.0, *(float(values.min()) for _, values in series))
    high = max(0.0, *(float(values.max()) for _, values in series))
    span = (high - low) or 1.0
    parts = []
    for place, (name, values) in enumerate(series):
        across = np.linspace(0, _WIDTH, len(values))
        points = " ".join(
            f"{x:.1f},{_HEIGHT - (y - low) / span * _HEIGHT:.1f}" for x, y in zip(across, values, strict=True)
        )
        colour = _COLOURS[place % len(_COLOURS)]
        parts.append(
            f'<polyline fill="none" stroke="{colour}" points="{points}"><title>{html.escape(name)}</title></polyline>'
        )
        parts.append(
            f'<text x="{_WIDTH + 8}" y="{14 + 16 * place}" fill="{colour}" font-size="12">{html.escape(name)}</text>'
        )
    zero = _HEIGHT + low / span * _HEIGHT
    parts.append(f'<line x1="0" x2="{_WIDTH}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="#999"/>')
    return f'<svg width="{_WIDTH + 160}" height="{_HEIGHT + 20}" role="img">{"".join(parts)}</svg>'


def _reliability(scored: Scored) -> str:
    probabilities = scored.forecasts.probabilities
    if probabilities is None:
        return ""
    up = probabilities[:, 2]
    bins = np.minimum((up * 20).astype(np.int64), 19)
    dots = []
    for one in range(20):
        inside = bins == one
        if inside.sum() >= 30:
            x, y = float(up[inside].mean()), float((scored.forecasts.classes[inside] == 2).mean())
            dots.append(f'<circle cx="{x * _HEIGHT:.1f}" cy="{_HEIGHT - y * _HEIGHT:.1f}" r="3" fill="{_COLOURS[0]}"/>')
    diagonal = f'<line x1="0" y1="{_HEIGHT}" x2="{_HEIGHT}" y2="0" stroke="#999"/>'
    return f'<svg width="{_HEIGHT}" height="{_HEIGHT}" role="img">{diagonal}{"".join(dots)}</svg>'


def _describe_outlook(score: OutlookScore | None) -> list[dict[str, float | None]]:
    if score is None:
        return []
    return [
        {
            "day": day,
            "skill": _rounded(float(skill)),
            "coverage": _rounded(float(covered)),
            **{name: _rounded(float(one)) for name, one in zip(("mean", "deviation", "skew"), moments, strict=True)},
        }
        for day, (skill, covered, moments) in enumerate(
            zip(score.skill, score.coverage, score.moments, strict=True), start=1
        )
    ]


def _outlook(evaluation: Evaluation) -> list[str]:
    """Return what a model with an outlook forecasts of each day, and what it looks at."""
    parts: list[str] = []
    if evaluation.outlook is not None:
        names = ("day", "skill", "coverage", "mean", "deviation", "skew")
        rows = "".join(
            "<tr>" + "".join(f"<td>{one[name]}</td>" for name in names) + "</tr>"
            for one in _describe_outlook(evaluation.outlook)
        )
        heads = "".join(f"<th>{name}</th>" for name in names)
        said = (
            "Quantile loss against that of the training bars' own quantiles (skill above 0 is better), coverage of "
            "0.9, and the mean forecast moments in units of the volatility up to the day's end."
        )
        parts += ["<h2>Days ahead</h2>", f"<p>{said}</p>", f"<table><tr>{heads}</tr>{rows}</table>"]
    if evaluation.variables:
        parts += ["<h2>Variable weights</h2>", _bars(evaluation.variables)]
    if evaluation.attention:
        parts += ["<h2>Attention by bar, oldest first</h2>", _lines([("weight", np.array(evaluation.attention))])]
    return parts


def _shap(contributions: Mapping[str, float]) -> list[str]:
    if not contributions:
        return []
    return ["<h2>SHAP</h2>", "<p>Mean magnitude of an input's contribution.</p>", _bars(contributions)]


def _bars(importance: Mapping[str, float]) -> str:
    largest = max((abs(one) for one in importance.values()), default=0.0) or 1.0
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td><svg width="200" height="10"><rect '
        f'width="{max(0.0, one) / largest * 200:.1f}" height="10" fill="{_COLOURS[0]}"/></svg></td>'
        f"<td>{one:.5f}</td></tr>"
        for name, one in importance.items()
    )
    return f"<table>{rows}</table>"
