"""The past of two venues as their REST interfaces give it: rows by the page, made by a rule; it may misbehave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson

DAY_MS = 86_400_000
NOW_MS = 1_767_225_600_000 + 40 * DAY_MS
_BINANCE_STEPS = {"1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": DAY_MS}
_BYBIT_STEPS = {"1": 60_000, "5": 300_000, "60": 3_600_000, "5min": 300_000, "1h": 3_600_000}
FUNDING_MS = 8 * 3_600_000
# Ten trades share a millisecond every second, so that pages end in the middle of one.
TRADES_A_SECOND = 10


def price_at(time_ms: int) -> str:
    """The price that everything opens at."""
    return f"{60_000 + time_ms // 60_000 % 997 / 10:.1f}"


class FakePast:
    """Answers as Binance or Bybit would; `disturb` may answer in its place. `asked` holds every question."""

    def __init__(self, disturb: Callable[[httpx.Request, int], httpx.Response | None] = lambda _request, _number: None):
        self.now_ms = NOW_MS
        self.asked: list[httpx.Request] = []
        self._disturb = disturb

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a question."""
        self.asked.append(request)
        disturbed = self._disturb(request, len(self.asked))
        return disturbed or httpx.Response(200, content=orjson.dumps(self._answer(request)))

    def spans_asked(self) -> list[tuple[int, int]]:
        """The spans of the questions for rows."""
        spans = []
        for request in self.asked:
            values = request.url.params
            if "startTime" in values or "start" in values:
                begin, end = (
                    values.get(name) or values[other] for name, other in (("startTime", "start"), ("endTime", "end"))
                )
                spans.append((int(begin), int(end) + 1))
        return spans

    def _answer(self, request: httpx.Request) -> Any:
        values = request.url.params
        path = request.url.path
        if path.startswith("/v5"):
            return {"retCode": 0, "retMsg": "OK", "result": self._bybit(path, values)}
        match path.rpartition("/")[2]:
            case "time":
                return {"serverTime": self.now_ms}
            case "klines":
                return [_kline(at) for at in self._times(values, _BINANCE_STEPS[values["interval"]])]
            case "markPriceKlines":
                return [_kline(at) for at in self._times(values, _BINANCE_STEPS[values["interval"]])]
            case "fundingRate":
                return [
                    {"symbol": "BTCUSDT", "fundingTime": at, "fundingRate": "0.00010000", "markPrice": ""}
                    for at in self._times(values, FUNDING_MS)
                ]
            case "openInterestHist":
                return [
                    {
                        "symbol": "BTCUSDT",
                        "sumOpenInterest": "20403.637",
                        "sumOpenInterestValue": "1.5",
                        "timestamp": at,
                    }
                    for at in self._times(values, _BINANCE_STEPS[values["period"]])
                ]
            case "aggTrades":
                return self._trades(values)
        raise AssertionError(f"nobody should ask for {path}")

    def _times(self, values: Mapping[str, str], step: int) -> list[int]:
        begin, end = int(values["startTime"]), min(int(values["endTime"]), self.now_ms)
        return list(range(-(-begin // step) * step, end + 1, step))[: int(values["limit"])]

    def _trades(self, values: Mapping[str, str]) -> list[Any]:
        if "fromId" in values:
            first = int(values["fromId"])
            numbers = range(first, first + int(values["limit"]))
        else:
            begin, end = int(values["startTime"]), min(int(values["endTime"]), self.now_ms)
            first = -(-begin // 1000) * TRADES_A_SECOND
            numbers = range(first, min(first + int(values["limit"]), (end // 1000 + 1) * TRADES_A_SECOND))
        return [
            {
                "a": number,
                "p": price_at(number * 100),
                "q": "0.010",
                "T": number // TRADES_A_SECOND * 1000,
                "m": bool(number % 2),
            }
            for number in numbers
        ]

    def _bybit(self, path: str, values: Mapping[str, str]) -> Any:
        name = path.rpartition("/")[2]
        if name == "time":
            return {"timeNano": str(self.now_ms * 1_000_000)}
        step = FUNDING_MS if name == "history" else _BYBIT_STEPS[values.get("interval") or values["intervalTime"]]
        begin, end = (
            int(values.get(one) or values[other]) for one, other in (("startTime", "start"), ("endTime", "end"))
        )
        times = list(range(-(-begin // step) * step, min(end, self.now_ms) + 1, step))[-int(values["limit"]) :][::-1]
        rows: list[Any]
        if name == "history":
            rows = [{"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": str(at)} for at in times]
        elif name == "open-interest":
            rows = [{"openInterest": "461134.5", "timestamp": str(at)} for at in times]
        else:
            rows = [[str(at), *[price_at(at)] * 4, *(["12.5", "750000"] if name == "kline" else [])] for at in times]
        return {"category": "linear", "list": rows}


def _span_of(values: Mapping[str, str]) -> tuple[int, int]:
    return int(values.get("startTime") or values["start"]), int(values.get("endTime") or values["end"])


def _kline(at: int) -> list[Any]:
    return [at, *[price_at(at)] * 4, "12.5", at + 59_999, "750000", 100, "6.25", "375000", "0"]
