"""`perpflow backtests`: the reports that were kept, one beside the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from libs.runtime.errors import BadInput
from services.console.output import print_json

backtests_app = typer.Typer(
    name="backtests", help="List and compare the backtests that were kept.", no_args_is_help=True
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
_REPORT = "report.json"
_LISTED = ("pnl_usdt", "return", "sharpe", "max_drawdown", "trades")
_COMPARED = (
    "pnl_usdt",
    "gross_pnl_usdt",
    "fees_usdt",
    "funding_usdt",
    "slippage_usdt",
    "return",
    "annual_return",
    "sharpe",
    "sortino",
    "calmar",
    "max_drawdown",
    "trades",
    "win_rate",
    "profit_factor",
    "expectancy_usdt",
    "exposure_share",
    "turnover",
)


def backtests_root() -> Path:
    """Return the folder of kept backtests: ``PERPFLOW_VAR`` (default ``var``) / ``backtests``."""
    return Path(os.environ.get("PERPFLOW_VAR", "var")) / "backtests"


@backtests_app.command("list")
def list_backtests(json: JsonOption = False) -> None:
    """List kept backtests, by name.

    Examples:

      perpflow backtests list
    """
    rows = [{"name": name, **_facts(report)} for name, report in _read_all()]
    if json:
        print_json(rows)
        return
    if not rows:
        print(f"none in {backtests_root()}; keep one with perpflow backtest --name NAME")
        return
    print(f"{'name':<28} {'from':<10} {'to':<10} " + " ".join(f"{name:>16}" for name in _LISTED) + "  halted")
    for row in rows:
        values = " ".join(f"{_show(row[name]):>16}" for name in _LISTED)
        print(f"{row['name']:<28} {row['from'][:10]:<10} {row['to'][:10]:<10} {values}  {row['halted'] or '-'}")


@backtests_app.command("compare")
def compare_backtests(
    names: Annotated[list[str], typer.Argument(help="Names of kept backtests, or folders with a report.json.")],
    json: JsonOption = False,
) -> None:
    """Put measures side by side, and the parameters and data in which the runs differ.

    Examples:

      perpflow backtests compare fast slow
    """
    if len(names) < 2:
        raise BadInput("give two names or more; perpflow backtests list shows them")
    reports = {name: _read(name) for name in names}
    differing = _find_differences({name: _flatten(_made_of(report)) for name, report in reports.items()})
    measures = {key: {name: report[key] for name, report in reports.items()} for key in _COMPARED}
    halted = {name: None if (stop := report["halted"]) is None else stop["time"] for name, report in reports.items()}
    if json:
        print_json({"measures": measures, "halted": halted, "differing": differing})
        return
    width = max(18, *(len(name) for name in names))
    print(f"{'':<32}" + " ".join(f"{name:>{width}}" for name in names))
    for key, values in {**measures, "halted": halted, **differing}.items():
        print(f"{key:<32}" + " ".join(f"{_show(values[name]):>{width}}" for name in names))


@backtests_app.command("page")
def write_page(
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; index.html beside the kept runs by default.")
    ] = None,
) -> None:
    """Write one page of all kept backtests: a table to sort, their equity curves, and in what they differ.

    Examples:

      perpflow backtests page
    """
    from services.backtest.report import render_kept

    reports = dict(_read_all())
    if not reports:
        raise BadInput(f"none in {backtests_root()}; keep one with perpflow backtest --name NAME")
    differing = _find_differences({name: _flatten(_made_of(report)) for name, report in reports.items()})
    path = backtests_root() / "index.html" if output is None else output
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_kept(reports, differing), encoding="utf-8")
    print(path)


def _read_all() -> Iterator[tuple[str, dict[str, Any]]]:
    root = backtests_root()
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if (folder / _REPORT).is_file():
            yield folder.name, _read(folder.name)


def _read(name: str) -> dict[str, Any]:
    for folder in (backtests_root() / name, Path(name)):
        path = folder / _REPORT
        if path.is_file():
            try:
                report: dict[str, Any] = orjson.loads(path.read_bytes())
            except orjson.JSONDecodeError as error:
                raise BadInput(f"{path} is not a report ({error}); run that backtest again") from error
            missing = [key for key in (*_COMPARED, "halted", "period") if key not in report]
            if missing:
                raise BadInput(f"{path} is a report of an older build, without {missing[0]}; run that backtest again")
            return report
    raise BadInput(f"no backtest {name!r} in {backtests_root()}; perpflow backtests list shows what there is")


def _facts(report: Mapping[str, Any]) -> dict[str, Any]:
    halted = report["halted"]
    return {
        "from": report["period"]["from"],
        "to": report["period"]["to"],
        **{name: report[name] for name in _LISTED},
        "halted": None if halted is None else halted["time"],
    }


def _made_of(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: report[name] for name in ("input", "period", "parameters", "versions")}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = {str(place): one for place, one in enumerate(value)}.items()
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, one in entries:
        flat |= _flatten(one, f"{prefix}.{name}" if prefix else name)
    return flat


def _find_differences(made_of: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    keys = dict.fromkeys(key for facts in made_of.values() for key in facts)
    found = {key: {name: facts.get(key) for name, facts in made_of.items()} for key in keys}
    return {key: values for key, values in found.items() if len({repr(value) for value in values.values()}) > 1}


def _show(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:40]
