"""`perpflow risk`: liquidation prices, chances of liquidation, position sizes and allocations, for a person who asks.

Reads files named on the command line and nothing else; the computing is in libs.margin, libs.sizing and libs.portfolio.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.console.risk_answers import (
    fail,
    plain,
    plain_float,
    read_brackets,
    read_json,
    refusals,
    short,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from libs.domain.instruments import Instrument
    from libs.margin.account_file import AccountQuestion

risk_app = typer.Typer(
    name="risk",
    help="Compute liquidation prices, chances of liquidation, position sizes, allocations.",
    no_args_is_help=True,
)

_UNAVAILABLE = 3
_UNIT_HOURS = {"hour": 1.0, "day": 24.0, "year": 8760.0}
_SUFFIX_HOURS = {"m": 1.0 / 60.0, "h": 1.0, "d": 24.0, "w": 168.0, "y": 8760.0}

JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON object, decimals as strings.")]


@risk_app.command()
def liquidation(
    account: Annotated[str, typer.Option(help="ACCOUNT.json, or - for standard input.")],
    brackets: Annotated[
        str | None,
        typer.Option(help="Answer of GET /fapi/v1/leverageBracket (.json or .json.gz); default: tables we ship."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Liquidation and bankruptcy price, margins and distance of every position of an account.

    The rate is that of the notional at the liquidation price. null with a reason where no price liquidates.

    \b
    Example ACCOUNT.json:
      {"margin_mode": "isolated", "position_mode": "one_way", "wallet_balance": "1000", "positions": [
        {"symbol": "BTCUSDT", "side": "long", "quantity": "1", "entry_price": "20000", "mark_price": "19900",
         "leverage": "10", "isolated_margin": null, "maintenance_margin_rate": null, "maintenance_amount": null}]}
    \b
    perpflow risk liquidation --account ACCOUNT.json --json
    perpflow risk liquidation --account ACCOUNT.json --brackets BRACKETS.json
    """
    from libs.margin.account_file import read_account

    with refusals():
        tables, source = read_brackets(brackets)
        question = read_account(read_json(account, "--account"), tables)
        answer = _answer_liquidation(question, source)
    if as_json:
        write_json(answer)
        return
    positions = answer["positions"]
    assert isinstance(positions, list)
    write_table(
        f"{question.margin_mode}, {question.position_mode}, wallet {answer['wallet_balance']}; brackets {source}",
        ("position", "mark", "liquidation", "distance", "bankruptcy", "initial", "maintenance"),
        [
            (
                f"{entry['symbol']} {entry['side']} {entry['quantity']}",
                short(entry["mark_price"]),
                short(entry["liquidation_price"]),
                "-" if entry["liquidation_distance"] is None else short(entry["liquidation_distance"], 4),
                short(entry["bankruptcy_price"]),
                short(entry["initial_margin"]),
                short(entry["maintenance_margin"]),
            )
            for entry in positions
        ],
    )
    for entry in positions:
        for note in (entry["liquidation_price_reason"], *entry["notes"]):
            if note:
                typer.echo(f"{entry['symbol']} {entry['side']}: {note}")


def _answer_liquidation(question: AccountQuestion, source: str) -> dict[str, object]:
    from libs.margin.liquidation import liquidate_account

    results = liquidate_account(question.legs, question.wallet_balance, question.margin_mode, question.position_mode)
    positions: list[dict[str, object]] = []
    for leg, result, notes in zip(question.legs, results, question.notes, strict=True):
        tier = leg.brackets.bracket_of(
            leg.mark_notional if result.liquidation_price is None else leg.quantity * result.liquidation_price
        )
        positions.append(
            {
                "symbol": leg.symbol,
                "side": str(leg.side),
                "quantity": plain(leg.quantity),
                "entry_price": plain(leg.entry_price),
                "mark_price": plain(leg.mark_price),
                "leverage": plain(leg.leverage),
                "liquidation_price": plain(result.liquidation_price),
                "liquidation_price_reason": result.liquidation_reason or None,
                "liquidation_distance": plain(result.liquidation_distance),
                "other_liquidation_price": plain(result.other_liquidation_price),
                "bankruptcy_price": plain(result.bankruptcy_price),
                "bankruptcy_price_reason": result.bankruptcy_reason or None,
                "initial_margin": plain(leg.initial_margin),
                "maintenance_margin": plain(leg.maintenance_margin),
                "isolated_margin": plain(leg.isolated_wallet) if question.margin_mode == "isolated" else None,
                "unrealised_pnl": plain(leg.unrealised_pnl(leg.mark_price)),
                "maintenance_margin_rate_at_liquidation": plain(tier.maintenance_rate),
                "maintenance_amount_at_liquidation": plain(tier.maintenance_amount),
                "notes": list(notes),
            }
        )
    return {
        "margin_mode": str(question.margin_mode),
        "position_mode": str(question.position_mode),
        "wallet_balance": plain(question.wallet_balance),
        "brackets": source,
        "positions": positions,
    }


