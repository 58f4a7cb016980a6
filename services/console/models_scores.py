"""The models of a session: which is champion, and what each one's paper account came to after costs.

It reads the session's topics and writes nothing; what the topics no longer hold does not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from libs.bus.api import Bus, TopicPartition
from libs.domain.accounts import AccountState
from libs.domain.events import Event
from libs.domain.forecasts import Forecast, ModelRole
from libs.portfolio.model_scores import (
    HOUR_NS,
    EquityByPeriod,
    ModelScore,
    PromotionRule,
    is_model_account,
    score_models,
)
from libs.runtime.records import read_range
from libs.wire.topics import ACCOUNTS, FORECASTS
from services.console.accounts import read_event
from services.console.placing import placement_of
from services.console.session import SessionDescription
from services.console.session_bus import open_session_bus

_Kind = TypeVar("_Kind", bound=Event)
_LAST_FORECASTS = 2_000


@dataclass(frozen=True, slots=True)
class SessionModel:
    """A model that a session runs, NAME/VERSION; without an account or before its first state it has no score.

    `last_forecast` is the market time (ns) of the newest one, None where none was seen.
    """

    reference: str
    role: ModelRole
    account: str
    last_forecast: int | None
    score: ModelScore | None

    def describe(self) -> dict[str, Any]:
        """Return it for a program to read."""
        return {**asdict(self), "role": self.role.name.lower()}


def models_of(session: SessionDescription) -> dict[str, str]:
    """Return the models that have a paper account in a session, NAME/VERSION, with their accounts, in order."""
    accounts = placement_of(session).accounts
    return {each.settings["PERPFLOW_STRATEGY_MODEL"]: name for name, each in accounts.items() if is_model_account(name)}


def score_session(session: SessionDescription, period_ns: int = HOUR_NS) -> list[SessionModel]:
    """Return the models of a session that have forecast or have an account, the champion first."""
    accounts = models_of(session)
    equities = {name: EquityByPeriod(period_ns) for name in accounts.values()}
    with open_session_bus(session) as bus:
        newest: dict[str, Forecast] = {}
        for forecast in _read(bus, FORECASTS, Forecast, last=_LAST_FORECASTS):
            reference = f"{forecast.model_name}/{forecast.model_version}"
            if reference not in newest or newest[reference].event_time <= forecast.event_time:
                newest[reference] = forecast
        if equities:
            for state in _read(bus, ACCOUNTS, AccountState):
                if state.account in equities:
                    equities[state.account].add(state.event_time, float(state.equity))
    champions = [name for name, each in newest.items() if each.role is ModelRole.CHAMPION]
    # After a promotion the former champion may not have forecast yet.
    champion = max(champions, key=lambda name: newest[name].event_time, default="")
    if not newest and session.environment.get("PERPFLOW_INFERENCE_CHAMPION"):
        champion = next(iter(accounts), "")
    scores = score_models(equities, accounts.get(champion, ""))
    found = [
        SessionModel(
            name,
            ModelRole.CHAMPION if name == champion else ModelRole.SHADOW,
            accounts.get(name, ""),
            newest[name].event_time if name in newest else None,
            scores.get(accounts.get(name, "")),
        )
        for name in dict.fromkeys((*accounts, *newest))
    ]
    return sorted(found, key=lambda each: each.role)


def choose_promoted(models: list[SessionModel], rule: PromotionRule) -> SessionModel | None:
    """Return the shadow that the rule promotes, the one that earned most more than the champion; None for none."""
    shadows = [each for each in models if each.role is ModelRole.SHADOW]
    chosen = [each for each in shadows if each.score and each.score.is_promoted_by(rule, len(shadows))]
    return max(chosen, key=lambda each: (each.score and each.score.excess_bps_per_day) or 0.0, default=None)


def describe_score(model: SessionModel) -> str:
    """Say a model's score in a few words."""
    score = model.score
    if score is None:
        return "no paper account" if not model.account else "its account has no state yet"
    text = f"{score.net_bps:+.1f} bps after costs in {score.periods} periods ({score.net_bps_per_day:+.1f} a day)"
    if score.samples is not None and score.excess_bps_per_day is not None and score.p_value is not None:
        text += (
            f", {score.excess_bps_per_day:+.1f} a day against the champion in {score.samples} that differ, "
            f"p {score.p_value:.3f}"
        )
    return text


def _read(bus: Bus, topic: str, kind: type[_Kind], last: int | None = None) -> Iterator[_Kind]:
    places = [TopicPartition(topic, number) for number in range(bus.topics().get(topic, 0))]
    begins = bus.beginning_offsets(places)
    for at, end in bus.end_offsets(places).items():
        first = begins[at] if last is None else max(begins[at], end - last)
        for record in read_range(bus, topic, at.partition, first, end):
            event = read_event(record)
            if isinstance(event, kind):
                yield event
