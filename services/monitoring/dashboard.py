"""The view model of the page: takes events, keeps what is shown, tells what changed. No clock, no I/O.

It is made of sections. Each has a version; a reader keeps a `Cursor` and gets the sections that moved on since.
Bars and equity are series and travel as what was appended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from libs.domain.accounts import AccountState
from libs.domain.bars import Bar
from libs.domain.control import Alert, AuditEntry, ControlState
from libs.domain.events import Event
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.market import BestQuote, ClockTick, MarkPrice, OpenInterest, Trade
from libs.domain.numbers import SCALE
from libs.domain.orders import OrderEvent, OrderRefused
from libs.portfolio.model_scores import EquityByPeriod, is_model_account, model_account, score_models
from services.monitoring.model_drift import DriftRow, ModelDriftWatch
from services.monitoring.rows import Row, row_of, to_ms
from services.monitoring.series import ChartSeries, ThinningChartSeries

BAR_LIMIT = 1500
EQUITY_LIMIT = 1200
ORDER_LIMIT = 60
FILL_LIMIT = 200
REFUSAL_LIMIT = 40
FORECAST_LIMIT = 120
DEAD_LETTER_LIMIT = 20
AUDIT_LIMIT = 100

_FORECAST_POINT = ("time_ms", "probability_down", "probability_flat", "probability_up", "confidence")
SERIES_SECTIONS = ("bars", "equity")


@dataclass(slots=True)
class Cursor:
    """What one reader has seen: a version per section; generation and count per series."""

    versions: dict[str, int] = field(default_factory=dict)
    series: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)


class Dashboard:
    """What the page shows. Used from one thread at a time."""

    def __init__(self, session: Mapping[str, Any] | None = None) -> None:
        self._session: Row = dict(session or {})
        self._market_time_ms: int | None = None
        self._markets: dict[str, Row] = {}
        self._accounts: dict[str, Row] = {}
        self._controls: dict[str, Row] = {}
        self._forecasts: dict[str, Row] = {}
        self._shadows: dict[tuple[str, str, str], Row] = {}
        self._model_roles: dict[tuple[str, str], tuple[int, ModelRole]] = {}
        self._model_equity: dict[str, EquityByPeriod] = {}
        self._model_drift = ModelDriftWatch()
        self._forecast_history: dict[str, deque[Row]] = {}
        self._orders: dict[str, Row] = {}
        self._fills: deque[Row] = deque(maxlen=FILL_LIMIT)
        self._refusals: deque[Row] = deque(maxlen=REFUSAL_LIMIT)
        self._alerts: dict[tuple[str, str], Row] = {}
        self._dead_letters: deque[Row] = deque(maxlen=DEAD_LETTER_LIMIT)
        self._audit: deque[Row] = deque(maxlen=AUDIT_LIMIT)
        self._services: list[Row] = []
        self._market_feeds: list[Row] = []
        self._topics: dict[str, Row] = {}
        self._feed: Row = {"is_connected": False, "message": "Connecting to the bus"}
        self._bars: dict[str, ChartSeries] = {}
        self._equity: dict[str, ChartSeries] = {}
        self._versions: dict[str, int] = dict.fromkeys(self._views(), 0)

    def handle(self, event: Event) -> None:
        """Take in one event; kinds that the page does not show are ignored."""
        match event:
            case Trade() | BestQuote() | MarkPrice() | OpenInterest() | ClockTick():
                self._handle_market(event)
            case Bar():
                self._handle_bar(event)
            case Forecast():
                self._handle_forecast(event)
            case AccountState():
                self._handle_account(event)
            case OrderEvent():
                self._handle_order(event)
            case OrderRefused():
                if all(row["event_id"] != event.event_id for row in self._refusals):
                    self._refusals.append(row_of(event))
                    self._touch("refusals")
            case ControlState():
                self._controls[event.account] = row_of(event)
                self._touch("control")
            case Alert():
                key = (event.service, event.name)
                if event.is_raised:
                    self._alerts[key] = row_of(event)
                else:
                    self._alerts.pop(key, None)
                self._touch("alerts")
            case AuditEntry():
                self._audit.append(row_of(event))
                self._touch("audit")
            case _:
                pass

    def set_session(self, session: Mapping[str, Any]) -> None:
        """Take the words of the banner: market, mode, seed, speed."""
        self._replace("session", "_session", dict(session))

    def set_services(self, services: Sequence[Row]) -> None:
        """Take the health of every service."""
        self._replace("services", "_services", list(services))

    def set_market_feeds(self, feeds: Sequence[Row]) -> None:
        """Take how the live feed of each instrument is."""
        self._replace("market_feeds", "_market_feeds", list(feeds))

    def set_topics(self, topics: Mapping[str, Row]) -> None:
        """Take the length and rate of every topic's log."""
        self._replace("topics", "_topics", dict(topics))

    def set_feed(self, *, is_connected: bool, message: str) -> None:
        """Take whether the bus is being read, and if not why."""
        self._replace("feed", "_feed", {"is_connected": is_connected, "message": message})

    def add_dead_letter(self, row: Row) -> None:
        """Take one dead letter."""
        self._dead_letters.append(row)
        self._touch("dead_letters")

    def control_state_of(self, account: str) -> Row | None:
        """Return the state in force for an account: the stricter of its own and that of all accounts."""
        order = {"ACTIVE": 0, "REDUCING": 1, "HALTED": 2}
        found = [self._controls[name] for name in ("*", account) if name in self._controls]
        return max(found, key=lambda row: (order[row["state"]], row["time_ms"])) if found else None

    def model_drift(self) -> list[DriftRow]:
        """Return how each model that has forecast drifts."""
        return self._model_drift.rows()

    @property
    def known_accounts(self) -> frozenset[str]:
        """The accounts that execution or risk has spoken of."""
        return frozenset(self._accounts) | frozenset(self._controls)

    def state(self) -> Row:
        """Return everything."""
        return self.changes(Cursor())

    def changes(self, cursor: Cursor) -> Row:
        """Return the sections that changed since `cursor` and move it on; empty when nothing did."""
        patch: Row = {}
        views = self._views()
        for section, version in self._versions.items():
            if cursor.versions.get(section) == version:
                continue
            cursor.versions[section] = version
            if section in SERIES_SECTIONS:
                patch[section] = self._series_changes(section, cursor)
            else:
                patch[section] = views[section]()
        return patch

    def _views(self) -> dict[str, Callable[[], Any]]:
        return {
            "session": lambda: self._session,
            "feed": lambda: self._feed,
            "clock": lambda: {"market_time_ms": self._market_time_ms},
            "control": lambda: self._controls,
            "market": lambda: self._markets,
            "bars": lambda: None,
            "equity": lambda: None,
            "accounts": lambda: self._accounts,
            "forecasts": lambda: {
                instrument: {
                    "latest": latest,
                    "history": [[row[name] for name in _FORECAST_POINT] for row in self._forecast_history[instrument]],
                    "shadows": [row for key, row in sorted(self._shadows.items()) if key[0] == instrument],
                }
                for instrument, latest in self._forecasts.items()
            },
            "models": self._score_models,
            "orders": lambda: list(reversed(self._orders.values())),
            "fills": lambda: list(reversed(self._fills)),
            "refusals": lambda: list(reversed(self._refusals)),
            "alerts": lambda: sorted(self._alerts.values(), key=lambda row: -row["time_ms"]),
            "dead_letters": lambda: list(reversed(self._dead_letters)),
            "audit": lambda: list(reversed(self._audit)),
            "services": lambda: self._services,
            "market_feeds": lambda: self._market_feeds,
            "topics": lambda: self._topics,
        }

    def _series_changes(self, section: str, cursor: Cursor) -> Row:
        patch: Row = {}
        for name, series in (self._bars if section == "bars" else self._equity).items():
            seen = cursor.series.get((section, name))
            fresh = series.since(*seen) if seen is not None else None
            cursor.series[section, name] = (series.generation, series.appended)
            if fresh is None:
                patch[name] = {"is_whole": True, "limit": series.limit, "points": list(series.points)}
            elif fresh:
                patch[name] = {"is_whole": False, "limit": series.limit, "points": list(fresh)}
        return patch

    def _touch(self, section: str) -> None:
        self._versions[section] += 1

    def _replace(self, section: str, attribute: str, value: Any) -> None:
        if getattr(self, attribute) != value:
            setattr(self, attribute, value)
            self._touch(section)

    def _handle_market(self, event: Trade | BestQuote | MarkPrice | OpenInterest | ClockTick) -> None:
        time_ms = to_ms(event.event_time)
        if self._market_time_ms is None or time_ms > self._market_time_ms:
            self._market_time_ms = time_ms
            self._touch("clock")
        if isinstance(event, ClockTick):
            return
        market = self._market_of(event.instrument)
        match event:
            case Trade():
                self._handle_trade(market, event.price_e8 / SCALE, event.quantity_e8 / SCALE, time_ms)
            case BestQuote():
                market["bid"] = event.bid_price_e8 / SCALE
                market["ask"] = event.ask_price_e8 / SCALE
            case MarkPrice():
                market["mark"] = event.mark_price_e8 / SCALE
                market["index"] = event.index_price_e8 / SCALE if event.index_price_e8 is not None else None
                market["funding_rate"] = event.funding_rate_e8 / SCALE
                market["next_funding_ms"] = to_ms(event.next_funding_time) if event.next_funding_time else None
            case OpenInterest():
                market["open_interest"] = event.open_interest_e8 / SCALE
        self._touch("market")

    def _market_of(self, instrument: str) -> Row:
        return self._markets.setdefault(instrument, {"last": None, "forming": None})

    def _handle_trade(self, market: Row, price: float, quantity: float, time_ms: int) -> None:
        minute = time_ms - time_ms % 60_000
        market["last"] = price
        market["last_ms"] = time_ms
        forming = market["forming"]
        if forming is None or minute > forming[0]:
            market["forming"] = [minute, price, price, price, price, quantity]
        elif minute == forming[0]:
            forming[2] = max(forming[2], price)
            forming[3] = min(forming[3], price)
            forming[4] = price
            forming[5] += quantity

    def _handle_bar(self, bar: Bar) -> None:
        if bar.timeframe != "1m":
            return
        if self._model_drift.see_bar(bar):
            self._touch("models")
        series = self._bars.setdefault(bar.instrument, ChartSeries(BAR_LIMIT))
        prices = (bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8, bar.volume_e8)
        point = (to_ms(bar.open_time), *(value / SCALE for value in prices))
        if series.put(point):
            self._touch("bars")

    def _handle_forecast(self, forecast: Forecast) -> None:
        row = row_of(forecast)
        model = (forecast.model_name, forecast.model_version)
        if self._model_drift.see_forecast(forecast):
            self._touch("models")
        before, role = self._model_roles.get(model, (0, None))
        if forecast.event_time > before:
            self._model_roles[model] = (forecast.event_time, forecast.role)
            if role is not forecast.role:
                self._touch("models")
        if forecast.role is ModelRole.SHADOW:
            self._shadows[forecast.instrument, forecast.model_name, forecast.model_version] = row
        else:
            history = self._forecast_history.setdefault(forecast.instrument, deque(maxlen=FORECAST_LIMIT))
            if history and history[-1]["time_ms"] >= row["time_ms"]:
                return
            self._forecasts[forecast.instrument] = row
            history.append(row)
        self._touch("forecasts")

    def _score_models(self) -> list[Row]:
        newest = max((time for time, role in self._model_roles.values() if role is ModelRole.CHAMPION), default=0)
        is_champion = {
            model: role is ModelRole.CHAMPION and time == newest for model, (time, role) in self._model_roles.items()
        }
        champion = next((model_account(version) for (_, version), is_it in is_champion.items() if is_it), "")
        scores = score_models(self._model_equity, champion)
        drift = {row.model: row for row in self._model_drift.rows()}
        return [
            {
                **asdict(drift[f"{name}/{version}"]),
                "model": f"{name}/{version}",
                "role": "CHAMPION" if is_it else "SHADOW",
                "account": account if account in self._model_equity else None,
                **(asdict(scores[account]) if account in scores else {}),
            }
            for (name, version), is_it in sorted(is_champion.items(), key=lambda each: (not each[1], each[0]))
            for account in [model_account(version)]
        ]

    def _handle_account(self, state: AccountState) -> None:
        known = self._accounts.get(state.account)
        if known is not None and known["sequence"] >= state.sequence:
            return
        self._accounts[state.account] = row_of(state)
        if is_model_account(state.account):
            equity = self._model_equity.setdefault(state.account, EquityByPeriod())
            period = equity.newest
            equity.add(state.event_time, float(state.equity))
            if equity.newest != period:
                self._touch("models")
        self._touch("accounts")
        series = self._equity.setdefault(state.account, ThinningChartSeries(EQUITY_LIMIT))
        if series.put((to_ms(state.event_time), float(state.equity), float(state.wallet_balance))):
            self._touch("equity")

    def _handle_order(self, event: OrderEvent) -> None:
        self._orders.pop(event.client_order_id, None)
        self._orders[event.client_order_id] = row_of(event)
        if len(self._orders) > ORDER_LIMIT:
            oldest_closed = next((key for key, row in self._orders.items() if not row["is_open"]), None)
            del self._orders[oldest_closed if oldest_closed is not None else next(iter(self._orders))]
        self._touch("orders")
        if event.last_quantity is not None and all(row["event_id"] != event.event_id for row in self._fills):
            self._fills.append(row_of(event))
            self._touch("fills")