def _read_span(text: str, unit: str, name: str) -> float:
    """Read a length of time: a bare number is in `unit`, one with a suffix (m h d w y) is converted to it."""
    number, factor = text.strip(), 1.0
    if number and number[-1] in _SUFFIX_HOURS:
        factor = _SUFFIX_HOURS[number[-1]] / _UNIT_HOURS[unit]
        number = number[:-1]
    try:
        return float(number) * factor
    except ValueError:
        fail(f"{name}: {text!r} is no length of time; give a number of {unit}s, or one with m, h, d, w or y (8h, 7d)")


def _read_closes(path: str) -> list[float]:
    """Read closing prices, one a line or a JSON list."""
    import math

    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        fail(f"--closes {path} cannot be read: {error.strerror or error}; check the path")
    except UnicodeDecodeError:
        fail(f"--closes {path} is not text; give one closing price a line")
    closes: list[float] = []
    for number, word in enumerate(text.replace("[", " ").replace("]", " ").replace(",", "\n").split(), start=1):
        try:
            close = float(word.strip('"'))
        except ValueError:
            fail(f"--closes {path}: entry {number}, {word!r}, is not a number; give one closing price a line")
        if not (math.isfinite(close) and close > 0.0):
            fail(f"--closes {path}: entry {number}, {word}, must be a finite price above zero")
        closes.append(close)
    return closes


def _read_log_returns(path: str) -> list[float]:
    import itertools
    import math

    return [math.log(after / before) for before, after in itertools.pairwise(_read_closes(path))]


