"""The pipeline without a broker: a queue of events, each given to the services that read its topic, in a fixed order.

What a core returns joins the queue's end, its own commands and reports included, so that everything a market event
leads to is done before the next one comes. Pure but for the cores' own doing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from libs.domain.bars import Bar
from libs.domain.control import ALL_ACCOUNTS
from libs.domain.events import Core, Event, Unhandleable
from libs.domain.forecasts import Forecast
from libs.domain.market import ExchangeBar
from libs.wire import kind_of, topic_of
from libs.wire.topics import CASCADE_ORDER, MARKET_EVENTS

_CASCADE_LIMIT = 100_000


class ReadTopic(Protocol):
    """A topic that a service reads, all of it or some kinds of records."""

    @property
    def topic(self) -> str:
        """Name of the topic."""
        ...

    @property
    def kinds(self) -> frozenset[str] | None:
        """Kinds that are read; None for all."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A core that can be told of an event from before trading begins."""

    def learn(self, event: Event) -> None:
        """Advance by it and ask for nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A service's core and what it reads; of one account among several, what concerns it alone."""

    name: str
    core: Core
    inputs: Sequence[ReadTopic]
    account: str = ""
    instruments: frozenset[str] = frozenset()

    def is_concerned(self, event: Event) -> bool:
        """Whether an event is of its account, or of the market and of an instrument that it trades."""
        account = getattr(event, "account", None)
        if account is None:
            return getattr(event, "instrument", None) in self.instruments
        return account in (self.account, ALL_ACCOUNTS)


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """An event that a core could not make sense of."""

    service: str
    event_id: str
    reason: str


class EndlessCascade(RuntimeError):
    """One market event led to more events than can be right: a strategy or a core answers itself without end."""


class Pipeline:
    """Feeds market events to the stages and hands every event, fed or made, to `observe`.

    Before `trade_from` (ns) everything runs but trading: the strategy stage is given bars as history and no forecasts,
    and only learns of the rest of the market.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        observe: Callable[[Event], None],
        *,
        trade_from: int = 0,
    ) -> None:
        self._stages = tuple(sorted(stages, key=lambda stage: CASCADE_ORDER.index(stage.name)))
        self._observe = observe
        self._trade_from = trade_from
        self._routes: dict[type, tuple[Stage, ...]] = {}
        self.dead: list[DeadEvent] = []

    def feed(self, event: Event) -> None:
        """Give a market event to whom it concerns and follow all that comes of it to the end."""
        queue: deque[Event] = deque((event,))
        self._drain(queue)

    def feed_bar(self, event: ExchangeBar, bar: Bar) -> None:
        """Give a market's bar to whom it concerns but the bars service, whose closed bar is at hand already."""
        queue: deque[Event] = deque()
        self._observe(event)
        for stage in self._route_of(event):
            if stage.name != "bars":
                self._give(stage, event, queue)
        queue.append(bar)
        self._drain(queue)

    def _drain(self, queue: deque[Event]) -> None:
        for _ in range(_CASCADE_LIMIT):
            if not queue:
                return
            event = queue.popleft()
            self._observe(event)
            for stage in self._route_of(event):
                self._give(stage, event, queue)
        raise EndlessCascade(f"more than {_CASCADE_LIMIT} events came of one, the last of them {queue[0]!r:.200}")

    def _give(self, stage: Stage, event: Event, queue: deque[Event]) -> None:
        if stage.account and not stage.is_concerned(event):
            return
        if stage.name == "strategy" and event.event_time < self._trade_from:
            if isinstance(event, Forecast):
                return
            if isinstance(event, Bar) and not event.is_history:
                event = replace(event, is_history=True)
            elif topic_of(type(event)) == MARKET_EVENTS:
                if isinstance(stage.core, Learner):
                    stage.core.learn(event)
                return
        try:
            queue.extend(stage.core.handle(event))
        except Unhandleable as error:
            self.dead.append(DeadEvent(stage.name, event.event_id, str(error)))

    def _route_of(self, event: Event) -> tuple[Stage, ...]:
        route = self._routes.get(type(event))
        if route is None:
            route = self._routes[type(event)] = self._find_route(type(event))
        return route

    def _find_route(self, kind: type) -> tuple[Stage, ...]:
        topic, name = topic_of(kind), kind_of(kind)
        return tuple(
            stage
            for stage in self._stages
            if any(read.topic == topic and (read.kinds is None or name in read.kinds) for read in stage.inputs)
        )
