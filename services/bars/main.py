"""Runs bars as a service: market events in, closed bars out."""

from __future__ import annotations

from libs.runtime.service import CoreService, Input
from services.bars.core import BarsCore
from services.bars.settings import BarsSettings


def build_core(settings: BarsSettings) -> BarsCore:
    """Make the core that the settings describe."""
    return BarsCore(settings.timeframes, settings.instruments, grace_ms=settings.grace_ms)


SERVICE = CoreService(
    name="bars",
    inputs=(Input("market.events.v1"),),
    settings_type=BarsSettings,
    build_core=build_core,
)


def main() -> int:
    """Run until told to stop; the answer is the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