@risk_app.command()
def probability(
    spot: Annotated[float, typer.Option(help="Price now.")],
    barrier: Annotated[float, typer.Option(help="Price to touch, such as a liquidation price; below or above spot.")],
    volatility: Annotated[float, typer.Option(help="Volatility per square root of --unit; 0.6 is 60 % a year.")],
    horizon: Annotated[str, typer.Option(help="How long: a number of --unit, or 90m, 8h, 7d, 2w, 1y.")],
    drift: Annotated[float, typer.Option(help="Drift of the price (mu of dS/S) per --unit.")] = 0.0,
    unit: Annotated[str, typer.Option(help="Unit of volatility, drift, bare horizon: hour, day, year.")] = "year",
    funding_rate: Annotated[float, typer.Option(help="Funding rate of a settlement; positive: longs pay.")] = 0.0,
    funding_interval: Annotated[str, typer.Option(help="Time between settlements.")] = "8h",
    fee_rate: Annotated[float, typer.Option(help="Fees that shrink the margin, share of notional.")] = 0.0,
    degrees_of_freedom: Annotated[float, typer.Option(help="Of Student's t; smaller is fatter, above 2.")] = 4.0,
    closes: Annotated[
        str | None, typer.Option(help="Past closing prices for the bootstrap; default: hourly shape of BTCUSDT.")
    ] = None,
    paths: Annotated[int, typer.Option(help="Paths of the bootstrap.", min=1, max=1_000_000)] = 20_000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap and the simulation.", min=0)] = 1,
    monte_carlo: Annotated[int, typer.Option(help="Paths of a check on the closed form; 0 for none.", min=0)] = 0,
    as_json: JsonOption = False,
) -> None:
    """Chance of touching a price within a horizon, by four estimates side by side.

    normal and student_t: chance of ending beyond it. first_passage (closed form) and empirical_bootstrap: of touching
    it on the way. Volatility, drift and a bare horizon share one unit of time, a year unless --unit says otherwise.

    \b
    Examples:
    perpflow risk probability --spot 61800 --barrier 52000 --volatility 0.6 --drift 0 --horizon 7d --json
    perpflow risk probability --spot 61800 --barrier 66000 --volatility 0.025 --horizon 3 --unit day --monte-carlo 50000
    """
    from libs.margin import probability as odds
    from libs.margin.return_shape import HOURLY_RETURN_SHAPE

    if unit not in _UNIT_HOURS:
        fail(f"--unit: {unit!r} must be hour, day or year")
    interval = _read_span(funding_interval, unit, "--funding-interval")
    if not interval > 0.0:
        fail(f"--funding-interval: {funding_interval!r} must be above zero")
    returns: Sequence[float] = HOURLY_RETURN_SHAPE if closes is None else _read_log_returns(closes)
    with refusals():
        question = odds.BarrierQuestion(
            spot=spot,
            barrier=barrier,
            volatility=volatility,
            drift=drift,
            horizon=_read_span(horizon, unit, "--horizon"),
            funding_rate=funding_rate / interval,
            fee_rate=fee_rate,
        )
        bootstrap = odds.estimate_bootstrap(question, seed, returns, paths)
        estimates = {
            "normal": odds.estimate_normal(question),
            "first_passage": odds.estimate_first_passage(question),
            "student_t": odds.estimate_student_t(question, degrees_of_freedom),
            "empirical_bootstrap": bootstrap.probability,
        }
        errors = {"empirical_bootstrap": bootstrap.standard_error}
        if monte_carlo:
            simulated = odds.simulate_first_passage(question, seed, max(2, monte_carlo))
            estimates["monte_carlo"] = simulated.probability
            errors["monte_carlo"] = simulated.standard_error
    if as_json:
        write_json(
            {
                "spot": plain_float(spot),
                "barrier": plain_float(barrier),
                "volatility": plain_float(volatility),
                "drift": plain_float(drift),
                "horizon": plain_float(question.horizon),
                "unit": unit,
                "funding_rate_per_unit": plain_float(question.funding_rate),
                "fee_rate": plain_float(fee_rate),
                "seed": seed,
                "estimates": {name: plain_float(value) for name, value in estimates.items()},
                "standard_errors": {name: plain_float(value) for name, value in errors.items()},
            }
        )
        return
    write_table(
        f"chance that {spot:g} touches {barrier:g} within {question.horizon:g} {unit}(s)",
        ("estimate", "probability", "standard error"),
        [(name, f"{value:.6f}", f"{errors[name]:.6f}" if name in errors else "-") for name, value in estimates.items()],
    )


def _find_rules(symbol: str) -> Instrument:
    from libs.domain.instruments import INSTRUMENTS

    found = next((rules for rules in INSTRUMENTS.values() if symbol in (rules.symbol, rules.instrument)), None)
    if found is None:
        known = ", ".join(sorted({rules.symbol for rules in INSTRUMENTS.values()}))
        fail(f"--symbol: unknown symbol {symbol!r}; known: {known}")
    return found


def _named(entries: Sequence[str], option: str, form: str) -> dict[str, str]:
    """Read NAME=VALUE entries, each name once."""
    named: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not (name and equals and value):
            fail(f"{option}: {entry!r} is not {form}")
        if name in named:
            fail(f"{option}: {name} is given twice")
        named[name] = value
    return named


