"""Polarity of news headlines from an RSS 2.0 feed, by a small open word list: coarse, but the same for ever.

A headline's polarity is (good words - bad words) / (good words + bad words), the sign turned where a word that negates
stands at most two words before; 0 without any such word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final
from xml.etree import ElementTree

import httpx

from libs.alternative_data.api import Reading, SourceMalformed, get_body
from libs.domain.numbers import NANOSECONDS

_GOOD: Final = """
    adopt adopts adoption approve approved approves approval all-time-high bull bullish breakout boom boost boosts climb
    climbs gain gains grow grows growth high highs inflow inflows jump jumps launch launches optimism optimistic
    outperform outperforms partner partnership profit profits rally rallies rebound rebounds record recover recovers
    recovery rise rises rising soar soars strong support supports surge surges upgrade upgrades win wins
"""
_BAD: Final = """
    arrest arrested attack attacks ban banned bans bankrupt bankruptcy bear bearish breach charge charged collapse
    collapses crackdown crash crashes crisis decline declines dip dips drop drops dump dumps exploit exploited fall
    falls fear fears fine fined fraud hack hacked halt halts investigation lawsuit liquidated liquidation liquidations
    loses loss losses low lows outflow outflows panic plunge plunges probe reject rejected rejects risk risks scam
    sell-off selloff sink sinks slump slumps steal stolen sue sued sues theft tumble tumbles warn warning warns weak
"""
_NEGATIONS: Final = "no not never without denies deny won't isn't doesn't can't cannot"
GOOD: Final = frozenset(_GOOD.split())
BAD: Final = frozenset(_BAD.split())
NEGATIONS: Final = frozenset(_NEGATIONS.split())
_WORD: Final = re.compile(r"[a-z]+(?:[-'][a-z]+)*")
_REACH: Final = 2


def score_headline(text: str) -> float:
    """Polarity of one headline, from -1 to 1."""
    words = _WORD.findall(text.lower().replace("’", "'"))
    good = bad = 0
    for j, word in enumerate(words):
        if word not in GOOD and word not in BAD:
            continue
        is_negated = any(before in NEGATIONS for before in words[max(0, j - _REACH) : j])
        if (word in GOOD) != is_negated:
            good += 1
        else:
            bad += 1
    return (good - bad) / (good + bad) if good + bad else 0.0


class HeadlineSource:
    """The polarity of every headline of a feed that names Bitcoin or the market, at its time of publication."""

    name = "headlines"

    def __init__(
        self,
        client: httpx.Client,
        *,
        url: str,
        about: frozenset[str] = frozenset({"bitcoin", "btc", "crypto", "market", "markets"}),
    ) -> None:
        self._client = client
        self._url = url
        self._about = about

    def fetch(self, begin: int, end: int) -> Sequence[Reading]:
        """Get the headlines published in [begin, end), one reading each."""
        body = get_body(self._client, self.name, self._url).content
        try:
            root = ElementTree.fromstring(body)
        except ElementTree.ParseError as error:
            raise SourceMalformed(f"{self.name}: the feed is not XML ({error})") from error
        items = root.findall("./channel/item")
        if not items:
            raise SourceMalformed(f"{self.name}: the feed has no items; give the address of an RSS 2.0 feed")
        readings = []
        for item in items:
            title, stamp = item.findtext("title"), item.findtext("pubDate")
            if not title or not stamp:
                raise SourceMalformed(f"{self.name}: an item has no title or no pubDate")
            try:
                published = int(parsedate_to_datetime(stamp).timestamp()) * NANOSECONDS
            except ValueError as error:
                raise SourceMalformed(f"{self.name}: pubDate {stamp!r} is not a date") from error
            is_about = not self._about.isdisjoint(_WORD.findall(title.lower()))
            if is_about and begin <= published < end:
                readings.append(Reading(self.name, "polarity", published, published, score_headline(title)))
        return readings
