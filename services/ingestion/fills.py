"""Fetches the trades of a gap beside the reading of the streams, page by page, as often as it takes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from libs.domain.market import Trade
from libs.venues.api import MarketData, TradePosition
from libs.venues.errors import VenueError, VenueUnavailable
from libs.venues.frames import FrameError
from services.ingestion.core.gaps import OpenGap

MAX_PAGES = 50
RETRY_S = 1.0
LONGEST_RETRY_S = 600.0


@dataclass(frozen=True, slots=True)
class FetchedTrades:
    """What a venue gave of a gap, ascending, or the `error` for which that is not all.

    `is_lost`: what lies before these it has no more.
    """

    trades: list[Trade]
    is_lost: bool = False
    error: str = ""
    retry_after_s: float = 0.0


def fetch_trades(data: MarketData, gap: OpenGap, received_time: int) -> FetchedTrades:
    """Ask for the trades of a gap, to its end or to the newest there are."""
    position = TradePosition(gap.first_number - 1, gap.from_time)
    trades: list[Trade] = []
    is_lost = False
    try:
        for _ in range(MAX_PAGES):
            page = data.trades_after(position, received_time=received_time)
            trades += page.trades
            is_lost |= not page.is_joined
            if page.is_last or (gap.last_number and trades[-1].venue_trade_id >= gap.last_number):
                return FetchedTrades(trades, is_lost)
            position = TradePosition(trades[-1].venue_trade_id, trades[-1].event_time)
    except VenueUnavailable as error:
        return FetchedTrades(trades, is_lost, str(error), error.retry_after_s)
    except (VenueError, FrameError) as error:
        return FetchedTrades(trades, is_lost, str(error))
    return FetchedTrades(trades, is_lost, f"there are more than {len(trades)}")


@dataclass(slots=True)
class TradeFill:
    """One gap being filled. It is late once what lies behind the gap has gone out."""

    gap: OpenGap
    received_time: int
    is_late: bool = False
    _future: Future[FetchedTrades] | None = None
    _next_try_s: float = 0.0
    _pause_s: float = field(default=RETRY_S)

    def poll(
        self, pool: Executor, data: MarketData, now_s: float, log_error: Callable[[str], None]
    ) -> FetchedTrades | None:
        """Return what came once it is all there is, None while it is asked for; asks again after an error."""
        if self._future is None:
            if now_s >= self._next_try_s:
                self._future = pool.submit(fetch_trades, data, self.gap, self.received_time)
            return None
        if not self._future.done():
            return None
        fetched = self._future.result()
        self._future = None
        if not fetched.error:
            return fetched
        log_error(fetched.error)
        self._next_try_s = now_s + max(self._pause_s, fetched.retry_after_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_RETRY_S)
        return None