@risk_app.command()
def allocate(
    closes: Annotated[
        list[str], typer.Option(help="NAME=FILE, once for each: closing prices of a symbol or values of a strategy.")
    ],
    method: Annotated[
        str, typer.Option(help="min_variance, risk_parity, mean_variance or black_litterman.")
    ] = "risk_parity",
    max_weight: Annotated[float, typer.Option(help="Largest weight of one of them (not for risk_parity).")] = 1.0,
    view: Annotated[
        list[str] | None, typer.Option(help="NAME=RETURN:CONFIDENCE, what black_litterman is to believe.")
    ] = None,
    risk_aversion: Annotated[float, typer.Option(help="Of mean_variance and black_litterman; above zero.")] = 2.5,
    equity: Annotated[str, typer.Option(help="Equity in USDT.")] = "10000",
    leverage: Annotated[str, typer.Option(help="Notional of all together, as a multiple of equity.")] = "1",
    as_json: JsonOption = False,
) -> None:
    """Divide equity between instruments or strategies by how their returns moved together.

    Every file covers the same periods. The target of a symbol that perpflow knows is rounded to what the venue takes.

    \b
    Examples:
    perpflow risk allocate --closes BTCUSDT=btc.txt --closes ETHUSDT=eth.txt --json
    perpflow risk allocate --closes trend=a.txt --closes carry=b.txt --method min_variance --leverage 2
    perpflow risk allocate --closes BTCUSDT=btc.txt --closes ETHUSDT=eth.txt --method black_litterman \\
        --view ETHUSDT=0.002:0.6
    """
    import itertools

    from libs.domain.instruments import INSTRUMENTS
    from libs.margin.brackets import EXACT
    from libs.portfolio.allocation import AllocationError, AllocationMethod, View
    from libs.portfolio.allocation import allocate as find_weights
    from libs.sizing.rounding import round_to_filters

    if method not in list(AllocationMethod):
        fail(f"--method: {method!r} must be {', '.join(AllocationMethod)}")
    series = {name: _read_closes(path) for name, path in _named(closes, "--closes", "NAME=FILE").items()}
    returns = {
        name: [after / before - 1.0 for before, after in itertools.pairwise(values)] for name, values in series.items()
    }
    views: dict[str, View] = {}
    for name, text in _named(view or [], "--view", "NAME=RETURN:CONFIDENCE").items():
        expected, _, confidence = text.partition(":")
        try:
            views[name] = View(float(expected), float(confidence))
        except ValueError:
            fail(f"--view: {name}={text} is not NAME=RETURN:CONFIDENCE, two numbers such as 0.002:0.6")
    with refusals():
        total = EXACT.multiply(_amount(equity, "--equity"), _amount(leverage, "--leverage"))
    try:
        found = find_weights(
            returns, AllocationMethod(method), max_weight=max_weight, views=views, risk_aversion=risk_aversion
        )
    except AllocationError as error:
        fail(str(error))
    except ImportError as error:
        typer.echo(f"error: {error.name} is not installed; install the extra allocation", err=True)
        raise typer.Exit(_UNAVAILABLE) from None
    known = {rules.symbol: rules for rules in INSTRUMENTS.values()}
    targets: dict[str, dict[str, object]] = {}
    for name, weight in found.weights.items():
        notional, quantity = EXACT.multiply(total, Decimal(f"{weight:.12f}")), None
        if name in known:
            rounded = round_to_filters(notional, Decimal(repr(series[name][-1])), known[name])
            notional, quantity = rounded.notional, rounded.quantity
        targets[name] = {"weight": plain_float(weight), "notional": plain(notional), "quantity": plain(quantity)}
    answer: dict[str, object] = {
        "method": method,
        "periods": len(next(iter(returns.values()))),
        "expected_return_per_period": plain_float(found.expected_return),
        "volatility_per_period": plain_float(found.volatility),
        "targets": targets,
    }
    if as_json:
        write_json(answer)
        return
    write_table(
        f"{method} over {answer['periods']} periods, {plain(total)} USDT in all",
        ("name", "weight", "notional", "quantity"),
        [
            (name, f"{found.weights[name]:.4f}", short(row["notional"]), str(row["quantity"] or "-"))
            for name, row in targets.items()
        ],
    )


def _amount(text: str, name: str) -> Decimal:
    from libs.margin.brackets import read_decimal

    return read_decimal(text, name)


