"""Market events in, closed bars out. Refuses what is no market event or cannot be a bar.

A minute closes at the first event whose time is at least its end plus the grace; longer bars are sums of minutes and go
out before the minute that completes them. A trade for a closed minute is in no bar: it is counted (`late_trades`) and
the bars that lack it are revised.
The minute in which the stream begins is not whole and gives no bar, unless a kline takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from libs.domain.bars import TIMEFRAMES, Bar, BarRevision, bar_event_id
from libs.domain.events import Event, Unhandleable
from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    Gap,
    LateTrade,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OutsideReading,
    Trade,
)
from libs.domain.market_columns import MarketColumns
from libs.domain.readings import READING_SERIES
from libs.domain.state import StateFormat, StateMismatch
from services.bars.core.book import Ints
from services.bars.core.series import MINUTE, BarSeries, BarSeriesState
from services.bars.core.steps import Flags
from services.bars.core.trades import MAX_NOTIONAL, TradeArrays


@dataclass(slots=True)
class BarsState:
    """What the core keeps between events."""

    timeframes: tuple[str, ...]
    grace_ns: int
    series: dict[str, BarSeriesState]


def _add_missing(values: dict[str, Any]) -> dict[str, Any]:
    for series in values["series"].values():
        series["missing"] = {}
    return values


def _add_revisions(values: dict[str, Any]) -> dict[str, Any]:
    for series in values["series"].values():
        missing = {
            name: {"begin": begin, "end": end, "is_over": True, "is_lost": True}
            for name, (begin, end) in series.pop("missing").items()
        }
        series["revisions"] = {"missing": missing}
    return values


def _add_readings(values: dict[str, Any]) -> dict[str, Any]:
    for series in values["series"].values():
        series["readings"] = {"series": {}}
    return values


_STATE = StateFormat("bars", 4, BarsState, migrations={1: _add_missing, 2: _add_revisions, 3: _add_readings})

_APPLY: dict[type, Callable[[BarSeries, Any], None]] = {
    Trade: BarSeries.take_trade,
    BestQuote: BarSeries.take_quote,
    DepthDelta: BarSeries.take_delta,
    DepthSnapshot: BarSeries.take_snapshot,
    MarkPrice: BarSeries.take_mark,
    OpenInterest: BarSeries.take_interest,
    Liquidation: BarSeries.take_liquidation,
}


class BarsCore:
    """The core of bars. `instruments` empty takes any; `grace_ms` (0 to 59,999) is how long a closed minute waits."""

    def __init__(
        self, timeframes: Sequence[str] = tuple(TIMEFRAMES), instruments: Sequence[str] = (), *, grace_ms: int = 250
    ) -> None:
        unknown = [name for name in timeframes if name not in TIMEFRAMES]
        if unknown or not timeframes:
            raise ValueError(f"timeframes {unknown} are unknown; known are {', '.join(TIMEFRAMES)}")
        if not 0 <= grace_ms < 60_000:
            raise ValueError(f"grace_ms is {grace_ms}; it must be from 0 to 59999")
        self._timeframes = tuple(name for name in TIMEFRAMES if name in timeframes)
        self._instruments = frozenset(instruments)
        self._grace_ns = grace_ms * 1_000_000
        self._series: dict[str, BarSeries] = {}

    def handle(self, event: Event) -> list[Bar | BarRevision]:
        """Advance by one market event; return the bars that it closes and, behind them, those that it corrects."""
        kind = type(event)
        if kind is ExchangeBar:
            return self._take_kline(event)  # type: ignore[arg-type]
        apply = _APPLY.get(kind)
        if apply is None:
            return self._take_clock(event)
        if kind is Trade:
            _check_notional(event)  # type: ignore[arg-type]
        series = self._series_of(event.instrument)  # type: ignore[union-attr]
        if not series.deadline:
            series.start(event.event_time)
        bars = series.close_until(event.event_time) if event.event_time >= series.deadline else []
        if kind is Trade and event.event_time < series.opened:
            bars += series.revise_by(event)  # type: ignore[arg-type]
        apply(series, event)
        return bars

    def deadline(self, instrument: str) -> int:
        """Return the event time (ns) that closes the open minute of an instrument; 0 before its first event."""
        series = self._series.get(instrument)
        return 0 if series is None else series.deadline

    def pass_trades(
        self, instrument: str, times: Ints, prices_e8: Ints, quantities_e8: Ints, is_buyer_maker: Flags
    ) -> None:
        """Count trades that all lie before the deadline, ascending, as if they had been handled one by one."""
        self._series[instrument].pass_trades(times, prices_e8, quantities_e8, is_buyer_maker)

    def opened(self, instrument: str) -> int:
        """Return since which event time (ns) the open minute of an instrument is open; 0 before its first event."""
        series = self._series.get(instrument)
        return 0 if series is None else series.opened

    def pass_events(self, columns: MarketColumns, begin: int, end: int) -> None:
        """Take the trades, quotes and deltas of [begin, end) as if they had been handled one by one.

        They all lie before the deadline, no trade before the open minute or of more money than is real.
        """
        self._series[columns.instrument].pass_events(columns, begin, end)

    def begin(self, instrument: str, open_time: int) -> None:
        """Open an instrument's first minute as one that is known from its very beginning."""
        self._series_of(instrument).start(open_time)

    def handle_trades(self, instrument: str, trades: TradeArrays) -> list[Bar | BarRevision]:
        """Advance by an instrument's trades as by one after the other; return what they close and correct.

        Raises `Unhandleable`, with nothing changed, where one of them is not real.
        """
        trades.check()
        return self._series_of(instrument).take_trades(trades)

    def counters(self, instrument: str) -> dict[str, int]:
        """Return how many trades came too late for any bar and how many klines were not needed."""
        series = self._series.get(instrument)
        names = ("late_trades", "stale_bars")
        return {name: 0 if series is None else int(series.head[name][0]) for name in names}

    def snapshot(self) -> bytes:
        """Return the state as bytes."""
        series = {name: each.state() for name, each in sorted(self._series.items())}
        return _STATE.encode(BarsState(self._timeframes, self._grace_ns, series))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises `StateMismatch` where it was made with other timeframes or another grace."""
        kept = _STATE.decode(state)
        for name, was, value in (
            ("timeframes", kept.timeframes, self._timeframes),
            ("grace_ns", kept.grace_ns, self._grace_ns),
        ):
            if was != value:
                raise StateMismatch(
                    f"the kept state of bars has {name} {was}, the settings {value}; start a new session to change it"
                )
        self._series = {}
        for name, series in kept.series.items():
            self._series_of(name).restore(series)

    def _series_of(self, instrument: str) -> BarSeries:
        series = self._series.get(instrument)
        if series is None:
            if self._instruments and instrument not in self._instruments:
                raise Unhandleable(f"{instrument} is not among the instruments {', '.join(sorted(self._instruments))}")
            series = self._series[instrument] = BarSeries(instrument, self._timeframes, self._grace_ns)
        return series

    def _take_clock(self, event: Event) -> list[Bar | BarRevision]:
        if isinstance(event, Gap):
            return [*self._series_of(event.instrument).revisions.take_gap(event)]
        if isinstance(event, LateTrade):
            _check_notional(event)
            self._series_of(event.instrument).take_late(event)
            return []
        if not isinstance(event, ClockTick | FundingSettled | OutsideReading):
            raise Unhandleable(f"bars takes market events, not {type(event).__name__}")
        series = self._series_of(event.instrument)
        if isinstance(event, FundingSettled):
            series.take_settlement(event)
        elif isinstance(event, OutsideReading):
            if event.series not in READING_SERIES:
                raise Unhandleable(f"no series {event.series!r} of readings; there are {', '.join(READING_SERIES)}")
            series.take_reading(event)
        if not series.deadline or event.event_time < series.deadline:
            return []
        return series.close_until(event.event_time)

    def _take_kline(self, event: ExchangeBar) -> list[Bar | BarRevision]:
        if event.timeframe not in TIMEFRAMES:
            raise Unhandleable(
                f"kline {event.event_id} has timeframe {event.timeframe!r}, not one of {list(TIMEFRAMES)}"
            )
        length = TIMEFRAMES[event.timeframe]
        if event.open_time % length or event.close_time != event.open_time + length:
            raise Unhandleable(f"kline {event.event_id} does not span one {event.timeframe} of UTC")
        series = self._series_of(event.instrument)
        if length == MINUTE:
            return series.take_kline(event)
        return [_pass_on(event)] if event.timeframe in self._timeframes else []


def _check_notional(event: Trade | LateTrade) -> None:
    if event.price_e8 * event.quantity_e8 > MAX_NOTIONAL:
        raise Unhandleable(f"a trade of more than 2e10 in money is not real: {event}")


def _pass_on(event: ExchangeBar) -> Bar:
    return Bar(
        instrument=event.instrument,
        event_id=bar_event_id(event.instrument, event.timeframe, event.open_time),
        event_time=event.close_time,
        timeframe=event.timeframe,
        open_time=event.open_time,
        close_time=event.close_time,
        open_e8=event.open_e8,
        high_e8=event.high_e8,
        low_e8=event.low_e8,
        close_e8=event.close_e8,
        volume_e8=event.volume_e8,
        quote_volume_e8=event.quote_volume_e8,
        taker_buy_volume_e8=event.taker_buy_volume_e8,
        trade_count=event.trade_count,
        is_history=event.is_history,
    )
