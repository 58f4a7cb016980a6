"""Runs ingestion as a service: the market that the settings name in, market events out."""

from __future__ import annotations

from libs.runtime.service import SourceService
from services.ingestion.building import build_source
from services.ingestion.settings import IngestionSettings

SERVICE = SourceService(name="ingestion", settings_type=IngestionSettings, build_source=build_source)


def main() -> int:
    """Run until the market ends or until asked to stop; return the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
