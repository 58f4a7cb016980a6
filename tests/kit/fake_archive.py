"""The archives of two venues: a file of each day, made by a rule, with its checksum; some are absent, some damaged."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import zipfile
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import httpx

_DAY = re.compile(r"(\d{4}-\d\d-\d\d)\.(?:zip|csv\.gz)")


class FakeArchive:
    """Answers as data.binance.vision and public.bybit.com do. `asked` holds every path."""

    def __init__(self, absent: Collection[str] = (), damaged: Collection[str] = ()) -> None:
        self.absent, self.damaged = set(absent), set(damaged)
        self.asked: list[str] = []

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a question."""
        path = request.url.path
        self.asked.append(path)
        found = _DAY.search(path)
        if found is None or found[1] in self.absent:
            return httpx.Response(404)
        day = datetime.strptime(found[1], "%Y-%m-%d").replace(tzinfo=UTC)
        body = _bybit_trades(day) if path.startswith("/trading/") else _zip(path, _metrics(day))
        if path.endswith(".CHECKSUM"):
            return httpx.Response(200, text=f"{hashlib.sha256(body).hexdigest()}  {path.rpartition('/')[2]}")
        if found[1] in self.damaged:
            self.damaged.remove(found[1])
            body = body[:-9]
        return httpx.Response(200, content=body)


def _metrics(day: datetime) -> str:
    rows = [
        f"{day + timedelta(minutes=5 * number):%Y-%m-%d %H:%M:%S},BTCUSDT,{20_000 + number}.5,1200000000.25,1,1,1,1"
        for number in range(288)
    ]
    names = "create_time,symbol,sum_open_interest,sum_open_interest_value,a,b,c,d"
    return "\n".join((names, *rows))


def _zip(path: str, text: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        # A fixed date, so that the same day has the same checksum.
        entry = zipfile.ZipInfo(f"{path.rpartition('/')[2].partition('.')[0]}.csv", (2024, 1, 1, 0, 0, 0))
        archive.writestr(entry, text)
    return sink.getvalue()


def _bybit_trades(day: datetime) -> bytes:
    begin = int(day.timestamp())
    rows = [f"{begin + 60 * n}.25,BTCUSDT,{'Sell' if n % 3 else 'Buy'},0.01,60000.{n % 10},x" for n in range(1440)]
    return gzip.compress("\n".join(("timestamp,symbol,side,size,price,tickDirection", *rows)).encode(), mtime=0)
