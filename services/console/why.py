"""`perpflow why`: which check, threshold or forecast let an order pass or stopped it, or why nothing was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from libs.domain.bars import Bar
from libs.domain.control import ControlState, TradingState
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.orders import CheckResult, OrderApproved, OrderEvent, OrderIntent, OrderRefused, PlaceOrder
from libs.runtime.errors import BadInput
from libs.wire import topics
from services.backtest.silence import explain_strategies, read_timeframe
from services.console.session import SessionDescription
from services.console.session_events import SessionEvents
from services.console.trace import describe_event

_NEAREST = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """A check of risk with how much of its limit was used, None where that is no share."""

    name: str
    has_passed: bool
    value: str
    limit: str
    used: float | None


@dataclass(slots=True)
class Explanation:
    """What happened to an intent, or that there was none (`verdict` is then "nothing asked for"), and why."""

    subject: str
    event_time: int
    verdict: str
    reasons: list[str] = field(default_factory=list)
    checks: list[Judged] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)


def explain_order(events: SessionEvents, order_id: str) -> Explanation:
    """Explain the intent behind a client order id, a venue order id, or an intent id. Raises `BadInput`."""
    intent_id = _find_intent_id(events, order_id)
    intents = {intent.event_id: intent for intent in events.of(topics.INTENTS, OrderIntent)}
    verdict = _verdicts(events).get(intent_id)
    intent = intents.get(intent_id) or (None if verdict is None else verdict.intent)
    if intent is None:
        some = ", ".join(list(intents)[-3:]) or "none yet"
        raise BadInput(f"no order or intent {order_id!r} in this session; the last intents are {some}")
    return _explain_intent(events, intent, verdict)


def explain_time(
    events: SessionEvents, session: SessionDescription, at: int, state: dict[str, Any]
) -> list[Explanation]:
    """Explain what the last bar closed by a market time (ns) led to, for each instrument; `state` is the strategy
    service's at that time."""
    timeframe = read_timeframe(session.environment)
    last_bars: dict[str, Bar] = {}
    for bar in events.of(topics.BARS_CLOSED, Bar):
        known = last_bars.get(bar.instrument)
        if (
            bar.timeframe == timeframe
            and bar.event_time <= at
            and (known is None or bar.event_time >= known.event_time)
        ):
            last_bars[bar.instrument] = bar
    if not last_bars:
        raise BadInput("no bar had closed by then; give a later time of the market")
    intents = list(events.of(topics.INTENTS, OrderIntent))
    verdicts = _verdicts(events)
    explained = []
    for instrument, bar in sorted(last_bars.items()):
        since = [one for one in intents if one.instrument == instrument and bar.event_time <= one.event_time <= at]
        explained += [_explain_intent(events, one, verdicts.get(one.event_id)) for one in since]
        if not since:
            explained.append(_explain_silence(events, session, bar, at, state))
    return explained


def _explain_intent(
    events: SessionEvents, intent: OrderIntent, verdict: OrderApproved | OrderRefused | None
) -> Explanation:
    subject = (
        f"{intent.side.name.lower()} {intent.quantity} {intent.instrument} by {intent.strategy} ({intent.event_id})"
    )
    chain = [f"asked because {intent.reason}"]
    chain += [
        describe_forecast(each) for each in events.of(topics.FORECASTS, Forecast) if each.event_id in intent.cause_ids
    ]
    if verdict is None:
        return Explanation(subject, intent.event_time, "no verdict", ["risk has not judged it"], [], chain)
    checks = sorted(map(_judge, verdict.checks), key=lambda check: (check.has_passed, -(check.used or 0.0)))
    if isinstance(verdict, OrderRefused):
        return Explanation(subject, verdict.event_time, "refused", list(verdict.reasons), checks, chain)
    orders = [each for each in events.of(topics.ORDERS, OrderEvent) if each.intent_id == intent.event_id]
    chain += [f"order {describe_event(each)}" for each in orders]
    near = [f"{check.name} {check.value} ({check.limit})" for check in checks if check.used is not None][:_NEAREST]
    reasons = [
        f"all of its {len(checks)} checks passed" + (f"; nearest their limits: {', '.join(near)}" if near else "")
    ]
    if verdict.intent.quantity != intent.quantity:
        reasons.append(f"risk made it {verdict.intent.quantity} instead of {intent.quantity}")
    return Explanation(subject, verdict.event_time, "approved", reasons, checks, chain)


def _explain_silence(
    events: SessionEvents, session: SessionDescription, bar: Bar, at: int, state: dict[str, Any]
) -> Explanation:
    subject = f"{bar.instrument} after {bar.event_id}"
    found = Explanation(subject, bar.event_time, "nothing asked for")
    control = [each for each in events.of(topics.CONTROL_STATES, ControlState) if each.event_time <= at]
    if control and control[-1].state is not TradingState.ACTIVE:
        found.reasons.append(f"trading was {control[-1].state.name.lower()}: {control[-1].reason}")
    forecast = _last_forecast(events, bar.instrument, at)
    if forecast is not None:
        found.chain.append(describe_forecast(forecast))
    if bar.instrument in state["ledger"]["outstanding"].values():
        found.reasons.append("an earlier intent of this instrument was still on its way")
    held = state["ledger"]["held"].get(bar.instrument, "0")
    for name, target in state["standing"].get(bar.instrument, {}).items():
        found.chain.append(f"{name} wanted {target['quantity'] or target['notional'] + ' USDT'}, {held} was held")
    found.reasons += explain_strategies(session.environment, state["strategies"], bar, forecast)
    return found


def _verdicts(events: SessionEvents) -> dict[str, OrderApproved | OrderRefused]:
    found: list[OrderApproved | OrderRefused] = [
        *events.of(topics.VERDICTS, OrderApproved),
        *events.of(topics.VERDICTS, OrderRefused),
    ]
    return {verdict.intent_id: verdict for verdict in found}


def _last_forecast(events: SessionEvents, instrument: str, at: int) -> Forecast | None:
    made = [
        each
        for each in events.of(topics.FORECASTS, Forecast)
        if each.instrument == instrument and each.event_time <= at and each.role is ModelRole.CHAMPION
    ]
    return made[-1] if made else None


def describe_forecast(forecast: Forecast) -> str:
    """Say a forecast in one line."""
    return (
        f"forecast up {forecast.probability_up:.3f} flat {forecast.probability_flat:.3f} down "
        f"{forecast.probability_down:.3f}, confidence {forecast.confidence:.3f}, by {forecast.model_name} "
        f"{forecast.model_version}"
    )


def _judge(check: CheckResult) -> Judged:
    return Judged(check.name, check.has_passed, check.value, check.limit, _share(check))


def _share(check: CheckResult) -> float | None:
    try:
        value, limit = Decimal(check.value), Decimal(check.limit.removeprefix("<= "))
    except InvalidOperation:
        return None
    return float(abs(value) / abs(limit)) if limit and value.is_finite() and limit.is_finite() else None


def _find_intent_id(events: SessionEvents, order_id: str) -> str:
    for order in events.of(topics.ORDERS, OrderEvent):
        if order_id in (order.client_order_id, order.venue_order_id or None):
            return order.intent_id
    for command in events.of(topics.COMMANDS, PlaceOrder):
        if order_id == command.client_order_id:
            return command.intent_id
    return order_id.removeprefix("verdict/")