@risk_app.command()
def size(
    symbol: Annotated[str, typer.Option(help="Symbol whose filters and brackets apply.")] = "BTCUSDT",
    equity: Annotated[str, typer.Option(help="Equity in USDT.")] = "10000",
    price: Annotated[str, typer.Option(help="Entry price.")] = "60000",
    stop: Annotated[str | None, typer.Option(help="Stop price; default 2 % below the entry.")] = None,
    win_probability: Annotated[float, typer.Option(help="Chance that the trade wins (Kelly).")] = 0.55,
    win_loss_ratio: Annotated[float, typer.Option(help="What a win makes per what a loss costs (Kelly).")] = 1.0,
    kelly_share: Annotated[float, typer.Option(help="Share of full Kelly; 0.5 is half.")] = 0.5,
    kelly_cap: Annotated[str, typer.Option(help="Most that Kelly may stake, as a multiple of equity.")] = "3",
    fraction: Annotated[str, typer.Option(help="Fixed fraction of equity as notional.")] = "0.1",
    volatility: Annotated[str, typer.Option(help="Volatility of the price a year.")] = "0.6",
    target_volatility: Annotated[str, typer.Option(help="Volatility wanted of the equity a year.")] = "0.2",
    risk_fraction: Annotated[str, typer.Option(help="Share of equity lost when the stop is hit.")] = "0.01",
    margin_fraction: Annotated[str, typer.Option(help="Share of equity as margin (leverage-adjusted).")] = "0.2",
    leverage: Annotated[str, typer.Option(help="Leverage wanted (leverage-adjusted).")] = "3",
    min_liquidation_distance: Annotated[
        str, typer.Option(help="Share of the price that liquidation must stay away.")
    ] = "0.15",
    max_leverage: Annotated[str, typer.Option(help="Cap on notional / equity over all rules.")] = "3",
    max_notional: Annotated[str | None, typer.Option(help="Cap on notional in USDT over all rules.")] = None,
    composition: Annotated[str, typer.Option(help="How the rules become one: smallest or mean.")] = "smallest",
    brackets: Annotated[str | None, typer.Option(help="Answer of GET /fapi/v1/leverageBracket.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Position size by all five rules side by side, capped, composed and rounded to what the venue takes.

    \b
    Examples:
    perpflow risk size --json
    perpflow risk size --equity 25000 --price 61800 --stop 60000 --win-probability 0.54 --win-loss-ratio 1.4
    """
    from libs.margin.brackets import EXACT
    from libs.sizing.compose import Composition, cap_notional, compose
    from libs.sizing.rounding import round_to_filters
    from libs.sizing.rules import SizeQuestion, size_by_all_rules

    rules = _find_rules(symbol)
    if composition not in (Composition.SMALLEST, Composition.MEAN):
        fail(f"--composition: {composition!r} must be smallest or mean")
    with refusals():
        tables, source = read_brackets(brackets)
        if rules.symbol not in tables:
            fail(f"--brackets {source}: none for {rules.symbol}; give an answer that lists it")
        entry = _amount(price, "--price")
        question = SizeQuestion(
            equity=_amount(equity, "--equity"),
            entry_price=entry,
            stop_price=EXACT.multiply(entry, Decimal("0.98")) if stop is None else _amount(stop, "--stop"),
            brackets=tables[rules.symbol],
            win_probability=win_probability,
            win_loss_ratio=win_loss_ratio,
            kelly_share=kelly_share,
            kelly_cap=_amount(kelly_cap, "--kelly-cap"),
            fraction=_amount(fraction, "--fraction"),
            target_volatility=_amount(target_volatility, "--target-volatility"),
            volatility=_amount(volatility, "--volatility"),
            risk_fraction=_amount(risk_fraction, "--risk-fraction"),
            fee_rate=rules.taker_fee_rate,
            margin_fraction=_amount(margin_fraction, "--margin-fraction"),
            leverage=_amount(leverage, "--leverage"),
            min_liquidation_distance=_amount(min_liquidation_distance, "--min-liquidation-distance"),
        )
        notionals = size_by_all_rules(question)
        cap = None if max_notional is None else _amount(max_notional, "--max-notional")
        most = _amount(max_leverage, "--max-leverage")
        notionals_by_name = notionals | {"composed": compose(notionals, Composition(composition))}
        answers: dict[str, dict[str, object]] = {}
        for name, notional in notionals_by_name.items():
            capped = cap_notional(notional, question.equity, most, cap)
            rounded = round_to_filters(capped.notional, entry, rules)
            answers[name] = {
                "notional_asked": plain(notional),
                "quantity": plain(rounded.quantity),
                "notional": plain(rounded.notional),
                "leverage": plain(EXACT.divide(rounded.notional, question.equity)) if question.equity else None,
                "bound_by": capped.bound_by or None,
                "reason": rounded.reason or None,
            }
    composed = answers.pop("composed")
    if as_json:
        write_json(
            {
                "symbol": rules.symbol,
                "equity": plain(question.equity),
                "price": plain(entry),
                "stop": plain(question.stop_price),
                "rules": answers,
                "composition": composition,
                "composed": composed,
            }
        )
        return
    write_table(
        f"{rules.symbol} at {plain(entry)}, stop {plain(question.stop_price)}, equity {plain(question.equity)} USDT",
        ("rule", "quantity", "notional", "leverage", "why"),
        [
            (
                name,
                str(row["quantity"]),
                str(row["notional"]),
                str(row["leverage"]),
                str(row["reason"] or row["bound_by"] or "-"),
            )
            for name, row in (answers | {f"composed ({composition})": composed}).items()
        ],
    )
