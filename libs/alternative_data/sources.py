"""Every source that there is."""

from __future__ import annotations

import httpx

from libs.alternative_data.api import ReadingSource
from libs.alternative_data.crowd import FundingCrowdSource, LongShortSource
from libs.alternative_data.fear_greed import FearGreedSource
from libs.alternative_data.glassnode import GlassnodeSource
from libs.alternative_data.headlines import HeadlineSource
from libs.alternative_data.markets import (
    PERPETUALS_URL,
    SPOT_URL,
    MinuteSource,
    OtherVenueFundingSource,
    SettledFundingSource,
)

_PEERS = {"BTCUSDT": "ETHUSDT"}
_PEER = "BTCUSDT"


def build_sources(
    client: httpx.Client, glassnode_key: str, headlines_url: str, symbol: str = "BTCUSDT"
) -> tuple[ReadingSource, ...]:
    """Make every source for a market; one without its key says so when it is asked."""
    return (
        GlassnodeSource(client, glassnode_key),
        FearGreedSource(client),
        LongShortSource(client, symbol=symbol),
        FundingCrowdSource(client),
        HeadlineSource(client, url=headlines_url),
        SettledFundingSource(client, symbol=symbol),
        OtherVenueFundingSource(client, symbol=symbol),
        MinuteSource(client, "spot", symbol=symbol, url=SPOT_URL),
        MinuteSource(client, "peer", symbol=_PEERS.get(symbol, _PEER), url=PERPETUALS_URL),
    )
