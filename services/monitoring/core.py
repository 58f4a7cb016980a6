"""When an alert is raised and when it is cleared. No clock, no I/O: the time of day is handed in.

The state of an alert is what the alerts topic says: alerts of this service are handed back in (`adopt`) on start,
so that a restart neither raises twice nor forgets to clear. What cannot be recorded yet, because the bus is away, waits
in `unrecorded`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.domain.control import Alert, ControlState, Severity, TradingState

SERVICE = "monitoring"
STORE = "store"
BUS = "bus"
BUS_DOWN = "bus_down"
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """What is still normal."""

    stale_market_after_ms: int = 15_000
    dead_letters_clear_after_ms: int = 300_000
    lag_limit_records: int = 20_000
    lag_for_ms: int = 15_000
    down_for_ms: int = 5_000


@dataclass(frozen=True, slots=True)
class ServiceCondition:
    """What is known of one service: `is_up` None while nothing is known, `is_finished` when its work is done.

    `missing` are its dependencies that do not answer.
    """

    service: str
    is_up: bool | None
    is_finished: bool = False
    lag_records: int = 0
    detail: str = ""
    missing: tuple[str, ...] = ()


class AlertRules:
    """Turns observations into alerts raised and cleared.

    Observations (`saw_*`, `handle`) only remember; `evaluate` compares with the limits and returns the changes.
    """

    def __init__(self, limits: AlertLimits, *, started_ns: int) -> None:
        self._limits = limits
        self._market_seen_ns = started_ns
        self._has_market = False
        self._is_market_finished = False
        self._dead_letters: dict[str, int] = {}
        self._dead_letters_grew_ns: int | None = None
        self._controls: dict[str, ControlState] = {}
        self._services: dict[str, ServiceCondition] = {}
        self._lagging_since_ns: dict[str, int] = {}
        self._down_since_ns: dict[str, int] = {}
        self._store_missing_since_ns: int | None = None
        self._bus_missing_since_ns: int | None = None
        self._bus_problem = ""
        self._raised: dict[str, str] = {}
        self._unrecorded: list[Alert] = []

    @property
    def raised(self) -> frozenset[str]:
        """The names of the alerts that stand."""
        return frozenset(self._raised)

    @property
    def unrecorded(self) -> tuple[Alert, ...]:
        """The changes that the alerts topic does not hold yet, oldest first."""
        return tuple(self._unrecorded)

    def note_recorded(self, changes: Sequence[Alert]) -> None:
        """Take changes as held by the alerts topic."""
        self._unrecorded = [change for change in self._unrecorded if change not in changes]

    def adopt(self, alert: Alert) -> None:
        """Take an alert of the topic as the state of that name; those of other services are ignored, and those that a
        change not recorded yet follows."""
        if alert.service != SERVICE or any(alert.name == change.name for change in self._unrecorded):
            return
        if alert.is_raised:
            self._raised[alert.name] = alert.message
        else:
            self._raised.pop(alert.name, None)

    def handle(self, state: ControlState) -> None:
        """Remember the trading state of an account."""
        self._controls[state.account] = state

    def saw_market(self, now_ns: int) -> None:
        """Remember that market data was appended."""
        self._market_seen_ns = now_ns
        self._has_market = True

    def saw_dead_letters(self, counts: dict[str, int], now_ns: int) -> None:
        """Remember how many dead letters each topic holds; the first ones seen count as new."""
        if any(count > self._dead_letters.get(topic, 0) for topic, count in counts.items()):
            self._dead_letters_grew_ns = now_ns
        self._dead_letters = dict(counts)

    def saw_services(self, conditions: Sequence[ServiceCondition], now_ns: int) -> None:
        """Remember the condition of every service."""
        self._services = {condition.service: condition for condition in conditions}
        ingestion = self._services.get("ingestion")
        self._is_market_finished = ingestion is not None and ingestion.is_finished
        lagging = {c.service for c in conditions if c.lag_records > self._limits.lag_limit_records}
        self._lagging_since_ns = {name: self._lagging_since_ns.get(name, now_ns) for name in lagging}
        # A service that waits for the store or the bus alone has an alert of theirs.
        down = {c.service for c in conditions if c.is_up is False and not c.is_finished and not _waits(c)}
        self._down_since_ns = {name: self._down_since_ns.get(name, now_ns) for name in down}
        if not any(STORE in c.missing for c in conditions):
            self._store_missing_since_ns = None
        elif self._store_missing_since_ns is None:
            self._store_missing_since_ns = now_ns

    def saw_bus(self, problem: str, now_ns: int) -> None:
        """Remember why the bus does not answer, empty where it does, after `saw_services`."""
        without = sorted(c.service for c in self._services.values() if BUS in c.missing)
        self._bus_problem = problem or (f"{', '.join(without)} cannot reach it" if without else "")
        if not self._bus_problem:
            self._bus_missing_since_ns = None
        elif self._bus_missing_since_ns is None:
            self._bus_missing_since_ns = now_ns

    def evaluate(self, now_ns: int) -> list[Alert]:
        """Return the alerts that are raised or cleared by what was seen, in the order of their names."""
        return self._change(self._due(now_ns), self._raised.keys(), now_ns)

    def evaluate_bus(self, now_ns: int) -> list[Alert]:
        """Return the change of the one alert that is known without the bus; the others need it."""
        due = {name: each for name, each in self._due(now_ns).items() if name == BUS_DOWN}
        return self._change(due, self._raised.keys() & {BUS_DOWN}, now_ns)

    def _change(self, due: Mapping[str, tuple[Severity, str]], raised: Iterable[str], now_ns: int) -> list[Alert]:
        changes: list[Alert] = []
        for name in sorted({*due, *raised}):
            if name in due and name not in self._raised:
                severity, message = due[name]
                self._raised[name] = message
                changes.append(self._alert(name, severity, message, now_ns, is_raised=True))
            elif name in self._raised and name not in due:
                message = self._raised.pop(name)
                changes.append(self._alert(name, Severity.INFO, f"Over: {message}", now_ns, is_raised=False))
        self._unrecorded += changes
        return changes

    def _due(self, now_ns: int) -> dict[str, tuple[Severity, str]]:
        due: dict[str, tuple[Severity, str]] = {}
        silent_ms = (now_ns - self._market_seen_ns) // _NS_PER_MS
        if silent_ms > self._limits.stale_market_after_ms and not self._is_market_finished:
            limit_s = self._limits.stale_market_after_ms / 1000
            what = "No market data" if self._has_market else "No market data yet"
            due["market_data_stale"] = (Severity.CRITICAL, f"{what} for more than {limit_s:g} s")
        count = sum(self._dead_letters.values())
        grew_ns = self._dead_letters_grew_ns
        if count and grew_ns is not None:
            age_ms = (now_ns - grew_ns) // _NS_PER_MS
            if age_ms < self._limits.dead_letters_clear_after_ms:
                worst = ", ".join(sorted(topic for topic, held in self._dead_letters.items() if held))
                due["dead_letters"] = (Severity.WARNING, f"Messages could not be handled, see {worst}")
        for account, control in self._controls.items():
            whom = "all accounts" if account == "*" else f"account {account}"
            if control.state is TradingState.HALTED:
                due[f"trading_halted/{account}"] = (Severity.CRITICAL, f"Trading of {whom} is halted: {control.reason}")
            elif control.state is TradingState.REDUCING:
                due[f"trading_reducing/{account}"] = (Severity.WARNING, f"Only reductions for {whom}: {control.reason}")
        if self._has_lasted(self._store_missing_since_ns, self._limits.down_for_ms, now_ns):
            message = "ClickHouse takes no rows; trading goes on, and nothing is lost: the topics keep them"
            due["store_down"] = (Severity.WARNING, message)
        if self._has_lasted(self._bus_missing_since_ns, self._limits.down_for_ms, now_ns):
            due[BUS_DOWN] = (Severity.CRITICAL, f"The bus does not answer: {self._bus_problem}")
        for name, condition in self._services.items():
            if self._has_lasted(self._down_since_ns.get(name), self._limits.down_for_ms, now_ns):
                due[f"service_down/{name}"] = (Severity.CRITICAL, f"Service {name} is down {condition.detail}".rstrip())
            if self._has_lasted(self._lagging_since_ns.get(name), self._limits.lag_for_ms, now_ns):
                limit = self._limits.lag_limit_records
                due[f"service_lagging/{name}"] = (Severity.WARNING, f"Service {name} is over {limit} records behind")
        return due

    @staticmethod
    def _has_lasted(since_ns: int | None, limit_ms: int, now_ns: int) -> bool:
        return since_ns is not None and (now_ns - since_ns) // _NS_PER_MS >= limit_ms

    def _alert(self, name: str, severity: Severity, message: str, now_ns: int, *, is_raised: bool) -> Alert:
        step = "raised" if is_raised else "cleared"
        return Alert(
            event_id=f"alert/{SERVICE}/{name}/{step}/{now_ns}",
            event_time=now_ns,
            service=SERVICE,
            name=name,
            severity=severity,
            is_raised=is_raised,
            message=message,
        )


def _waits(condition: ServiceCondition) -> bool:
    """Whether a service lacks nothing but the store or the bus."""
    return bool(condition.missing) and {STORE, BUS}.issuperset(condition.missing)
