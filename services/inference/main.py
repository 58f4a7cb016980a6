"""Runs inference as a service: feature vectors in, forecasts out."""

from __future__ import annotations

from libs.runtime.service import CoreService
from services.inference.building import build_core
from services.inference.inputs import INPUTS
from services.inference.settings import InferenceSettings
from services.inference.watching import COLLECTORS

SERVICE = CoreService(
    name="inference",
    inputs=INPUTS,
    settings_type=InferenceSettings,
    build_core=build_core,
    collectors=COLLECTORS,
)


def main() -> int:
    """Run until asked to stop; return the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
