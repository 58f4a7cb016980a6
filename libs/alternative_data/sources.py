"""Every source that there is."""

from __future__ import annotations

import httpx

from libs.alternative_data.api import ReadingSource
from libs.alternative_data.crowd import FundingCrowdSource, LongShortSource
from libs.alternative_data.fear_greed import FearGreedSource
from libs.alternative_data.glassnode import GlassnodeSource
from libs.alternative_data.headlines import HeadlineSource


def build_sources(client: httpx.Client, glassnode_key: str, headlines_url: str) -> tuple[ReadingSource, ...]:
    """Make every source; one without its key says so when it is asked."""
    return (
        GlassnodeSource(client, glassnode_key),
        FearGreedSource(client),
        LongShortSource(client),
        FundingCrowdSource(client),
        HeadlineSource(client, url=headlines_url),
    )
