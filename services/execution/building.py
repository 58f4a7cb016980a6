"""Builds execution's core from its settings; refuses what cannot be traded."""

from __future__ import annotations

from libs.domain.instruments import UnknownInstrument, find_instrument
from libs.matching import FeeModel, LatencyModel, MatchingTerms, PaperVenue
from libs.matching.ladder import compile_ahead
from libs.runtime.errors import BadInput
from services.execution.core import ExecutionCore
from services.execution.settings import ExecutionSettings

MS = 1_000_000
SECOND = 1_000_000_000


def build_core(settings: ExecutionSettings) -> ExecutionCore:
    """Return the core, in paper mode with its venue. Raises `BadInput` for an instrument that is not listed."""
    venue = None
    if settings.mode == "paper":
        compile_ahead()
        venue = build_paper_venue(settings)
    return ExecutionCore(
        settings.account,
        settings.starting_balance_usdt,
        leverage=settings.leverage,
        venue=venue,
        account_interval_ns=settings.account_interval_s * SECOND,
    )


def build_paper_venue(settings: ExecutionSettings) -> PaperVenue:
    """Return the paper venue of the settings. Raises `BadInput` for an instrument that is not listed."""
    try:
        instruments = [find_instrument(name) for name in settings.instruments]
    except UnknownInstrument as error:
        raise BadInput(f"PERPFLOW_EXECUTION_INSTRUMENTS: {error}; correct it or add the instrument's rules") from None
    return PaperVenue(
        settings.account,
        instruments,
        latency=LatencyModel(
            order_ns=settings.latency_ms * MS,
            cancel_ns=settings.latency_ms * MS,
            jitter_ns=settings.latency_jitter_ms * MS,
        ),
        fees=FeeModel(settings.maker_fee_rate, settings.taker_fee_rate),
        terms=MatchingTerms(
            slippage_bps=settings.slippage_bps,
            no_liquidity_timeout_ns=settings.no_liquidity_timeout_s * SECOND,
            bar_fill=settings.bar_fill,
            impact_bps=settings.impact_bps,
        ),
    )
