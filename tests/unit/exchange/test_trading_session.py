"""The account on the clock: the same however often it is looked at, and recovered after any end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
import uvicorn
from fastapi import FastAPI

from libs.runtime.errors import BadInput
from libs.runtime.metrics import read_announcement
from libs.runtime.stop import StopSignal
from services.exchange.clock import MarketClock
from services.exchange.core import START_MS
from services.exchange.core.account import AccountTerms, Refused
from services.exchange.journal import JOURNAL, SNAPSHOT
from services.exchange.market_tape import MarketTapeEnded
from services.exchange.server import _Server
from services.exchange.session import SNAPSHOT_REQUESTS, BrokenSession, TradingSession
from tests.kit.platform import ROOT
from tests.kit.waiting import eventually
from tests.unit.exchange.served import Wall, a_client, a_tape
from tests.unit.exchange.trader import total

TERMS = AccountTerms(Decimal(20_000))


class AccountOnDisk:
    """A session in a folder, on a wall clock that moves only when set."""

    def __init__(self, folder: Path, terms: AccountTerms = TERMS) -> None:
        self.folder = folder
        self.terms = terms
        self.wall = Wall()
        self.began_s = self.wall.seconds
        self.session = self.open()

    def open(self) -> TradingSession:
        return TradingSession(a_tape(7), MarketClock(1, self.began_s, self.wall), self.terms, self.folder)

    def kill(self) -> None:
        """End as a kill does: nothing more is written."""
        self.session._journal.close()

    def restart(self) -> None:
        """Start again with what is on the disk."""
        self.kill()
        self.session = self.open()

    def send(self, at_s: float, request: str, **sent: str) -> Any:
        """Send a request at a time of the session; a refusal is its answer."""
        self.wall.seconds = self.began_s + at_s
        try:
            return self.session.change(request, {"symbol": "BTCUSDT", **sent})
        except Refused as refusal:
            return refusal.code

    def place(self, at_s: float, **sent: str) -> Any:
        return self.send(at_s, "POST /fapi/v1/order", **{"side": "BUY", "type": "MARKET", "quantity": "0.01", **sent})

    def everything(self, at_s: float) -> dict[str, Any]:
        self.wall.seconds = self.began_s + at_s
        return self.session.everything()

    def events(self) -> list[bytes]:
        return self.session.events_after(0) or []


OpenAccount = Callable[..., AccountOnDisk]


@pytest.fixture
def open_account(tmp_path: Path) -> Iterator[OpenAccount]:
    accounts: list[AccountOnDisk] = []

    def make(name: str = "run", terms: AccountTerms = TERMS) -> AccountOnDisk:
        accounts.append(AccountOnDisk(tmp_path / name, terms))
        return accounts[-1]

    yield make
    for account in accounts:
        account.kill()


def trade_for_an_hour(account: AccountOnDisk, look: Callable[[float], None]) -> list[Any]:
    """Trade in two bursts with a quiet stretch between; `look` is called with the time before every request."""
    answers = []

    def send(at_s: float, request: str, **sent: str) -> None:
        look(at_s)
        answers.append(account.send(at_s, request, **sent))

    place = {"request": "POST /fapi/v1/order", "quantity": "0.1"}
    send(30, **place, side="BUY", type="MARKET")
    price = answers[0] and float(account.everything(30)["fills"][0]["price"])
    for step in range(8):
        side, sign = ("BUY", -1) if step % 2 else ("SELL", 1)
        limit = f"{price + sign * (2 + 5 * step):.1f}"
        send(31 + step * 5.5, **place, side=side, type="LIMIT", timeInForce="GTC", price=limit)
    stop = {"request": "POST /fapi/v1/algoOrder", "algoType": "CONDITIONAL", "quantity": "0.05", "side": "SELL"}
    send(80, **stop, type="TRAILING_STOP_MARKET", callbackRate="0.1")
    send(81, "POST /fapi/v1/countdownCancelAll", countdownTime="45000")
    send(82, **place, side="BUY", type="MARKET", newClientOrderId="bad id")
    send(83, "DELETE /fapi/v1/order", origClientOrderId="nobody")
    send(84, "POST /fapi/v1/listenKey")
    send(300, "DELETE /fapi/v1/algoOpenOrders")
    held = Decimal(account.everything(300)["positions"][0]["positionAmt"])
    if held:
        side = "SELL" if held > 0 else "BUY"
        send(301, "POST /fapi/v1/order", side=side, type="MARKET", quantity=str(abs(held)))
    send(3000.5, **place, side="SELL", type="MARKET")
    send(3001, **stop | {"side": "BUY"}, type="STOP_MARKET", triggerPrice=f"{price * 1.2:.1f}")
    return answers


@pytest.mark.slow
def test_account_is_the_same_however_often_it_is_looked_at(open_account: OpenAccount) -> None:
    quiet, busy = open_account("quiet"), open_account("busy")
    chance = random.Random(3)
    last_s = 0.0

    def look_often(at_s: float) -> None:
        nonlocal last_s
        for moment in sorted(chance.uniform(last_s, at_s) for _ in range(40)):
            busy.wall.seconds = busy.began_s + moment
            busy.session.advance()
            if moment > at_s / 2:
                busy.session.ask("GET /fapi/v3/account", {})
        last_s = at_s

    assert trade_for_an_hour(quiet, lambda _at_s: None) == trade_for_an_hour(busy, look_often)
    assert quiet.everything(3600) == busy.everything(3600)
    assert quiet.events() == busy.events()
    kinds = {orjson.loads(event)["e"] for event in quiet.events()}
    assert kinds >= {"ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ALGO_UPDATE", "TRADE_LITE"}
    assert {fill["maker"] for fill in quiet.everything(3600)["fills"]} == {True, False}


@pytest.mark.slow
def test_account_is_the_same_after_any_number_of_kills(open_account: OpenAccount) -> None:
    steady, killed = open_account("steady"), open_account("killed")
    assert trade_for_an_hour(steady, lambda _at_s: None) == trade_for_an_hour(killed, lambda _: killed.restart())
    killed.restart()
    assert steady.everything(3600) == killed.everything(3600)


@pytest.mark.slow
def test_clean_end_keeps_the_account_without_its_requests(open_account: OpenAccount) -> None:
    account = open_account()
    trade_for_an_hour(account, lambda _at_s: None)
    before = account.everything(3600)
    account.session.close()
    (account.folder / JOURNAL).write_bytes((account.folder / JOURNAL).read_bytes().replace(b'"0.1"', b'"0.2"'))
    account.restart()
    assert account.everything(3600) == before


@pytest.mark.slow
def test_snapshots_shorten_recovery(open_account: OpenAccount) -> None:
    account = open_account()
    for number in range(SNAPSHOT_REQUESTS):
        account.send(31 + number / 100, "POST /fapi/v1/countdownCancelAll", countdownTime=str(number))
    account.session.advance()
    assert orjson.loads((account.folder / SNAPSHOT).read_bytes().splitlines()[0])["count"] == SNAPSHOT_REQUESTS
    account.place(90)
    before = account.everything(100)
    account.restart()
    assert account.everything(100) == before


def test_torn_last_line_was_never_answered_and_is_cut_off(open_account: OpenAccount) -> None:
    account = open_account()
    first = account.place(30)
    with (account.folder / JOURNAL).open("ab") as file:
        file.write(b'{"ms":1767225631000,"request":"POST /fapi/v1/ord')
    account.restart()
    second = account.place(40)
    assert second["orderId"] == first["orderId"] + 1
    account.restart()
    assert [order["orderId"] for order in account.everything(50)["orders"]] == [first["orderId"], second["orderId"]]


def test_damaged_line_is_named_with_its_fix(open_account: OpenAccount) -> None:
    account = open_account()
    account.place(30)
    path = account.folder / JOURNAL
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(BadInput, match=r"exchange-orders\.jsonl: line 3 is not JSON .* fix the line, or move"):
        account.open()


def test_another_session_begins_with_an_account_of_its_own(open_account: OpenAccount) -> None:
    account = open_account()
    account.place(30)
    account.session.close()
    other = open_account(terms=AccountTerms(Decimal(5)))
    assert other.everything(40)["orders"] == []
    assert other.everything(40)["account"]["totalWalletBalance"] == "5.00000000"
    kept = account.folder / "exchange-orders.1.jsonl"
    assert b"POST /fapi/v1/order" in kept.read_bytes()


def test_request_is_on_the_disk_before_it_is_answered(open_account: OpenAccount) -> None:
    account = open_account()
    account.place(30, newClientOrderId="mine")
    assert b'"newClientOrderId":"mine"' in (account.folder / JOURNAL).read_bytes()
    assert account.place(31, quantity="NaN") == -1100
    assert b"NaN" not in (account.folder / JOURNAL).read_bytes()


def test_request_that_cannot_be_written_down_takes_no_effect_and_ends_the_session(open_account: OpenAccount) -> None:
    account = open_account()
    account.place(30)
    account.session._journal.close()
    with pytest.raises(ValueError, match="closed file"):
        account.place(31)
    with pytest.raises(BrokenSession, match="restart the exchange"):
        account.everything(32)
    account.restart()
    assert len(account.everything(33)["orders"]) == 1


def test_wall_clock_that_steps_back_does_not_take_the_market_along(open_account: OpenAccount) -> None:
    account = open_account()
    first = account.place(60)
    second = account.place(20)
    assert second["updateTime"] == first["updateTime"] == START_MS + 60_000


def test_snapshot_of_another_format_is_named_with_its_fix(open_account: OpenAccount) -> None:
    account = open_account()
    account.place(30)
    account.session.close()
    path = account.folder / SNAPSHOT
    facts = path.read_bytes().splitlines()[0]
    path.write_bytes(facts + b'\n{"format":"older"}')
    with pytest.raises(BadInput, match=r"exchange-account\.snapshot: the kept state .* remove it"):
        account.open()
    path.unlink()
    account.restart()
    assert len(account.everything(40)["orders"]) == 1


def test_broken_account_ends_the_process(open_account: OpenAccount) -> None:
    account = open_account()
    server = _Server(uvicorn.Config(FastAPI()), StopSignal(), account.session, lambda: None)
    assert asyncio.run(server.on_tick(1)) is False
    account.session.is_broken = True
    with pytest.raises(BrokenSession):
        asyncio.run(server.on_tick(1))


def test_end_of_the_market_is_said_and_breaks_nothing(open_account: OpenAccount) -> None:
    account = open_account()
    account.wall.seconds += 400 * 86_400
    with pytest.raises(MarketTapeEnded):
        account.session.advance()
    assert account.everything(30)["orders"] == []


@contextmanager
def a_process(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Yield the exchange as a process in a folder, and its address; whatever happens it has ended afterwards."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")}
    own = {"PERPFLOW_RUN_DIR": str(folder), "PERPFLOW_EXCHANGE_SPEED": "20", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.exchange.main"],
        cwd=folder,
        env={**kept, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def announced() -> dict[str, Any]:
        assert process.poll() is None
        facts = read_announcement(folder / "exchange.json")
        return facts if facts.get("pid") == process.pid and facts.get("state") == "running" else {}

    try:
        eventually(announced, within_s=60)
        yield process, announced()["url"]
    finally:
        process.kill()
        process.wait(timeout=30)


@pytest.mark.slow
def test_killed_exchange_restarts_with_every_order_it_answered(tmp_path: Path) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.002", "newOrderRespType": "RESULT"}
    with a_process(tmp_path) as (process, url), a_client(url) as client:
        answered = [client.futures_create_order(**order)]
        killer = threading.Timer(0.6, process.kill)
        killer.start()
        with pytest.raises(requests.RequestException):
            while True:
                answered.append(client.futures_create_order(**order))
        killer.join()
        assert process.wait(timeout=30) == -signal.SIGKILL

    with a_process(tmp_path) as (process, url):
        with a_client(url) as client:
            orders = client.futures_get_all_orders(symbol="BTCUSDT", limit=1000)
            fills = client.futures_account_trades(symbol="BTCUSDT", limit=1000)
            (risk,) = client.futures_position_information(symbol="BTCUSDT")
            following = client.futures_create_order(**order)
        process.terminate()
        assert process.wait(timeout=30) == 0
    facts = ("orderId", "clientOrderId", "executedQty", "status", "updateTime")
    known = [[each[name] for name in facts] for each in orders]
    assert known[: len(answered)] == [[each[name] for name in facts] for each in answered]
    # One more may have been written down when the kill came before its answer.
    assert len(orders) - len(answered) in (0, 1)
    assert {fill["orderId"] for fill in fills} == {each["orderId"] for each in orders}
    assert len({fill["id"] for fill in fills}) == len(fills)
    assert Decimal(risk["positionAmt"]) == total(fills, "qty") == Decimal("0.002") * len(orders)
    assert following["orderId"] == orders[-1]["orderId"] + 1
