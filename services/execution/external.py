"""What testnet and live need beside the core: the venue's door and the outbox, in a thread of the same process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import structlog

from libs.domain.instruments import UnknownInstrument, find_instrument, split_instrument_id
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput
from libs.runtime.lag import StandstillWatch
from libs.runtime.platform_bus import open_platform_bus
from libs.runtime.settings import PlatformSettings
from libs.venues.api import TradingVenue
from libs.venues.binance_client import BinanceClient
from libs.venues.binance_trading import BinanceTrading
from libs.venues.binance_user_data import BinanceUserDataStream
from libs.venues.errors import VenueRefused
from libs.wire.topics import CORE_SERVICES, MARKET_EVENTS
from services.execution.outbox import POLL_MS, Outbox, OutboxTerms
from services.execution.settings import ExecutionSettings

_ADDRESSES = {
    "testnet": ("https://testnet.binancefuture.com", "wss://fstream.binancefuture.com"),
    "live": ("https://fapi.binance.com", "wss://fstream.binance.com"),
}


def check_settings(settings: ExecutionSettings) -> None:
    """Raise `BadInput` for what no order could be sent with."""
    if not settings.api_key.get_secret_value() or not settings.api_secret.get_secret_value():
        raise BadInput(
            f"PERPFLOW_EXECUTION_MODE={settings.mode} needs PERPFLOW_EXECUTION_API_KEY and _API_SECRET, "
            "a key of Binance that may trade futures and nothing else"
        )
    if settings.leverage % 1:
        raise BadInput(f"PERPFLOW_EXECUTION_LEVERAGE={settings.leverage}: Binance takes whole numbers alone")
    for name in settings.instruments:
        try:
            find_instrument(name)
        except UnknownInstrument as error:
            raise BadInput(f"PERPFLOW_EXECUTION_INSTRUMENTS: {error}; correct it") from None
        if split_instrument_id(name)[1] != "BINANCE":
            raise BadInput(
                f"PERPFLOW_EXECUTION_INSTRUMENTS: {name} is not of Binance, the one venue there is a door to"
            )


def build_venue(settings: ExecutionSettings) -> TradingVenue:
    """Return the door to the venue; nothing is asked yet."""
    rest_url, stream_url = _ADDRESSES[settings.mode]
    client = BinanceClient(
        settings.rest_url or rest_url,
        settings.api_key.get_secret_value(),
        settings.api_secret.get_secret_value(),
        speed=settings.venue_speed,
    )
    return BinanceTrading(client, BinanceUserDataStream(settings.stream_url or stream_url, speed=settings.venue_speed))


def run_with_outbox(
    settings: ExecutionSettings,
    platform: PlatformSettings,
    logger: structlog.stdlib.BoundLogger,
    run_core: Callable[[PlatformSettings, structlog.stdlib.BoundLogger], int],
) -> int:
    """Run the core and the outbox until both end; what ended the outbox is raised. Raises `BadInput`."""
    check_settings(settings)
    outbox = OutboxThread(settings, platform, logger)
    outbox.start()
    try:
        return run_core(platform, logger)
    finally:
        outbox.stop()


def stop_process() -> None:
    """Ask this process to stop, once it listens."""
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)


class OutboxThread:
    """Runs the outbox until stopped. What ends it otherwise is kept, and `on_failure` called, from its thread."""

    def __init__(
        self,
        settings: ExecutionSettings,
        platform: PlatformSettings,
        logger: structlog.stdlib.BoundLogger,
        on_failure: Callable[[], None] = stop_process,
    ) -> None:
        self._settings = settings
        self._platform = platform
        self._logger = logger
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the call in hand, and raise what ended the thread before, if anything did."""
        self._stopping.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._carry_out()
        except VenueRefused as error:
            self._fail(BadInput(f"the venue does not take this account: {error}"))
        except BaseException as error:  # noqa: BLE001  (raised again by `stop`)
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._logger.error("the outbox ended; nothing more is sent", reason=str(error) or type(error).__name__)
        self._on_failure()

    def _carry_out(self) -> None:
        settings = self._settings
        venue = build_venue(settings)
        try:
            with open_platform_bus(self._platform) as bus:
                watch = StandstillWatch(bus, CORE_SERVICES, [MARKET_EVENTS])
                outbox = Outbox(
                    settings.account,
                    settings.instruments,
                    int(settings.leverage),
                    venue,
                    bus,
                    self._logger,
                    OutboxTerms(
                        reconcile_interval_ns=settings.reconcile_interval_s * NANOSECONDS,
                        max_command_age_ns=settings.max_command_age_s * NANOSECONDS,
                        countdown_ns=settings.dead_man_countdown_s * NANOSECONDS,
                    ),
                    watch.look,
                )
                try:
                    outbox.open()
                    while not self._stopping.is_set():
                        outbox.step(POLL_MS)
                finally:
                    outbox.close()
        finally:
            venue.close()
