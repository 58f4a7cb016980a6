"""Creates every topic of the registry on the bus that PERPFLOW_BUS names, and stops the broker from compacting or
expiring one that exists already.

Runs in any service's image, since it needs libs/ only: ``python create_topics.py``.
"""

from __future__ import annotations

import structlog

from libs.runtime.errors import EXIT_OK
from libs.runtime.platform_bus import open_platform_bus, session_placement
from libs.runtime.service import run_process
from libs.runtime.settings import PlatformSettings


def _create(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    specs = session_placement(platform).topics()
    with open_platform_bus(platform) as bus:
        before = len(bus.topics())
        bus.create_topics(specs)
        logger.info("topics are there", wanted=len(specs), created=len(bus.topics()) - before)
    return EXIT_OK


def main() -> int:
    """Create the topics; the answer is the exit code, 3 when the bus cannot be reached."""
    return run_process("topics", _create)


if __name__ == "__main__":
    raise SystemExit(main())
