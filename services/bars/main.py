"""Runs bars as a service: market events in, closed bars out."""

from __future__ import annotations

from libs.runtime.service import CoreService
from services.bars.building import build_core
from services.bars.inputs import INPUTS
from services.bars.settings import BarsSettings

SERVICE = CoreService(
    name="bars",
    inputs=INPUTS,
    settings_type=BarsSettings,
    build_core=build_core,
)


def main() -> int:
    """Run until asked to stop; return the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
