"""Makes the source that ingestion's settings name."""

from __future__ import annotations

from pathlib import Path

import httpx
import structlog

from libs.alternative_data.sources import build_sources
from libs.domain.instruments import split_instrument_id
from libs.runtime.errors import BadInput
from libs.runtime.source import EventSource
from libs.venues.registry import UnknownVenue, find_venue_of
from libs.venues.rest import RequestBudget, RestClient
from libs.venues.simulated import SimulatedMarketClient
from services.ingestion.feed import Pacer
from services.ingestion.live import LiveSource
from services.ingestion.merged import MergedSource
from services.ingestion.readings import ReadingPoller, SourceWithReadings
from services.ingestion.settings import IngestionSettings
from services.ingestion.simulated import SimulatedSource

# To connect and for each read: both below the five seconds after which a process without a heartbeat counts as hung.
_ANSWER_WITHIN_S = 2.0
# Outside sources are waited for in a thread that nobody else waits for.
_OUTSIDE_ANSWERS_WITHIN_S = 10.0


def build_source(settings: IngestionSettings, _run_dir: Path) -> EventSource:
    """Make the source that the settings name. Raises `BadInput` where several instruments lack an exchange each."""
    pacer = Pacer(settings.speed)
    if len(settings.instruments) < 2:
        return _build_one(settings, pacer, {})
    kind, _, path = settings.market.partition(":")
    venues = {split_instrument_id(instrument)[1] for instrument in settings.instruments}
    if kind == "live" and len(venues) > 1 and (settings.rest_url or settings.stream_url):
        raise BadInput(
            "PERPFLOW_INGESTION_REST_URL and PERPFLOW_INGESTION_STREAM_URL are addresses of one venue, the instruments "
            f"are of {', '.join(sorted(venues))}; give PERPFLOW_INGESTION_REST_URLS and PERPFLOW_INGESTION_STREAM_URLS"
        )
    if kind == "recorded" and "{symbol}" not in path:
        raise BadInput(f"recorded:{path} is of one instrument; write {{symbol}} where the files of several differ")
    if kind == "simulated" and len(settings.exchange_urls) != len(settings.instruments):
        raise BadInput(
            f"PERPFLOW_INGESTION_EXCHANGE_URLS names {len(settings.exchange_urls)} simulated exchanges for "
            f"{len(settings.instruments)} instruments; give each its own"
        )
    sources: dict[str, EventSource] = {}
    budgets: dict[str, RequestBudget] = {}
    for number, instrument in enumerate(settings.instruments):
        own: dict[str, object] = {"instrument": instrument}
        own["market"] = settings.market.replace("{symbol}", split_instrument_id(instrument)[0])
        if kind == "simulated":
            own["exchange_url"] = settings.exchange_urls[number]
        # One pacer: they share a clock.
        sources[instrument] = _build_one(
            settings.model_copy(update=own), pacer, budgets, is_renamed=kind == "simulated"
        )
    return MergedSource(sources)


def _build_one(
    settings: IngestionSettings, pacer: Pacer, budgets: dict[str, RequestBudget], *, is_renamed: bool = False
) -> EventSource:
    """Make the source of one instrument; those of a venue share its budget."""
    kind, _, path = settings.market.partition(":")
    span_ns = int(settings.span_s * 1e9)
    if kind == "recorded":
        try:
            # It reads Parquet by Arrow, which the image of this service has not: a container gets no recordings.
            from services.ingestion.recorded import RecordedSource
        except ModuleNotFoundError as error:
            raise BadInput(
                f"{settings.market} needs {error.name}, which is not installed here; use `perpflow up`"
            ) from None
        return RecordedSource(
            Path(path),
            instrument=settings.instrument,
            pacer=pacer,
            span_ns=span_ns,
            history=settings.history,
            history_bars=settings.history_bars,
        )
    if kind == "live":
        try:
            venue = find_venue_of(settings.instrument)
        except UnknownVenue as error:
            raise BadInput(f"PERPFLOW_INGESTION_INSTRUMENT={settings.instrument}: {error}") from None
        rest_url, stream_url = venue.market_addresses
        rest_url = settings.rest_urls.get(venue.name) or settings.rest_url or rest_url
        stream_url = settings.stream_urls.get(venue.name) or settings.stream_url or stream_url
        budget = budgets.setdefault(venue.name, RequestBudget(venue.weight_per_minute))
        rest = RestClient(rest_url, timeout_s=_ANSWER_WITHIN_S, budget=budget)
        source = LiveSource(
            venue.open_market(rest, settings.instrument, stream_url),
            venue.make_decoder(),
            instrument=settings.instrument,
            span_ns=span_ns,
            history_bars=settings.history_bars,
            stale_after_s=settings.stale_after_s,
            wait_for_trades_s=settings.wait_for_trades_s,
            renew_after_s=settings.renew_after_s,
            open_interest_every_s=settings.open_interest_every_s,
            queue_frames=settings.queue_frames,
        )
        return _with_readings(source, settings) if settings.readings else source
    return SimulatedSource(
        SimulatedMarketClient(RestClient(settings.exchange_url, timeout_s=_ANSWER_WITHIN_S)),
        instrument=settings.instrument,
        pacer=pacer,
        span_ns=span_ns,
        history_bars=settings.history_bars,
        follows_clock=settings.follow_exchange_clock,
        is_renamed=is_renamed,
    )


def _with_readings(source: EventSource, settings: IngestionSettings) -> EventSource:
    client = httpx.Client(timeout=_OUTSIDE_ANSWERS_WITHIN_S, follow_redirects=True)
    symbol = split_instrument_id(settings.instrument)[0]
    sources = build_sources(client, settings.glassnode_key.get_secret_value(), settings.headlines_url, symbol)
    logger = structlog.get_logger().bind(service="ingestion")
    poller = ReadingPoller(settings.instrument, sources, logger, close_sources=client.close)
    return SourceWithReadings(source, poller)
